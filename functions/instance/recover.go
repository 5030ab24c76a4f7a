package instance

import (
	"context"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/fault"
	"genfn/functions/runner/protocol"
)

// Pauses between tries on a device in the same process.
const (
	minRetryPause = 100 * time.Millisecond
	maxRetryPause = 2 * time.Second
)

// failed is an attempt that ended badly, as recovery sees it.
type failed struct {
	kind  kind
	cause string // for the record
	err   *events.Error
	keep  bool // the runner may go on

	predicted bool // it was not even tried: neither the device nor a process is to blame
}

// ofMemory reports whether it is what the field calls a GPU memory error: too little memory, and also the driver's
// CL_OUT_OF_RESOURCES and the failed wait that comes with it.
func (f failed) ofMemory() bool {
	return f.kind == ofMemory || f.kind == ofDevice && (f.err.DriverCode == "-5" || f.err.DriverCode == "-14")
}

// recover settles an attempt that the device, the runner or the request ended: it records the cause, then tries
// again here, moves the request to another class of device or fails it. It reports whether another attempt is to
// follow here. The attempt's lease goes on meanwhile.
func (a *attempt) recover(hard context.Context, f failed) (again bool) {
	s := a.slot
	a.log.Error(s.field("attempt failed"), "cause", f.cause, "code", f.err.Code, "stage", f.err.Stage, "error", f.err, "driver_code", f.err.DriverCode, "driver_text", f.err.DriverText, "detail", f.err.Detail)
	s.instance.countFault(f)
	a.cause = f.cause
	a.notice(hard, events.Notice{Code: events.NoticeFault, Message: f.err.Title + ": " + f.err.Message, Error: f.err})
	if !f.keep && !a.emergency() {
		s.instance.health.Stuck(f.err)
		return false
	}
	if !f.predicted {
		s.note(a.work.job.ID, f)
	}
	away := s.instance.peers.serve(otherClass(s.class()), a.work.asked.Model)
	was := slices.Clone(a.begun.Records())
	was[len(was)-1].Cause, was[len(was)-1].Error = f.cause, f.err
	now := situation{
		class: s.class(), policy: a.fallback(away), kind: f.kind, records: was, other: away,
		rungs: a.rungsLeft(was), limits: s.config.limits(),
	}
	if f.predicted { // none of them fits
		now.rungs = 0
	}
	todo := decide(now)
	if todo == fresh && !a.proveAgain(hard, f) {
		now.rungs, now.limits = 0, limits{} // the device is out: no more tries on it
		todo = decide(now)
		if todo != elsewhere { // it waits for a device of its class that is well
			a.handBack(hard, f.cause, f.err)
			return false
		}
	}
	if f.kind == ofMemory && todo == fresh {
		a.stepUp(hard, was)
	}
	var out []string
	if todo == elsewhere {
		out = []string{s.class()}
	}
	ctx, cancel := context.WithTimeout(hard, openTimeout)
	defer cancel()
	if err := a.begun.End(ctx, f.cause, f.err, out...); err != nil {
		a.log.Warn("end of the attempt not recorded, the request is delivered again", "cause", f.cause, "error", err)
		return false
	}
	switch todo {
	case elsewhere:
		a.moveAway(hard, f)
		return false
	case giveUp:
		a.fail(hard, verdict(f.err, a.begun.Records(), s.class()))
		return false
	case sameAgain:
		return a.pause(hard, f)
	}
	return true
}

// emergency ends the runner, and with it every model, buffer and context that it holds. It reports whether it is gone.
func (a *attempt) emergency() bool {
	s := a.slot
	if s.runner == nil { // it has died, which did the same
		return true
	}
	began, before := time.Now(), protocol.Memory{}
	if a.left != nil {
		before = *a.left
	}
	a.log.Warn(s.field("Emergency memory cleanup begins: the runner ends, and with it all it has loaded"), "models", s.models, "rss", before.RSS, "ledger", before.Ledger)
	if !a.killRunner(fault.KilledForShutdown) {
		return false
	}
	a.log.Info(s.field("Emergency memory cleanup completed"), "ms", time.Since(began).Milliseconds())
	return true
}

