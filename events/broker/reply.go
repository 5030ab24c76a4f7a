package broker

import (
	"encoding/json"
	"strings"

	"github.com/nats-io/nats.go"

	"genfn/events"
)

// replyError is the reply to what cannot be done.
type replyError struct {
	Error *events.Error `json:"error"`
}

// reply answers a NATS request with an event in binary mode, or the error as JSON.
func (b *Broker) reply(to string, e events.Event, err error) {
	// The client names this subject and we may publish more than it: only to where answers are awaited.
	if to == "" || strings.HasPrefix(to, "gen.") || strings.HasPrefix(to, "$") {
		b.log.Warn("a request named no subject that could be replied to", "reply", to)
		return
	}
	m := &nats.Msg{Subject: to, Header: nats.Header{"Content-Type": {"application/json"}}}
	if err == nil {
		m.Header, m.Data, err = events.EncodeBinary(e)
	}
	if err != nil {
		m.Header = nats.Header{"Content-Type": {"application/json"}}
		if m.Data, err = json.Marshal(replyError{events.AsError(err)}); err != nil {
			b.log.Error("the error of a request cannot be written", "error", err)
			return
		}
	}
	if err := b.nc.PublishMsg(m); err != nil {
		b.log.Warn("a request was not replied to", "reply", to, "error", err)
	}
}

// decodeReply reads what reply wrote; the event must be of an expected type.
func decodeReply(m *nats.Msg, expected func(typ string) bool) (events.Event, error) {
	e, err := events.Decode(m.Header, m.Data)
	if err == nil && expected(e.Type()) {
		return e, nil
	}
	var r replyError
	if err := json.Unmarshal(m.Data, &r); err != nil || r.Error == nil {
		return events.Event{}, events.Errorf(events.CodeInternal, "the reply is neither the event expected nor an error")
	}
	return events.Event{}, r.Error
}
