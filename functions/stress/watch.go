package stress

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
	"genfn/events/broker"
)

// heartbeatAge is how old the last word of an instance may be.
const heartbeatAge = 10 * time.Second

// sample is a heartbeat.
type sample struct {
	at     time.Time
	status events.DeviceStatus
}

// watch hears every heartbeat and every answer. Safe for concurrent use.
type watch struct {
	broker *broker.Broker
	run    string // with which the ids of this run begin
	model  string
	stops  []func()

	mu      sync.Mutex
	heard   chan struct{} // closed and replaced with each heartbeat
	samples []sample
	last    map[string]sample // by instance
	answers map[string]int    // by request of this run
}

func startWatch(ctx context.Context, b *broker.Broker, tenant, run, model string) (*watch, error) {
	w := &watch{broker: b, run: run, model: model, heard: make(chan struct{}), last: map[string]sample{}, answers: map[string]int{}}
	sub, err := b.Conn().Subscribe(broker.AnswerSubject(tenant, "*"), w.answered)
	if err != nil {
		return nil, err
	}
	w.stops = append(w.stops, func() { _ = sub.Unsubscribe() }) // fails only on a closed connection
	stop, err := b.WatchDevices(ctx, heartbeatAge, w.beat)
	if err != nil {
		w.stop()
		return nil, err
	}
	w.stops = append(w.stops, stop)
	return w, nil
}

func (w *watch) stop() {
	for _, stop := range w.stops {
		stop()
	}
}

func (w *watch) beat(s events.DeviceStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(s.Models, w.model) {
		return
	}
	x := sample{time.Now(), s}
	w.samples = append(w.samples, x)
	w.last[s.Instance] = x
	close(w.heard)
	w.heard = make(chan struct{})
}

func (w *watch) published(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[id] += 0
}

func (w *watch) answered(m *nats.Msg) {
	id := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ours := w.answers[id]; ours {
		w.answers[id]++
	}
}

// counts returns how many requests have no answer and how many have several.
func (w *watch) counts() (none, several int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.answers {
		switch {
		case n == 0:
			none++
		case n > 1:
			several++
		}
	}
	return none, several
}

// alive returns the last heartbeat of each instance that is still there, by name.
func (w *watch) alive() []sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []sample
	for _, name := range slices.Sorted(maps.Keys(w.last)) {
		if s := w.last[name]; time.Since(s.at) < heartbeatAge {
			out = append(out, s)
		}
	}
	return out
}

// all returns every heartbeat so far.
func (w *watch) all() []sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.samples)
}

// until waits until the living instances are as they should be. It returns false if they are not within patience.
func (w *watch) until(ctx context.Context, patience time.Duration, good func([]sample) bool) (bool, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		w.mu.Lock()
		heard := w.heard
		w.mu.Unlock()
		if good(w.alive()) {
			return true, nil
		}
		select {
		case <-heard:
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// someone waits for an instance that serves the model.
func (w *watch) someone(ctx context.Context, model string, patience time.Duration) error {
	ok, err := w.until(ctx, patience, func(alive []sample) bool { return len(alive) > 0 })
	if err == nil && !ok {
		e := events.Errorf(events.CodeDeviceUnavailable, "no instance that serves the model %s was heard of", model)
		e.Advice = "Start one with genfn up, or name its server with --nats and its model with --model."
		return e
	}
	return err
}

// queued returns the subjects of requests of this run that are still in the queue.
func (w *watch) queued(ctx context.Context) ([]string, error) {
	js, err := jetstream.New(w.broker.Conn())
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, broker.StreamRequests)
	if err != nil {
		return nil, fmt.Errorf("the queue cannot be looked at: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter("gen.req.>"))
	if err != nil {
		return nil, fmt.Errorf("the queue cannot be looked at: %w", err)
	}
	var left []string
	for subject := range info.State.Subjects {
		if a, ok := broker.ParseSubject(subject); ok && strings.HasPrefix(a.ID, w.run) {
			left = append(left, subject)
		}
	}
	slices.Sort(left)
	return left, nil
}

// emptied waits until no request of this run is in the queue, for patience at most, and returns those that are.
func (w *watch) emptied(ctx context.Context, patience time.Duration) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		left, err := w.queued(ctx)
		if err != nil || len(left) == 0 {
			if errors.Is(err, context.DeadlineExceeded) {
				err = nil
			}
			return left, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return left, nil
		}
	}
}
