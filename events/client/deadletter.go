package client

import (
	"context"
	"encoding/json"
	"time"

	"genfn/events"
	"genfn/events/broker"
)

// DeadLetters calls found with each dead letter of this tenant, the oldest first.
func (c *Client) DeadLetters(ctx context.Context, found func(broker.DeadLetter)) error {
	return c.b.DeadLetters(ctx, c.tenant, found)
}

// DeadLetter returns the dead letter of a request of this tenant; invalid_request if there is none.
func (c *Client) DeadLetter(ctx context.Context, id string) (broker.DeadLetter, error) {
	return c.b.DeadLetter(ctx, c.tenant, id)
}

// Drop removes the dead letter of a request of this tenant; invalid_request if there is none.
func (c *Client) Drop(ctx context.Context, id string) error {
	return c.b.DropDeadLetter(ctx, c.tenant, id)
}

// Replay publishes the request of a dead letter under a new id, with that of the old one as its causation id, and
// marks the dead letter with it. Its time limit is left out if it is over.
// Errors: invalid_request for one that could not be read, and those of Publish. If id is not empty the request is
// published, and only the mark may be missing.
func (c *Client) Replay(ctx context.Context, l broker.DeadLetter) (id string, err error) {
	request, err := l.Request()
	if err != nil {
		e := events.Errorf(events.CodeInvalidRequest, "the request %s cannot be read, so it cannot be sent again: %w", l.ID, err)
		e.Advice = "Have its sender send it again in a form that can be read; genfn dlq show tells what it sent."
		return "", e
	}
	a, _ := broker.ParseSubject(l.Subject)
	r := Request{
		Type: request.Type(), Priority: a.Priority, Data: json.RawMessage(request.Data()),
		CorrelationID: request.CorrelationID(), CausationID: l.ID, TraceParent: request.TraceParent(),
	}
	if expiry := request.ExpiryTime(); expiry.After(time.Now()) {
		r.Expiry = expiry
	}
	if id, err = c.Publish(ctx, r); err != nil {
		return "", err
	}
	return id, c.b.MarkReplayed(ctx, l, id)
}
