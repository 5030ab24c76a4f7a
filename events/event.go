package events

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// Types of request events.
const (
	// TypeImageGenerate asks for pictures from a text prompt; its data is an ImageGenerate.
	TypeImageGenerate = "dev.genfn.image.generate.v1"
	// TypeCancel asks that a request be ended; its data is a Cancel. It is answered with the request's terminal event.
	TypeCancel = "dev.genfn.generation.cancel.v1"
)

// Types of answer events. The last four are terminal: every request gets
// exactly one of them.
const (
	// TypeAccepted says that an instance took the request; its data is an Accepted.
	TypeAccepted = "dev.genfn.generation.accepted.v1"
	// TypeStarted says that a device began to work; its data is a Started.
	TypeStarted = "dev.genfn.generation.started.v1"
	// TypeProgress reports a stage or a step; its data is a Progress.
	TypeProgress = "dev.genfn.generation.progress.v1"
	// TypeSucceeded ends a request with its results; its data is a Succeeded.
	TypeSucceeded = "dev.genfn.generation.succeeded.v1"
	// TypeFailed ends a request with an error; its data is a Failed.
	TypeFailed = "dev.genfn.generation.failed.v1"
	// TypeCancelled ends a request that its sender withdrew; its data is a Cancelled.
	TypeCancelled = "dev.genfn.generation.cancelled.v1"
	// TypeExpired ends a request whose time was up before work began; its data is an Expired.
	TypeExpired = "dev.genfn.generation.expired.v1"
)

// Types of events about devices. They are no answers and have no request.
const (
	// TypeConditionChanged says that the state of a device changed; its data is a DeviceStatus.
	TypeConditionChanged = "dev.genfn.device.condition.changed.v1"
	// TypeHeartbeat says that an instance lives and how its device is; its data is a DeviceStatus.
	TypeHeartbeat = "dev.genfn.instance.heartbeat.v1"
)

// Names of the CloudEvents extension attributes this vocabulary uses.
const (
	// ExtSequence orders the events of one attempt: a decimal number, written
	// with leading zeros because the extension demands lexicographic order.
	ExtSequence = "sequence"
	// ExtCorrelationID groups all events of one undertaking of the client.
	ExtCorrelationID = "correlationid"
	// ExtCausationID is the id of the event that caused this one.
	ExtCausationID = "causationid"
	// ExtTraceParent is the W3C trace context.
	ExtTraceParent = "traceparent"
	// ExtExpiryTime is the time after which nobody wants the answer any more.
	ExtExpiryTime = "expirytime"
	// ExtAttempt is the number of the attempt that emitted the event, from 1.
	ExtAttempt = "attempt"
	// ExtDataRef points to the data in the object store if it is not in the event.
	ExtDataRef = "dataref"
)

// MaxEventBytes is the largest data an event carries itself; more goes to the
// object store and is referred to.
const MaxEventBytes = 64 << 10

// sequenceDigits is the width of a formatted sequence: enough for any int32.
const sequenceDigits = 10

// Event is a CloudEvent 1.0. The embedded SDK event gives the accessors and
// setters of the standard attributes; the methods here those of our extensions.
// Copies share their attributes (use Clone).
type Event struct {
	event.Event
}

// New returns an empty CloudEvent 1.0 of the given type. The id, source and
// data are still to be set.
func New(typ string) Event {
	e := Event{event.New(event.CloudEventsVersionV1)}
	e.SetType(typ)
	return e
}

// Clone returns a copy that shares nothing with e.
func (e Event) Clone() Event {
	if e.Context == nil {
		return Event{}
	}
	return Event{e.Event.Clone()}
}

// Sequence returns the sequence extension, or 0 if there is none.
func (e Event) Sequence() int { return e.integer(ExtSequence) }

// Attempt returns the attempt extension, or 0 if there is none.
func (e Event) Attempt() int { return e.integer(ExtAttempt) }

// CorrelationID returns the correlationid extension, or "".
func (e Event) CorrelationID() string { return e.text(ExtCorrelationID) }

// CausationID returns the causationid extension, or "".
func (e Event) CausationID() string { return e.text(ExtCausationID) }

// TraceParent returns the traceparent extension, or "".
func (e Event) TraceParent() string { return e.text(ExtTraceParent) }

// DataRef returns the dataref extension, or "".
func (e Event) DataRef() string { return e.text(ExtDataRef) }

// ExpiryTime returns the expirytime extension, or the zero time if there is none.
func (e Event) ExpiryTime() time.Time {
	t, err := types.ToTime(e.extension(ExtExpiryTime))
	if err != nil {
		return time.Time{}
	}
	return t
}

// SetSequence sets the sequence extension; n is at least 0.
func (e *Event) SetSequence(n int) { e.SetExtension(ExtSequence, formatSequence(n)) }

// SetAttempt sets the attempt extension; n is at least 1.
func (e *Event) SetAttempt(n int) { e.SetExtension(ExtAttempt, n) }

// SetExpiryTime sets the expirytime extension.
func (e *Event) SetExpiryTime(t time.Time) { e.SetExtension(ExtExpiryTime, t) }

