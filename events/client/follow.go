package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"genfn/events"
	"genfn/events/broker"
)

const (
	liveBuffer = 2048            // live messages that may wait; what does not fit is replayed
	pollTime   = 2 * time.Second // between looks for a terminal event that was not heard
)

// Follower reads the events of one request: first those that exist, then live
// ones, each once and in order, the terminal event last. When another attempt
// begins, later events of the one before are left out. It survives losses of the
// connection and restarts of the server. Not safe for concurrent use.
type Follower struct {
	c  *Client
	id string

	live      chan *nats.Msg
	reconnect chan struct{}
	stops     []func()

	ready  []events.Event // to be returned by Next
	last   place          // of the last event in ready or returned
	replay bool           // stored events have to be read before live ones
	held   []events.Event // live events that wait for a replay
	full   bool           // live was full: messages may have been dropped after what it holds
	check  time.Time      // when to look for the terminal event
	ended  bool
	only   bool // nothing but the terminal event is wanted

	repeated bool // the request had been published before
}

// place orders the events of a request.
type place struct{ attempt, sequence int }

func placeOf(e events.Event) place { return place{e.Attempt(), e.Sequence()} }

func (p place) before(q place) bool {
	return p.attempt < q.attempt || p.attempt == q.attempt && p.sequence < q.sequence
}

// follows reports whether nothing can lie between q and p.
func (p place) follows(q place) bool {
	return p.attempt == q.attempt && p.sequence == q.sequence+1 || p.attempt > q.attempt && p.sequence == 1
}

// Follow begins to follow a request of this tenant, which need not be published
// yet. The caller must Close the follower.
func (c *Client) Follow(_ context.Context, id string) (*Follower, error) {
	f, err := c.follow(id, false)
	if err != nil {
		return nil, err
	}
	return f, c.flushed(f)
}

// PublishAndFollow is Follow and then Publish. A request whose id is queued, running
// or answered is not published again but only followed (Follower.Repeated): for as
// long as answers are kept the same id gives the same answer, and nothing is
// generated twice. With a new id (Request.ID is "") nothing is asked of the server
// but to store the request. The caller must Close the follower.
func (c *Client) PublishAndFollow(ctx context.Context, r Request) (*Follower, error) {
	isNew := r.ID == ""
	if isNew {
		r.ID = events.NewID()
	}
	f, err := c.follow(r.ID, false)
	if err != nil {
		return nil, err
	}
	if isNew {
		f.replay, f.check = false, time.Now().Add(pollTime)
	}
	err = c.publish(ctx, r, isNew)
	if f.repeated = errors.Is(err, broker.ErrDuplicateID); err != nil && !f.repeated {
		f.Close()
		return nil, err
	}
	return f, nil
}

// flushed closes f if the server cannot be told of its subscriptions.
func (c *Client) flushed(f *Follower) error {
	err := c.b.Flush()
	if err != nil {
		f.Close()
	}
	return err
}

func (c *Client) follow(id string, only bool) (*Follower, error) {
	if err := events.CheckID(id); err != nil { // a wildcard would follow everybody's requests
		return nil, err
	}
	f := &Follower{
		c: c, id: id, only: only, replay: !only,
		live: make(chan *nats.Msg, liveBuffer), reconnect: make(chan struct{}, 1),
	}
	subscribe := c.b.SubscribeEvents
	if only {
		subscribe = c.b.SubscribeTerminal
	}
	stop, err := subscribe(c.tenant, id, f.live)
	if err != nil {
		return nil, err
	}
	f.stops = []func(){stop, c.b.NotifyReconnect(func() {
		select {
		case f.reconnect <- struct{}{}:
		default:
		}
	})}
	return f, nil
}

// ID returns the id of the request.
func (f *Follower) ID() string { return f.id }

// Repeated reports whether the request had been published before, perhaps with other
// data: what is followed is that one.
func (f *Follower) Repeated() bool { return f.repeated }

// Close ends the follower. It is safe to call twice.
func (f *Follower) Close() {
	for _, stop := range f.stops {
		stop()
	}
	f.stops = nil
}

