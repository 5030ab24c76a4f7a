package controller

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device"
)

// rig is a core with a clock that tests move and a log.
type rig struct {
	t    *testing.T
	core *Core
	at   time.Time
	seq  uint64
	log  bytes.Buffer
}

func newRig(t *testing.T, inForce ...events.Decision) *rig {
	r := &rig{t: t, at: time.Unix(1_800_000_000, 0).UTC()}
	s := Start{By: "controller a", Term: 1, At: r.at, InForce: inForce}
	r.write(Entry{Start: &s})
	r.core = NewCore(s)
	return r
}

func (r *rig) write(e Entry) { require.NoError(r.t, json.NewEncoder(&r.log).Encode(e)) }

func (r *rig) apply(in Input) ([]events.Decision, error) {
	in.At = r.at
	r.write(Entry{Input: &in})
	out, err := r.core.Apply(in)
	for _, d := range out {
		r.write(Entry{Decision: &d})
	}
	return out, err
}

// says is word of an instance on itself, and returns the decision in force on it.
func (r *rig) says(name, state string, change ...func(*Status)) events.Decision {
	r.seq++
	s := &Status{Instance: name, Incarnation: "x", Sequence: r.seq, State: state, Reason: "a_reason", Models: []string{"m"}, Obeys: r.inForce(name).Number}
	for _, f := range change {
		f(s)
	}
	_, err := r.apply(Input{Status: s})
	require.NoError(r.t, err)
	return r.inForce(name)
}

func (r *rig) inForce(name string) events.Decision {
	if rec := r.core.all[name]; rec != nil {
		return rec.decision
	}
	return events.Decision{}
}

// pass lets time pass, in which the named instances repeat what they said last.
func (r *rig) pass(d time.Duration, alive ...string) {
	for end := r.at.Add(d); r.at.Before(end); {
		r.at = r.at.Add(min(2*time.Second, end.Sub(r.at)))
		for _, name := range alive {
			last := r.core.all[name].status
			r.says(name, last.State, func(s *Status) { s.Reason, s.Faults, s.Generations = last.Reason, last.Faults, last.Generations })
		}
		_, err := r.apply(Input{})
		require.NoError(r.t, err)
	}
}

func (r *rig) command(name, command string) (events.Decision, error) {
	_, err := r.apply(Input{Command: &Command{Instance: name, Command: command, Reason: "because", By: "ada"}})
	return r.inForce(name), err
}

// TestQuarantine: proofs that fail make the pause longer, in the end very long; one that passes ends it all.
func TestQuarantine(t *testing.T) {
	r := newRig(t)
	r.says("a", events.StateReady)
	d := r.says("a", events.StateShed)
	require.Equal(t, []any{events.StateShed, ReasonOwnStop, 1}, []any{d.State, d.Reason, d.Sheds})
	pause := 30 * time.Second
	for n := 1; n < 6; n++ {
		require.Equal(t, r.at.Add(pause), *d.RetryAt)
		r.pass(pause-time.Second, "a")
		require.Equal(t, events.StateShed, r.inForce("a").State)
		r.pass(time.Second, "a")
		require.Equal(t, ReasonBackOff, r.inForce("a").Reason)
		// A heartbeat from before it heard of the decision says nothing about its proof.
		require.Equal(t, events.StateProbation, r.says("a", events.StateShed, func(s *Status) { s.Obeys-- }).State)
		if n%2 == 0 {
			d = r.says("a", events.StateShed)
		} else {
			r.seq++
			_, err := r.apply(Input{Canary: &Canary{Instance: "a", Incarnation: "x", Sequence: r.seq, Decision: r.inForce("a").Number, Message: "wrong numbers"}})
			require.NoError(t, err)
			d = r.inForce("a")
			require.Equal(t, ReasonCanaryFailed, d.Reason)
		}
		require.Equal(t, []any{events.StateShed, n + 1, n}, []any{d.State, d.Sheds, d.FailedProofs})
		pause = min(2*pause, 10*time.Minute)
	}
	r.pass(pause, "a")
	r.pass(11*time.Minute, "a")
	d = r.inForce("a")
	require.Equal(t, events.StateQuarantined, d.State)
	require.Contains(t, d.Message, "6 proofs failed in a row")
	r.pass(d.RetryAt.Sub(r.at), "a")
	require.Equal(t, events.StateProbation, r.inForce("a").State)
	d = r.says("a", events.StateReady)
	require.Equal(t, []any{events.StateReady, ReasonProved, 0}, []any{d.State, d.Reason, d.FailedProofs})
	r.pass(16*time.Minute, "a")
	r.says("a", events.StateReady)
	d = r.says("a", events.StateShed)
	require.Equal(t, 1, d.Sheds, "it was well for long")
}

