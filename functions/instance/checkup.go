package instance

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device"
	"genfn/functions/device/fault"
)

// errCheckup says that nothing is fetched because a canary is due.
var errCheckup = errors.New("a canary is due")

const (
	// checkupShare is how many times longer than a canary the time between two is at least: they cost 1 % of a device.
	checkupShare = 100
	// checkupIdle is how long nothing has come to do when a canary begins. One that is overdue for as long again as the
	// interval does not wait for that: wrong numbers of a device that is never idle must be found too.
	checkupIdle = 100 * time.Millisecond
)

// checkups say when an idle device makes a canary: at an interval that grows with what canaries cost, and, on a CPU, when
// others have no values to compare theirs with. Safe for concurrent use.
type checkups struct {
	every time.Duration // 0: never

	mu      sync.Mutex
	next    time.Time
	timer   *time.Timer
	idle    map[*func()]bool // who is to be called when one is due
	wanted  []string         // models that lack a reference
	settled map[string]bool  // models of which a reference was made, or cannot be
}

// when calls call when a canary is due, at once if it is, until stop is called.
func (c *checkups) when(call func()) (stop func()) {
	if c.every <= 0 {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle == nil {
		c.idle = map[*func()]bool{}
	}
	c.idle[&call] = true
	c.arm()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.idle, &call)
	}
}

// arm sets the timer. The lock is held.
func (c *checkups) arm() {
	if c.next.IsZero() {
		c.next = time.Now().Add(c.every)
	}
	wait := time.Until(c.next)
	if -wait < c.every {
		wait = max(wait, checkupIdle)
	}
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, c.due)
		return
	}
	c.timer.Reset(wait)
}

func (c *checkups) due() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for call := range c.idle {
		(*call)()
	}
}

// begin takes the canary that is due and returns the model that lacks a reference, if there is one; ok is false if
// another slot was faster.
func (c *checkups) begin() (wanted string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Before(c.next) {
		return "", false
	}
	c.next = now.Add(c.every)
	if len(c.wanted) > 0 {
		wanted, c.wanted = c.wanted[0], c.wanted[1:]
	}
	return wanted, true
}

// end plans the next canary after one that took so long.
func (c *checkups) end(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = time.Now().Add(max(c.every, checkupShare*took))
	if len(c.wanted) > 0 {
		c.next = time.Now()
	}
	c.arm()
}

// want has a reference made of a model, once.
func (c *checkups) want(model string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.every <= 0 || c.settled[model] || slices.Contains(c.wanted, model) {
		return
	}
	c.wanted = append(c.wanted, model)
	c.next = time.Now()
	c.arm()
}

// settle says that no reference of a model needs to be made any more.
func (c *checkups) settle(model string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.settled == nil {
		c.settled = map[string]bool{}
	}
	c.settled[model] = true
	c.wanted = slices.DeleteFunc(c.wanted, func(m string) bool { return m == model })
}

// stop ends the timer.
func (c *checkups) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
}

// lacks hears of the canaries of others, for which a CPU makes what they lack.
func (i *Instance) lacks(s events.DeviceStatus) {
	k := s.LastCanary
	if k != nil && k.Against != events.AgainstReference && i.config.class() == broker.LaneCPU && slices.Contains(i.catalog.names(), k.Model) {
		i.checkups.want(k.Model)
	}
}

// checkup makes the canary that is due. A device whose numbers are wrong takes no more requests.
func (s *slot) checkup(soft context.Context) {
	c := &s.instance.checkups
	name, ok := c.begin()
	if !ok {
		return
	}
	began := time.Now()
	defer func() { c.end(time.Since(began)) }()
	if name == "" {
		name = s.familiar()
	}
	switch {
	case name == "":
		return // nothing was generated yet
	case !s.canExamine(name):
		c.settle(name)
		return
	}
	ctx, cancel := context.WithTimeout(soft, s.config.Budgets.Load)
	defer cancel()
	err := s.examine(ctx, name)
	if soft.Err() != nil {
		return
	}
	h := s.instance.health
	e := events.AsError(err)
	switch {
	case err == nil:
		s.log.Debug("canary passed", "model", name, "ms", time.Since(began).Milliseconds())
	case e.Code == events.CodeNumericalError:
		s.canaryModel = name // by which it proves itself
		s.log.Error(s.field("canary failed"), "model", name, "error", e)
		h.Unproved(device.ReasonCanaryFailed, e)
		if err := s.kill(fault.KilledForShutdown); err != nil {
			h.Stuck(events.AsError(err))
		}
	case s.class() == events.DeviceCPU:
		s.log.Warn("canary not made", "model", name, "error", e)
		h.Observe(events.DeviceFault{Cause: causeCanary, Error: e})
	default:
		s.log.Error(s.field("canary not made"), "model", name, "error", e)
		h.Fault(events.DeviceFault{Cause: causeCanary, Error: e})
	}
}

// familiar is the model used last that is loaded; "": none is.
func (s *slot) familiar() string {
	for _, name := range slices.Backward(s.models) {
		if m, err := s.instance.catalog.get(name); err == nil && m.Dir != "" {
			return name
		}
	}
	return ""
}

// canExamine reports whether a canary of a model can be made now.
func (s *slot) canExamine(name string) bool {
	m, err := s.instance.catalog.get(name)
	return err == nil && m.Dir != "" && (slices.Contains(s.models, name) || s.fitsAhead(m) == nil)
}

// examine makes a canary, and tells of it if it says something of the device's numbers. On a CPU it becomes the
// reference if there is none, once it was repeated.
func (s *slot) examine(ctx context.Context, name string) (err error) {
	m, err := s.instance.catalog.get(name)
	if err != nil {
		return err
	}
	if err := s.start(ctx); err != nil { // the runner may rest
		return err
	}
	began := time.Now()
	defer func() {
		if err == nil || errors.Is(err, &events.Error{Code: events.CodeNumericalError}) {
			s.instance.tellProof(began, s.instance.orders.current(), name, &err)
		}
	}()
	if err := s.canary(ctx, name, s.economy); err != nil {
		return err
	}
	if s.class() != events.DeviceCPU {
		return nil
	}
	return s.beReference(ctx, m)
}

// beReference stores the values of a second canary as those with which others are compared, unless there are some.
func (s *slot) beReference(ctx context.Context, m Model) error {
	last := *s.instance.canaries.latest()
	if last.Against == events.AgainstReference {
		s.instance.checkups.settle(m.Name)
		return nil
	}
	sum := s.instance.catalog.sum(ctx, m)
	made, err := s.makeCanary(ctx, m, s.economy)
	if err != nil {
		return err
	}
	made.sha256 = (<-sum).sha256
	if !made.reference() {
		s.instance.checkups.settle(m.Name)
		return nil
	}
	if apart, _ := s.instance.canaries.repeated(made); apart > sameDevice {
		return wrong(judgement{events.AgainstFirst, apart}, sameDevice, "those of the first")
	}
	s.instance.canaries.put(ctx, s.config.Broker, made.entry(broker.KindReference), 0, s.log)
	s.instance.checkups.settle(m.Name)
	last.Against, last.Apart = events.AgainstReference, 0
	s.instance.canaries.note(last)
	s.log.Info("the values that canaries of this model must give are known", "model", m.Name)
	return s.runner.Bulk().Trim()
}
