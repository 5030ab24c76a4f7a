package stress

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

func TestPlanIsRepeatable(t *testing.T) {
	c, err := Config{Broker: &broker.Broker{}, Seed: 7, Generations: 2000, Faults: 0.1, Cancels: 0.05, KillRunners: true, FaultFile: "/f"}.withDefaults()
	require.NoError(t, err)
	cases := plan(c)
	require.Equal(t, cases, plan(c), "the same seed gives the same order")
	other := c
	other.Seed = 8
	require.NotEqual(t, cases, plan(other))

	count := map[Kind]int{}
	for i, x := range cases {
		count[x.Kind]++
		require.False(t, i >= 500 && x.Kind.endsProcess(), "processes live through the rest")
	}
	faults := 0
	for _, k := range FaultKinds() {
		if k != Hang {
			require.Positive(t, count[k], k)
		}
		faults += count[k]
	}
	require.Zero(t, count[Hang], "it takes too long to come by itself")
	require.InDelta(t, 200, faults, 50)
	require.InDelta(t, 100, count[Cancel], 40)
}

func TestConfigRefuses(t *testing.T) {
	for words, c := range map[string]Config{
		"expected shares":                 {Faults: 0.9, Cancels: 0.2},
		"no negative numbers":             {Generations: -1},
		"leave to signal":                 {Kinds: []Kind{Kill}},
		"need the fault file":             {Kinds: []Kind{GPULost}},
		`kind of fault "flood": expected`: {Kinds: []Kind{"flood"}},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, words)
	}
}

// reading is a successful generation whose process held rss before it.
func reading(pid int, generation int64, rss float64) Record {
	return Record{
		Outcome: succeeded, process: &events.Process{PID: pid, Generations: generation},
		memory: &events.Memory{RSSBefore: int64(rss), LedgerAfter: 10, LedgerBaseline: 10},
	}
}

// TestTrend: processes differ in level and are noisy between clean-ups; what counts is the common slope of their floor.
func TestTrend(t *testing.T) {
	grow := func(bytes float64) (records []Record) {
		for pid, level := range map[int]float64{1: 200e6, 2: 300e6} {
			for g := range int64(300) {
				records = append(records, reading(pid, g+1, level+bytes*float64(g)+20e6*float64(g%5)))
			}
		}
		return records
	}
	require.True(t, trendCheck(grow(0), 50).OK)
	c := trendCheck(grow(5000), 50)
	require.True(t, c.Judged)
	require.False(t, c.OK, c.Detail)
	require.False(t, trendCheck(grow(5000)[:20], 50).Judged, "too few to judge by")
	slope, margin, n := commonSlope(map[processKey][][2]float64{{1, 0}: {{0, 10}, {1, 13}, {2, 16}}, {2, 0}: {{5, 1}, {6, 4}}})
	require.InDelta(t, 3, slope, 1e-9)
	require.InDelta(t, 0, margin, 1e-6)
	require.Equal(t, 5, n)
	_, margin, _ = commonSlope(nil)
	require.True(t, math.IsNaN(margin))
}

// status is a heartbeat of a GPU whose one process holds these.
func status(ledger, device, swap int64, files int) events.DeviceStatus {
	return events.DeviceStatus{Instance: "g", Device: "GPU", State: events.StateReady, MemoryInfo: &events.MemoryInfo{
		Processes: []events.ProcessMemory{{Process: events.Process{PID: 1}, Ledger: ledger, LedgerBaseline: 10, DeviceUsed: &device, Swap: swap, RSS: 200 << 20}},
		Instance:  &events.InstanceMemory{PID: 5, OpenFiles: files, Goroutines: 50, RSS: 60 << 20},
	}}
}

