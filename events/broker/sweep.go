package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

const (
	maxSweepErrors = 16               // requests that could not be answered before a sweep is given up
	sweepPortion   = 256              // requests read before what is due is answered
	rescanEvery    = 10 * time.Minute // from the first request on, for what may have been missed
	maxLag         = 250 * time.Millisecond
)

// SweeperConfig says how patient a Sweeper is. Zero fields take the defaults.
type SweeperConfig struct {
	Grace    time.Duration // how long a request may wait for its pool to appear; 0: 3 s
	Interval time.Duration // between looks at what is new in the queue; 0: 1 s
}

// Sweeper answers the requests that no instance will ever fetch: those of pools
// without consumers (model_not_found, or invalid_request if the kind of work, the
// lane or the priority does not exist), and those whose time is up while nobody
// works on them. Pools with consumers count as served even while no instance
// runs. It reads each queued request once and remembers when it is to look at it
// again. Any number of sweepers may run at the same time.
type Sweeper struct {
	b        *Broker
	grace    time.Duration
	interval time.Duration
	lag      time.Duration // behind what is due, so that not all sweepers wake at the same time

	next      uint64               // sequence to read from
	rescan    time.Time            // when to begin with the first request again
	pools     map[string]bool      // pools that have consumers, as last listed; nil: not yet
	unserved  map[string]time.Time // request subject -> when it was first seen unserved
	deadlines deadlines
}

