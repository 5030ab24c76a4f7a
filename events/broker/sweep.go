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
	sweeperGroup  = "genfn-sweeper"
	sweeperBuffer = 1024 // requests seen and not yet looked at; more wait for the next scan

	maxSweepErrors = 16 // requests that could not be answered before a sweep is given up
)

// SweeperConfig says how patient a Sweeper is. Zero fields take the defaults.
type SweeperConfig struct {
	Grace    time.Duration // how long a request may wait for its pool to appear; 0: 3 s
	Interval time.Duration // between scans of the whole queue; 0: 30 s
}

// Sweeper answers the requests that no instance will ever fetch: those of pools
// without consumers (model_not_found, or invalid_request if the kind of work, the
// lane or the priority does not exist), and those whose time was up before
// anybody began. Pools with consumers count as served even while no instance
// runs. Any number of sweepers may run at the same time.
type Sweeper struct {
	b        *Broker
	grace    time.Duration
	interval time.Duration

	pools    map[string]bool      // pools that have consumers, as last listed
	unserved map[string]time.Time // request subject -> when it was first seen unserved
}

// NewSweeper returns a sweeper that is not running yet.
func NewSweeper(b *Broker, c SweeperConfig) *Sweeper {
	if c.Grace == 0 {
		c.Grace = 3 * time.Second
	}
	if c.Interval == 0 {
		c.Interval = 30 * time.Second
	}
	return &Sweeper{b: b, grace: c.Grace, interval: c.Interval, unserved: map[string]time.Time{}}
}

// Run scans the queue at once and then regularly, and looks at each request as it
// is published, until ctx ends; it returns nil then. Losses of the connection
// delay it only. Run must not be called twice at the same time.
func (s *Sweeper) Run(ctx context.Context) error {
	published := make(chan *nats.Msg, sweeperBuffer)
	sub, err := s.b.nc.ChanQueueSubscribe(requestSubjects, sweeperGroup, published)
	if err != nil {
		return s.b.inWords(ctx, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is closed, which ends it too
	scan := time.NewTimer(0)
	defer scan.Stop()
	due := time.NewTimer(s.interval)
	defer due.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-scan.C:
			err = s.Sweep(ctx)
			scan.Reset(s.interval)
		case m := <-published:
			err = s.notice(ctx, m.Subject)
		case <-due.C:
			err = s.answerDue(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.b.log.Warn("requests that nobody serves could not be swept", "error", err)
		}
		s.setTimer(due)
	}
}

func (s *Sweeper) setTimer(due *time.Timer) {
	next := s.interval
	for _, since := range s.unserved {
		next = min(next, since.Add(s.grace).Sub(s.b.now()))
	}
	due.Reset(max(next, time.Millisecond))
}

// Sweep scans the whole queue once.
func (s *Sweeper) Sweep(ctx context.Context) error {
	if err := s.listPools(ctx); err != nil {
		return err
	}
	next := uint64(1)
	var failed []error // of single requests: they must not keep the others waiting
	for {
		m, err := s.b.readLeader(ctx, StreamRequests, messageGet{Sequence: next, Next: "gen.req.>"})
		if err != nil {
			return err
		}
		if m == nil {
			break
		}
		next = m.Sequence + 1
		if err := s.look(ctx, m); err != nil {
			if failed = append(failed, err); len(failed) == maxSweepErrors {
				break
			}
		}
	}
	return errors.Join(append(failed, s.answerDue(ctx))...)
}

// look does what is to be done about a queued request now, or remembers it.
func (s *Sweeper) look(ctx context.Context, m *storedMessage) error {
	a, ok := ParseSubject(m.Subject)
	if !ok {
		return nil
	}
	if !a.literal() {
		if err := s.b.DeadLetter(ctx, &Job{Address: a, Header: m.Header, Data: m.Data, sequence: m.Sequence}, errWildcard); err != nil {
			return err
		}
		return s.b.removeRequest(ctx, m.Sequence)
	}
	s.see(m.Subject)
	return s.expire(ctx, a, m)
}

// notice looks at a request that was just published.
func (s *Sweeper) notice(ctx context.Context, subject string) error {
	a, ok := ParseSubject(subject)
	if ok && s.pools[a.Pool] && a.valid() {
		return nil
	}
	if err := s.listPools(ctx); err != nil {
		return err
	}
	s.see(subject)
	return s.answerDue(ctx)
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

// answerDue answers the remembered requests whose grace is over and whose pool
// still does not exist.
func (s *Sweeper) answerDue(ctx context.Context) error {
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
	if err != nil {
		job := &Job{Address: a, Header: m.Header, Data: m.Data, sequence: m.Sequence}
		if err := s.b.DeadLetter(ctx, job, err); err != nil {
			return err
		}
		request = events.Event{}
	}
	h, err := s.b.readHistory(ctx, a.Tenant, a.ID)
	if err != nil {
		return err
	}
	if err := s.b.fail(ctx, a, request, s.reason(a), h.Records); err != nil {
		return err
	}
	s.b.log.Info("answered a request that nobody serves", "subject", a.Subject())
	return s.b.removeRequest(ctx, m.Sequence)
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

// expire answers a queued request whose time is up and that nobody has begun,
// then removes it. What has begun is left to its holder.
func (s *Sweeper) expire(ctx context.Context, a Address, m *storedMessage) error {
	request, err := events.Decode(m.Header, m.Data)
	if err != nil || request.ExpiryTime().IsZero() || s.b.now().Before(request.ExpiryTime()) {
		return nil //nolint:nilerr // what cannot be read is answered by who fetches it
	}
	h, err := s.b.readHistory(ctx, a.Tenant, a.ID)
	if err != nil || h.sequence > 0 {
		return err
	}
	if err := s.b.expire(ctx, a, request); err != nil {
		return err
	}
	delete(s.unserved, m.Subject)
	return s.b.removeRequest(ctx, m.Sequence)
}

// removeRequest deletes an answered request from the queue.
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
