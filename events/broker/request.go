package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// Error codes of the JetStream API that nats.go does not name.
const (
	codeNoMessage     = 10037 // no message under that subject or sequence
	codeInProcess     = 10158 // a message with this id is being stored: an earlier try, or another publisher's
	codeStoreFailed   = 10077 // the stream's limits refuse the message; the text says which
	textMaxPerSubject = "maximum messages per subject exceeded"
)

// storedMessage is a message as the leader of its stream has it.
type storedMessage struct {
	Subject  string
	Sequence uint64
	Header   nats.Header
	Data     []byte
	Time     time.Time
}

// messageGet selects a message: by sequence, the last of a subject, or the next
// from a sequence on.
type messageGet struct {
	Sequence uint64 `json:"seq,omitempty"`
	Last     string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"`
}

// readLeader reads a message from the stream's leader, not through the direct
// API, which any replica answers. It returns nil if there is none.
func (b *Broker) readLeader(ctx context.Context, stream string, get messageGet) (*storedMessage, error) {
	body, err := json.Marshal(get)
	if err != nil {
		return nil, err
	}
	var m *storedMessage
	err = b.retry(ctx, func(ctx context.Context) error {
		reply, err := b.request(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
		if err != nil {
			return err
		}
		m, err = decodeStored(reply.Data)
		return err
	})
	return m, err
}

func decodeStored(reply []byte) (*storedMessage, error) {
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply, &r); err != nil {
		return nil, fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	switch {
	case r.Error != nil && r.Error.ErrorCode == codeNoMessage:
		return nil, nil
	case r.Error != nil:
		return nil, r.Error
	case r.Message == nil:
		return nil, errors.New("the server's answer holds no message")
	}
	m := &storedMessage{Subject: r.Message.Subject, Sequence: r.Message.Sequence, Data: r.Message.Data, Time: r.Message.Time}
	if len(r.Message.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(r.Message.Header)
		if err != nil {
			return nil, fmt.Errorf("the stored header cannot be read: %w", err)
		}
		m.Header = h
	}
	return m, nil
}

// request sends one request and waits for its answer, at most requestTimeout.
func (b *Broker) request(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	ctx, stop := b.guard(ctx, func(s string) bool { return s == subject })
	defer stop()
	reply, err := b.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return nil, denialOf(ctx, err)
	}
	return reply, nil
}

// publish stores one message in the stream of its subject. One try.
func (b *Broker) publish(ctx context.Context, m *nats.Msg) (*jetstream.PubAck, error) {
	ctx, stop := b.guard(ctx, func(s string) bool { return s == m.Subject })
	defer stop()
	ack, err := b.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	if err != nil {
		return nil, denialOf(ctx, err)
	}
	return ack, nil
}

// retry runs op, each try bounded by requestTimeout, until it returns anything
// but a sign of an absent or busy server, or ctx ends. A try that a loss of the
// connection interrupts is repeated as soon as the connection is back. op must
// bear repetition.
func (b *Broker) retry(ctx context.Context, op func(context.Context) error) error {
	return b.retryWithin(ctx, requestTimeout, op)
}

// retryWithin is retry with another bound for each try.
func (b *Broker) retryWithin(ctx context.Context, limit time.Duration, op func(context.Context) error) error {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		reconnected, err := b.try(ctx, limit, op)
		switch {
		case err == nil:
			return nil
		case unheard(err) && b.nc.IsConnected() && !b.hasJetStream():
			return b.noJetStream()
		case ctx.Err() != nil, !reconnected && !b.transient(err):
			return b.inWords(ctx, err)
		case reconnected:
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return b.inWords(ctx, err)
		}
	}
}

// try runs op once; reconnected says that it was given up because its answer, if
// there was one, was lost with a connection.
func (b *Broker) try(ctx context.Context, limit time.Duration, op func(context.Context) error) (reconnected bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var again atomic.Bool
	defer b.NotifyReconnect(func() {
		again.Store(true)
		cancel()
	})()
	err = op(ctx)
	return again.Load() && errors.Is(err, context.Canceled), err
}

// transient reports whether err says that the server is not there at the moment.
func (b *Broker) transient(err error) bool {
	var settled *events.Error
	if errors.As(err, &settled) {
		return false
	}
	if errors.Is(err, nats.ErrConnectionClosed) { // also what waited for an answer when the connection broke
		return !b.nc.IsClosed()
	}
	for _, t := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected,
		nats.ErrReconnectBufExceeded, nats.ErrConnectionReconnecting, jetstream.ErrNoStreamResponse,
	} {
		if errors.Is(err, t) {
			return true
		}
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	return api.ErrorCode == codeInProcess || api.Code == 503 &&
		api.ErrorCode != jetstream.JSErrCodeJetStreamNotEnabledForAccount && api.ErrorCode != codeStoreFailed
}

// inProcess reports whether a message with the same id is just being stored.
func inProcess(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeInProcess
}

// unheard reports whether nothing at the server listens to what was sent.
func unheard(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// hasJetStream reports what the connected server said about itself.
func (b *Broker) hasJetStream() bool {
	has, _ := b.nc.ConnectedServerJetStream()
	return has
}

func (b *Broker) noJetStream() *events.Error {
	e := events.Errorf(events.CodeInternal, "the NATS server at %s has no JetStream", b.URL())
	e.Title, e.Advice = titleServer, "Start the server with JetStream (nats-server -js), or use genfn up."
	return e
}

// titleServer is the title of errors about the NATS server itself.
const titleServer = "NATS server cannot be used"

// inWords turns err into an *events.Error. What ctx ended is reported as ctx's
// error, wrapped, so that callers can ask for context.Canceled.
func (b *Broker) inWords(ctx context.Context, err error) error {
	var known *events.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return b.noStreams()
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("NATS at %s: %w", b.URL(), context.Canceled)
	}
	e := events.Errorf(events.CodeInternal, "NATS at %s: %w", b.URL(), err)
	e.Title = titleServer
	if b.transient(err) {
		e.Message = fmt.Sprintf("NATS at %s did not answer in time", b.URL())
		e.Detail = err.Error()
		e.Advice = "Check that the NATS server is running, has JetStream enabled, and can be reached."
		e.Retriable = true
	}
	return e
}

// noStreams says that nobody has called Setup on this server.
func (b *Broker) noStreams() *events.Error {
	e := events.Errorf(events.CodeDeviceUnavailable, "no stream at %s takes requests; is a genfn instance running?", b.URL())
	e.Advice = "Start one with genfn up or genfn instance; it sets up the streams."
	e.Cause = jetstream.ErrStreamNotFound
	return e
}

func connectError(url string, err error) error {
	e := events.Errorf(events.CodeInternal, "no NATS server answers at %s: %w", redact(url), err)
	e.Title, e.Advice = titleServer, "Start one with genfn up, or give the address of a running server (--nats)."
	e.Retriable = true
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrPermissionViolation) {
		e = events.Errorf(events.CodePermissionDenied, "the NATS server at %s refused the credentials: %w", redact(url), err)
	}
	return e
}

// redact removes passwords from a list of addresses.
func redact(list string) string {
	parts := strings.Split(list, ",")
	for i, p := range parts {
		if u, err := url.Parse(strings.TrimSpace(p)); err == nil {
			parts[i] = u.Redacted()
		}
	}
	return strings.Join(parts, ",")
}

// queueFull reports whether a request was refused because the queue is full.
func queueFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeStoreFailed && !conflict(err)
}

// conflict reports whether a publish was refused because the subject was not in
// the expected state.
func conflict(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return true
	case codeStoreFailed:
		return api.Description == textMaxPerSubject
	}
	return false
}
