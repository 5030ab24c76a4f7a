package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/fault"
	"genfn/functions/hostmemory"
	"genfn/functions/runner/protocol"
)

// Causes of the end of an attempt, as attempt records have them.
const (
	causeHang        = "hang"
	causeCrash       = "runner_crash"
	causeKilled      = "runner_killed" // by somebody outside
	causeDevice      = "device_fault"  // the runner said so and must not be used again
	causeMemory      = "out_of_memory"
	causeAdmission   = "memory_admission" // it is expected not to fit, and was not tried
	causeTransient   = "device_transient" // the runner said so and may go on
	causeUnfit       = "device_unfit"     // it cannot do it, or gave invalid numbers
	causeRouted      = "routed"           // to another device, before any work
	causeShutdown    = "shutdown"
	causeOrdered     = "quarantined" // by the controller or an operator
	causeHardware    = "hardware"    // the driver says that the device must not be used
	causeUnavailable = "runner_unavailable"
	causeCanary      = "canary_not_made" // of an idle device: no attempt's
)

// Ends of an attempt that are no cause in its record, as metrics tell them.
const (
	causeAnswered  = "answered"
	causeRefused   = "request_error" // the request is to blame
	causeDeadline  = "deadline"
	causeCancelled = "cancelled"
	causeLost      = "lost"    // to another holder
	causeUnknown   = "unknown" // it may or may not be answered
)

// openTimeout bounds what happens before an attempt is recorded. After it the request is left to its redelivery.
const openTimeout = 15 * time.Second

// work is one delivery of one request in a slot's hands.
type work struct {
	slot  *slot
	job   *broker.Job
	event events.Event
	asked events.ImageGenerate
	rung  string // of the ladder of memory, for the next attempt
	log   *slog.Logger

	wanted context.Context // ends with a cancelledError when the client cancels the request
}

// serve does one request from its delivery to its acknowledgement, with as many attempts as it takes. It returns the
// model that was asked for, if it could be read.
func (s *slot) serve(soft, hard context.Context, job *broker.Job) (model string) {
	w := &work{slot: s, job: job, log: s.log.With("request", job.ID, "tenant", job.Tenant)}
	var leave func()
	w.wanted, leave = s.instance.wanted.enter(hard, job)
	defer leave()
	begun := w.start(hard)
	if begun != nil {
		s.instance.countDelivery(job)
	}
	if begun != nil && w.route(hard, begun) {
		return w.asked.Model
	}
	for begun != nil && !w.withdrawn(hard) && w.attempt(soft, hard, begun) {
		begun = w.begin(hard)
	}
	return w.asked.Model
}

// start reads the request and begins the first attempt of this delivery; nil: it is not to be run.
func (w *work) start(hard context.Context) *broker.Attempt {
	ctx, cancel := context.WithTimeout(hard, openTimeout)
	defer cancel()
	event, begun, err := w.job.Start(ctx, w.record())
	switch {
	case err != nil:
		w.log.Warn("request not begun, it is delivered again", "error", err)
		return nil
	case begun == nil:
		w.log.Info("request answered without work")
	}
	w.event, w.asked = event, w.job.Asked()
	return begun
}

// begin begins another attempt; nil: that is not possible.
func (w *work) begin(hard context.Context) *broker.Attempt {
	ctx, cancel := context.WithTimeout(hard, openTimeout)
	defer cancel()
	begun, err := w.job.Begin(ctx, w.record())
	if err != nil {
		w.log.Warn("no attempt begun", "error", err)
		return nil
	}
	return begun
}

func (w *work) record() broker.AttemptRecord {
	return broker.AttemptRecord{Instance: w.slot.config.Name, Device: w.slot.device(), Rung: w.rung}
}

// attempt makes an attempt that was begun, and reports whether another is to follow here.
func (w *work) attempt(soft, hard context.Context, begun *broker.Attempt) (again bool) {
	s := w.slot
	log := w.log.With("attempt", begun.Number)
	ctx, lease := newLease(hard, held{w.job, begun}, s.config.LeaseInterval, s.config.Budgets.Load, log)
	defer lease.Stop()
	ctx, stop := w.bounded(ctx, soft)
	defer stop()
	a := &attempt{work: w, slot: s, begun: begun, began: time.Now(), lease: lease, log: log}
	defer s.instance.orders.enter(a)()
	defer a.count()
	return a.end(ctx, hard, a.run(ctx))
}

