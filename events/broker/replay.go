package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// SubscribeTerminal delivers the terminal event of a request to messages, under
// its AnswerSubject, once it is stored.
func (b *Broker) SubscribeTerminal(tenant, id string, messages chan *nats.Msg) (stop func(), err error) {
	return b.subscribe(messages, AnswerSubject(tenant, id))
}

// SubscribeEvents delivers the live events of a request and what
// SubscribeTerminal does, in the order they were sent.
func (b *Broker) SubscribeEvents(tenant, id string, messages chan *nats.Msg) (stop func(), err error) {
	return b.subscribe(messages, EventSubject(tenant, id, "*"), AnswerSubject(tenant, id))
}

func (b *Broker) subscribe(messages chan *nats.Msg, subjects ...string) (stop func(), err error) {
	var subs []*nats.Subscription
	stop = func() {
		for _, s := range subs {
			_ = s.Unsubscribe() // fails only on a closed connection, where it has ended already
		}
	}
	for _, subject := range subjects {
		s, err := b.nc.ChanSubscribe(subject, messages)
		if err != nil {
			stop()
			return nil, b.inWords(context.Background(), err)
		}
		subs = append(subs, s)
	}
	return stop, nil
}

// Flush waits until the server knows all subscriptions, if it is there; when it
// comes back later it is told before anything else. It need not be called before
// something is published over the same connection.
func (b *Broker) Flush() error {
	err := b.nc.FlushTimeout(requestTimeout)
	if err != nil && !b.nc.IsClosed() {
		return nil
	}
	return b.inWords(context.Background(), err)
}

// Replay returns the stored live events of a request in the order they were stored.
func (b *Broker) Replay(ctx context.Context, tenant, id string) ([]events.Event, error) {
	subject := EventSubject(tenant, id, "*")
	last, err := b.readLeader(ctx, StreamEvents, messageGet{Last: subject})
	if errors.Is(err, jetstream.ErrStreamNotFound) { // it lives in memory: a restarted server has not got it back yet
		return nil, nil
	}
	if err != nil || last == nil {
		return nil, err
	}
	var replayed []events.Event
	err = b.retry(ctx, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, apiSubjectOf(StreamEvents))
		defer stop()
		var err error
		replayed, err = b.replay(ctx, subject, last.Sequence)
		return denialOf(ctx, err)
	})
	return replayed, err
}

// replay reads the messages of a subject of the live events up to a sequence.
func (b *Broker) replay(ctx context.Context, subject string, last uint64) ([]events.Event, error) {
	return b.readStored(ctx, StreamEvents, subject, jetstream.DeliverAllPolicy, last)
}

// readAll reads the messages of a subject that are stored now.
func (b *Broker) readAll(ctx context.Context, stream, subject string, which jetstream.DeliverPolicy) ([]events.Event, error) {
	return b.readStored(ctx, stream, subject, which, math.MaxUint64)
}

// readStored reads the events of a subject up to a sequence.
func (b *Broker) readStored(ctx context.Context, stream, subject string, which jetstream.DeliverPolicy, last uint64) ([]events.Event, error) {
	var stored []events.Event
	err := b.visitStored(ctx, stream, subject, which, func(m jetstream.Msg, meta *jetstream.MsgMetadata) bool {
		if e, err := events.Decode(m.Headers(), m.Data()); err == nil { // others may publish here; what is no event is not ours
			stored = append(stored, e)
		}
		return meta.Sequence.Stream < last
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// visitStored calls visit with the messages of a subject that are stored now, until it returns false. They are read
// through a consumer of its own, which the server forgets soon after.
func (b *Broker) visitStored(ctx context.Context, stream, subject string, which jetstream.DeliverPolicy, visit func(jetstream.Msg, *jetstream.MsgMetadata) bool) error {
	consumer, err := b.js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
		FilterSubject: subject, AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: which,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return err
	}
	info := consumer.CachedInfo()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		defer cancel()
		if err := b.js.DeleteConsumer(ctx, stream, info.Name); err != nil {
			b.log.Debug("a replay's consumer was left to expire", "error", err)
		}
	}()
	if info.NumPending == 0 {
		return nil
	}
	return visitBatch(ctx, consumer, info.NumPending, visit)
}

func visitBatch(ctx context.Context, consumer jetstream.Consumer, pending uint64, visit func(jetstream.Msg, *jetstream.MsgMetadata) bool) error {
	batch, err := consumer.Fetch(int(pending), jetstream.FetchContext(ctx))
	if err != nil {
		return err
	}
	next := uint64(1)
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != next {
			return fmt.Errorf("the replay skipped from %d to %d: %w", next, meta.Sequence.Consumer, nats.ErrTimeout)
		}
		next++
		if !visit(m, meta) || meta.NumPending == 0 {
			return nil
		}
	}
	return errors.Join(nats.ErrTimeout, batch.Error())
}
