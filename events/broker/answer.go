package broker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"genfn/events"
)

const timeFormat = time.RFC3339

// Terminal returns the terminal event of a request, as the leader of its stream
// has it; ok is false if there is none yet. If what is stored cannot be read, ok
// is true and the error says why.
func (b *Broker) Terminal(ctx context.Context, tenant, id string) (e events.Event, ok bool, err error) {
	m, err := b.readLeader(ctx, StreamTerminals, messageGet{Last: TerminalSubject(tenant, id)})
	if err != nil || m == nil {
		return events.Event{}, false, err
	}
	e, err = events.Decode(m.Header, m.Data)
	return e, true, err
}

// answer publishes the terminal event of a request unless it has one. Of any
// number of callers at any time exactly one wins. It returns the event that is
// stored, the zero event if that cannot be read. An error means that it is not
// known which is.
func (b *Broker) answer(ctx context.Context, tenant, id string, e events.Event) (terminal events.Event, won bool, err error) {
	header, data, err := events.EncodeBinary(e)
	if err != nil {
		return events.Event{}, false, err
	}
	writer := nuid.Next()
	m := &nats.Msg{Subject: TerminalSubject(tenant, id), Header: header, Data: data}
	m.Header.Set(headerWriter, writer)
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	err = b.retry(ctx, func(ctx context.Context) error {
		_, err := b.publish(ctx, m)
		if !conflict(err) {
			terminal, won = e, err == nil
			return err
		}
		// The winner may be an earlier try of ours whose confirmation was lost.
		stored, readErr := b.readLeader(ctx, StreamTerminals, messageGet{Last: m.Subject})
		switch {
		case readErr != nil:
			return readErr
		case stored == nil:
			return fmt.Errorf("a terminal event was refused because of another that cannot be found yet: %w", nats.ErrTimeout)
		}
		won = stored.Header.Get(headerWriter) == writer
		terminal, _ = events.Decode(stored.Header, stored.Data)
		return nil
	})
	return terminal, won, err
}

// fail answers a request with failed unless it is answered already, and returns its terminal event.
func (b *Broker) fail(ctx context.Context, a Address, request events.Event, cause *events.Error, attempts []AttemptRecord) (events.Event, error) {
	return b.answerAs(ctx, events.TypeFailed, a, request, events.Failed{Error: cause, Attempts: EventAttempts(attempts)}.Fit())
}

// expire answers a request with expired unless it is answered already, and returns its terminal event.
func (b *Broker) expire(ctx context.Context, a Address, request events.Event) (events.Event, error) {
	return b.answerAs(ctx, events.TypeExpired, a, request, events.Expired{ExpiryTime: request.ExpiryTime(), FoundAt: b.now()})
}

func (b *Broker) answerAs(ctx context.Context, typ string, a Address, request events.Event, data any) (events.Event, error) {
	meta := events.AnswerTo(request, a.ID, b.source)
	meta.Time = b.now()
	if !events.ValidID(a.ID) { // somebody published under it nevertheless and waits
		meta.RequestID = "invalid"
	}
	e, err := events.NewAnswer(typ, meta, data)
	if err != nil {
		return events.Event{}, err
	}
	e.SetSubject(strings.ToValidUTF8(a.ID, "\uFFFD"))
	terminal, _, err := b.answer(ctx, a.Tenant, a.ID, e)
	return terminal, err
}