// bounded ends ctx with errHandBack when the grace of a soft stop is over, with errDeadline when the request's time
// is up, with a cancelledError when its client cancels it, and with a condemnedError when the device must not be used.
func (w *work) bounded(ctx, soft context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopWanted := context.AfterFunc(w.wanted, func() { cancel(context.Cause(w.wanted)) })
	stopOrder := w.slot.instance.orders.whenQuarantined(func() { cancel(errOrdered) })
	stopHardware := w.slot.instance.hardware.whenCondemned(func(e *events.Error) { cancel(condemnedError{e}) })
	deadline := func() {}
	if expiry := w.event.ExpiryTime(); !expiry.IsZero() {
		ctx, deadline = context.WithDeadlineCause(ctx, expiry, errDeadline)
	}
	stopSoft := context.AfterFunc(soft, func() {
		if sleep(ctx, w.slot.config.Grace) {
			cancel(errHandBack)
		}
	})
	return ctx, func() {
		stopSoft()
		stopWanted()
		stopOrder()
		stopHardware()
		deadline()
		cancel(nil)
	}
}

// held is a delivered request with its attempt, as its lease sees it.
type held struct {
	job   *broker.Job
	begun *broker.Attempt
}

func (h held) Extend() error { return h.job.Extend() }

// Current reports false also for a request that somebody has answered, such as one that was cancelled while this
// instance could not hear of it.
func (h held) Current(ctx context.Context) (bool, error) {
	current, err := h.begun.Current(ctx)
	if err != nil || !current {
		return current, err
	}
	_, answered, err := h.job.Terminal(ctx)
	return !answered, err
}

// attempt is one try at a request.
type attempt struct {
	work    *work
	slot    *slot
	begun   *broker.Attempt
	began   time.Time
	lease   *lease
	log     *slog.Logger
	stage   string            // the last one entered
	samples samples           // of memory
	host    hostmemory.Memory // at the last look
	plan    *plan             // nil: the request is not planned yet
	left    *protocol.Memory  // of the runner when it told of the failure; nil: it did not
	track   *tracker
	job     uint64 // the runner's job while it is in flight, else 0
	sent    int    // events so far

	cause   string             // of its end; "": it has not ended, or nobody knows
	outcome string             // for the request; "": it stays here, or nobody knows
	timings map[string]float64 // milliseconds by stage, of an answer; nil: what track has
}

// Ends of an attempt that are not an error of the request.
var (
	errRunnerDied = errors.New("the runner process ended")
	errLeft       = errors.New("the terminal event may or may not be stored")
)

// unavailableError is a runner that cannot be started.
type unavailableError struct{ cause error }

func (e unavailableError) Error() string { return e.cause.Error() }
func (e unavailableError) Unwrap() error { return e.cause }

// failure is what the runner said, or else how its start ended.
func (e unavailableError) failure() *events.Error {
	var said *events.Error
	if errors.As(e.cause, &said) {
		return said
	}
	failure := events.Errorf(events.CodeDeviceUnavailable, "the runner process did not become ready")
	failure.Detail, failure.Cause = printable(e.cause.Error()), e.cause
	return failure
}

// runnerFault is a failure that the runner told.
type runnerFault struct{ fault.Fault }

func (e runnerFault) Error() string { return e.Err.Error() }
func (e runnerFault) Unwrap() error { return e.Err }