func (e Event) extension(name string) any {
	if c, ok := e.Context.(*event.EventContextV1); ok {
		return c.Extensions[name]
	}
	return nil
}

func (e Event) integer(name string) int {
	n, err := types.ToInteger(e.extension(name))
	if err != nil {
		return 0
	}
	return int(n)
}

func (e Event) text(name string) string {
	s, err := types.Format(e.extension(name))
	if err != nil {
		return ""
	}
	return s
}

func formatSequence(n int) string {
	s := strconv.Itoa(n)
	const zeros = "0000000000"
	if len(s) < sequenceDigits {
		return zeros[:sequenceDigits-len(s)] + s
	}
	return s
}

// Meta is what an event needs beside its type and data.
type Meta struct {
	RequestID     string    // becomes the subject
	Source        string    // URI reference of the emitter
	ID            string    // event id; "" takes the request id (requests) or request-attempt-sequence (answers)
	Attempt       int       // 0: not part of an attempt
	Sequence      int       // order within the attempt; 0: none
	CorrelationID string    // optional
	CausationID   string    // optional
	TraceParent   string    // optional
	Time          time.Time // zero: now
	ExpiryTime    time.Time // zero: none
}

// AnswerTo returns the Meta of an answer to a request that was received under
// requestID: its cause, its correlation (the request's, or else the request id)
// and its trace are filled in.
func AnswerTo(request Event, requestID, source string) Meta {
	m := Meta{RequestID: requestID, Source: source, CausationID: requestID, CorrelationID: requestID}
	if request.Context != nil {
		if c := request.CorrelationID(); c != "" {
			m.CorrelationID = c
		}
		if id := request.ID(); id != "" {
			m.CausationID = id
		}
		m.TraceParent = request.TraceParent()
	}
	return m
}

// NewRequest returns a request event with data as JSON.
func NewRequest(typ string, m Meta, data any) (Event, error) {
	if m.ID == "" {
		m.ID = m.RequestID
	}
	return build(typ, m, data)
}

// NewAnswer returns an answer event with data as JSON.
func NewAnswer(typ string, m Meta, data any) (Event, error) {
	if m.ID == "" {
		m.ID = m.RequestID + "-" + strconv.Itoa(m.Attempt) + "-" + strconv.Itoa(m.Sequence)
	}
	return build(typ, m, data)
}

func build(typ string, m Meta, data any) (Event, error) {
	if err := CheckID(m.RequestID); err != nil {
		return Event{}, err
	}
	body, err := json.Marshal(data)
	if err != nil {
		return Event{}, &Error{Code: CodeInternal, Message: fmt.Sprintf("the data of a %s event cannot be written as JSON", typ), Detail: err.Error(), Cause: err}
	}
	e := New(typ)
	e.SetID(m.ID)
	e.SetSource(m.Source)
	e.SetSubject(m.RequestID)
	if m.Time.IsZero() {
		m.Time = time.Now()
	}
	e.SetTime(m.Time)
	e.SetDataContentType(event.ApplicationJSON)
	e.DataEncoded = body
	if m.Attempt != 0 {
		e.SetAttempt(m.Attempt)
	}
	if m.Sequence != 0 {
		e.SetSequence(m.Sequence)
	}
	if !m.ExpiryTime.IsZero() {
		e.SetExpiryTime(m.ExpiryTime)
	}
	for name, value := range map[string]string{ExtCorrelationID: m.CorrelationID, ExtCausationID: m.CausationID, ExtTraceParent: m.TraceParent} {
		if value != "" {
			e.SetExtension(name, value)
		}
	}
	return e, e.problem()
}

// problem returns the first thing an SDK setter refused, as an *Error.
func (e Event) problem() error {
	for field, err := range e.FieldErrors {
		return &Error{Code: CodeInvalidRequest, Field: field, Message: err.Error(), Expected: "a value that CloudEvents 1.0 allow", Cause: err}
	}
	return nil
}

// CheckRequestID returns an *Error if the request e has a subject, or an id, other
// than the id in the NATS subject it was received under.
func (e Event) CheckRequestID(id string) error {
	if err := e.CheckSubject(id); err != nil {
		return err
	}
	return named("id", e.ID(), id)
}

// CheckSubject returns an *Error if e, which is about a request, has a subject other
// than the id in the NATS subject it was received under.
func (e Event) CheckSubject(id string) error { return named("subject", e.Subject(), id) }

func named(attribute, value, id string) error {
	if value == "" || value == id {
		return nil
	}
	return attributeError(attribute, quoteShort(value), quoteShort(id)+", the request id in the NATS subject")
}

// Terminal reports whether events of this type end a request.
func Terminal(typ string) bool {
	switch typ {
	case TypeSucceeded, TypeFailed, TypeCancelled, TypeExpired:
		return true
	}
	return false
}

// KindOf returns the kind of work a request type asks for ("image"), the first
// part of its pool; ok is false for types that are no requests.
func KindOf(typ string) (kind string, ok bool) {
	if typ == TypeImageGenerate {
		return KindImage, true
	}
	return "", false
}
