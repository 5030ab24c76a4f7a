package controller

import (
	"context"
	"log/slog"
	"sync"

	"genfn/events"
	"genfn/events/broker"
)

// writer puts decisions into key-value: on one instance in order, on several at the same time. Safe for concurrent use.
type writer struct {
	broker *broker.Broker
	source string
	log    *slog.Logger
	failed context.CancelCauseFunc // called when something cannot be written
	tasks  sync.WaitGroup
	turns  chan struct{} // holds one for each write under way

	mu        sync.Mutex
	revisions map[string]uint64 // of the entries; none: 0
	waiting   map[string][]func(context.Context) error
}

func newWriter(b *broker.Broker, source string, log *slog.Logger) *writer {
	return &writer{
		broker: b, source: source, log: log, turns: make(chan struct{}, maxWrites),
		revisions: map[string]uint64{}, waiting: map[string][]func(context.Context) error{},
	}
}

// put has a decision written and told to who waits for it, if anybody does. stored is called when it is in force.
func (w *writer) put(ctx context.Context, d events.Decision, told chan<- answer, stored func()) {
	w.enqueue(ctx, d.Instance, func(ctx context.Context) error {
		w.mu.Lock()
		was := w.revisions[d.Instance]
		w.mu.Unlock()
		revision, err := w.broker.PutDecision(ctx, d, was, w.source)
		if err != nil {
			return err // whoever leads next answers who waits
		}
		w.mu.Lock()
		w.revisions[d.Instance] = revision
		w.mu.Unlock()
		stored()
		if told != nil {
			told <- answer{decision: d}
		}
		return nil
	})
}

// drop has all decisions on an instance removed.
func (w *writer) drop(ctx context.Context, instance string) {
	w.enqueue(ctx, instance, func(ctx context.Context) error {
		if err := w.broker.DropDecisions(ctx, instance); err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.revisions, instance)
		return nil
	})
}

func (w *writer) enqueue(ctx context.Context, instance string, write func(context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue, running := w.waiting[instance]
	w.waiting[instance] = append(queue, write)
	if !running {
		w.tasks.Go(func() { w.run(ctx, instance) })
	}
}

// run writes what waits on an instance until nothing does.
func (w *writer) run(ctx context.Context, instance string) {
	for {
		w.mu.Lock()
		queue := w.waiting[instance]
		if len(queue) == 0 || ctx.Err() != nil {
			delete(w.waiting, instance)
			w.mu.Unlock()
			return
		}
		w.waiting[instance] = queue[1:]
		w.mu.Unlock()
		w.turns <- struct{}{}
		err := queue[0](ctx)
		<-w.turns
		if err != nil {
			if ctx.Err() == nil {
				w.log.Error("a decision is not written, so this controller leads no more", "instance", instance, "error", err)
			}
			w.failed(err)
		}
	}
}

// wait waits until nothing is being written.
func (w *writer) wait() { w.tasks.Wait() }
