package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	pullExpiry   = 5 * time.Second       // a pull that found nothing ends after this
	pullGrace    = 2 * time.Second       // then the server should have said so
	probeTimeout = time.Second           // a pull that does not wait is answered at once
	insistExpiry = 20 * time.Millisecond // long enough for the server to look, see insisting
	minPullPause = 20 * time.Millisecond // after a pull the server did not take
	maxPullPause = 1000 * time.Millisecond

	repairAfter = 5  // pulls in a row that the server did not take
	repairEvery = 30 // more of them
)

// ErrQueueClosed is returned by Next after Close.
var ErrQueueClosed = errors.New("the queue is closed")

// Queue hands out the requests of some pools and lanes, one for each call of
// Next. Safe for concurrent use.
//
// Each consumer (pool, lane, priority) has at most one pull of one message
// outstanding. While somebody waits in Next, every consumer that is known to be
// empty has a pull that waits at the server, so a request arrives without a
// round trip. Consumers not known to be empty are first probed with pulls that
// do not wait, in order of priority and no more at a time than there are
// callers, so that nothing is fetched that nobody can take. A pull is never
// cancelled, because its answer may be under way; what arrives for nobody is
// handed back at once.
//
// Interactive requests come before batch ones, except that every n-th request is
// a batch one while both wait (SetBatchEvery).
type Queue struct {
	b     *Broker
	lanes []Lane
	inbox string
	sub   *nats.Subscription
	stops []func()

	mu       sync.Mutex
	sources  []*source // interactive before batch; within a priority the longest unserved first
	waiters  []*waiter
	every    int // of requests handed out one is a batch one; 0: only when no interactive one waits
	urgent   int // interactive requests handed out since the last batch one, or since none was found
	timer    *time.Timer
	nextPull uint64
	closed   bool
	drained  chan struct{} // closed when the subscription has ended
}

// source is one consumer as the queue sees it.
type source struct {
	name     string // consumer
	token    string // of its reply subjects
	lane     Lane
	priority Priority

	minPending int // requests are taken while so many wait; 0: whenever one does

	state    pullState
	pull     uint64    // number of the outstanding pull
	deadline time.Time // pulling: give the pull up; idle: do not pull before
	failures int       // pulls in a row that the server did not take
	empty    bool      // the last answer said so
}

type pullState int

const (
	idle    pullState = iota
	probing           // a pull that does not wait is outstanding
	// insisting: a pull that waits for a moment is outstanding. The server answers a pull that does not wait with
	// "Requests Pending" if there are fewer requests than pulls, also if those wait for more requests than there are.
	insisting
	waiting // a pull that waits is outstanding
)

// looks reports whether the answer to a probe is outstanding.
func (s *source) looks() bool { return s.state == probing || s.state == insisting }

type waiter struct{ job chan result }

type result struct {
	job *Job
	err error
}

// Subscribe returns a queue over the given pools and lanes. It fetches nothing
// until Next is called. The pools' consumers must exist (EnsurePool). The caller
// must Close the queue before the broker.
func (b *Broker) Subscribe(pools []string, lanes []Lane) (*Queue, error) {
	q := &Queue{b: b, lanes: lanes, inbox: b.nc.NewInbox(), drained: make(chan struct{}), every: DefaultBatchEvery}
	q.timer = time.AfterFunc(time.Hour, q.tick)
	q.timer.Stop()
	for _, pool := range pools {
		q.AddPool(pool)
	}
	sub, err := b.nc.Subscribe(q.inbox+".*.*", q.receive)
	if err != nil {
		return nil, b.inWords(context.Background(), err)
	}
	sub.SetClosedHandler(func(string) { close(q.drained) })
	// The answers of a pull must not be dropped: there are at most a few per source.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, b.inWords(context.Background(), err)
	}
	q.sub = sub
	q.stops = []func(){
		b.NotifyReconnect(q.restart),
		b.denials.watch(func(s string) bool {
			return strings.HasPrefix(s, "$JS.API.CONSUMER.MSG.NEXT."+StreamRequests+".")
		}, q.fail),
	}
	return q, nil
}

// AddPool adds a pool; its consumers must exist. Adding one twice changes nothing.
func (q *Queue) AddPool(pool string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, priority := range Priorities() {
		for _, lane := range q.lanes {
			q.addSource(pool, lane, priority)
		}
	}
	q.schedule()
}

