package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"genfn/events"
)

// Header names of our own. The prefix keeps them apart from the server's.
const (
	headerWriter  = "Genfn-Writer"  // who published a terminal event, a record or an entry
	headerOutline = "Genfn-Outline" // of the status in a heartbeat
)

// ErrNotAnswered is returned by Job.Done for a request without a terminal event:
// acknowledging it would lose it.
var ErrNotAnswered = errors.New("the request has no terminal event yet")

// Job is one delivery of one request. Its holder must extend it before the ack
// wait is over, and end it with Done, HandBack or Move. Safe for concurrent use.
type Job struct {
	Address
	Delivered uint64              // how often it was delivered, hand-backs included; says nothing about attempts
	Queued    time.Time           // when the server stored it
	Header    map[string][]string // as published
	Data      []byte              // as published

	b        *Broker
	reply    string // acknowledgement subject
	sequence uint64 // in the stream

	asked events.ImageGenerate // the data, once it is read and checked

	mu       sync.Mutex
	answered bool         // a terminal event is known to be stored
	terminal events.Event // that; the zero event if it cannot be read
	history  *attemptHistory
}

// storedJob is a request as it lies in the queue, delivered to nobody.
func storedJob(b *Broker, a Address, m *storedMessage) *Job {
	return &Job{Address: a, Queued: m.Time, Header: m.Header, Data: m.Data, b: b, sequence: m.Sequence}
}

// newJob returns the request in m, or nil if m is none.
func newJob(b *Broker, m *nats.Msg) *Job {
	address, ok := ParseSubject(m.Subject)
	if !ok {
		return nil
	}
	meta, err := m.Metadata()
	if err != nil {
		return nil
	}
	return &Job{
		Address: address, Delivered: meta.NumDelivered, Queued: meta.Timestamp, Header: m.Header, Data: m.Data,
		b: b, reply: m.Reply, sequence: meta.Sequence.Stream,
	}
}

// Extend tells the server that the holder is alive: the ack wait starts again.
// It does not tell whether the lease is still ours; Attempt.Current does.
func (j *Job) Extend() error { return j.b.nc.Publish(j.reply, []byte("+WPI")) }

func (j *Job) nak() {
	if err := j.b.nc.Publish(j.reply, []byte("-NAK")); err != nil {
		j.b.log.Warn("a request could not be handed back, it is delivered again after the ack wait", "id", j.ID, "error", err)
	}
}

// HandBack gives the request back to be delivered again at once, to anybody whom
// it allows. No attempt is charged. It waits until the server has it. A request
// of the any lane goes on in the retry lane, or in that of the class of device it
// asks for: handed back there it would not count as pending, and no consumer that
// waits for a number of pending messages would get it. Only in a full queue, which
// takes no copy of it, it stays.
func (j *Job) HandBack(ctx context.Context) error {
	if j.Lane == LaneAny && j.valid() {
		if err := j.Move(ctx, j.nextLane()); !queueFull(err) {
			return err
		}
	}
	return j.b.retry(ctx, func(ctx context.Context) error {
		if err := j.b.nc.Publish(j.reply, []byte("-NAK")); err != nil {
			return err
		}
		return j.b.nc.FlushWithContext(ctx)
	})
}

// nextLane is where a request of the any lane goes that is handed back.
func (j *Job) nextLane() Lane {
	if request, err := events.Decode(j.Header, j.Data); err == nil {
		if asked, err := events.Payload[events.ImageGenerate](request); err == nil && LaneOf(asked.Device) != LaneAny {
			return LaneOf(asked.Device)
		}
	}
	return LaneRetry
}

// HandBackLater gives the request back to be delivered again, to anybody, after a
// pause. It is not waited for: the lease runs out in the end.
func (j *Job) HandBackLater(pause time.Duration) {
	if err := j.b.nc.Publish(j.reply, fmt.Appendf(nil, `-NAK {"delay": %d}`, pause.Nanoseconds())); err != nil {
		j.b.log.Warn("a request could not be handed back, it is delivered again after the ack wait", "id", j.ID, "error", err)
	}
}

// Refuse answers a request that was opened with failed, without an attempt, and
// acknowledges it.
func (j *Job) Refuse(ctx context.Context, request events.Event, cause error) error {
	if _, err := j.loadHistory(ctx); err != nil {
		return err
	}
	return j.refuse(ctx, request, cause)
}

