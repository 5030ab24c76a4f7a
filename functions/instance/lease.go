package instance

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Why an attempt's context ends early.
var (
	errHang     = errors.New("no progress within the time allowed")
	errStale    = errors.New("another instance holds the request")
	errDeadline = errors.New("the request's expiry time has passed")
	errHandBack = errors.New("the instance stops")
)

// holder is the lease's view of an attempt.
type holder interface {
	Extend() error                             // tell the broker that work goes on
	Current(ctx context.Context) (bool, error) // no other attempt has begun since
}

// lease keeps a request from being delivered elsewhere, only as long as its work makes progress: without a
// call of Progress within the last one's budget it lets go, and the attempt's context ends with errHang. It
// ends with errStale when another instance has begun an attempt, which extending alone would not tell.
type lease struct {
	holder   holder
	interval time.Duration
	log      *slog.Logger
	cancel   context.CancelCauseFunc
	quit     chan struct{}
	done     chan struct{}
	once     sync.Once

	mu       sync.Mutex
	budget   time.Duration
	deadline time.Time
	wake     time.Time     // when the deadline is looked at next
	sooner   chan struct{} // holds one token when that is too late
}

// newLease starts a lease with a first budget. The context it returns is the attempt's. Stop must be called.
func newLease(ctx context.Context, h holder, interval, budget time.Duration, log *slog.Logger) (context.Context, *lease) {
	ctx, cancel := context.WithCancelCause(ctx)
	l := &lease{holder: h, interval: interval, log: log, cancel: cancel, quit: make(chan struct{}), done: make(chan struct{}), sooner: make(chan struct{}, 1)}
	l.Progress(budget)
	// The lease outlives its context: work that is being cancelled is still work.
	go l.keep(context.WithoutCancel(ctx))
	return ctx, l
}

// Progress says that the work has moved on and that the next sign of life comes within budget.
func (l *lease) Progress(budget time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.budget, l.deadline = budget, time.Now().Add(budget)
	if l.deadline.Before(l.wake) {
		select {
		case l.sooner <- struct{}{}:
		default:
		}
	}
}

// untilDeadline returns the time until the deadline, at which it is looked at next.
func (l *lease) untilDeadline() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake = l.deadline
	return time.Until(l.deadline)
}

// Stop ends the extensions and the context. It is safe to call twice.
func (l *lease) Stop() {
	l.once.Do(func() { close(l.quit) })
	<-l.done
	l.cancel(nil)
}

func (l *lease) keep(ctx context.Context) {
	defer close(l.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-l.quit:
			cancel()
		case <-l.done:
		}
	}()
	ticker := time.NewTicker(l.interval)
	defer ticker.Stop()
	timer := time.NewTimer(l.untilDeadline())
	defer timer.Stop()
	last := time.Now()
	for {
		due := false // for an extension
		select {
		case <-l.quit:
			return
		case <-ticker.C:
			due = true
		case <-timer.C:
		case <-l.sooner:
		}
		now := time.Now()
		l.forgive(now.Sub(last))
		last = now
		if l.late(now) {
			l.cancel(errHang)
			return
		}
		if due && !l.extend(ctx) {
			l.cancel(errStale)
			return
		}
		timer.Reset(l.untilDeadline())
	}
}

// forgive gives the work its whole budget again if this process was stopped or starved itself: the silence
// was ours then, not the runner's.
func (l *lease) forgive(gap time.Duration) {
	if gap > 3*l.interval {
		l.mu.Lock()
		l.deadline = time.Now().Add(l.budget)
		l.mu.Unlock()
		l.log.Warn("this process was stopped for a while", "for", gap)
	}
}

func (l *lease) late(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.After(l.deadline)
}

// extend reports false when the request is known to be another's. A broker that does not answer decides
// nothing: the terminal event is fenced.
func (l *lease) extend(ctx context.Context) bool {
	if err := l.holder.Extend(); err != nil {
		l.log.Debug("lease not extended", "error", err)
	}
	ctx, cancel := context.WithTimeout(ctx, l.interval)
	defer cancel()
	current, err := l.holder.Current(ctx)
	if err != nil {
		l.log.Debug("attempt not checked", "error", err)
		return true
	}
	return current
}