// TestTheLastIsKept: on suspicion the last of a model is not set aside before another serves it; its own stop wins.
func TestTheLastIsKept(t *testing.T) {
	r := newRig(t)
	r.says("a", events.StateReady)
	for range 4 {
		r.says("a", events.StateSuspect)
		r.says("a", events.StateReady)
	}
	require.Equal(t, events.StateReady, r.inForce("a").State)
	require.Contains(t, r.log.String(), "It is kept because it is the last that serves m.")
	require.Equal(t, 1, strings.Count(r.log.String(), "It is kept"), "told once")
	r.says("b", events.StateReady)
	r.pass(time.Second, "a", "b")
	d := r.inForce("a")
	require.Equal(t, []any{events.StateShed, ReasonFlapping}, []any{d.State, d.Reason})
	require.Equal(t, ReasonOwnStop, r.says("b", events.StateShed).Reason)
}

// TestFaultRate: an instance on which most of the work fails is asked to prove itself, whatever it thinks of itself.
func TestFaultRate(t *testing.T) {
	r := newRig(t)
	count := func(faults, generations int64) func(*Status) {
		return func(s *Status) { s.Faults, s.Generations = faults, generations }
	}
	r.says("b", events.StateReady)
	r.says("a", events.StateReady)
	r.pass(2*time.Second, "a", "b")
	require.Equal(t, events.StateReady, r.says("a", events.StateReady, count(5, 0)).State)
	require.Equal(t, events.StateReady, r.says("a", events.StateReady, count(7, 8)).State, "most of it succeeds")
	r.pass(2*time.Minute, "a", "b")
	d := r.says("a", events.StateReady, count(14, 9))
	require.Equal(t, []any{events.StateProbation, ReasonFaultRate}, []any{d.State, d.Reason})
	require.Equal(t, ReasonProved, r.says("a", events.StateReady, count(14, 9)).Reason)
}

// TestSilence: what was decided before an instance fell silent is in force again when it is back; in the end it is
// forgotten.
func TestSilence(t *testing.T) {
	r := newRig(t)
	r.says("a", events.StateReady)
	d, err := r.command("a", events.CommandDrain)
	require.NoError(t, err)
	require.Equal(t, []any{events.StateDraining, ReasonOperator, "ada", "because"}, []any{d.State, d.Reason, d.DecidedBy, d.Message})
	require.NotEmpty(t, d.Evidence, "that it is the last of its model is noted")
	r.pass(11 * time.Second)
	require.Equal(t, events.StateGone, r.inForce("a").State)
	_, err = r.command("a", events.CommandAdmit)
	require.ErrorContains(t, err, `no living instance has the name "a"`)
	require.Equal(t, events.StateDraining, r.says("a", events.StateReady).State)
	r.pass(11 * time.Second)
	r.pass(24*time.Hour - 2*time.Second)
	require.Empty(t, r.core.Forgotten())
	r.pass(4 * time.Second)
	require.Empty(t, r.core.all)
}

