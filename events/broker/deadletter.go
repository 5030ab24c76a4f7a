package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

const (
	keptReplays        = 64               // of a dead letter, the newest
	deadLettersTimeout = 30 * time.Second // for one look at all of them
)

// DeadLetter is a request that failed although its sender made no mistake, or that could not even be read, with
// everything that is known about it.
type DeadLetter struct {
	Tenant     string              `json:"tenant"`
	ID         string              `json:"id"`                   // request id; of a wildcard "_" and its sequence in the queue
	Subject    string              `json:"subject"`              // where it was queued last
	QueuedAt   time.Time           `json:"queued_at"`            // there
	EndedAt    time.Time           `json:"ended_at"`             // when the terminal event was made, or the message found unreadable
	Deliveries uint64              `json:"deliveries,omitempty"` // from there; 0: nobody fetched it
	Error      *events.Error       `json:"error"`
	Attempts   []AttemptRecord     `json:"attempts,omitempty"`
	Header     map[string][]string `json:"header,omitempty"` // as published
	Data       []byte              `json:"data"`             // as published; base64 in JSON
	Replays    []Replay            `json:"replays,omitempty"`

	sequence uint64 // of the message in its stream
}

// Replay is a new request that was made of a dead letter.
type Replay struct {
	ID string    `json:"id"` // of the new request
	At time.Time `json:"at"`
}

// Request returns the request as an event; the error says why it cannot be read.
func (l DeadLetter) Request() (events.Event, error) { return events.Decode(l.Header, l.Data) }

// isDead reports whether a request that failed with this error becomes a dead letter: not for what its sender asked
// for, a deadline among it.
func isDead(e *events.Error) bool {
	switch e.Code {
	case events.CodeInvalidRequest, events.CodeModelNotFound, events.CodeDeadlineExceeded, events.CodeCancelled, events.CodePermissionDenied:
		return false
	}
	return e.Field == ""
}

// bury keeps an answered request as a dead letter if its terminal event says so. It is done before the request leaves
// the queue: if the one who answered it dies in between, the one to whom it is delivered again does it.
func (j *Job) bury(ctx context.Context) error {
	j.mu.Lock()
	terminal := j.terminal
	j.mu.Unlock()
	if terminal.Type() != events.TypeFailed {
		return nil
	}
	failed, err := events.Payload[events.Failed](terminal)
	if err != nil || failed.Error == nil || !isDead(failed.Error) {
		return nil //nolint:nilerr // what another program wrote there says nothing
	}
	h, err := j.b.readHistory(ctx, j.Tenant, j.ID)
	if err != nil {
		return err
	}
	l := j.deadLetter(failed.Error, terminal.Time())
	l.Attempts = toldAttempts(h.Records, failed.Attempts)
	return j.b.keep(ctx, l)
}

// buryUnread keeps a request that cannot be read as a dead letter. It neither answers nor acknowledges it.
func (j *Job) buryUnread(ctx context.Context, reason error) error {
	return j.b.keep(ctx, j.deadLetter(events.AsError(reason), j.b.now()))
}

func (j *Job) deadLetter(failure *events.Error, ended time.Time) DeadLetter {
	l := DeadLetter{
		Tenant: j.Tenant, ID: j.ID, Subject: j.Subject(), QueuedAt: j.Queued.UTC(), EndedAt: ended.UTC(), Deliveries: j.Delivered,
		Error: failure, Header: j.Header, Data: j.Data,
	}
	if !j.literal() {
		l.Tenant, l.ID = noWildcard(j.Tenant), fmt.Sprintf("_%d", j.sequence)
	}
	return l
}

// toldAttempts returns records with what the terminal event and later records tell of how each ended.
func toldAttempts(records []AttemptRecord, told []events.Attempt) []AttemptRecord {
	records = slices.Clone(records)
	for i := range records {
		r := &records[i]
		if r.Cause == "" && i+1 < len(records) {
			r.Cause = records[i+1].CausePrevious
		}
		if r.Error == nil {
			if n := slices.IndexFunc(told, func(a events.Attempt) bool { return a.Number == r.Number }); n >= 0 {
				r.Error = told[n].Error
			}
		}
	}
	return records
}

// keep stores a dead letter unless it is there. It takes the place of one of an earlier request under the same id,
// whose answer is forgotten.
func (b *Broker) keep(ctx context.Context, l DeadLetter) error {
	_, err := b.putDeadLetter(ctx, l)
	if errors.Is(err, ErrConflict) {
		var had DeadLetter
		if had, err = b.DeadLetter(ctx, l.Tenant, l.ID); err != nil || had.EndedAt.Equal(l.EndedAt) || had.QueuedAt.Equal(l.QueuedAt) {
			return err
		}
		l.sequence = had.sequence
		var sequence uint64
		if sequence, err = b.putDeadLetter(ctx, l); err == nil {
			err = b.purgeDeadLetter(ctx, l.Tenant, l.ID, jetstream.WithPurgeSequence(sequence))
		}
	}
	if err == nil {
		b.log.Warn("a request became a dead letter", "tenant", l.Tenant, "request", l.ID, "code", l.Error.Code, "error", l.Error.Message)
	}
	return err
}