func TestDriftIsFound(t *testing.T) {
	at := func(s events.DeviceStatus) *settled {
		return &settled{instances: map[string]events.DeviceStatus{"g": s}}
	}
	before := at(status(10, 1000, 0, 30))
	same := at(status(10, 1000, 0, 31))
	for name, c := range map[string]Check{
		"device": deviceCheck(before, same), "swap": swapCheck(before, same), "files": filesCheck(before, same),
		"ledger": ledgerCheck([]sample{{status: status(10, 1, 0, 1)}}, []Record{reading(1, 1, 1)}),
	} {
		require.True(t, c.OK && c.Judged, "%s: %+v", name, c)
	}
	worse := at(status(10, 1001, 4096, 300))
	for name, c := range map[string]Check{
		"device": deviceCheck(before, worse), "swap": swapCheck(before, worse), "files": filesCheck(before, worse),
		"ledger":  ledgerCheck([]sample{{status: status(11, 1, 0, 1)}}, nil),
		"ledger2": ledgerCheck(nil, []Record{{process: &events.Process{}, memory: &events.Memory{LedgerAfter: 5}}}),
		"queue":   queueCheck([]string{"gen.req.x"}, nil),
	} {
		require.False(t, c.OK, "%s: %+v", name, c)
	}
	for _, c := range []Check{deviceCheck(before, nil), swapCheck(nil, nil), ledgerCheck(nil, []Record{{memory: &events.Memory{LedgerAfter: 5}}}), filesCheck(before, at(events.DeviceStatus{}))} {
		require.True(t, c.OK && !c.Judged, "%+v", c)
	}
}

func TestFailuresAreJudgedByWhatWasDone(t *testing.T) {
	for _, k := range slices.Concat([]Kind{Healthy, Cancel}, FaultKinds()) {
		for _, code := range []events.Code{events.CodeInvalidRequest, events.CodeModelNotFound, events.CodeDeadlineExceeded, events.CodeHang, events.CodeInternal} {
			a := &attempt{Record: Record{Case: Case{Kind: k}}}
			wrong := a.judgeFailure(events.Errorf(code, "x"))
			allowed := k == Invalid && code == events.CodeInvalidRequest || k == UnknownModel && code == events.CodeModelNotFound || k == Deadline && code == events.CodeDeadlineExceeded
			require.Equal(t, allowed, wrong == "", "%s ends with %s: %q", k, code, wrong)
		}
	}
}

func TestQuantile(t *testing.T) {
	require.Zero(t, quantile(nil, 0.5))
	values := []float64{5, 1, 4, 2, 3}
	require.InDelta(t, 3, quantile(values, 0.5), 0)
	require.InDelta(t, 5, quantile(values, 0.99), 0)
}

func TestDraw(t *testing.T) {
	began := time.Now()
	s := &Summary{began: began, marks: []Mark{{began.Add(time.Second), Kill}, {began.Add(2 * time.Second), Cancel}}}
	var out bytes.Buffer
	require.ErrorContains(t, s.Draw(&out, "x.svg"), "nothing to draw")
	for i := range 3 {
		s.samples = append(s.samples, sample{began.Add(time.Duration(i+1) * time.Second), status(10<<20, 1<<20, 0, 1)})
	}
	require.NoError(t, s.Draw(&out, "x.svg"))
	for _, words := range []string{"<svg", "GPU rss", "GPU ledger", "GPU memory", "instance 5", "rgb(204,0,0)", "rgb(136,136,136)"} {
		require.Contains(t, out.String(), words)
	}
	out.Reset()
	require.NoError(t, s.Draw(&out, "x.PNG"))
	require.Equal(t, "\x89PNG", out.String()[:4])
}

// TestSignalsGoToRunnersOnly: a process id that is another program's by now, or on another machine, is left alone.
func TestSignalsGoToRunnersOnly(t *testing.T) {
	require.ErrorContains(t, signal(Kill, nil), "does not tell")
	require.ErrorContains(t, signal(Kill, &events.Process{PID: 1, StartedAt: time.Now()}), "not a runner of this machine")
	require.Error(t, signal(Kill, &events.Process{PID: 1 << 30}))
}
