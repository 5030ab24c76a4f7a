package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"genfn/events"
)

const (
	keptAttempts = 64 // records per request that the stream keeps
	keptHistory  = 32 // attempts a record tells of; older ones are forgotten

	freshness = 100 * time.Millisecond // how long Finish relies on the answer that Current got

	maxRecordBytes = 256 << 10 // servers take messages of 1 MiB
)

// ErrStale is returned when another instance holds the request now. The job must
// then be left alone: neither Done nor HandBack.
var ErrStale = errors.New("another attempt holds the request")

// AttemptRecord is one try at a request, as its instance recorded it before it
// began to work.
type AttemptRecord struct {
	Number        int           `json:"number"` // from 1; Begin sets it
	Instance      string        `json:"instance"`
	Device        string        `json:"device,omitempty"`
	CausePrevious string        `json:"cause_previous,omitempty"` // why the attempt before ended; "": Begin takes it from that one's End
	Excluded      []string      `json:"excluded,omitempty"`       // device classes that must not try it again
	Rung          string        `json:"rung,omitempty"`           // of the ladder of memory on which it stood
	StartedAt     time.Time     `json:"started_at"`               // zero: Begin sets it
	Cause         string        `json:"cause,omitempty"`          // how this attempt ended; "": unknown, its instance died or still works
	Error         *events.Error `json:"error,omitempty"`
}

// CauseLost is the CausePrevious after an attempt whose instance did not say how
// it ended.
const CauseLost = "instance_lost"

// CauseAnswered is the end of an attempt at a request that somebody else has answered.
const CauseAnswered = "answered"

// EventAttempts returns records in the form answers carry.
func EventAttempts(records []AttemptRecord) []events.Attempt {
	attempts := make([]events.Attempt, len(records))
	for i, r := range records {
		attempts[i] = events.Attempt{Number: r.Number, Instance: r.Instance, Device: r.Device, Cause: r.CausePrevious, Error: r.Error, StartedAt: r.StartedAt}
	}
	return attempts
}

// attemptHistory is the last message under a request's attempt subject. Each
// message tells all attempts, so that one read gives fence and history together.
type attemptHistory struct {
	Records []AttemptRecord `json:"attempts"`

	sequence uint64 // of the message in its stream; 0: there is none
}

func (b *Broker) readHistory(ctx context.Context, tenant, id string) (*attemptHistory, error) {
	m, err := b.readLeader(ctx, StreamAttempts, messageGet{Last: attemptSubject(tenant, id)})
	if err != nil {
		return nil, err
	}
	h := &attemptHistory{}
	if m == nil {
		return h, nil
	}
	if err := json.Unmarshal(m.Data, h); err != nil {
		return nil, events.Errorf(events.CodeInternal, "the attempt record of request %s cannot be read: %w", id, err)
	}
	h.sequence = m.Sequence
	return h, nil
}

// append publishes records as the successor of h, and returns ErrStale if h is
// not the last message any more.
func (h *attemptHistory) append(ctx context.Context, b *Broker, tenant, id string, records []AttemptRecord) (*attemptHistory, error) {
	next := &attemptHistory{Records: records}
	if len(next.Records) > keptHistory {
		next.Records = next.Records[len(next.Records)-keptHistory:]
	}
	data, err := next.encode()
	if err != nil {
		return nil, err
	}
	m := &nats.Msg{Subject: attemptSubject(tenant, id), Header: nats.Header{}, Data: data}
	next.sequence, _, err = b.putNext(ctx, StreamAttempts, m, h.sequence)
	if errors.Is(err, ErrConflict) {
		return nil, ErrStale
	}
	return next, err
}

// encode returns the history as JSON, with the texts of its errors cut as far as
// they must be: a record that cannot be stored would stop the request for ever.
func (h *attemptHistory) encode() ([]byte, error) {
	data, err := json.Marshal(h)
	for n := maxRecordBytes / 64; err == nil && len(data) > maxRecordBytes && n > 0; n /= 2 {
		h.Records = slices.Clone(h.Records)
		for i := range h.Records {
			h.Records[i].Error = h.Records[i].Error.Shortened(n)
		}
		data, err = json.Marshal(h)
	}
	return data, err
}

// load reads what is known about the request: the terminal event and the
// attempts, at the same time.
func (j *Job) load(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error {
		_, err := j.isAnswered(ctx)
		return err
	})
	g.Go(func() error {
		_, err := j.loadHistory(ctx)
		return err
	})
	return g.Wait()
}

