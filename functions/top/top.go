// Package top watches a running system as `genfn top` shows it: instances and what is decided on them, the queue, rates.
// It knows the system by its events and by what the server tells of the queue.
package top

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/controller"
)

const (
	// silentAfter is how old the last word of an instance may be for it to count as alive.
	silentAfter = 10 * time.Second
	// forgetAfter is how long one is shown after it was last heard.
	forgetAfter = 2 * time.Minute
	askTimeout  = 5 * time.Second
)

// Snapshot is the system at a time.
type Snapshot struct {
	At        time.Time         `json:"at"`
	NATS      string            `json:"nats"`
	Problem   string            `json:"problem,omitempty"` // why the rest is older than it should be
	Leader    string            `json:"leader,omitempty"`  // the controller that decides; "": none
	Instances []Instance        `json:"instances"`
	Queue     Queue             `json:"queue"`
	Rates     Rates             `json:"rates"`
	Decisions []events.Decision `json:"decisions"` // since the snapshot before, the oldest first
}

// Instance is what is known of an instance.
type Instance struct {
	Instance string `json:"instance"`
	Device   string `json:"device"`
	Class    string `json:"class"`
	State    string `json:"state"` // by its own word; controller's gone: it is not heard of
	Reason   string `json:"reason"`
	Message  string `json:"message,omitempty"`

	Takes    bool             `json:"takes_requests"` // by its own word and by what it obeys
	Decision *events.Decision `json:"decision,omitempty"`

	Slots       int     `json:"slots"`
	Busy        int     `json:"busy"`
	Generations int64   `json:"generation_count"`
	Faults      int64   `json:"fault_count"`
	PerMinute   float64 `json:"generations_per_minute"`
	RSS         int64   `json:"rss"` // bytes of the runners
	DeviceUsed  *int64  `json:"device_used,omitempty"`
	DeviceTotal *int64  `json:"device_total,omitempty"`

	Conditions []events.Condition  `json:"conditions,omitempty"`
	LastCanary *events.LastCanary  `json:"last_canary,omitempty"`
	LastFault  *events.DeviceFault `json:"last_fault,omitempty"`
	HeardAt    time.Time           `json:"heard_at"`
}

// Queue is what waits and what is worked on.
type Queue struct {
	Requests int64   `json:"requests"`
	OldestMS int64   `json:"oldest_ms"` // age of the oldest request; 0: there is none
	Models   []Model `json:"models"`
}

// Model is the queue of a model.
type Model struct {
	Model   string           `json:"model"`
	Waiting int64            `json:"waiting"` // for an instance
	Taken   int64            `json:"taken"`   // worked on, or handed back to be delivered again
	Lanes   map[string]int64 `json:"lanes"`   // waiting, by lane
	Batch   int64            `json:"batch"`   // of those waiting
	Serve   map[string]int   `json:"serve"`   // instances that take its requests, by class of device
	// MinPending is how many requests must wait in the lane of any device for a CPU to take one; 0: one.
	MinPending int `json:"min_pending,omitempty"`
}

// Rates are events a second since the snapshot before.
type Rates struct {
	Published float64 `json:"published"` // moves between lanes too
	Succeeded float64 `json:"succeeded"`
	Failed    float64 `json:"failed"`
	Cancelled float64 `json:"cancelled"`
	Expired   float64 `json:"expired"`
}

// heard is the last word of an instance.
type heard struct {
	status events.DeviceStatus
	at     time.Time
	counts []reading // of generations, of the snapshots within rateWindow, the oldest first
}

// rateWindow is how far the generations a minute look back: heartbeats come every two seconds.
const rateWindow = 30 * time.Second

// perMinute takes the count at a time and returns how it grew.
func (h *heard) perMinute(now time.Time) float64 {
	h.counts = append(h.counts, reading{now, h.status.GenerationCount})
	for len(h.counts) > 2 && now.Sub(h.counts[1].at) > rateWindow {
		h.counts = h.counts[1:]
	}
	first := h.counts[0]
	if minutes := now.Sub(first.at).Minutes(); minutes > 0 {
		return float64(h.status.GenerationCount-first.count) / minutes
	}
	return 0
}

// reading is a count at a time.
type reading struct {
	at    time.Time
	count int64
}

// Watcher hears a running system. Make it with Watch. Safe for concurrent use.
type Watcher struct {
	broker *broker.Broker
	now    func() time.Time
	stops  []func()

	mu        sync.Mutex
	instances map[string]*heard
	inForce   map[string]events.Decision
	news      []events.Decision
	answers   map[string]int // by type
	last      time.Time      // of the last snapshot
	published uint64         // then
}

