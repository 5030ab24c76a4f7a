package broker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"genfn/events"
)

const (
	cancelSubjects = "gen.cancel.*.*"
	cancelGroup    = "genfn-cancel"

	cancelLimit = 15 * time.Second       // for the answer to one cancel
	holderTime  = 500 * time.Millisecond // for the instance that works on the request to end it itself, with the stage
	maxCancels  = 64                     // answered at a time
)

// CancelSubject returns the subject of NATS requests that ask for the end of a request.
func CancelSubject(tenant, id string) string { return "gen.cancel." + tenant + "." + id }

// Cancel asks the instances to end a request, queued or running, and returns its terminal event: cancelled, or the
// one that was there before. It may be repeated. Errors: invalid_request for an id that is neither queued nor
// answered, device_unavailable if there is no instance, permission_denied.
func (b *Broker) Cancel(ctx context.Context, tenant, id string, ask events.Event) (terminal events.Event, err error) {
	header, data, err := events.EncodeBinary(ask)
	if err != nil {
		return events.Event{}, err
	}
	m := &nats.Msg{Subject: CancelSubject(tenant, id), Header: header, Data: data}
	err = b.retry(ctx, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, func(s string) bool { return s == m.Subject })
		defer stop()
		reply, err := b.nc.RequestMsgWithContext(ctx, m)
		if errors.Is(err, nats.ErrNoResponders) {
			return b.noCanceller()
		}
		if err != nil {
			return denialOf(ctx, err)
		}
		terminal, err = decodeReply(reply, events.Terminal)
		return err
	})
	return terminal, err
}

func (b *Broker) noCanceller() *events.Error {
	e := events.Errorf(events.CodeDeviceUnavailable, "no instance at %s is there to take the cancel", b.URL())
	e.Advice = "Start an instance, then cancel again; a request that is queued meanwhile waits."
	e.Cause = nats.ErrNoResponders
	return e
}

// canceller is an instance's ears for cancels.
type canceller struct {
	b     *Broker
	end   func(tenant, id, reason string)
	tasks sync.WaitGroup
	turns chan struct{} // holds one for each cancel being answered
}

// ServeCancels takes part in answering the cancels of clients, of which each is answered by one of all who serve
// them: it writes the terminal event of the request, then removes the request from the queue. And it calls end for
// every cancel: whoever works on that request should stop. end must not block. When it returns the server knows of
// the subscriptions. stop ends them once what was received is answered; its ctx bounds the wait.
func (b *Broker) ServeCancels(end func(tenant, id, reason string)) (stop func(ctx context.Context), err error) {
	c := &canceller{b: b, end: end, turns: make(chan struct{}, maxCancels)}
	var subs []*nats.Subscription
	var drained []<-chan struct{}
	for group, handle := range map[string]nats.MsgHandler{"": c.hear, cancelGroup: c.take} {
		sub, err := b.nc.QueueSubscribe(cancelSubjects, group, handle)
		if err != nil {
			for _, s := range subs {
				_ = s.Unsubscribe() // fails only on a closed connection, where it has ended already
			}
			return nil, b.inWords(context.Background(), err)
		}
		ended := make(chan struct{})
		sub.SetClosedHandler(func(string) { close(ended) })
		subs, drained = append(subs, sub), append(drained, ended)
	}
	return func(ctx context.Context) { c.close(ctx, subs, drained) }, b.Flush()
}

func (c *canceller) close(ctx context.Context, subs []*nats.Subscription, drained []<-chan struct{}) {
	for i, sub := range subs {
		if sub.Drain() != nil {
			continue // the connection is closed: nothing can arrive any more
		}
		select {
		case <-drained[i]:
		case <-ctx.Done():
		}
	}
	c.tasks.Wait()
}

// hear tells who may be working on the request.
func (c *canceller) hear(m *nats.Msg) {
	if tenant, id, reason, err := readCancel(m); err == nil { // whoever answers tells of the error
		c.end(tenant, id, reason)
	}
}

// take answers a cancel.
func (c *canceller) take(m *nats.Msg) {
	c.turns <- struct{}{}
	c.tasks.Go(func() {
		defer func() { <-c.turns }()
		ctx, cancel := context.WithTimeout(c.b.life, cancelLimit)
		defer cancel()
		tenant, id, reason, err := readCancel(m)
		var e events.Event
		if err == nil {
			e, err = c.b.cancel(ctx, tenant, id, reason)
		}
		if err != nil {
			c.b.log.Info("not cancelled", "subject", m.Subject, "error", err)
		}
		c.b.reply(m.Reply, e, err)
	})
}