// proveAgain replaces the runner and has it prove itself, and reports whether the device may go on.
func (a *attempt) proveAgain(hard context.Context, f failed) bool {
	s := a.slot
	a.notice(hard, events.Notice{Code: events.NoticeFreshRunner, Message: "the device " + s.device() + " gets a fresh process, which must pass its validation first"})
	a.lease.Progress(s.config.Budgets.Load)
	ctx, cancel := context.WithTimeout(hard, s.config.Budgets.Load)
	defer cancel()
	if s.class() == events.DeviceCPU { // a fresh process is all that a CPU needs
		if err := s.start(ctx); err != nil {
			a.log.Warn("no fresh runner yet, the next attempt starts one", "error", err)
		}
		return true
	}
	began := time.Now()
	model := a.work.asked.Model
	if f.kind == ofMemory { // the device is well; its canary comes with the next attempt, on that one's rung
		model = ""
	}
	if err := s.prove(ctx, model); err != nil {
		e := events.AsError(err)
		a.notice(hard, events.Notice{Code: events.NoticeCanary, Message: "the device did not prove itself: " + e.Message, Error: e})
		return false
	}
	if model == "" {
		return true
	}
	a.notice(hard, events.Notice{Code: events.NoticeCanary, Message: "the device proved itself by a small generation in " + time.Since(began).Round(time.Millisecond).String()})
	a.notice(hard, events.Notice{Code: events.NoticeRetry, Message: "another try on " + s.device()})
	return true
}

// stepUp chooses the rung of the next attempt and tells of it, with the memory before and after.
func (a *attempt) stepUp(hard context.Context, records []broker.AttemptRecord) {
	a.work.rung, _ = nextRung(a.plan.rungs, records, a.slot.class())
	n := events.Notice{Code: events.NoticeDegraded, Message: "another try on " + a.slot.device() + " " + describeRung(a.work.rung)}
	if r := a.slot.runner; a.left != nil && r != nil && r.Ready() != nil {
		after := r.Ready().Memory
		n.Memory = memoryBetween(*a.left, after)
		n.Memory.LedgerPeak, n.Memory.RSSPeak = a.left.LedgerPeak, a.left.PeakRSS
		if d := a.left.Device; d != nil {
			n.Memory.DevicePeak = known(max(d.Used, d.Peak))
		}
	}
	a.log.Warn(a.slot.field("less memory for the next try"), "rung", a.work.rung)
	a.notice(hard, n)
}

func deviceUsed(m protocol.Memory) *int64 {
	if m.Device == nil {
		return nil
	}
	return known(m.Device.Used)
}

// rungsLeft is how many ways to use less memory are left after these attempts.
func (a *attempt) rungsLeft(records []broker.AttemptRecord) int {
	if a.plan == nil {
		return 0
	}
	rung, left := nextRung(a.plan.rungs, records, a.slot.class())
	if last, ok := tried(records, a.slot.class()); ok && last != rung {
		left++
	}
	return left
}

// pause waits before another try in the same process.
func (a *attempt) pause(hard context.Context, f failed) bool {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = minRetryPause, maxRetryPause
	here := situation{records: a.begun.Records()}
	var d time.Duration
	for range here.count(a.slot.class())[f.cause] {
		d = b.NextBackOff()
	}
	a.notice(hard, events.Notice{Code: events.NoticeRetry, Message: "another try on " + a.slot.device() + " after " + d.Round(time.Millisecond).String()})
	a.lease.Progress(d + a.slot.config.Budgets.Load)
	return sleep(hard, d)
}

// moveAway gives the request to the other class of device.
func (a *attempt) moveAway(hard context.Context, f failed) {
	s := a.slot
	to := otherClass(s.class())
	if s.class() == events.DeviceGPU {
		words := "[GPU] Persistent GPU errors, falling back to CPU"
		switch {
		case f.predicted:
			words = "[GPU] The work is not expected to fit, going to the CPU"
		case f.ofMemory():
			words = "[GPU] Persistent GPU memory errors, falling back to CPU"
		}
		a.log.Warn(words, "cause", f.cause, "code", f.err.Code, "driver_code", f.err.DriverCode)
	}
	n := events.Notice{Code: events.NoticeFallback, Message: "the request goes on on the " + to + ": " + f.err.Message, Error: f.err}
	if took, ok := a.predict(to); ok {
		n.PredictedMS = took.Milliseconds()
	}
	a.notice(hard, n)
	ctx, cancel := context.WithTimeout(hard, openTimeout)
	defer cancel()
	if err := a.work.job.Move(ctx, broker.LaneOf(to)); err != nil {
		a.log.Warn("request not moved, it is delivered again and moved then", "to", to, "error", err)
		return
	}
	a.settle(f.cause, outcomeMoved)
	a.log.Info("request moved to another class of device", "to", to)
}

// fallback is the request's policy, with "deadline" settled: allowed if the other class is expected to finish in
// time, or if nobody knows.
func (a *attempt) fallback(away bool) string {
	policy := a.work.asked.Fallback
	if policy != events.FallbackDeadline || !away {
		return policy
	}
	expiry := a.work.event.ExpiryTime()
	if took, ok := a.predict(otherClass(a.slot.class())); ok && !expiry.IsZero() && time.Now().Add(took).After(expiry) {
		a.log.Info("the other class of device would not finish in time", "predicted", took, "expiry", expiry)
		return events.FallbackNever
	}
	return events.FallbackAllowed
}