// NewSweeper returns a sweeper that is not running yet.
func NewSweeper(b *Broker, c SweeperConfig) *Sweeper {
	if c.Grace == 0 {
		c.Grace = 3 * time.Second
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	return &Sweeper{b: b, grace: c.Grace, interval: c.Interval, lag: rand.N(maxLag), next: 1, unserved: map[string]time.Time{}}
}

// Run sweeps at once and then regularly, and when the time of a request that it
// has seen is up, until ctx ends; it returns nil then. Losses of the connection
// delay it only. Run must not be called twice at the same time.
func (s *Sweeper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	scanned := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		var err error
		if now := time.Now(); now.Sub(scanned) >= s.interval {
			scanned = now
			err = s.Sweep(ctx)
		} else {
			err = s.answerDue(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.b.log.Warn("requests that nobody works on could not be swept", "error", err)
		}
		timer.Reset(s.pause(scanned))
	}
}

// pause is how long nothing has to be done.
func (s *Sweeper) pause(scanned time.Time) time.Duration {
	now := s.b.now()
	next := time.Until(scanned.Add(s.interval))
	for _, since := range s.unserved {
		next = min(next, since.Add(s.grace).Sub(now))
	}
	if at, ok := s.deadlines.first(); ok {
		next = min(next, at.Sub(now)+s.lag)
	}
	return max(next, time.Millisecond)
}

// Sweep looks at the requests that were queued since the last call, all of them
// at the first, and answers what is due.
func (s *Sweeper) Sweep(ctx context.Context) error {
	if s.pools == nil {
		if err := s.listPools(ctx); err != nil {
			return err
		}
	}
	newest, err := s.newest(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for read := 1; s.next <= newest; read++ {
		m, err := s.b.readLeader(ctx, StreamRequests, messageGet{Sequence: s.next, Next: "gen.req.>"})
		if err != nil {
			return err
		}
		if m == nil {
			s.next = newest + 1
			break
		}
		s.next = m.Sequence + 1
		s.look(m)
		if read%sweepPortion == 0 { // a long queue must not delay it
			failed = append(failed, s.answerDue(ctx))
		}
	}
	return errors.Join(append(failed, s.answerDue(ctx))...)
}

// newest returns the last sequence of the queue, and has the sweep begin anew if the queue did, or if it is time to.
func (s *Sweeper) newest(ctx context.Context) (uint64, error) {
	var newest uint64
	err := s.b.retry(ctx, func(ctx context.Context) error {
		stream, err := s.b.js.Stream(ctx, StreamRequests)
		if err == nil {
			newest = stream.CachedInfo().State.LastSeq
		}
		return err
	})
	now := s.b.now()
	if err == nil && (newest+1 < s.next || !now.Before(s.rescan) || s.deadlines.forgot()) {
		s.next, s.rescan = 1, now.Add(rescanEvery)
		s.deadlines = deadlines{}
	}
	return newest, err
}

// look remembers what has to be done about a queued request, and when.
func (s *Sweeper) look(m *storedMessage) {
	if a, ok := ParseSubject(m.Subject); ok && !a.literal() {
		s.deadlines.add(deadline{s.b.now(), m.Sequence})
		return
	}
	s.see(m.Subject)
	if request, err := events.Decode(m.Header, m.Data); err == nil && !request.ExpiryTime().IsZero() { // what cannot be read is answered by who fetches it
		s.deadlines.add(deadline{request.ExpiryTime(), m.Sequence})
	}
}

// see remembers a request if nothing delivers it.
func (s *Sweeper) see(subject string) {
	a, ok := ParseSubject(subject)
	if !ok || !a.literal() || s.pools[a.Pool] && a.valid() {
		return
	}
	if _, known := s.unserved[subject]; !known {
		s.unserved[subject] = s.b.now()
	}
}

// answerDue answers the requests whose time is up and those whose pool did not come.
func (s *Sweeper) answerDue(ctx context.Context) error {
	return errors.Join(s.expireDue(ctx), s.answerUnserved(ctx))
}

// answerUnserved answers the remembered requests whose grace is over and whose
// pool still does not exist.
func (s *Sweeper) answerUnserved(ctx context.Context) error {
	var due []string
	for subject, since := range s.unserved {
		if s.b.now().Sub(since) >= s.grace {
			due = append(due, subject)
		}
	}
	if len(due) == 0 {
		return nil
	}
	if err := s.listPools(ctx); err != nil {
		return err
	}
	slices.Sort(due)
	var failed []error
	for _, subject := range due {
		a, _ := ParseSubject(subject)
		if !s.pools[a.Pool] || !a.valid() {
			if err := s.answer(ctx, a); err != nil {
				s.unserved[subject] = s.b.now() // again after another grace
				if failed = append(failed, fmt.Errorf("%s: %w", subject, err)); len(failed) == maxSweepErrors {
					break
				}
				continue
			}
		}
		delete(s.unserved, subject)
	}
	return errors.Join(failed...)
}

// listPools reads which pools have consumers.
func (s *Sweeper) listPools(ctx context.Context) error {
	pools := map[string]bool{}
	err := s.b.retry(ctx, func(ctx context.Context) error {
		stream, err := s.b.js.Stream(ctx, StreamRequests)
		if err != nil {
			return err
		}
		names := stream.ConsumerNames(ctx)
		for name := range names.Name() {
			if pool, ok := poolOf(name); ok {
				pools[pool] = true
			}
		}
		return names.Err()
	})
	if err == nil {
		s.pools = pools
	}
	return err
}

// answer writes the terminal event of a request that nobody serves, then removes
// the request.
func (s *Sweeper) answer(ctx context.Context, a Address) error {
	m, err := s.b.readLeader(ctx, StreamRequests, messageGet{Last: a.Subject()})
	if err != nil || m == nil {
		return err
	}
	request, err := events.Decode(m.Header, m.Data)
	job := storedJob(s.b, a, m)
	if err != nil {
		if err := job.buryUnread(ctx, err); err != nil {
			return err
		}
		request = events.Event{}
	}
	h, err := s.b.readHistory(ctx, a.Tenant, a.ID)
	if err != nil {
		return err
	}
	terminal, err := s.b.fail(ctx, a, request, s.reason(a), h.Records)
	if err != nil {
		return err
	}
	s.b.log.Info("answered a request that nobody serves", "subject", a.Subject())
	return job.remove(ctx, terminal)
}

// reason says why nobody serves a request.
func (s *Sweeper) reason(a Address) *events.Error {
	kind, model, ok := events.ParsePoolToken(a.Pool)
	switch {
	case !a.valid():
		return a.unread()
	case !ok || kind != events.KindImage:
		e := events.Errorf(events.CodeInvalidRequest, "%q is not a pool of a kind of work that this version knows", a.Pool)
		e.Field, e.Expected = "subject", "a pool such as "+events.PoolToken(events.KindImage, "model-name")
		return e
	}
	e := events.Errorf(events.CodeModelNotFound, "no instance serves the model %q", model)
	e.Field, e.Expected = "/model", s.served(kind)
	return e
}

// served lists the models of a kind that have pools.
func (s *Sweeper) served(kind string) string {
	var models []string
	for pool := range s.pools {
		if k, model, ok := events.ParsePoolToken(pool); ok && k == kind {
			models = append(models, model)
		}
	}
	if len(models) == 0 {
		return "a running instance: none has served any model yet"
	}
	slices.Sort(models)
	return "one of " + strings.Join(models, ", ")
}

// remove deletes a request from the queue that ended with this terminal event.
func (j *Job) remove(ctx context.Context, terminal events.Event) error {
	j.setAnswered(terminal)
	if err := j.bury(ctx); err != nil {
		return err
	}
	return j.b.removeRequest(ctx, j.sequence)
}

// removeRequest deletes a message from the queue.
func (b *Broker) removeRequest(ctx context.Context, sequence uint64) error {
	body, err := json.Marshal(struct {
		Sequence uint64 `json:"seq"`
		NoErase  bool   `json:"no_erase"`
	}{sequence, true})
	if err != nil {
		return err
	}
	return b.retry(ctx, func(ctx context.Context) error {
		reply, err := b.request(ctx, "$JS.API.STREAM.MSG.DELETE."+StreamRequests, body)
		if err != nil {
			return err
		}
		var r struct {
			Error *jetstream.APIError `json:"error"`
		}
		if err := json.Unmarshal(reply.Data, &r); err != nil {
			return fmt.Errorf("the server's answer cannot be read: %w", err)
		}
		if r.Error == nil {
			return nil
		}
		left, err := b.readLeader(ctx, StreamRequests, messageGet{Sequence: sequence})
		if err == nil && left == nil {
			return nil // somebody was faster
		}
		return r.Error
	})
}
