package instance

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"genfn/events"
	"genfn/events/broker"
)

// Why nothing is fetched, or goes on, by a decision.
var (
	errStopped = errors.New("the controller has decided that this instance takes no requests")
	errOrdered = errors.New("the instance is quarantined by a decision")
)

// orders are what the controller and operators have decided on this instance, as last heard: while nothing can be
// heard that stays in force. Safe for concurrent use.
type orders struct {
	incarnation string // of the instance

	mu       sync.Mutex
	sequence uint64
	last     broker.StoredDecision
	changed  chan struct{} // closed with the next decision; nil: nobody waits
	proving  bool          // a slot proves the device
	ends     map[*end]bool
	working  map[*attempt]events.InFlight
}

// end is what a decision is to end.
type end struct {
	by   func(events.Decision) bool
	call func()
}

// listen hears of decisions until stop is called. When it returns the one in force is known.
func (i *Instance) listen(ctx context.Context) (stop func(), err error) {
	return i.config.Broker.WatchDecision(ctx, i.config.Name, i.obey)
}

// obey takes a decision in. What it demands of the device it demands before anything is told of it.
func (i *Instance) obey(d broker.StoredDecision) {
	o := &i.orders
	o.mu.Lock()
	if d.Revision <= o.last.Revision {
		o.mu.Unlock()
		return
	}
	news := d.Number != o.last.Number || d.Term != o.last.Term
	o.mu.Unlock()
	if news && d.State == events.StateProbation {
		i.health.Demand(d.Message)
	}
	o.mu.Lock()
	o.last = d
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	var due []func()
	for e := range o.ends {
		if e.by(d.Decision) {
			due = append(due, e.call)
		}
	}
	o.mu.Unlock()
	for _, call := range due {
		call()
	}
	if news {
		i.log.Info("decision heard", "state", d.State, "reason", d.Reason, "by", d.DecidedBy, "message", d.Message)
		i.beat() // so that all know at once that it obeys
	}
}

func (o *orders) current() events.Decision {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last.Decision
}

// when calls call with a decision that by is looking for, at once if it is in force, until stop is called.
func (o *orders) when(by func(events.Decision) bool, call func()) (stop func()) {
	e := &end{by, call}
	o.mu.Lock()
	now := by(o.last.Decision)
	if o.ends == nil {
		o.ends = map[*end]bool{}
	}
	o.ends[e] = true
	o.mu.Unlock()
	if now {
		call()
	}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.ends, e)
	}
}

func (o *orders) whenQuarantined(call func()) (stop func()) {
	return o.when(func(d events.Decision) bool { return d.State == events.StateQuarantined }, call)
}

// wait reports whether there is something to do by the decision in force. If not, it has waited for the next.
func (o *orders) wait(ctx context.Context) bool {
	o.mu.Lock()
	if !o.last.Stops() || o.last.State == events.StateProbation {
		o.mu.Unlock()
		return true
	}
	changed := o.next()
	o.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
	return false
}

// pause waits for a time, but no longer than for the next decision, which may demand a proof now.
func (o *orders) pause(ctx context.Context, d time.Duration) {
	o.mu.Lock()
	if o.last.State == events.StateProbation {
		o.mu.Unlock()
		return
	}
	changed := o.next()
	o.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-ctx.Done():
	}
}

// next returns what is closed with the next decision. The lock is held.
func (o *orders) next() <-chan struct{} {
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.changed
}

func (o *orders) demanded() bool { return o.current().State == events.StateProbation }

// proveOnDemand has the device prove itself once for the decision that demands it, and then waits for the next
// decision. It never admits a request.
func (s *slot) proveOnDemand(soft context.Context) bool {
	o := &s.instance.orders
	o.mu.Lock()
	changed := o.next()
	mine := !o.proving && o.last.State == events.StateProbation
	if mine {
		o.proving = true
	}
	o.mu.Unlock()
	if mine {
		if s.instance.health.Status().State == events.StateProbation {
			ctx, cancel := context.WithTimeout(soft, s.config.Budgets.Load)
			if err := s.prove(ctx, s.canaryModel); err != nil && soft.Err() == nil {
				s.log.Warn(s.field("device did not prove itself, it takes no requests"), "error", err)
			}
			cancel()
		}
		o.mu.Lock()
		o.proving = false
		o.mu.Unlock()
	}
	select {
	case <-changed:
	case <-soft.Done():
	}
	return false
}

