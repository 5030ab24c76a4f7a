package tuning

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"genfn/events"
	"genfn/functions/model"
)

// The batch of guidance: both halves in one pass, or one after the other.
const (
	Sequential = 1
	Batched    = 2
)

// Trials compare the two on real generations: the first of a model and size is batched, the second sequential, and from
// the third on the faster one is used. Their pictures are equal within 1e-5. Safe for concurrent use.
type Trials struct {
	wish int
	file string // where measurements are kept; "": nowhere

	mu    sync.Mutex
	known map[string]*Measured
}

// Measured are the times of a model and size on a device; 0: not measured.
type Measured struct {
	Batched    time.Duration `json:"batched_ns,omitempty"`    // of one step
	Sequential time.Duration `json:"sequential_ns,omitempty"` // of one step
	fixed      bool          // the network takes one batch only
}

// A trial may delay the request that it is made on by a tenth at most, and sequential guidance must be faster by more
// than measurements scatter.
const (
	trialShare  = 10
	trialSteps  = 4 // the least of a generation that counts
	trialMargin = 1.05
	maxMeasured = 1024
)

// NewTrials returns trials for an operator's wish, 0 for none, that keep what they measure in a file of dir, or only in
// memory for "".
func NewTrials(wish int, dir string) *Trials {
	t := &Trials{wish: wish, known: map[string]*Measured{}}
	if dir != "" {
		t.file = filepath.Join(dir, "guidance.json")
	}
	for key, m := range t.read() {
		t.known[key] = m
	}
	return t
}

// read reads the file; what cannot be read is measured again.
func (t *Trials) read() (known map[string]*Measured) {
	data, err := os.ReadFile(t.file)
	if err != nil || json.Unmarshal(data, &known) != nil {
		return nil
	}
	for key, m := range known {
		if m == nil {
			delete(known, key)
		}
	}
	return known
}

// Generation is one that is about to run, as far as trials depend on it.
type Generation struct {
	Key      string        // the model, size, device, and all else that its times depend on
	Steps    int           //
	Compile  time.Duration // what compiling the network for the other batch is expected to take; 0: not known
	Room     func() bool   // whether there is memory for both forms; asked only if that decides
	NoTrials bool          // it must not be delayed
}

// Choose says with which batch a guided generation runs, and why.
func (t *Trials) Choose(g Generation) (batch int, setting events.DeviceSetting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.known[g.Key]
	if m == nil {
		m = &Measured{}
	}
	say := func(batch int, reason string, args ...any) (int, events.DeviceSetting) {
		value := map[int]string{Batched: "batched", Sequential: "sequential"}[batch]
		return batch, events.DeviceSetting{Name: Guidance, Value: value, Reason: fmt.Sprintf(reason, args...)}
	}
	times := fmt.Sprintf("a step takes %s batched and %s sequential", short(m.Batched), short(m.Sequential))
	switch {
	case t.wish != 0:
		return say(t.wish, "asked for")
	case m.fixed:
		return say(Batched, "the network takes one batch only")
	case m.Batched == 0:
		return say(Batched, "not measured yet")
	case m.Sequential != 0 && float64(m.Sequential)*trialMargin < float64(m.Batched):
		return say(Sequential, "%s", times)
	case m.Sequential != 0:
		return say(Batched, "%s", times)
	case !g.Room():
		return say(Batched, "there is no memory to compare it with sequential guidance")
	case g.NoTrials || g.Steps < trialSteps:
		return say(Batched, "not compared yet with sequential guidance")
	case g.Compile == 0 || g.Compile > m.Batched*time.Duration(g.Steps)/trialShare:
		return say(Batched, "to compare it with sequential guidance would delay a request of %d steps by more than a tenth", g.Steps)
	}
	return say(Sequential, "being compared: a step takes %s batched", short(m.Batched))
}

func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// Note takes the time of a step of a generation that ran with a batch, which may be another than was chosen: then the
// network takes no other.
func (t *Trials) Note(g Generation, chosen, ran int, step time.Duration) error {
	if step <= 0 || g.Steps < trialSteps || t.wish != 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.known[g.Key]
	if m == nil {
		if len(t.known) >= maxMeasured {
			clear(t.known)
		}
		m = &Measured{}
		t.known[g.Key] = m
	}
	m.fixed = m.fixed || chosen != ran
	before := *m
	for _, b := range []struct {
		batch int
		least *time.Duration
	}{{Batched, &m.Batched}, {Sequential, &m.Sequential}} {
		// The first measurement counts until both are known: the machine may be busier later.
		if b.batch == ran && *b.least == 0 {
			*b.least = step
		}
	}
	if *m == before || m.fixed {
		return nil
	}
	return t.write()
}

// write keeps what is known, with what other processes have measured meanwhile. The lock is held.
func (t *Trials) write() error {
	if t.file == "" {
		return nil
	}
	all := t.read()
	if all == nil || len(all) >= maxMeasured {
		all = map[string]*Measured{}
	}
	for key, m := range t.known {
		if !m.fixed {
			all[key] = m
		}
	}
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(t.file), 0o755); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(t.file), "guidance-*")
	if err != nil {
		return err
	}
	_, err = part.Write(data)
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Rename(part.Name(), t.file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part.Name()))
	}
	return nil
}

// ByMemory reports whether a guided generation is predicted to need more than a device's memory batched, and less
// sequentially; total of 0 or less is not known. The prediction is the model's prior, see model.PeakBytes.
func ByMemory(m *model.Model, w model.Workload, total int64) (setting events.DeviceSetting, sequential bool) {
	if m == nil || total <= 0 || !w.Guided {
		return setting, false
	}
	batched := m.PeakBytes(w)
	w.Economy.SequentialGuidance = true
	if batched <= total || m.PeakBytes(w) >= batched {
		return setting, false
	}
	return events.DeviceSetting{
		Name: Guidance, Value: "sequential", Reason: fmt.Sprintf("a device of %.1f GiB, and a batch of 2 needs about %.1f GiB", gib(total), gib(batched)),
	}, true
}

func gib(n int64) float64 { return float64(n) / (1 << 30) }