func (j *Job) loadHistory(ctx context.Context) (*attemptHistory, error) {
	j.mu.Lock()
	h := j.history
	j.mu.Unlock()
	if h != nil {
		return h, nil
	}
	h, err := j.b.readHistory(ctx, j.Tenant, j.ID)
	if err != nil {
		return nil, err
	}
	j.setHistory(h)
	return h, nil
}

func (j *Job) setHistory(h *attemptHistory) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.history = h
}

// Attempts returns the attempts made so far, the first one first, as they were
// when this job first looked.
func (j *Job) Attempts(ctx context.Context) ([]AttemptRecord, error) {
	h, err := j.loadHistory(ctx)
	if err != nil {
		return nil, err
	}
	return h.Records, nil
}

// Begin records a new attempt and makes it the current one: no earlier attempt
// can finish the request any more. It fills in the record's Number, StartedAt
// and CausePrevious. It returns ErrStale if another instance began one since
// Attempts (or Open) looked.
func (j *Job) Begin(ctx context.Context, record AttemptRecord) (*Attempt, error) {
	h, err := j.loadHistory(ctx)
	if err != nil {
		return nil, err
	}
	record.Number = 1
	if n := len(h.Records); n > 0 {
		last := h.Records[n-1]
		record.Number = last.Number + 1
		if record.CausePrevious == "" {
			record.CausePrevious = last.Cause
		}
		if record.CausePrevious == "" {
			record.CausePrevious = CauseLost
		}
	}
	if record.StartedAt.IsZero() {
		record.StartedAt = j.b.now().UTC()
	}
	records := slices.Concat(h.Records, []AttemptRecord{record})
	next, err := h.append(ctx, j.b, j.Tenant, j.ID, records)
	if err != nil {
		return nil, err
	}
	j.setHistory(next)
	return &Attempt{Number: record.Number, job: j, b: j.b, history: next}, nil
}

// beginFirst is Begin for a request that most likely has no attempts: it looks
// for them only if the server refuses the record of the first.
func (j *Job) beginFirst(ctx context.Context, record AttemptRecord) (*Attempt, error) {
	j.setHistory(&attemptHistory{})
	a, err := j.Begin(ctx, record)
	if !errors.Is(err, ErrStale) {
		return a, err
	}
	j.setHistory(nil)
	return j.Begin(ctx, record)
}

// Attempt is the right to work on a request until another attempt begins. Safe
// for concurrent use.
type Attempt struct {
	Number int // from 1

	job *Job
	b   *Broker

	mu       sync.Mutex
	history  *attemptHistory
	current  time.Time // when Current last asked and heard so
	sequence int       // of the last event
	objects  []string
	finished outcome
}

type outcome int

const (
	unfinished outcome = iota
	unknown            // the terminal event may be stored
	won
	lost // or cancelled: the answer refers to no object
)

// Records returns all attempts including this one.
func (a *Attempt) Records() []AttemptRecord {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.history.Records
}

// Stand notes the rung of the ladder of memory on which the attempt stands, if it is another than Begin recorded. End
// records it.
func (a *Attempt) Stand(rung string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := *a.history
	h.Records = slices.Clone(h.Records)
	h.Records[len(h.Records)-1].Rung = rung
	a.history = &h
	a.job.setHistory(&h)
}

// Current reports whether this is still the attempt that may finish the request.
func (a *Attempt) Current(ctx context.Context) (bool, error) {
	asked := time.Now()
	last, err := a.b.readHistory(ctx, a.job.Tenant, a.job.ID)
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if last.sequence != a.history.sequence {
		a.current = time.Time{}
		return false, nil
	}
	a.current = asked
	return true, nil
}

// stillCurrent is Current unless that has just been asked.
func (a *Attempt) stillCurrent(ctx context.Context) (bool, error) {
	a.mu.Lock()
	asked := a.current
	a.mu.Unlock()
	if time.Since(asked) < freshness {
		return true, nil
	}
	return a.Current(ctx)
}

// End records how the attempt ended, for the one that follows. Use it before
// the job is handed back or moved. It returns ErrStale if another attempt holds
// the request already.
func (a *Attempt) End(ctx context.Context, cause string, failure *events.Error, excluded ...string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	records := append([]AttemptRecord(nil), a.history.Records...)
	own := &records[len(records)-1]
	own.Cause, own.Error = cause, failure
	own.Excluded = append(own.Excluded[:len(own.Excluded):len(own.Excluded)], excluded...)
	next, err := a.history.append(ctx, a.b, a.job.Tenant, a.job.ID, records)
	if err != nil {
		return err
	}
	a.history = next
	a.job.setHistory(next) // the next attempt may begin with the same delivery
	return nil
}