// fetch waits for a request unless a decision or the device's hardware stops it, a canary is due or something is idle. One
// that comes in the same moment as what stops it is handed back, and no attempt is charged.
func (s *slot) fetch(soft context.Context) (*broker.Job, error) {
	ctx, cancel := context.WithCancelCause(soft)
	defer cancel(nil)
	defer s.instance.orders.when(events.Decision.Stops, func() { cancel(errStopped) })()
	defer s.instance.hardware.whenCondemned(func(*events.Error) { cancel(errStopped) })()
	defer s.instance.checkups.when(func() { cancel(errCheckup) })()
	defer s.whenIdle(func() { cancel(errIdle) })()
	job, err := s.queue.Next(ctx)
	why := context.Cause(ctx)
	switch {
	case err != nil && soft.Err() == nil && why != nil:
		return nil, why
	case err == nil && errors.Is(why, errStopped) && soft.Err() == nil:
		ctx, done := context.WithTimeout(soft, stopTimeout)
		defer done()
		if err := job.HandBack(ctx); err != nil {
			s.log.Warn("request not handed back, it is delivered again after the ack wait", "request", job.ID, "error", err)
		}
		s.log.Info("request handed back before any work", "request", job.ID)
		return nil, errStopped
	}
	return job, err
}

// enter notes an attempt for the status of the instance, until leave is called.
func (o *orders) enter(a *attempt) (leave func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.working == nil {
		o.working = map[*attempt]events.InFlight{}
	}
	job := a.work.job
	o.working[a] = events.InFlight{Request: job.ID, Tenant: job.Tenant, Attempt: a.begun.Number, Since: a.began.UTC()}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.working, a)
	}
}

// until is when the lease is let go of unless the work makes progress.
func (l *lease) until() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline
}

// stamp adds to a status what the instance works on, what it obeys, and what tells its order among others.
func (i *Instance) stamp(s *events.DeviceStatus) {
	o := &i.orders
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sequence++
	s.Incarnation, s.Sequence, s.LastCanary = o.incarnation, o.sequence, i.canaries.latest()
	if o.last.Number > 0 {
		s.Obeys = &events.Obeyed{Number: o.last.Number, State: o.last.State}
	}
	for a, w := range o.working {
		w.LeaseUntil = a.lease.until().UTC()
		s.InFlight = append(s.InFlight, w)
	}
	slices.SortFunc(s.InFlight, func(a, b events.InFlight) int { return strings.Compare(a.Request, b.Request) })
}

// tellProof tells how a proof that began at a time ended.
func (i *Instance) tellProof(began time.Time, d events.Decision, model string, result *error) {
	err := *result
	if errors.Is(err, context.Canceled) {
		return // the instance stops
	}
	o := &i.orders
	o.mu.Lock()
	o.sequence++
	c := events.Canary{
		Instance: i.config.Name, Device: i.config.Runner.Hello.Device, Class: events.ClassOf(i.config.Runner.Hello.Device),
		Incarnation: o.incarnation, Sequence: o.sequence, Model: model, Passed: err == nil, ElapsedMS: time.Since(began).Milliseconds(),
	}
	o.mu.Unlock()
	if d.State == events.StateProbation {
		c.Decision = d.Number
	}
	if last := i.canaries.latest(); last != nil && last.Model == model && !last.At.Before(began) {
		c.Against, c.Apart = last.Against, last.Apart
	}
	if err != nil {
		c.Error = events.AsError(err)
	}
	if err := i.config.Broker.PublishCanary(c, i.source()); err != nil {
		i.log.Debug("a proof is not told", "error", err)
	}
}
