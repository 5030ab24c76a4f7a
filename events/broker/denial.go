package broker

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"genfn/events"
)

// denials joins the server's permission errors, which reach only the
// connection's error handler, with the operations that wait for an answer in
// vain. Safe for concurrent use.
type denials struct {
	inbox string // prefix of this connection's inboxes

	mu      sync.Mutex
	next    int
	waiting map[int]waitingOperation
}

type waitingOperation struct {
	concerns func(subject string) bool
	fail     func(error)
}

var denialText = regexp.MustCompile(`(?i)for (publish|subscription) to "([^"]+)"`)

// watch calls fail when the server denies something with a subject that
// concerns matches, or the inbox in which answers arrive.
func (d *denials) watch(concerns func(subject string) bool, fail func(error)) (stop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = map[int]waitingOperation{}
	}
	n := d.next
	d.next++
	d.waiting[n] = waitingOperation{concerns, fail}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, n)
	}
}

func (d *denials) denied(err error) {
	m := denialText.FindStringSubmatch(err.Error())
	if m == nil {
		return
	}
	verb, subject := strings.ToLower(m[1]), m[2]
	denial := deniedError(verb, subject)
	d.mu.Lock()
	var fail []func(error)
	for _, w := range d.waiting {
		if w.concerns(subject) || verb == "subscription" && strings.HasPrefix(subject, d.inbox) {
			fail = append(fail, w.fail)
		}
	}
	d.mu.Unlock()
	for _, f := range fail {
		f(denial)
	}
}

func deniedError(verb, subject string) *events.Error {
	act := "publish to"
	if verb == "subscription" {
		act = "subscribe to"
	}
	e := events.Errorf(events.CodePermissionDenied, "this user may not %s %q", act, subject)
	e.Advice = "Use credentials that allow it, or let the server's operator grant it; users limited to their own inbox prefix must also name that prefix."
	return e
}

// guard returns a context that is cancelled with a permission_denied cause when
// the server denies something that concerns matches.
func (b *Broker) guard(ctx context.Context, concerns func(subject string) bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := b.denials.watch(concerns, func(err error) { cancel(err) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// denialOf returns the permission error that ended ctx, or err.
func denialOf(ctx context.Context, err error) error {
	var denied *events.Error
	if errors.As(context.Cause(ctx), &denied) {
		return denied
	}
	return err
}

func (b *Broker) handleError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		b.log.Error("NATS denied an operation", "error", err)
		b.denials.denied(err)
		return
	}
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	b.log.Warn("NATS reported an error", "subject", subject, "error", err)
}
