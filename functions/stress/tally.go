package stress

import (
	"maps"
	"math"
	"slices"
	"time"

	"genfn/events"
)

// Snapshot is how far a run is.
type Snapshot struct {
	Phase   string        `json:"phase"`
	Elapsed time.Duration `json:"-"`
	Counts
	PerSecond float64       `json:"per_second"` // requests ended
	P50, P99  time.Duration `json:"-"`          // of those that succeeded, from the publication to the answer

	Instances []InstanceMemory `json:"instances"`
}

// Counts are how requests ended.
type Counts struct {
	Planned   int            `json:"planned"`
	Done      int            `json:"done"`
	Succeeded int            `json:"succeeded"`
	Failed    map[string]int `json:"failed"` // by code
	Cancelled int            `json:"cancelled"`
	Expired   int            `json:"expired"`
	Lost      int            `json:"lost"`
	Retried   int            `json:"retried"`   // that took more than one attempt
	FellBack  int            `json:"fell_back"` // to another class of device
	Injected  map[Kind]int   `json:"injected"`  // faults that took place, and cancels
	Missed    int            `json:"missed"`    // faults that did not
	Wrong     int            `json:"wrong"`     // ended otherwise than they may
}

// InstanceMemory is what the runner processes of an instance hold together, in bytes.
type InstanceMemory struct {
	Instance    string `json:"instance"`
	Device      string `json:"device"`
	State       string `json:"state"`
	RSS         int64  `json:"rss"`
	Swap        int64  `json:"swap"`
	Ledger      int64  `json:"ledger"`
	Outstanding int64  `json:"outstanding"`           // of the ledger, beyond what loaded models hold by right
	DeviceUsed  *int64 `json:"device_used,omitempty"` // nil: the device has no memory of its own
}

func memoryOf(s events.DeviceStatus) InstanceMemory {
	m := InstanceMemory{Instance: s.Instance, Device: s.Device, State: s.State}
	if s.MemoryInfo == nil {
		return m
	}
	for _, p := range s.MemoryInfo.Processes {
		m.RSS, m.Swap, m.Ledger, m.Outstanding = m.RSS+p.RSS, m.Swap+p.Swap, m.Ledger+p.Ledger, m.Outstanding+p.Ledger-p.LedgerBaseline
		if p.DeviceUsed != nil {
			m.DeviceUsed = ptr(*p.DeviceUsed + deref(m.DeviceUsed))
		}
	}
	return m
}

func deref(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// tally counts records.
type tally struct {
	Counts
	planned int
	since   time.Time
	took    []float64 // milliseconds of those that succeeded
	records []Record
}

func (t *tally) add(r Record) {
	t.records = append(t.records, r)
	t.Done++
	switch r.Outcome {
	case succeeded:
		t.Succeeded++
		t.took = append(t.took, r.MS)
	case failed:
		if t.Failed == nil {
			t.Failed = map[string]int{}
		}
		t.Failed[string(r.Code)]++
	case cancelled:
		t.Cancelled++
	case expired:
		t.Expired++
	case lost:
		t.Lost++
	}
	if r.Attempts > 1 {
		t.Retried++
	}
	if r.FellBack {
		t.FellBack++
	}
	if r.Injected {
		if t.Injected == nil {
			t.Injected = map[Kind]int{}
		}
		t.Injected[r.Kind]++
	}
	if !r.Injected && r.Kind != Healthy {
		t.Missed++
	}
	if r.Problem != "" {
		t.Wrong++
	}
}

// quantile returns the value below which a share of the values lie, 0 if there are none.
func quantile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(math.Ceil(share*float64(len(sorted))))-1)]
}

// Snapshot returns how far the run is. It may be called at any time.
func (s *Stress) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tally
	out := Snapshot{Phase: s.phase, Counts: t.Counts}
	out.Planned, out.Failed, out.Injected = t.planned, maps.Clone(t.Failed), maps.Clone(t.Injected)
	ms := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	out.P50, out.P99 = ms(quantile(t.took, 0.5)), ms(quantile(t.took, 0.99))
	if !s.began.IsZero() {
		out.Elapsed = time.Since(s.began)
	}
	if !t.since.IsZero() && t.Done > 0 {
		out.PerSecond = float64(t.Done) / time.Since(t.since).Seconds()
	}
	if s.watch != nil {
		for _, x := range s.watch.alive() {
			out.Instances = append(out.Instances, memoryOf(x.status))
		}
	}
	return out
}
