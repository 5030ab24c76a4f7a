package instance

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"genfn/events/broker"
)

const (
	maxLearned = 4096 // kinds of work on kinds of device that are remembered; as many as the broker keeps
	maxPending = 64   // generations of one kind of work that wait to be stored
)

// newWeight is the weight of a new measurement against what was learned.
const newWeight = 0.3

// refusedLife is how long it is remembered that memory ran out for a kind of work: what others held may be free by then.
const refusedLife = 30 * time.Minute

// Figures are the learned times and memory peaks by kind of device and of work. Instances of one process share them,
// and all instances share them through the broker's key-value store. Safe for concurrent use.
type Figures struct {
	changed chan struct{} // holds one when something waits to be stored

	mu      sync.Mutex
	entries map[figure]broker.Learned
	pending map[figure][]sample
}

// figure names an entry.
type figure struct{ kind, work string }

// NewFigures returns figures that know nothing yet.
func NewFigures() *Figures {
	return &Figures{changed: make(chan struct{}, 1), entries: map[figure]broker.Learned{}, pending: map[figure][]sample{}}
}

// sample is what one generation tells.
type sample struct {
	times   map[string]float64 // milliseconds by stage; of denoising, of one step
	peak    int64              // bytes; 0: not known
	bound   int64              // bytes that the peak is no more than
	alone   bool               // the process held nothing of other work: the peak is this work's, else it is estimated
	refused int64              // bytes there were when memory ran out; 0: it did not
	at      time.Time
}

// addTo mixes the sample into an entry.
func (s sample) addTo(l *broker.Learned) {
	if s.refused > 0 {
		l.RefusedBytes, l.RefusedAt = max(l.RefusedBytes, s.refused), s.at.UTC()
		return
	}
	l.Runs++
	l.RefusedBytes, l.RefusedAt = 0, time.Time{}
	times := maps.Clone(l.TimesMS) // others may read it
	if times == nil {
		times = map[string]float64{}
	}
	for stage, ms := range s.times {
		times[stage] = mix(times[stage], ms)
	}
	l.TimesMS = times
	switch {
	case s.peak <= 0:
	case l.PeakBytes == 0, s.alone && s.peak > l.PeakBytes:
		l.PeakBytes = s.peak
	case s.alone: // it rises at once and falls slowly
		l.PeakBytes = int64(mix(float64(l.PeakBytes), float64(s.peak)))
	}
	if s.bound > 0 {
		l.PeakBytes = min(l.PeakBytes, s.bound)
	}
}

// mix mixes a measurement into what was learned, 0 for nothing.
func mix(old, measured float64) float64 {
	if old == 0 {
		return measured
	}
	return (1-newWeight)*old + newWeight*measured
}

// change changes an entry. The lock is held.
func (f *Figures) change(key figure, do func(*broker.Learned)) {
	entry, ok := f.entries[key]
	if !ok {
		entry = broker.Learned{Device: key.kind, Work: key.work}
		if len(f.entries) >= maxLearned {
			for other := range f.entries { // any one
				delete(f.entries, other)
				break
			}
		}
	}
	do(&entry)
	f.entries[key] = entry
}

// note mixes the time of a stage into what is known here, so that a long generation is measured by its own steps. It
// is stored with the generation's sample.
func (f *Figures) note(kind, work, stage string, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change(figure{kind, work}, func(l *broker.Learned) {
		times := maps.Clone(l.TimesMS)
		if times == nil {
			times = map[string]float64{}
		}
		times[stage] = mix(times[stage], milliseconds(took))
		l.TimesMS = times
	})
}

// add takes what a generation tells, to be stored.
func (f *Figures) add(kind, work string, s sample) {
	key := figure{kind, work}
	f.mu.Lock()
	defer f.mu.Unlock()
	here := s
	here.times = nil // noted as they came
	f.change(key, here.addTo)
	if waiting := f.pending[key]; len(waiting) < maxPending && (len(waiting) > 0 || len(f.pending) < maxLearned) {
		f.pending[key] = append(waiting, s)
	}
	f.signal()
}

func (f *Figures) signal() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// heard takes what is stored, by this process or another.
func (f *Figures) heard(l broker.Learned) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change(figure{l.Device, l.Work}, func(own *broker.Learned) {
		times := maps.Clone(own.TimesMS)
		if times == nil {
			times = map[string]float64{}
		}
		maps.Copy(times, l.TimesMS)
		*own = l
		own.TimesMS = times
	})
}

// store stores what waits, through update. What cannot be stored waits on.
func (f *Figures) store(ctx context.Context, update func(ctx context.Context, kind, work string, change func(*broker.Learned)) error) error {
	f.mu.Lock()
	pending := f.pending
	f.pending = map[figure][]sample{}
	f.mu.Unlock()
	for key, samples := range pending {
		err := update(ctx, key.kind, key.work, func(l *broker.Learned) {
			for _, s := range samples {
				s.addTo(l)
			}
		})
		if err == nil {
			delete(pending, key)
			continue
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		for key, samples := range pending {
			all := slices.Concat(samples, f.pending[key])
			f.pending[key] = all[max(0, len(all)-maxPending):]
		}
		return err
	}
	return nil
}

// entry returns what is known of a kind of work.
func (f *Figures) entry(kind, work string) broker.Learned {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.entries[figure{kind, work}]
}

// of returns the learned times of the stages, nil if there are none.
func (f *Figures) of(kind, work string) map[string]time.Duration {
	learned := f.entry(kind, work).TimesMS
	if learned == nil {
		return nil
	}
	times := make(map[string]time.Duration, len(learned))
	for stage, ms := range learned {
		times[stage] = time.Duration(ms * float64(time.Millisecond))
	}
	return times
}

// total predicts the time of a whole generation; ok is false if its steps were never measured. Loading a model is
// not in it.
func (f *Figures) total(kind, work string, steps int) (total time.Duration, ok bool) {
	ms, ok := predicted(f.entry(kind, work).TimesMS, steps)
	return time.Duration(ms * float64(time.Millisecond)), ok
}

// predicted is the time of a whole generation in milliseconds, from those of its stages; ok is false if its steps were
// never measured.
func predicted(times map[string]float64, steps int) (ms float64, ok bool) {
	step, ok := times[stageStep]
	for stage, took := range times {
		if stage != stageStep {
			ms += took
		}
	}
	return ms + float64(steps)*step, ok
}

// peak is the learned peak of memory, 0 if it was never measured, and what there was when memory ran out for this
// work lately, 0 if it did not.
func (f *Figures) peak(kind, work string, now time.Time) (bytes, refused int64) {
	l := f.entry(kind, work)
	if now.Sub(l.RefusedAt) < refusedLife {
		refused = l.RefusedBytes
	}
	return l.PeakBytes, refused
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
