package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// ErrDuplicateID is in the chain of the invalid_request error for a request id
// that is queued, running or answered.
var ErrDuplicateID = errors.New("duplicate request id")

// DuplicateID returns the error for an id that cannot be used again; state says why.
func DuplicateID(id, state string) *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, "a request with the id %q %s", id, state)
	e.Field, e.Expected = "id", "an id that was not used before"
	e.Advice = "Follow that request, or send this one under a new id."
	e.Cause = ErrDuplicateID
	return e
}

// PublishRequest stores a request in the queue. It says in words what the server
// refuses: an id that is queued or was just published, a full queue, an event
// that is too large, streams that do not exist, missing permission.
func (b *Broker) PublishRequest(ctx context.Context, a Address, request events.Event) error {
	if !a.valid() {
		return a.unread()
	}
	header, data, err := events.EncodeBinary(request)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: a.Subject(), Header: header, Data: data}
	m.Header.Set(nats.MsgIdHdr, a.Tenant+"/"+a.ID)
	m.Header.Set(jetstream.ExpectedStreamHeader, StreamRequests)
	if max := b.nc.MaxPayload(); int64(m.Size()) > max {
		return tooLarge(m.Size(), max)
	}
	tries := 0
	err = b.retry(ctx, func(ctx context.Context) error {
		tries++
		ack, err := b.publish(ctx, m)
		switch {
		case err == nil && ack.Duplicate && tries == 1:
			return DuplicateID(a.ID, "was published a short time ago")
		case inProcess(err) && tries == 1:
			tries = 0 // another publisher's: if it is stored, this one is a duplicate
			return err
		case unheard(err):
			// A server that is starting or stopping says the same: ask for the stream.
			if _, lookup := b.js.Stream(ctx, StreamRequests); lookup != nil {
				return lookup
			}
			return err
		case err != nil && tries > 1 && queuedAlready(err):
			return nil // by an earlier try whose confirmation was lost
		case err != nil:
			return refusal(err, a.ID, m.Size())
		}
		return nil
	})
	return err
}

func queuedAlready(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeStoreFailed && api.Description == textMaxPerSubject
}

// refusal puts what the stream says into words.
func refusal(err error, id string, size int) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch {
	case queuedAlready(err):
		return DuplicateID(id, "is queued or running")
	case queueFull(err):
		e := events.Errorf(events.CodeQueueFull, "the queue takes no more requests: %s", api.Description)
		e.Cause = api
		return e
	case api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return tooLarge(size, events.MaxEventBytes+headerAllowance)
	}
	return err
}

func tooLarge(size int, limit int64) *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, "the event with its headers has %d bytes", size)
	e.Field, e.Expected = "data", fmt.Sprintf("at most %d bytes; send files as inputs", limit)
	return e
}
