package broker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// Depth is how many requests of a pool are in the queue by lane and priority.
type Depth struct {
	Pool     string
	Lane     Lane
	Priority Priority
	Waiting  int64 // delivered to nobody yet
	Taken    int64 // delivered and not ended: worked on, or handed back to be delivered again
	Again    int64 // of those taken, delivered more than once
}

// QueueState is the queue as a whole.
type QueueState struct {
	Depths    []Depth // by pool, lane and priority; those without requests too
	Published uint64  // requests since the stream was made, moved ones each time
	Requests  uint64  // in the queue
	Oldest    time.Time
}

// QueueState asks the server for the state of the queue. A server on which nothing is set up has an empty one.
func (b *Broker) QueueState(ctx context.Context) (q QueueState, err error) {
	err = b.retry(ctx, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, apiSubjectOf(StreamRequests))
		defer stop()
		q, err = b.queueState(ctx)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		return denialOf(ctx, err)
	})
	return q, err
}

func (b *Broker) queueState(ctx context.Context) (q QueueState, err error) {
	stream, err := b.js.Stream(ctx, StreamRequests)
	if err != nil {
		return q, err
	}
	state := stream.CachedInfo().State
	q.Published, q.Requests = state.LastSeq, state.Msgs
	if state.Msgs > 0 {
		q.Oldest = state.FirstTime
	}
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		pool, ok := poolOf(info.Name)
		if !ok {
			continue
		}
		words := strings.Split(strings.TrimPrefix(info.Name, consumerPrefix+pool+"_"), "_")
		q.Depths = append(q.Depths, Depth{
			Pool: pool, Lane: Lane(words[0]), Priority: Priority(words[1]),
			Waiting: int64(info.NumPending), Taken: int64(info.NumAckPending), Again: int64(info.NumRedelivered), //nolint:gosec // no queue has that many
		})
	}
	slices.SortFunc(q.Depths, func(x, y Depth) int {
		return strings.Compare(x.Pool+" "+string(x.Lane)+" "+string(x.Priority), y.Pool+" "+string(y.Lane)+" "+string(y.Priority))
	})
	return q, list.Err()
}

// CountDeadLetters asks the server how many dead letters are kept. A server on which nothing is set up has none.
func (b *Broker) CountDeadLetters(ctx context.Context) (n uint64, err error) {
	err = b.retry(ctx, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, apiSubjectOf(StreamDeadLetters))
		defer stop()
		stream, err := b.js.Stream(ctx, StreamDeadLetters)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		if err == nil {
			n = stream.CachedInfo().State.Msgs
		}
		return denialOf(ctx, err)
	})
	return n, err
}

// WatchAnswers calls found with the type of each terminal event of all tenants, once it is stored, until stop is called.
// Calls do not overlap. What is said while the connection is lost is not heard.
func (b *Broker) WatchAnswers(found func(typ string)) (stop func(), err error) {
	sub, err := b.nc.Subscribe(AnswerSubject("*", "*"), func(m *nats.Msg) {
		if e, err := events.Decode(m.Header, m.Data); err == nil && events.Terminal(e.Type()) {
			found(e.Type())
		}
	})
	if err != nil {
		return nil, b.inWords(context.Background(), err)
	}
	return func() { _ = sub.Unsubscribe() }, b.Flush() // unsubscribing fails only on a closed connection
}