// end settles an attempt after run returned err, and reports whether another is to follow here.
func (a *attempt) end(ctx, hard context.Context, err error) (again bool) {
	if err == nil {
		return false
	}
	if errors.Is(err, errLeft) {
		a.log.Warn("not known whether the request is answered, it is delivered again", "error", err)
		return false
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	var unavailable unavailableError
	var told runnerFault
	var unwanted cancelledError
	var notFit notAdmittedError
	var condemned condemnedError
	switch {
	case errors.As(err, &unwanted):
		a.cancelled(hard, unwanted.reason)
	case errors.Is(err, errStale):
		a.abandon(hard)
	case errors.Is(err, errHang) && a.instanceStage():
		a.log.Error("inputs not fetched or results not stored in time, the request is delivered again", "stage", a.stage)
	case errors.Is(err, errHang):
		if !a.killRunner(fault.KilledForHang) {
			return false
		}
		return a.recover(hard, a.died(causeHang))
	case errors.Is(err, errRunnerDied):
		if !a.killRunner(fault.KilledNot) { // reaped, it tells how it ended
			return false
		}
		return a.recover(hard, a.died(causeCrash))
	case errors.Is(err, errDeadline):
		a.cause = causeDeadline
		a.fail(hard, events.Errorf(events.CodeDeadlineExceeded, "the request's time was up at %s, in stage %s", a.work.event.ExpiryTime().UTC().Format(time.RFC3339), a.where()))
		a.cancelRunner(fault.KilledForDeadline) // who waits for the answer need not wait for the end of a step
	case errors.Is(err, errHandBack), hard.Err() != nil:
		a.handBack(hard, causeShutdown, nil)
	case errors.Is(err, errOrdered):
		a.handBack(hard, causeOrdered, nil)
	case errors.As(err, &condemned):
		a.condemned(hard, condemned.err)
	case errors.As(err, &unavailable):
		a.handBack(hard, causeUnavailable, unavailable.failure())
	case errors.As(err, &notFit):
		return a.recover(hard, failed{kind: ofMemory, cause: causeAdmission, err: notFit.err, keep: true, predicted: true})
	case errors.As(err, &told):
		return a.ended(hard, told.Fault)
	default:
		return a.ended(hard, fault.Classify(fault.Evidence{Err: err}))
	}
	return false
}

// ended settles an attempt that ended with an error of the runner's or of this instance's.
func (a *attempt) ended(hard context.Context, f fault.Fault) (again bool) {
	k := kindOf(f)
	if k == ofMemory {
		a.refused(f.Err)
	}
	if k != ofRequest {
		return a.recover(hard, failed{kind: k, cause: k.cause(), err: f.Err, keep: !f.Replace && k != ofMemory})
	}
	if f.Replace && a.slot.runner != nil && a.job == 0 && a.stage != "" && !a.instanceStage() {
		a.killRunner(fault.KilledForShutdown)
	}
	a.fail(hard, f.Err)
	return false
}

// died is the end of the runner, which is reaped, as the end of an attempt.
func (a *attempt) died(cause string) failed {
	f := a.death()
	k := kindOf(f)
	switch {
	case cause == causeHang, k == ofRequest, k == ofDevice:
		k = death
	case k == ofMemory:
		cause = causeMemory
		a.refused(f.Err)
	case k == killed:
		cause = causeKilled
	}
	return failed{kind: k, cause: cause, err: f.Err}
}

// instanceStage reports whether the attempt is before or past the runner's part.
func (a *attempt) instanceStage() bool {
	return a.stage == "" || a.stage == events.StageEncode || a.stage == events.StageStore
}

// abandon leaves a request to who holds it now.
func (a *attempt) abandon(hard context.Context) {
	a.log.Warn("another instance holds the request or has answered it, this attempt stops")
	a.cause = causeLost
	a.cancelRunner(fault.KilledForCancel)
	ctx, cancel := context.WithTimeout(hard, stopTimeout)
	defer cancel()
	if err := a.begun.DiscardObjects(ctx); err != nil {
		a.log.Warn("objects of a lost attempt stay until they expire", "error", err)
	}
	if err := a.begun.End(ctx, broker.CauseAnswered, nil); err != nil && !errors.Is(err, broker.ErrStale) { // of one that a later attempt holds, that one tells
		a.log.Warn("end of the attempt not recorded", "cause", broker.CauseAnswered, "error", err)
	}
}

// handBack ends the runner, which may still be at work, and only then gives the request back, or fails it if it is
// enough.
func (a *attempt) handBack(hard context.Context, cause string, failure *events.Error) {
	a.cause = cause
	if !a.killRunner(fault.KilledForShutdown) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(hard), stopTimeout)
	defer cancel()
	if err := a.begun.End(ctx, cause, failure); err != nil {
		a.log.Warn("end of the attempt not recorded", "cause", cause, "error", err)
		if errors.Is(err, broker.ErrStale) {
			return
		}
	}
	if enough := a.exhausted(a.begun.Records()); enough != nil && hard.Err() == nil {
		a.fail(hard, enough)
		return
	}
	if err := a.giveBack(ctx, failure != nil); err != nil {
		a.log.Warn("request not handed back, it is delivered again after the ack wait", "error", err)
		return
	}
	a.settle(cause, outcomeHandedBack)
	a.log.Info("request handed back", "cause", cause)
}