// Publish emits a live event of the given kind. It sets the event's attempt and
// sequence and returns at once; the server's confirmation is not waited for, and
// a live event that gets lost is logged and counted (Broker.LostEvents). The
// error says that the event could not even be sent; the work should go on.
func (a *Attempt) Publish(_ context.Context, kind string, e events.Event) error {
	switch kind {
	case KindAccepted, KindStarted, KindProgress:
	default:
		return events.Errorf(events.CodeInternal, "%q is not a kind of live event", kind)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	header, data, err := events.EncodeBinary(a.number(e))
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: EventSubject(a.job.Tenant, a.job.ID, kind), Header: header, Data: data}
	if a.b.js.PublishAsyncPending() >= maxLivePending {
		a.b.lostEvents.Add(1)
		return events.Errorf(events.CodeInternal, "a %s event was dropped because the server has not confirmed the last %d", kind, maxLivePending)
	}
	if _, err := a.b.js.PublishMsgAsync(m); err != nil {
		a.b.lostEvents.Add(1)
		return a.b.inWords(context.Background(), err)
	}
	return nil
}

// number gives an event its place in the attempt. The lock is held.
func (a *Attempt) number(e events.Event) events.Event {
	e = e.Clone()
	a.sequence++
	e.SetAttempt(a.Number)
	e.SetSequence(a.sequence)
	return e
}

// PutObject stores data as <request id>/<attempt>/<name> in the tenant's bucket.
// No other attempt writes there.
func (a *Attempt) PutObject(ctx context.Context, name, mediaType string, data []byte) (events.Ref, error) {
	object := fmt.Sprintf("%s/%d/%s", a.job.ID, a.Number, name)
	a.mu.Lock()
	isNew := !slices.Contains(a.objects, object)
	a.objects = append(a.objects, object)
	a.mu.Unlock()
	return a.b.putObject(ctx, a.job.Tenant, object, mediaType, data, isNew)
}

// Finish publishes the request's terminal event, after its objects are stored. It
// sets the event's attempt and sequence. won is false if the attempt is not
// current any more or the request was answered by somebody else: then
// DiscardObjects. Whether the attempt is current is not asked again if Current was
// less than 100 ms ago, so that it can be while the objects are stored. If won, acknowledge the request with
// Job.Done. An error means that it is not known whether the event was stored: leave
// the job to its redelivery and its objects alone.
func (a *Attempt) Finish(ctx context.Context, terminal events.Event) (bool, error) {
	if err := events.Validate(terminal); err != nil {
		return false, events.Errorf(events.CodeInternal, "the terminal event is not valid: %w", err)
	}
	return a.FinishValid(ctx, terminal)
}

// FinishValid is Finish for an event whose data the caller has validated. That
// takes as long as storing it, and can be done while the objects are stored.
func (a *Attempt) FinishValid(ctx context.Context, terminal events.Event) (bool, error) {
	if err := a.checkTerminal(terminal); err != nil {
		return false, err
	}
	current, err := a.stillCurrent(ctx)
	if err != nil {
		return false, err
	}
	if !current {
		a.setOutcome(lost)
		return false, nil
	}
	a.mu.Lock()
	terminal = a.number(terminal)
	a.finished = unknown
	a.mu.Unlock()
	stored, first, err := a.b.answer(ctx, a.job.Tenant, a.job.ID, terminal)
	if err != nil {
		return false, err
	}
	a.job.setAnswered(stored)
	if first && terminal.Type() != events.TypeCancelled {
		a.setOutcome(won)
	} else {
		a.setOutcome(lost)
	}
	return first, nil
}

func (a *Attempt) setOutcome(o outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finished = o
}

// checkTerminal refuses what must not become the answer of the request.
func (a *Attempt) checkTerminal(e events.Event) error {
	if !events.Terminal(e.Type()) {
		return events.Errorf(events.CodeInternal, "%q is not a terminal event type", e.Type())
	}
	if e.Subject() != a.job.ID {
		return events.Errorf(events.CodeInternal, "the terminal event is about %q, not about request %q", e.Subject(), a.job.ID)
	}
	return nil
}

// DiscardObjects removes what this attempt stored, if it lost, finished as
// cancelled or never tried to finish. What it cannot remove a Collector does.
func (a *Attempt) DiscardObjects(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished == won || a.finished == unknown {
		return events.Errorf(events.CodeInternal, "the objects of attempt %d belong to the answer of request %s", a.Number, a.job.ID)
	}
	for _, object := range a.objects {
		if err := a.b.deleteObject(ctx, a.job.Tenant, object); err != nil {
			return err
		}
	}
	a.objects = nil
	return nil
}