func (q *Queue) addSource(pool string, lane Lane, priority Priority) {
	name, at := consumerName(pool, lane, priority), 0
	for i, s := range q.sources {
		if s.name == name {
			return
		}
		if s.priority == Interactive || priority == Batch {
			at = i + 1
		}
	}
	s := &source{name: name, token: strconv.Itoa(len(q.sources)), lane: lane, priority: priority}
	q.sources = append(q.sources[:at], append([]*source{s}, q.sources[at:]...)...)
}

// Next waits for a request for one free slot. It returns ctx's error when ctx ends, permission_denied if the
// server does not let this user fetch, and ErrQueueClosed after Close. Losses of
// the connection only make it wait longer.
func (q *Queue) Next(ctx context.Context) (*Job, error) {
	w := &waiter{job: make(chan result, 1)}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil, ErrQueueClosed
	}
	q.waiters = append(q.waiters, w)
	q.schedule()
	q.mu.Unlock()
	select {
	case r := <-w.job:
		return r.job, r.err
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, o := range q.waiters {
		if o == w {
			q.waiters = append(q.waiters[:i], q.waiters[i+1:]...)
			return nil, ctx.Err()
		}
	}
	r := <-w.job // it came in the same moment
	if r.job != nil {
		q.deliver(r.job)
	}
	return nil, ctx.Err()
}

// Close ends the queue: waiting calls of Next return ErrQueueClosed, and what
// the server has sent already is handed back before Close returns. ctx bounds
// the wait for the server. It is safe to call twice.
func (q *Queue) Close(ctx context.Context) error {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.timer.Stop()
	waiters := q.waiters
	q.waiters = nil
	q.mu.Unlock()
	if first {
		for _, stop := range q.stops {
			stop()
		}
		for _, w := range waiters {
			w.job <- result{err: ErrQueueClosed}
		}
		// Draining ends the interest at the server, then handles all that was
		// sent before; the server gives what it could not send to somebody else.
		if err := q.sub.Drain(); err != nil {
			return nil //nolint:nilerr // the connection is closed: nothing can arrive any more
		}
	}
	select {
	case <-q.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fail ends all waiting calls of Next with err.
func (q *Queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.waiters {
		w.job <- result{err: err}
	}
	q.waiters = nil
}

// restart forgets all pulls: the server has lost them with the connection.
func (q *Queue) restart() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.sources {
		s.state, s.failures, s.empty, s.deadline = idle, 0, false, time.Time{}
	}
	q.schedule()
}

// receive takes the answers to pulls: requests, and words about why there are none.
func (q *Queue) receive(m *nats.Msg) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if job := newJob(q.b, m); job != nil {
		if s := q.byName(job.Address.consumer()); s != nil {
			s.state, s.failures, s.empty, s.deadline = idle, 0, false, time.Time{}
			q.moveBack(s)
		}
		q.deliver(job)
		q.schedule()
		return
	}
	rest := strings.TrimPrefix(m.Subject, q.inbox+".")
	token, pull, _ := strings.Cut(rest, ".")
	for _, s := range q.sources {
		if s.token == token && s.state != idle && strconv.FormatUint(s.pull, 10) == pull {
			q.ended(s, m.Header.Get("Status"), m.Header.Get("Description"))
			q.schedule()
			return
		}
	}
}

// ended notes that a pull brought nothing.
func (q *Queue) ended(s *source, status, description string) {
	was := s.state
	s.state = idle
	switch status {
	case "404", "408":
		s.failures, s.deadline = 0, time.Time{}
		if was == probing && description == "Requests Pending" && s.minPending == 0 {
			q.pull(s, insisting)
			return
		}
		s.empty = true
	default:
		q.pause(s, status+" "+description)
	}
}

// pause delays the next pull of a source the server did not take a pull for.
func (q *Queue) pause(s *source, why string) {
	s.state, s.empty = idle, false
	s.failures++
	s.deadline = time.Now().Add(min(minPullPause<<min(s.failures-1, 10), maxPullPause))
	if s.failures >= repairAfter && (s.failures-repairAfter)%repairEvery == 0 {
		q.b.log.Warn("the server does not hand out requests, what was set up is checked", "consumer", s.name, "reason", why)
		q.b.repair() // a stream or consumer that somebody removed is not there, which is all that the server says
	}
}