// Done acknowledges the request and waits for the server's confirmation. It
// returns ErrNotAnswered if there is no terminal event.
func (j *Job) Done(ctx context.Context) error {
	answered, err := j.isAnswered(ctx)
	if err != nil {
		return err
	}
	if !answered {
		return ErrNotAnswered
	}
	return j.leave(ctx)
}

// leave ends the delivery of a request that is answered.
func (j *Job) leave(ctx context.Context) error {
	if err := j.bury(ctx); err != nil {
		return err
	}
	return j.acknowledge(ctx)
}

func (j *Job) acknowledge(ctx context.Context) error {
	return j.b.retry(ctx, func(ctx context.Context) error {
		_, err := j.b.request(ctx, j.reply, []byte("+ACK"))
		return err
	})
}

func (j *Job) isAnswered(ctx context.Context) (bool, error) {
	j.mu.Lock()
	answered := j.answered
	j.mu.Unlock()
	if answered {
		return true, nil
	}
	m, err := j.b.readLeader(ctx, StreamTerminals, messageGet{Last: TerminalSubject(j.Tenant, j.ID)})
	if err != nil || m == nil {
		return false, err
	}
	terminal, _ := events.Decode(m.Header, m.Data) // what cannot be read is an answer too
	j.setAnswered(terminal)
	return true, nil
}

func (j *Job) setAnswered(terminal events.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.answered, j.terminal = true, terminal
}

// Terminal returns the request's terminal event if it has one.
func (j *Job) Terminal(ctx context.Context) (events.Event, bool, error) {
	e, ok, err := j.b.Terminal(ctx, j.Tenant, j.ID)
	if ok {
		j.setAnswered(e)
	}
	return e, ok, err
}

// Move publishes the request in another lane and acknowledges this delivery. Use
// it instead of HandBack for work that this class of device should not get
// again. Moving again after a crash in between changes nothing.
func (j *Job) Move(ctx context.Context, lane Lane) error {
	to := j.Address
	to.Lane = lane
	if !to.valid() || lane == j.Lane {
		return events.Errorf(events.CodeInternal, "request %s cannot move from lane %q to lane %q", j.ID, j.Lane, lane)
	}
	m := &nats.Msg{Subject: to.Subject(), Header: nats.Header{}, Data: j.Data}
	for name, values := range j.Header {
		if !serverHeader(name) {
			m.Header[name] = values
		}
	}
	m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("%s/%s/%s/%d", j.Tenant, j.ID, lane, j.sequence))
	err := j.b.retry(ctx, func(ctx context.Context) error {
		_, err := j.b.publish(ctx, m)
		if conflict(err) {
			return nil // it is there already
		}
		return err
	})
	if err != nil {
		return err
	}
	return j.acknowledge(ctx)
}

// serverHeader reports whether the server acts on a header of this name.
func serverHeader(name string) bool { return strings.HasPrefix(strings.ToLower(name), "nats-") }

// Open reads and checks the request. It returns ok = true if the request is to
// be run. Otherwise it has answered the request, or found it answered, and
// acknowledged it: a request that has a terminal event is only acknowledged, one
// whose time is up ends as expired (or as deadline_exceeded if work had begun),
// an invalid one as failed; one that cannot be read goes to the dead letters too.
// One that was published under a wildcard only goes there: nobody can wait for it.
func (j *Job) Open(ctx context.Context) (request events.Event, ok bool, err error) {
	if !j.literal() {
		if err := j.buryUnread(ctx, j.wildcard()); err != nil {
			return events.Event{}, false, err
		}
		return events.Event{}, false, j.acknowledge(ctx)
	}
	if err := j.load(ctx); err != nil {
		return events.Event{}, false, err
	}
	if j.answered {
		return events.Event{}, false, j.leave(ctx)
	}
	request, err = events.Decode(j.Header, j.Data)
	if err != nil {
		if err := j.buryUnread(ctx, err); err != nil {
			return events.Event{}, false, err
		}
		return events.Event{}, false, j.refuse(ctx, events.Event{}, err)
	}
	if err := j.check(request); err != nil {
		return events.Event{}, false, j.refuse(ctx, request, err)
	}
	if j.late(request) {
		return events.Event{}, false, j.expire(ctx, request)
	}
	return request, true, nil
}

