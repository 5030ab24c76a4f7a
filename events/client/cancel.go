package client

import (
	"context"

	"genfn/events"
)

// Cancel ends a request of this tenant, queued or running, and returns its terminal event: cancelled, or another if
// the request had ended before. reason is for people, of at most 1000 characters, and may be empty. The device may go
// on with a step of its work for a moment. Errors: invalid_request for an id that is neither queued nor answered,
// device_unavailable if no instance is there to do it, permission_denied.
func (c *Client) Cancel(ctx context.Context, id, reason string) (events.Event, error) {
	if err := events.CheckID(id); err != nil { // a wildcard would cancel everybody's requests
		return events.Event{}, err
	}
	meta := events.Meta{RequestID: id, ID: events.NewID(), Source: c.source}
	ask, err := events.NewRequest(events.TypeCancel, meta, events.Cancel{Reason: reason})
	if err != nil {
		return events.Event{}, err
	}
	if err := events.Validate(ask); err != nil {
		return events.Event{}, err
	}
	return c.b.Cancel(ctx, c.tenant, id, ask)
}