// Events returns the remaining events for a range loop. The loop ends after the
// terminal event, or with an error when ctx ends.
func (f *Follower) Events(ctx context.Context) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		for {
			e, err := f.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Next returns the next event. After the terminal event it returns io.EOF. When
// ctx ends it returns ctx's error, and may be called again.
func (f *Follower) Next(ctx context.Context) (events.Event, error) {
	for {
		switch {
		case len(f.ready) > 0:
			e := f.ready[0]
			f.ready = f.ready[1:]
			return e, nil
		case f.ended:
			return events.Event{}, io.EOF
		}
		if err := f.advance(ctx); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return events.Event{}, err
		}
	}
}

// advance does one thing that may bring events.
func (f *Follower) advance(ctx context.Context) error {
	switch n := len(f.live); {
	case n == cap(f.live):
		f.full = true
	case n == 0 && f.full:
		f.full, f.replay = false, !f.only
	}
	if f.replay {
		return f.readStored(ctx)
	}
	if !time.Now().Before(f.check) {
		return f.readTerminal(ctx)
	}
	timer := time.NewTimer(time.Until(f.check))
	defer timer.Stop()
	select {
	case m := <-f.live:
		return f.receive(ctx, m)
	case <-f.reconnect: // messages may have passed meanwhile
		f.replay, f.check = !f.only, time.Time{}
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// readStored replays the stored events, and then those live ones that came after a gap.
func (f *Follower) readStored(ctx context.Context) error {
	stored, err := f.c.b.Replay(ctx, f.c.tenant, f.id)
	if err != nil {
		return err
	}
	f.replay = false
	for _, e := range stored {
		f.add(e)
	}
	for _, e := range f.held { // what is missing now nobody has
		f.add(e)
	}
	f.held = nil
	return nil
}

// add takes an event that comes after all before.
func (f *Follower) add(e events.Event) {
	if p := placeOf(e); f.last.before(p) {
		f.last = p
		f.ready = append(f.ready, e)
	}
}

// receive takes a live message.
func (f *Follower) receive(ctx context.Context, m *nats.Msg) error {
	e, err := events.Decode(m.Header, m.Data)
	answer, readable := m.Subject == broker.AnswerSubject(f.c.tenant, f.id), err == nil
	switch {
	case answer && readable && events.Terminal(e.Type()):
		return f.end(ctx, e)
	case answer:
		f.check = time.Time{} // what is stored decides
		return nil
	case !readable:
		return nil // others may publish here; what is no event is not ours
	}
	if p := placeOf(e); f.last.before(p) && !p.follows(f.last) {
		f.held, f.replay = append(f.held, e), true
		return nil
	}
	f.add(e)
	return nil
}

// readTerminal ends the following if the request is answered; else it says when
// to look again.
func (f *Follower) readTerminal(ctx context.Context) error {
	e, answered, err := f.c.b.Terminal(ctx, f.c.tenant, f.id)
	if err != nil {
		return err
	}
	f.check = time.Now().Add(pollTime)
	if !answered {
		return nil
	}
	for len(f.live) > 0 && !f.ended { // sent before the terminal event
		if err := f.receive(ctx, <-f.live); err != nil {
			return err
		}
	}
	if f.ended {
		return nil
	}
	return f.end(ctx, e)
}

// end takes the terminal event, the last of all.
func (f *Follower) end(ctx context.Context, e events.Event) error {
	// What came before it may have passed while the connection was away.
	if f.replay || !f.only && !placeOf(e).follows(f.last) {
		if err := f.readStored(ctx); err != nil {
			f.check = time.Time{} // it will not be heard again
			return err
		}
	}
	f.ready = append(f.ready, e)
	f.ended = true
	return nil
}

// Wait returns the terminal event of a request of this tenant as soon as there is
// one, also if the request ended before.
func (c *Client) Wait(ctx context.Context, id string) (events.Event, error) {
	f, err := c.follow(id, true)
	if err != nil {
		return events.Event{}, err
	}
	defer f.Close()
	return f.Next(ctx)
}