// Start is Open and then Begin, with a single wait for the server where they
// take two: a request that was never delivered before has most likely neither an
// answer nor attempts, so both are looked for by recording the first attempt. The
// attempt is nil if the request is not to be run; what Open says of such a
// request holds here too.
func (j *Job) Start(ctx context.Context, record AttemptRecord) (events.Event, *Attempt, error) {
	if request, ok := j.likelyNew(); ok {
		a, err := j.startNew(ctx, record)
		return request, a, err
	}
	request, ok, err := j.Open(ctx)
	if err != nil || !ok {
		return request, nil, err
	}
	a, err := j.Begin(ctx, record)
	return request, a, err
}

// likelyNew returns the request if nothing but a terminal event can keep it from
// being run. It asks nobody.
func (j *Job) likelyNew() (request events.Event, ok bool) {
	if j.Delivered > 1 || !j.literal() {
		return request, false
	}
	request, err := events.Decode(j.Header, j.Data)
	return request, err == nil && j.check(request) == nil && !j.late(request)
}

// startNew looks for a terminal event and begins the first attempt at the same
// time. An attempt record beside a terminal event does no harm: no work follows,
// and it is told why.
func (j *Job) startNew(ctx context.Context, record AttemptRecord) (a *Attempt, err error) {
	var g errgroup.Group
	g.Go(func() error {
		var err error
		a, err = j.beginFirst(ctx, record)
		return err
	})
	answered, readErr := j.isAnswered(ctx)
	err = g.Wait()
	switch {
	case readErr != nil:
		return nil, readErr
	case answered && a != nil:
		if err := a.End(ctx, CauseAnswered, nil); err != nil && !errors.Is(err, ErrStale) {
			return nil, err
		}
		return nil, j.acknowledge(ctx)
	case answered:
		return nil, j.leave(ctx)
	}
	return a, err
}

// Asked returns the data of the request, after Open or Start found that it is to
// be run.
func (j *Job) Asked() events.ImageGenerate { return j.asked }

// late reports whether the request's time is up.
func (j *Job) late(request events.Event) bool {
	expiry := request.ExpiryTime()
	return !expiry.IsZero() && !j.b.now().Before(expiry)
}

// check reads the data and returns why the request must not run.
func (j *Job) check(request events.Event) error {
	if !j.valid() {
		e := events.Errorf(events.CodeInvalidRequest, "the tenant or request id in the subject %q cannot be used", j.Subject())
		e.Field, e.Expected = "subject", "tenant and id of 1 to 64 of the characters A-Z a-z 0-9 _ and -"
		return e
	}
	kind, ok := events.KindOf(request.Type())
	if !ok {
		if err := events.Validate(request); err != nil { // says it better
			return err
		}
		e := events.Errorf(events.CodeInvalidRequest, "%q is not a type of request", request.Type())
		e.Field, e.Expected = "type", "a request type such as "+events.TypeImageGenerate
		return e
	}
	if err := request.CheckRequestID(j.ID); err != nil {
		return err
	}
	return j.checkPool(request, kind)
}

// checkPool reads the data and returns an error if the request was published to another pool than
// its type and model belong to.
func (j *Job) checkPool(request events.Event, kind string) error {
	data, err := events.Payload[events.ImageGenerate](request)
	if err != nil {
		return err
	}
	j.asked = data
	if events.PoolToken(kind, data.Model) == j.Pool {
		return nil
	}
	e := events.Errorf(events.CodeInvalidRequest, "the request for model %q was published to the pool %q", data.Model, j.Pool)
	e.Field, e.Expected = "/model", fmt.Sprintf("the model of the subject's pool, or publishing to the pool %q", events.PoolToken(kind, data.Model))
	return e
}

// refuse answers the request with failed and acknowledges it.
func (j *Job) refuse(ctx context.Context, request events.Event, cause error) error {
	terminal, err := j.b.fail(ctx, j.Address, request, events.AsError(cause), j.history.Records)
	if err != nil {
		return err
	}
	j.setAnswered(terminal)
	return j.leave(ctx)
}

func (j *Job) expire(ctx context.Context, request events.Event) error {
	if len(j.history.Records) > 0 {
		return j.refuse(ctx, request, timeIsUp(request, len(j.history.Records)))
	}
	terminal, err := j.b.expire(ctx, j.Address, request)
	if err != nil {
		return err
	}
	j.setAnswered(terminal)
	return j.leave(ctx)
}