// giveBack gives the request to whoever may have it: one that failed here and must not fall back to its own class of
// device only.
func (a *attempt) giveBack(ctx context.Context, failed bool) error {
	job, class := a.work.job, a.slot.config.class()
	if failed && a.work.asked.Fallback == events.FallbackNever && job.Lane != class {
		return job.Move(ctx, class)
	}
	return job.HandBack(ctx)
}

// exhausted returns why no more attempts are made, nil if there may be another.
func (a *attempt) exhausted(records []broker.AttemptRecord) *events.Error {
	deaths, faults, lost, unavailable := 0, 0, 0, 0
	var last, noRunner *events.Error
	for _, r := range records {
		switch {
		case r.Cause == causeHang, r.Cause == causeCrash:
			deaths, faults, last = deaths+1, faults+1, r.Error
		case r.Cause == causeDevice:
			faults, last = faults+1, r.Error
		case r.Cause == causeUnavailable:
			unavailable, noRunner = unavailable+1, r.Error
		case r.Cause == "" && r.Number != a.begun.Number:
			lost++
		}
	}
	switch {
	case last != nil && (deaths >= a.slot.config.MaxDeaths || faults > a.slot.config.MaxDeaths):
		e := repeated(faults, last)
		e.Advice = "Try another size or fewer steps. The attempts tell what the runtime or the driver said each time."
		return e
	case unavailable >= a.slot.config.MaxUnavailable && noRunner != nil:
		e := events.Errorf(events.CodeDeviceUnavailable, "no runner could be started in %d attempts; the last: %s", unavailable, noRunner.Message)
		e.Detail = noRunner.Detail
		return e
	case lost > a.slot.config.MaxLost:
		return events.Errorf(events.CodeInternal, "the instance disappeared in each of %d attempts", lost)
	}
	return nil
}

// repeated is the error of a request that has failed several times.
func repeated(attempts int, last *events.Error) *events.Error {
	e := *last
	e.Message, e.Retriable, e.Detail = fmt.Sprintf("%d attempts failed; the last: %s", attempts, last.Message), false, ""
	return &e
}

// death is what the end of the runner means.
func (a *attempt) death() fault.Fault {
	f := fault.ClassifyDeath(a.slot.exit.Death(a.stage, a.slot.config.Runner.Hello.Device))
	f.Err.Detail = printable(f.Err.Detail)
	return f
}

// killRunner ends the runner and reports whether it is reaped. If not, nothing may be handed back: the lease
// runs out, and the slot takes no more requests.
func (a *attempt) killRunner(why fault.KillReason) bool {
	if err := a.slot.kill(why); err != nil {
		a.log.Error("runner does not end, its device is in quarantine", "error", err)
		return false
	}
	return true
}

// fail answers the request with failed and acknowledges it.
func (a *attempt) fail(hard context.Context, failure *events.Error) {
	e := *failure
	if e.Device == "" {
		e.Device = a.slot.config.Runner.Hello.Device
	}
	attempts := broker.EventAttempts(a.begun.Records())
	if last := &attempts[len(attempts)-1]; last.Error == nil {
		last.Error = &e
	}
	a.log.Info("request failed", "code", e.Code, "error", e.Error())
	ctx, cancel := context.WithTimeout(hard, a.slot.config.Budgets.Store)
	defer cancel()
	a.lease.Progress(a.slot.config.Budgets.Store)
	err := a.finish(ctx, events.TypeFailed, events.Failed{Error: &e, Attempts: attempts}.Fit())
	switch {
	case errors.Is(err, errStale):
		a.abandon(hard)
	case err != nil:
		a.log.Warn("failure not told, the request is delivered again", "error", err)
	default:
		a.settle(causeRefused, outcomeFailed)
	}
}

// finish stores the terminal event and has the request acknowledged.
func (a *attempt) finish(ctx context.Context, typ string, data any) error {
	ctx, stop := settling(ctx)
	defer stop()
	e, err := a.event(typ, data)
	if err != nil {
		return err
	}
	finish := a.begun.Finish
	if typ == events.TypeSucceeded { // mayFinish has seen that it is valid
		finish = a.begun.FinishValid
	}
	won, err := finish(ctx, e)
	if err != nil {
		return errors.Join(errLeft, err)
	}
	if !won {
		return errStale
	}
	a.slot.acknowledge(a.work.job, a.log)
	return nil
}
