package instance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/fault"
)

// cancelledError is why the work on a request ends that its client cancelled.
type cancelledError struct{ reason string }

func (e cancelledError) Error() string { return "the client cancelled the request" }

// wanted are the requests in the hands of the slots, each with what ends the work on it. The zero value is empty.
// Safe for concurrent use.
type wanted struct {
	mu   sync.Mutex
	work map[*broker.Job]context.CancelCauseFunc
}

// enter returns a context that ends with a cancelledError when the request is cancelled. leave must be called.
func (w *wanted) enter(ctx context.Context, job *broker.Job) (cancelled context.Context, leave func()) {
	cancelled, cancel := context.WithCancelCause(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.work == nil {
		w.work = map[*broker.Job]context.CancelCauseFunc{}
	}
	w.work[job] = cancel
	return cancelled, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.work, job)
		cancel(nil)
	}
}

// cancel ends the work on a request, if a slot has it.
func (w *wanted) cancel(tenant, id, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for job, cancel := range w.work {
		if job.Tenant == tenant && job.ID == id {
			cancel(cancelledError{reason})
		}
	}
}

// withdrawn answers and acknowledges a request that was cancelled while no attempt was at work, and reports whether
// it was.
func (w *work) withdrawn(hard context.Context) bool {
	var c cancelledError
	if !errors.As(context.Cause(w.wanted), &c) {
		return false
	}
	ctx, cancel := context.WithTimeout(hard, openTimeout)
	defer cancel()
	if err := w.job.Cancel(ctx, w.event, c.reason); err != nil {
		w.log.Warn("cancelled request not acknowledged, it is delivered again and then acknowledged", "error", err)
	}
	w.slot.instance.countRequest(w.job, outcomeCancelled)
	w.log.Info("request cancelled before an attempt")
	return true
}

// cancelled answers the request with where the work stopped, unless it is answered, and then stops the work: the
// client need not wait for a runner that is in the middle of a step.
func (a *attempt) cancelled(hard context.Context, reason string) {
	where := a.where()
	a.cause = causeCancelled
	a.log.Info("request cancelled", "stage", where)
	data := events.Cancelled{Reason: reason, Stage: where, Attempts: broker.EventAttempts(a.begun.Records())}
	a.lease.Progress(a.slot.config.Budgets.Store + a.slot.config.CancelTimeout)
	ctx, cancel := context.WithTimeout(hard, a.slot.config.Budgets.Store)
	err := a.finish(ctx, events.TypeCancelled, data.Fit())
	cancel()
	a.cancelRunner(fault.KilledForCancel)
	ctx, cancel = context.WithTimeout(hard, stopTimeout)
	defer cancel()
	switch {
	case err == nil:
		a.settle(causeCancelled, outcomeCancelled)
	case errors.Is(err, errStale): // somebody was faster, which Done finds out
		err = a.work.job.Done(ctx)
	}
	if err != nil {
		a.log.Warn("cancelled request not acknowledged, it is delivered again", "error", err)
	}
	if err := a.begun.DiscardObjects(ctx); err != nil {
		a.log.Warn("objects of a cancelled attempt stay until they expire", "error", err)
	}
}

// where says at which point the work is, such as "denoise step 3 of 20".
func (a *attempt) where() string {
	switch {
	case a.stage == "":
		return events.StageQueue
	case a.track == nil || a.track.stage != a.stage || a.track.steps == 0:
		return a.stage
	}
	return fmt.Sprintf("%s step %d of %d", a.stage, a.track.step, a.track.steps)
}

// put stores a file. Once begun it is not interrupted by a cancel: of what is under way to the store nobody knows
// when it can be removed.
func (a *attempt) put(ctx context.Context, f file) (events.Ref, error) {
	if ctx.Err() != nil {
		return events.Ref{}, context.Cause(ctx)
	}
	ctx, stop := settling(ctx)
	defer stop()
	return a.begun.PutObject(ctx, f.artifact.Name, f.mediaType, f.data)
}

// settling is ctx without what does not interrupt what the broker must be known to have or not to have, such as the last
// word on a request: a client's cancel, a deadline, the loss to another holder. A stop of the instance gives it
// stopTimeout, for without the word the request waits until its lease is over.
func settling(ctx context.Context) (context.Context, context.CancelFunc) {
	free, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		var cancelled cancelledError
		switch {
		case errors.As(cause, &cancelled), errors.Is(cause, errDeadline), errors.Is(cause, errStale):
		case errors.Is(cause, errHang):
			cancel(cause)
		default:
			time.AfterFunc(stopTimeout, func() { cancel(cause) })
		}
	})
	return free, func() { stop(); cancel(nil) }
}