// TestOperators: an operator's word counts, but a device that has stopped itself must prove itself first.
func TestOperators(t *testing.T) {
	r := newRig(t)
	_, err := r.command("a", events.CommandShed)
	require.ErrorContains(t, err, "no living instance")
	r.says("a", events.StateReady)
	d, err := r.command("a", events.CommandQuarantine)
	require.NoError(t, err)
	require.Nil(t, d.RetryAt)
	r.pass(2*time.Hour, "a")
	require.Equal(t, events.StateQuarantined, r.inForce("a").State, "until somebody admits it")
	d, err = r.command("a", events.CommandAdmit)
	require.NoError(t, err)
	require.Equal(t, events.StateReady, d.State)
	r.says("a", events.StateShed)
	d, err = r.command("a", events.CommandAdmit)
	require.NoError(t, err)
	require.Equal(t, []any{events.StateProbation, "ada"}, []any{d.State, d.DecidedBy})
	_, err = r.command("a", "explode")
	require.ErrorContains(t, err, "explode")
}

// TestOrderOfWords: what comes late or twice, or from an incarnation that has ended, is no news.
func TestOrderOfWords(t *testing.T) {
	r := newRig(t)
	r.says("a", events.StateReady)
	old := r.seq
	r.says("a", events.StateReady)
	require.Equal(t, events.StateReady, r.says("a", events.StateShed, func(s *Status) { s.Sequence = old }).State)
	require.Equal(t, events.StateReady, r.says("a", events.StateReady, func(s *Status) { s.Incarnation, s.Sequence = "y", 1 }).State)
	require.Equal(t, events.StateReady, r.says("a", events.StateShed, func(s *Status) { s.Sequence = 99 }).State)
	require.Equal(t, events.StateShed, r.says("a", events.StateShed, func(s *Status) { s.Incarnation, s.Sequence = "y", 2 }).State)
	require.Equal(t, events.StateQuarantined, r.says("a", events.StateQuarantined, func(s *Status) { s.Incarnation, s.Sequence, s.Reason = "y", 3, device.ReasonStuck }).State)
}

// TestTakeOver: a new leader goes on where the last one ended, and gives everybody time to be heard of.
func TestTakeOver(t *testing.T) {
	r := newRig(t)
	r.says("a", events.StateReady)
	d := r.says("a", events.StateShed)
	r.pass(10*time.Second, "a")
	next := NewCore(Start{By: "controller b", Term: 2, At: r.at, InForce: r.core.InForce()})
	r.core = next
	r.log.Reset()
	r.pass(8 * time.Second)
	require.Equal(t, d.Number, r.inForce("a").Number, "not yet silent")
	r.says("a", events.StateShed)
	r.pass(12*time.Second, "a")
	after := r.inForce("a")
	require.Equal(t, []any{events.StateProbation, d.Number + 1, uint64(2)}, []any{after.State, after.Number, after.Term})
}

// TestReplay: a log gives the same decisions again; one that was changed is found out, one that was cut off is not.
func TestReplay(t *testing.T) {
	r := newRig(t)
	r.says("a", events.StateReady)
	r.says("a", events.StateSuspect)
	r.says("a", events.StateShed)
	var got []string
	take := func(d events.Decision) { got = append(got, d.State) }
	log := r.log.String()
	require.NoError(t, Replay(strings.NewReader(log), take))
	require.Equal(t, []string{events.StateReady, events.StateSuspect, events.StateShed}, got)
	require.NoError(t, Replay(strings.NewReader(log[:len(log)-9]), take))
	require.NoError(t, Replay(strings.NewReader(log[:len(log)-9]+"\n"+log), take))
	require.ErrorContains(t, Replay(strings.NewReader(strings.Replace(log, `"reason":"own_stop"`, `"reason":"flapping"`, 1)), take), "line 7 of the log: the decision a 3: shed (flapping) does not follow")
	lines := strings.SplitAfter(log, "\n")
	require.ErrorContains(t, Replay(strings.NewReader(strings.Join(append(lines[:2:2], lines[3:]...), "")), take), "expected the decision a 1: ready (joined)")
	require.ErrorContains(t, Replay(strings.NewReader(lines[1]), take), "expected a start")
}