// predict is how long a class of device is expected to take for the request; ok is false if nobody knows.
func (a *attempt) predict(class string) (time.Duration, bool) {
	if a.plan == nil {
		return 0, false
	}
	r := a.plan.request
	shape := a.plan.shape
	if class != a.slot.class() { // a request begins there as it was asked for
		shape = a.plan.asked
	}
	best, known := time.Duration(0), false
	for _, kind := range a.slot.instance.peers.kinds(class, r.Model) {
		if took, ok := a.slot.instance.learned.figures.total(kind, shape, *r.Steps); ok && (!known || took < best) {
			best, known = took, true
		}
	}
	return best, known
}

// notice tells those who follow the request what is done about trouble.
func (a *attempt) notice(ctx context.Context, n events.Notice) {
	a.slot.instance.countNotice(n.Code)
	p := events.Progress{Stage: a.stage, ElapsedMS: time.Since(a.began).Milliseconds(), Instance: a.slot.config.Name, Device: a.slot.device(), Notice: &n}
	if p.Stage == "" {
		p.Stage = events.StageQueue
	}
	a.publish(ctx, broker.KindProgress, events.TypeProgress, p)
}

// route sends a request elsewhere that this instance's device must not or need not run, and reports whether it did. The
// attempt that was begun with its delivery ends then, and nobody is charged for it.
func (w *work) route(hard context.Context, begun *broker.Attempt) (gone bool) {
	s := w.slot
	ctx, cancel := context.WithTimeout(hard, openTimeout)
	defer cancel()
	records := begun.Records()
	w.restoreRung(records)
	var to string
	switch want := w.asked.Device; {
	case excluded(records, s.class()) && !excluded(records, otherClass(s.class())):
		to = otherClass(s.class())
	case excluded(records, s.class()), want == "", want == events.DeviceAuto, want == s.class(), want == s.device(), w.job.Lane == broker.LaneRetry:
		return false
	case events.ClassOf(want) != s.class(), want == otherClass(s.class()):
		to = otherClass(s.class())
		if w.job.Lane == broker.LaneOf(s.class()) { // it was moved here: the class it wanted could not
			return false
		}
	default:
		return w.toDevice(ctx, want, begun)
	}
	if !s.instance.peers.serve(to, w.asked.Model) && !excluded(records, s.class()) && w.asked.Fallback != events.FallbackNever {
		w.log.Info("nobody serves the class of device that was asked for, the request runs here", "wanted", w.asked.Device)
		return false
	}
	w.handOver(ctx, begun, string(broker.LaneOf(to)), func() error { return w.job.Move(ctx, broker.LaneOf(to)) })
	return true
}

// handOver ends the attempt that was begun and gives the request away. If that fails it is delivered again, and handed
// over then.
func (w *work) handOver(ctx context.Context, begun *broker.Attempt, to string, give func() error) {
	err := begun.End(ctx, causeRouted, nil)
	if err == nil {
		err = give()
	}
	if err != nil {
		w.log.Warn("request not handed over, it is delivered again", "to", to, "error", err)
		return
	}
	w.slot.instance.countAttempt(causeRouted)
	w.log.Info("request handed over to the device it is for", "to", to)
}

// restoreRung finds the rung on which a request stands that ran out of memory on this class before.
func (w *work) restoreRung(records []broker.AttemptRecord) {
	s := w.slot
	if _, full := tried(records, s.class()); !full {
		return
	}
	if m, err := s.instance.catalog.get(w.asked.Model); err == nil {
		r := withDefaults(w.asked, m)
		w.rung, _ = nextRung(rungs(r, m, false, s.sequential(r, m)), records, s.class())
	}
}

// toDevice hands a request back that is for another device of this class, if there is an instance that has it.
func (w *work) toDevice(ctx context.Context, device string, begun *broker.Attempt) (gone bool) {
	if w.slot.instance.peers.any(func(s events.DeviceStatus) bool { return s.Device == device }) {
		w.handOver(ctx, begun, device, func() error {
			if w.job.Lane == broker.LaneAny {
				return w.job.HandBack(ctx) // in the lane of its class, others look for it
			}
			w.job.HandBackLater(handBackPause)
			return nil
		})
		return true
	}
	if w.asked.Fallback != events.FallbackNever {
		w.log.Info("no instance has the device that was asked for, the request runs here", "wanted", device)
		return false
	}
	e := events.Errorf(events.CodeDeviceUnavailable, "no instance has the device %s", device)
	e.Field, e.Device = "/device", device
	e.Advice = "Name a device that genfn devices lists, or a class (cpu, gpu), or allow a fallback."
	if err := w.job.Refuse(ctx, w.event, e); err != nil {
		w.log.Warn("request not answered, it is delivered again", "error", err)
	}
	return true
}

// handBackPause is how long a request for another device waits before it is delivered again.
const handBackPause = 500 * time.Millisecond