// readCancel checks a cancel and returns what it is about.
func readCancel(m *nats.Msg) (tenant, id, reason string, err error) {
	tenant, id, _ = strings.Cut(strings.TrimPrefix(m.Subject, "gen.cancel."), ".")
	if !events.ValidTenant(tenant) || !events.ValidID(id) {
		e := events.Errorf(events.CodeInvalidRequest, "the tenant or request id in the subject %q cannot be used", m.Subject)
		e.Field, e.Expected = "subject", "gen.cancel.<tenant>.<id>, tenant and id of 1 to 64 of the characters A-Z a-z 0-9 _ and -"
		return "", "", "", e
	}
	ask, err := events.Decode(m.Header, m.Data)
	if err != nil {
		return "", "", "", err
	}
	if ask.Type() != events.TypeCancel {
		e := events.Errorf(events.CodeInvalidRequest, "found the type %q", ask.Type())
		e.Field, e.Expected = "type", events.TypeCancel
		return "", "", "", e
	}
	if err := ask.CheckSubject(id); err != nil {
		return "", "", "", err
	}
	data, err := events.Payload[events.Cancel](ask)
	return tenant, id, data.Reason, err
}

// cancel ends a request with cancelled unless it has ended, and returns its terminal event.
func (b *Broker) cancel(ctx context.Context, tenant, id, reason string) (events.Event, error) {
	queued, err := b.queued(ctx, tenant, id, 1)
	if err != nil {
		return events.Event{}, err
	}
	if queued != nil {
		if err := b.cancelQueued(ctx, queued, reason); err != nil {
			return events.Event{}, err
		}
	}
	// A request leaves the queue only after it is answered, so this order of looks misses nothing.
	e, ended, err := b.Terminal(ctx, tenant, id)
	if err == nil && !ended {
		unknown := events.Errorf(events.CodeInvalidRequest, "no request with the id %q is queued, running or answered", id)
		unknown.Field, unknown.Expected = "id", "the id of a request of the tenant "+tenant
		unknown.Advice = "Check the id and the tenant; answers are forgotten when their retention is over."
		return events.Event{}, unknown
	}
	return e, err
}

// queued returns the first message of a request in the queue from a sequence on, nil if there is none. There may be
// two while the request moves to another lane.
func (b *Broker) queued(ctx context.Context, tenant, id string, from uint64) (*storedMessage, error) {
	subject := Address{Pool: "*", Lane: "*", Priority: "*", Tenant: tenant, ID: id}.Subject()
	return b.readLeader(ctx, StreamRequests, messageGet{Sequence: from, Next: subject})
}

// cancelQueued writes the terminal event, then removes the request. By sequence, not by a purge of its subject: only
// so do the consumers learn of it whose filter is neither within that subject nor around it.
func (b *Broker) cancelQueued(ctx context.Context, queued *storedMessage, reason string) error {
	a, ok := ParseSubject(queued.Subject)
	if !ok {
		return events.Errorf(events.CodeInternal, "the queue holds the subject %q", queued.Subject)
	}
	h, err := b.awaitHolder(ctx, a)
	if err != nil {
		return err
	}
	request, err := events.Decode(queued.Header, queued.Data)
	if err != nil {
		request = events.Event{} // it could only have failed, and is not wanted any more
	}
	terminal, err := b.answerAs(ctx, events.TypeCancelled, a, request, h.cancelled(reason))
	if err != nil {
		return err
	}
	for queued != nil {
		if err := storedJob(b, a, queued).remove(ctx, terminal); err != nil {
			return err
		}
		if queued, err = b.queued(ctx, a.Tenant, a.ID, queued.Sequence+1); err != nil {
			return err
		}
	}
	return nil
}

// awaitHolder returns the attempts of a request. If the last one has not ended it first waits a moment for the
// terminal event of the instance that makes it, which has heard of the cancel too and knows more.
func (b *Broker) awaitHolder(ctx context.Context, a Address) (*attemptHistory, error) {
	h, err := b.readHistory(ctx, a.Tenant, a.ID)
	if err != nil || !h.open() {
		return h, err
	}
	seen := make(chan *nats.Msg, 1)
	stop, err := b.SubscribeTerminal(a.Tenant, a.ID, seen)
	if err != nil {
		return nil, err
	}
	defer stop()
	timer := time.NewTimer(holderTime)
	defer timer.Stop()
	if _, ended, err := b.Terminal(ctx, a.Tenant, a.ID); ended || err != nil {
		return h, err
	}
	select {
	case <-seen:
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return b.readHistory(ctx, a.Tenant, a.ID)
}

// open reports whether the last attempt has not ended, as far as its instance has said.
func (h *attemptHistory) open() bool {
	return len(h.Records) > 0 && h.Records[len(h.Records)-1].Cause == ""
}

// cancelled is the end of a request as its queue sees it.
func (h *attemptHistory) cancelled(reason string) events.Cancelled {
	data := events.Cancelled{Reason: reason, Attempts: EventAttempts(h.Records)}
	if !h.open() {
		data.Stage = events.StageQueue
	}
	return data.Fit()
}

// Cancel answers a request that was opened with cancelled, unless it is answered, and acknowledges it. No attempt
// may be at work.
func (j *Job) Cancel(ctx context.Context, request events.Event, reason string) error {
	h, err := j.loadHistory(ctx)
	if err != nil {
		return err
	}
	terminal, err := j.b.answerAs(ctx, events.TypeCancelled, j.Address, request, h.cancelled(reason))
	if err != nil {
		return err
	}
	j.setAnswered(terminal)
	return j.leave(ctx)
}