// deliver gives a job to the first caller, or back to the server.
func (q *Queue) deliver(job *Job) {
	if len(q.waiters) == 0 {
		job.nak()
		return
	}
	w := q.waiters[0]
	q.waiters = q.waiters[1:]
	q.count(job.Priority)
	w.job <- result{job: job}
}

// tick looks for pulls whose time is up.
func (q *Queue) tick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for _, s := range q.sources {
		if s.state != idle && !now.Before(s.deadline) {
			q.pause(s, "no answer")
		}
	}
	q.schedule()
}

// schedule sends the pulls that are wanted now, and sets the timer.
func (q *Queue) schedule() {
	if q.closed {
		return
	}
	if len(q.waiters) == 0 {
		for _, s := range q.sources {
			s.empty = false // will be out of date when the next caller comes
		}
	} else {
		q.pullAll()
	}
	q.setTimer()
}

func (q *Queue) pullAll() {
	now := time.Now()
	probes, unknown := 0, 0
	for _, s := range q.sources {
		switch {
		case s.looks():
			probes++
		case s.state == idle && !s.empty && !now.Before(s.deadline):
			unknown++
		}
	}
	first, sources := q.inOrder()
	free := len(q.waiters)
	if first == Batch {
		free = 1
	}
	for _, s := range sources {
		if s.priority != first {
			if probes > 0 {
				return // a request of the other priority may be found yet
			}
			if first == Batch {
				q.urgent = 0
			}
			first, free = s.priority, len(q.waiters)
		}
		if s.state != idle || now.Before(s.deadline) {
			continue
		}
		switch {
		case s.empty, unknown == 1 && probes == 0:
			q.pull(s, waiting)
		case probes < free:
			q.pull(s, probing)
			probes++
		default:
			return
		}
	}
}

// pullRequest is the API's request for the next messages of a consumer.
type pullRequest struct {
	Batch      int           `json:"batch"`
	Expires    time.Duration `json:"expires,omitempty"`
	NoWait     bool          `json:"no_wait,omitempty"`
	Group      string        `json:"group,omitempty"`
	MinPending int           `json:"min_pending,omitempty"`
}

func (q *Queue) pull(s *source, state pullState) {
	request := pullRequest{Batch: 1, NoWait: state == probing, MinPending: s.minPending}
	if s.lane == LaneAny {
		request.Group = priorityGroup
	}
	limit := probeTimeout
	switch state {
	case insisting:
		request.Expires = insistExpiry
	case waiting:
		request.Expires = pullExpiry
		limit = pullExpiry + pullGrace
	}
	body, err := json.Marshal(request)
	if err != nil {
		panic("broker: a pull request of constants cannot be encoded: " + err.Error())
	}
	q.nextPull++
	s.state, s.pull, s.deadline = state, q.nextPull, time.Now().Add(limit)
	reply := q.inbox + "." + s.token + "." + strconv.FormatUint(s.pull, 10)
	if err := q.b.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+StreamRequests+"."+s.name, reply, body); err != nil {
		q.pause(s, err.Error())
	}
}

// setTimer arranges a tick for the next deadline somebody waits for.
func (q *Queue) setTimer() {
	var next time.Time
	now := time.Now()
	for _, s := range q.sources {
		// An idle source whose pause is over waits for the answer to a probe.
		relevant := s.state != idle || len(q.waiters) > 0 && now.Before(s.deadline)
		if relevant && (next.IsZero() || s.deadline.Before(next)) {
			next = s.deadline
		}
	}
	if next.IsZero() {
		q.timer.Stop()
		return
	}
	q.timer.Reset(max(0, time.Until(next)))
}

func (q *Queue) byName(consumer string) *source {
	for _, s := range q.sources {
		if s.name == consumer {
			return s
		}
	}
	return nil
}

// moveBack puts a source that was served behind the others of its priority.
func (q *Queue) moveBack(s *source) {
	last := -1
	at := -1
	for i, o := range q.sources {
		if o == s {
			at = i
		}
		if o.priority == s.priority {
			last = i
		}
	}
	copy(q.sources[at:last], q.sources[at+1:last+1])
	q.sources[last] = s
}
