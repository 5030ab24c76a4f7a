package controller

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
)

// checker compares what a core decides with what it must not.
type checker struct {
	world  *world
	status map[string]Status // the last that the leader took in
	state  map[string]string // decided
	shedAt map[string]time.Time
	sheds  map[string]int // in a row, when it was to prove itself last
}

// before notes what the core is about to hear.
func (c *checker) before(in Input) {
	s := in.Status
	if s == nil {
		return
	}
	// What is late by the core's own count is left out here by asking it: the order of messages is its business.
	if r := c.world.core.all[s.Instance]; r != nil {
		if s.Incarnation == r.former || s.Incarnation == r.status.Incarnation && s.Sequence <= r.status.Sequence {
			return
		}
	}
	c.status[s.Instance] = *s
}

func (c *checker) decided(in Input, d events.Decision) {
	t := c.world.t
	require.NotEmpty(t, d.Reason)
	require.NotEmpty(t, d.Message)
	require.NotEmpty(t, d.DecidedBy)
	if d.Reason != ReasonOperator {
		require.NotEmpty(t, d.Evidence, "%+v", d)
	}
	was := c.state[d.Instance]
	if d.State == events.StateProbation {
		c.sheds[d.Instance] = d.Sheds
	}
	c.floor(d, was)
	c.flapping(d, was)
	c.state[d.Instance] = d.State
	if s := in.Status; s != nil && s.Instance == d.Instance && d.State == events.StateReady && d.Reason != ReasonJoined && d.Reason != ReasonHeardAgain {
		require.Equal(t, events.StateReady, s.State, "its own stop wins: %+v", d)
	}
}

// floor: on suspicion no model loses the last instance that serves it.
func (c *checker) floor(d events.Decision, was string) {
	if !slices.Contains(Suspicions(), d.Reason) || !d.Stops() || was == d.State {
		return
	}
	for _, model := range c.status[d.Instance].Models {
		other := func(s *simulated) bool {
			o := c.status[s.name]
			return s.name != d.Instance && c.state[s.name] == events.StateReady && o.State == events.StateReady && slices.Contains(o.Models, model)
		}
		require.True(c.world.t, slices.ContainsFunc(c.world.instances, other), "the last of %s is set aside: %+v", model, d)
	}
}

// flapping: nobody comes back before its back-off is over, which doubles each time.
func (c *checker) flapping(d events.Decision, was string) {
	w := c.world
	switch {
	case d.Reason == ReasonOperator:
		delete(c.shedAt, d.Instance)
		if d.State == events.StateShed {
			c.shedAt[d.Instance] = w.now
		}
	case d.State == events.StateShed && d.Reason != ReasonHeardAgain:
		c.shedAt[d.Instance] = w.now
		require.GreaterOrEqual(w.t, d.Sheds, 1)
		if was == events.StateProbation {
			require.Greater(w.t, d.Sheds, c.sheds[d.Instance], "a proof that failed lengthens the back-off")
		}
	case d.State == events.StateProbation || d.State == events.StateReady:
		shedAt, ok := c.shedAt[d.Instance]
		if !ok {
			return
		}
		delete(c.shedAt, d.Instance)
		late := func(at time.Time) bool { return at.After(shedAt) }
		if slices.ContainsFunc(w.takeovers, late) {
			return // the new leader takes the old one's word for the time, whose clock may have jumped
		}
		least := w.policy.pause(d.Sheds)
		for _, at := range w.jumps {
			if late(at) {
				least -= w.policy.MaxStep
			}
		}
		require.GreaterOrEqual(w.t, w.now.Sub(shedAt), least, "%+v", d)
	}
}

// TestStorm: whatever happens to instances, messages, leaders and clocks, nobody is set aside on suspicion who is the
// last of a model, nobody comes back before the back-off is over, every decision says why, all of them follow again
// from the log, and when it is over all who live and are well serve.
func TestStorm(t *testing.T) {
	for _, c := range []struct {
		seed      uint64
		instances int
		lasts     time.Duration
	}{{1, 2000, 20 * time.Second}, {2, 300, time.Minute}, {3, 24, 10 * time.Minute}, {4, 24, 10 * time.Minute}, {5, 5, 20 * time.Minute}, {6, 2, 40 * time.Minute}, {7, 1, 20 * time.Minute}} {
		w := newWorld(t, c.seed, c.instances)
		w.run(5 * time.Second)
		w.storm(w.now.Add(c.lasts))
		w.run(c.lasts + 90*time.Second) // until the last fault is over

		// An operator takes back whom operators have set aside, then there is peace.
		w.chaos = 0
		for _, d := range w.core.InForce() {
			if d.State == events.StateDraining || d.State == events.StateQuarantined {
				w.apply(Input{Command: &Command{Instance: d.Instance, Command: events.CommandAdmit, Reason: "peace", By: "tester"}})
			}
		}
		w.run(2 * time.Minute)
		for _, s := range w.instances {
			d := w.core.all[s.name].decision
			require.Equal(t, events.StateReady, d.State, "%s: %+v", s.name, d)
			require.Equal(t, events.StateReady, s.health.Status().State, s.name)
			require.Equal(t, d.Number, s.order.Number, s.name)
		}
		t.Logf("%d instances, %d leaders, %d jumps forward: %v", c.instances, len(w.takeovers), len(w.jumps), w.reasons)

		if c.instances > logged {
			continue
		}
		var again int
		require.NoError(t, Replay(bytes.NewReader(w.log.Bytes()), func(events.Decision) { again++ }))
		total := 0
		for _, n := range w.reasons {
			total += n
		}
		require.Equal(t, total, again, "every decision follows again from the log")
	}
}
