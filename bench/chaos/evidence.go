package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
	"genfn/events/broker"
)

// evidence is what is left of all requests, by id.
type evidence struct {
	published []Published
	terminals map[string][]terminal
	attempts  map[string][]broker.AttemptRecord
	dead      map[string]int // dead letters
	objects   map[string]object
	queued    map[string]bool
	answers   map[string][]answer // different ones that were heard
	stories   map[string][]events.Event
}

// terminal is a stored terminal event.
type terminal struct {
	event  events.Event
	broken error // it cannot be read
	stored time.Time
}

// object is what the object store has under a name.
type object struct {
	sha256 string // of its bytes, in hex
	size   int64
}

// gather reads all streams, as their leaders have them.
func (s *system) gather(ctx context.Context, published []Published, ears *ears) (*evidence, error) {
	b, err := s.connect("check")
	if err != nil {
		return nil, err
	}
	defer b.Close()
	js, err := jetstream.New(b.Conn())
	if err != nil {
		return nil, err
	}
	e, err := read(ctx, js)
	if err != nil {
		return nil, err
	}
	e.published = published
	e.answers, e.stories = ears.all()
	return e, nil
}

// read reads what the streams hold.
func read(ctx context.Context, js jetstream.JetStream) (*evidence, error) {
	e := &evidence{
		terminals: map[string][]terminal{}, attempts: map[string][]broker.AttemptRecord{}, dead: map[string]int{},
		objects: map[string]object{}, queued: map[string]bool{},
	}
	objects := newObjectReader()
	err := errors.Join(
		each(ctx, js, broker.StreamTerminals, func(m message) error {
			event, err := events.Decode(m.header, m.data)
			e.terminals[m.id()] = append(e.terminals[m.id()], terminal{event, err, m.stored})
			return nil
		}),
		each(ctx, js, broker.StreamAttempts, func(m message) error {
			var history struct {
				Records []broker.AttemptRecord `json:"attempts"`
			}
			err := json.Unmarshal(m.data, &history)
			e.attempts[m.id()] = history.Records // each tells all before
			return err
		}),
		each(ctx, js, broker.StreamDeadLetters, func(m message) error {
			e.dead[m.id()]++
			return nil
		}),
		each(ctx, js, broker.StreamRequests, func(m message) error {
			e.queued[m.id()] = true
			return nil
		}),
		each(ctx, js, objectStream, objects.add),
	)
	e.objects = objects.all()
	return e, err
}

// message is one message of a stream.
type message struct {
	subject string
	header  nats.Header
	data    []byte
	stored  time.Time
}

// id is the request that the message is about, of all streams but that of the object store.
func (m message) id() string { return m.subject[strings.LastIndexByte(m.subject, '.')+1:] }

// each calls f with each message that a stream holds, in order.
func each(ctx context.Context, js jetstream.JetStream, name string, f func(message) error) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	info := stream.CachedInfo()
	if info.Config.Retention == jetstream.WorkQueuePolicy { // its messages have their consumers already
		return eachBySequence(ctx, stream, f)
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute})
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	for left := int(consumer.CachedInfo().NumPending); left > 0; { //nolint:gosec // no stream has that many
		const portion, patience = 500, 10 * time.Second
		batch, err := consumer.Fetch(min(left, portion), jetstream.FetchMaxWait(patience))
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		before := left
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err == nil {
				err = f(message{m.Subject(), m.Headers(), m.Data(), meta.Timestamp})
			}
			if err != nil {
				return fmt.Errorf("%s, message under %s: %w", name, m.Subject(), err)
			}
			left--
		}
		if left == before {
			return fmt.Errorf("read %s: %d messages do not come: %w", name, left, errors.Join(batch.Error(), ctx.Err()))
		}
	}
	return stream.DeleteConsumer(ctx, consumer.CachedInfo().Name)
}

// eachBySequence is each for the few messages of a work queue.
func eachBySequence(ctx context.Context, stream jetstream.Stream, f func(message) error) error {
	for next := uint64(1); ; {
		m, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", stream.CachedInfo().Config.Name, err)
		}
		if err := f(message{m.Subject, m.Header, m.Data, m.Time}); err != nil {
			return err
		}
		next = m.Sequence + 1
	}
}