// putDeadLetter stores a dead letter as the successor of the one it was read as, or else of none.
func (b *Broker) putDeadLetter(ctx context.Context, l DeadLetter) (sequence uint64, err error) {
	data, err := json.Marshal(l)
	if err != nil {
		return 0, err
	}
	sequence, _, err = b.putNext(ctx, StreamDeadLetters, &nats.Msg{Subject: deadLetterSubject(l.Tenant, l.ID), Header: nats.Header{}, Data: data}, l.sequence)
	return sequence, err
}

// readDeadLetter never fails: one that cannot be read says so itself, so that it can be seen and dropped.
func readDeadLetter(subject string, data []byte, sequence uint64, stored time.Time) DeadLetter {
	tenant, id, _ := strings.Cut(strings.TrimPrefix(subject, deadLetterPrefix), ".")
	var l DeadLetter
	if err := json.Unmarshal(data, &l); err != nil || l.Error == nil {
		l = DeadLetter{EndedAt: stored, Data: data, Error: events.Errorf(events.CodeInternal, "the dead letter itself cannot be read: another version may have written it")}
	}
	l.Tenant, l.ID, l.sequence = tenant, id, sequence
	return l
}

// DeadLetters calls found with each dead letter of a tenant, in the order in which they were stored or marked. found
// should keep of it what it needs: they may be many.
func (b *Broker) DeadLetters(ctx context.Context, tenant string, found func(DeadLetter)) error {
	if !events.ValidTenant(tenant) {
		return events.Errorf(events.CodeInvalidRequest, "%q cannot be a tenant name", tenant)
	}
	var last uint64 // found, so that a repeated try does not tell it again
	return b.retryWithin(ctx, deadLettersTimeout, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, apiSubjectOf(StreamDeadLetters))
		defer stop()
		return denialOf(ctx, b.visitStored(ctx, StreamDeadLetters, deadLetterSubject(tenant, "*"), jetstream.DeliverLastPerSubjectPolicy, func(m jetstream.Msg, meta *jetstream.MsgMetadata) bool {
			if meta.Sequence.Stream > last {
				last = meta.Sequence.Stream
				found(readDeadLetter(m.Subject(), m.Data(), last, meta.Timestamp))
			}
			return true
		}))
	})
}

// DeadLetter returns the dead letter of a request; invalid_request if there is none.
func (b *Broker) DeadLetter(ctx context.Context, tenant, id string) (DeadLetter, error) {
	if id == "" || strings.ContainsAny(id, "*>. \t\r\n") || !events.ValidTenant(tenant) {
		return DeadLetter{}, noDeadLetter(tenant, id)
	}
	m, err := b.readLeader(ctx, StreamDeadLetters, messageGet{Last: deadLetterSubject(tenant, id)})
	if err != nil {
		return DeadLetter{}, err
	}
	if m == nil {
		return DeadLetter{}, noDeadLetter(tenant, id)
	}
	return readDeadLetter(m.Subject, m.Data, m.Sequence, m.Time), nil
}

func noDeadLetter(tenant, id string) *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, "there is no dead letter of a request %q", id)
	e.Field, e.Expected = "id", "an id that genfn dlq ls lists for the tenant "+tenant
	e.Advice = "Dead letters are removed by genfn dlq drop, and when their retention is over."
	return e
}

// MarkReplayed notes on a dead letter that a new request was made of it.
func (b *Broker) MarkReplayed(ctx context.Context, l DeadLetter, id string) error {
	at := b.now().UTC()
	for {
		l.Replays = append(slices.Clip(l.Replays), Replay{ID: id, At: at})
		l.Replays = l.Replays[max(0, len(l.Replays)-keptReplays):]
		sequence, err := b.putDeadLetter(ctx, l)
		if err == nil {
			return b.purgeDeadLetter(ctx, l.Tenant, l.ID, jetstream.WithPurgeSequence(sequence))
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if l, err = b.DeadLetter(ctx, l.Tenant, l.ID); err != nil { // somebody else has marked or dropped it
			return err
		}
	}
}

// DropDeadLetter removes a dead letter; invalid_request if there is none.
func (b *Broker) DropDeadLetter(ctx context.Context, tenant, id string) error {
	if _, err := b.DeadLetter(ctx, tenant, id); err != nil {
		return err
	}
	return b.purgeDeadLetter(ctx, tenant, id)
}

func (b *Broker) purgeDeadLetter(ctx context.Context, tenant, id string, o ...jetstream.StreamPurgeOpt) error {
	o = append(o, jetstream.WithPurgeSubject(deadLetterSubject(tenant, id)))
	return b.retry(ctx, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, apiSubjectOf(StreamDeadLetters))
		defer stop()
		stream, err := b.js.Stream(ctx, StreamDeadLetters)
		if err == nil {
			err = stream.Purge(ctx, o...)
		}
		return denialOf(ctx, err)
	})
}