// Watch begins to hear. The watcher must be closed before the broker.
func Watch(ctx context.Context, b *broker.Broker) (*Watcher, error) {
	w := &Watcher{broker: b, now: time.Now, instances: map[string]*heard{}, inForce: map[string]events.Decision{}, answers: map[string]int{}}
	w.last = w.now()
	for _, begin := range []func() (func(), error){
		func() (func(), error) { return b.WatchInstances(ctx, silentAfter, w.status, func(events.Canary) {}) },
		func() (func(), error) { return b.WatchDecisions(ctx, w.decision) },
		func() (func(), error) { return b.WatchAnswers(w.answer) },
	} {
		stop, err := begin()
		if err != nil {
			w.Close()
			return nil, err
		}
		w.stops = append(w.stops, stop)
	}
	q, err := b.QueueState(ctx)
	if err != nil {
		w.Close()
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.news = nil // what is in force is no news
	w.published = q.Published
	return w, nil
}

// Close ends the watch.
func (w *Watcher) Close() {
	for _, stop := range w.stops {
		stop()
	}
}

func (w *Watcher) status(s events.DeviceStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.instances[s.Instance]
	switch {
	case h == nil || h.status.Incarnation != s.Incarnation:
		h = &heard{counts: []reading{{w.now(), s.GenerationCount}}}
		w.instances[s.Instance] = h
	case s.Sequence < h.status.Sequence:
		return // it came late
	}
	h.status, h.at = s, w.now()
}

func (w *Watcher) decision(d events.Decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if was, ok := w.inForce[d.Instance]; ok && d.Number <= was.Number {
		return // a new leader has written it anew
	}
	w.inForce[d.Instance] = d
	w.news = append(w.news, d)
}

func (w *Watcher) answer(typ string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[typ]++
}

// Snapshot returns the system as it is now. What the server does not tell in time is missing, and Problem says so.
func (w *Watcher) Snapshot(ctx context.Context) Snapshot {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	queue, queueErr := w.broker.QueueState(ctx)
	leader, leaderErr := w.broker.Holder(ctx, controller.LeaseKey)
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	s := Snapshot{At: now, NATS: w.broker.URL(), Leader: leader, Instances: w.list(now), Decisions: w.news}
	if s.Decisions == nil {
		s.Decisions = []events.Decision{}
	}
	if err := errors.Join(queueErr, leaderErr); err != nil {
		s.Problem = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	s.Queue = w.queue(queue, now)
	s.Rates = w.rates(queue, queueErr == nil, now.Sub(w.last).Seconds())
	w.news, w.answers, w.last = nil, map[string]int{}, now
	return s
}

// rates counts what happened since the last snapshot. The lock is held.
func (w *Watcher) rates(q broker.QueueState, known bool, seconds float64) (r Rates) {
	if seconds <= 0 {
		return r
	}
	per := func(typ string) float64 { return float64(w.answers[typ]) / seconds }
	r.Succeeded, r.Failed, r.Cancelled, r.Expired = per(events.TypeSucceeded), per(events.TypeFailed), per(events.TypeCancelled), per(events.TypeExpired)
	if known {
		if q.Published >= w.published { // else the stream was made anew
			r.Published = float64(q.Published-w.published) / seconds
		}
		w.published = q.Published
	}
	return r
}

// queue is the queue by model. The lock is held.
func (w *Watcher) queue(q broker.QueueState, now time.Time) Queue {
	out := Queue{Requests: int64(q.Requests), Models: []Model{}} //nolint:gosec // no queue has that many
	if !q.Oldest.IsZero() {
		out.OldestMS = max(0, now.Sub(q.Oldest).Milliseconds())
	}
	models := map[string]*Model{}
	for _, d := range q.Depths {
		_, name, ok := events.ParsePoolToken(d.Pool)
		if !ok {
			continue
		}
		m := models[name]
		if m == nil {
			m = &Model{Model: name, Lanes: map[string]int64{}, Serve: w.serve(name, now), MinPending: w.minPending(name, now)}
			models[name] = m
		}
		m.Waiting += d.Waiting
		m.Taken += d.Taken
		if d.Waiting > 0 {
			m.Lanes[string(d.Lane)] += d.Waiting
		}
		if d.Priority == broker.Batch {
			m.Batch += d.Waiting
		}
	}
	for _, name := range slices.Sorted(maps.Keys(models)) {
		out.Models = append(out.Models, *models[name])
	}
	return out
}

// serve counts the instances that take requests for a model, by class. The lock is held.
func (w *Watcher) serve(model string, now time.Time) map[string]int {
	n := map[string]int{}
	for _, h := range w.instances {
		if takes(h, now) && slices.Contains(h.status.Models, model) {
			n[h.status.Class]++
		}
	}
	return n
}

// minPending is the lowest limit of the CPUs that take requests for a model; 0: one has none, or there is none. The lock
// is held.
func (w *Watcher) minPending(model string, now time.Time) int {
	lowest := -1
	for _, h := range w.instances {
		if s := h.status; s.Class == events.DeviceCPU && takes(h, now) && slices.Contains(s.Models, model) && (lowest < 0 || s.MinPending[model] < lowest) {
			lowest = s.MinPending[model]
		}
	}
	return max(lowest, 0)
}

func takes(h *heard, now time.Time) bool {
	return now.Sub(h.at) <= silentAfter && h.status.State == events.StateReady && h.status.Admitted()
}

// list is the instances by name, and takes their counts for the next rates. The lock is held.
func (w *Watcher) list(now time.Time) []Instance {
	out := []Instance{}
	for _, name := range slices.Sorted(maps.Keys(w.instances)) {
		h := w.instances[name]
		silence := now.Sub(h.at)
		if silence > forgetAfter {
			delete(w.instances, name)
			continue
		}
		s := h.status
		i := Instance{
			Instance: name, Device: s.Device, Class: s.Class, State: s.State, Reason: s.Reason, Message: s.Message, Takes: takes(h, now),
			Slots: s.Slots, Busy: s.Busy, Generations: s.GenerationCount, Faults: s.FaultCount, Conditions: s.Conditions, LastCanary: s.LastCanary, HeardAt: h.at,
		}
		if silence > silentAfter {
			i.State, i.Reason, i.Message, i.Busy = events.StateGone, controller.ReasonSilent, "", 0
		}
		if d, ok := w.inForce[name]; ok {
			i.Decision = &d
		}
		if n := len(s.LastFaults); n > 0 {
			i.LastFault = &s.LastFaults[n-1]
		}
		if m := s.MemoryInfo; m != nil {
			i.RSS, i.DeviceUsed, i.DeviceTotal = int64(m.RSSMB*(1<<20)), m.DeviceUsed, m.DeviceTotal
		}
		i.PerMinute = h.perMinute(now)
		out = append(out, i)
	}
	return out
}
