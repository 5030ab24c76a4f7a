package broker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

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
	m := &nats.Msg{Subject: TerminalSubject(tenant, id), Header: header, Data: data}
	_, other, err := b.putNext(ctx, StreamTerminals, m, 0)
	switch {
	case err == nil:
		return e, true, nil
	case !errors.Is(err, ErrConflict):
		return events.Event{}, false, err
	}
	terminal, _ = events.Decode(other.Header, other.Data)
	return terminal, false, nil
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
