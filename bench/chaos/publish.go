package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

const (
	publishers = 4  // at a time
	inFlight   = 48 // published and not answered

	// publishPatience is how long a publisher tries again before it gives the request up, not knowing whether it is
	// stored.
	publishPatience = 2 * time.Minute
	// windowPatience is how long an answer that is not heard keeps others from being published.
	windowPatience = 15 * time.Second

	expiresIn = 150 * time.Millisecond // of expiring requests
)

// Published is what a publisher knows of a request.
type Published struct {
	Request
	At      time.Time // of the first try
	Stored  bool      // the server has confirmed it
	Refusal string    // why it was given up
}

// publisher publishes requests as clients do: each is tried again, under its id, until the server has confirmed it.
type publisher struct {
	config Config
	system *system
	ears   *ears
	count  *counter
	broker *broker.Broker
	js     jetstream.JetStream

	mu        sync.Mutex
	published []Published
	others    errgroup.Group // cancels
}

func newPublisher(c Config, s *system, e *ears) *publisher {
	return &publisher{config: c, system: s, ears: e, count: newCounter()}
}

func (p *publisher) close() {
	if p.broker != nil {
		p.broker.Close()
	}
}

// run publishes all requests, in order but for what happens at the same time.
func (p *publisher) run(ctx context.Context, requests []Request) ([]Published, error) {
	var err error
	if p.broker, err = p.system.connect("publisher"); err != nil {
		return nil, err
	}
	if p.js, err = jetstream.New(p.broker.Conn(), jetstream.WithDefaultTimeout(apiPatience)); err != nil {
		return nil, err
	}
	window := make(chan struct{}, inFlight)
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(publishers)
	began := time.Now()
	for i, r := range requests {
		if due := time.Duration(float64(p.config.Duration) * float64(i) / float64(len(requests))); !sleep(each, time.Until(began.Add(due))) {
			break
		}
		select {
		case window <- struct{}{}:
		case <-each.Done():
			continue // the sleep ends the loop
		}
		g.Go(func() error { return p.one(each, r, window) })
	}
	err = errors.Join(g.Wait(), p.others.Wait(), context.Cause(ctx))
	return p.published, err
}

// one publishes a request and keeps its place in the window until it is answered.
func (p *publisher) one(ctx context.Context, r Request, window chan struct{}) error {
	leave := sync.OnceFunc(func() { <-window })
	forget := p.ears.whenAnswered(r.ID, leave)
	time.AfterFunc(windowPatience, func() {
		forget()
		leave()
	})
	known := Published{Request: r, At: time.Now()}
	patient, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	err := p.insist(patient, r)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	known.Stored = err == nil
	if err != nil {
		known.Refusal = err.Error()
		leave()
	}
	p.mu.Lock()
	p.published = append(p.published, known)
	p.mu.Unlock()
	p.count.add()
	switch {
	case r.Kind == Repeated && known.Stored:
		_ = p.publish(ctx, r) // it is refused, or changes nothing
	case r.Kind == Cancelled && known.Stored:
		p.others.Go(func() error { p.cancel(ctx, r.ID); return nil })
	}
	return nil
}

// insist publishes until the request is stored, or ctx ends.
func (p *publisher) insist(ctx context.Context, r Request) error {
	for {
		err := p.publish(ctx, r)
		if err == nil || errors.Is(err, broker.ErrDuplicateID) { // of an earlier try
			return nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// publish is one try.
func (p *publisher) publish(ctx context.Context, r Request) error {
	data := events.ImageGenerate{Model: r.Model, Prompt: "a red apple", Width: &r.Side, Height: &r.Side, Steps: new(int), Count: &r.Count, Seed: &r.Seed, Device: r.Device}
	*data.Steps = 2
	if r.Kind == Invalid {
		*data.Steps = 0
	}
	meta := events.Meta{RequestID: r.ID, Source: "/genfn/bench/chaos"}
	if r.Kind == Expiring {
		meta.ExpiryTime = time.Now().Add(expiresIn)
	}
	a := broker.Address{Pool: events.PoolToken(events.KindImage, r.Model), Lane: broker.LaneOf(r.Device), Priority: broker.Interactive, Tenant: broker.DefaultTenant, ID: r.ID}
	if r.Kind == Unreadable {
		return p.publishRaw(ctx, a)
	}
	e, err := events.NewRequest(events.TypeImageGenerate, meta, data)
	if err != nil {
		return fmt.Errorf("request %s: %w", r.ID, err)
	}
	return p.broker.PublishRequest(ctx, a, e)
}

// publishRaw publishes what cannot be read.
func (p *publisher) publishRaw(ctx context.Context, a broker.Address) error {
	m := &nats.Msg{Subject: a.Subject(), Header: nats.Header{}, Data: []byte(`{"model": "noop", "prompt": `)}
	m.Header.Set("ce-specversion", "1.0")
	m.Header.Set("ce-type", events.TypeImageGenerate)
	m.Header.Set(nats.MsgIdHdr, a.Tenant+"/"+a.ID)
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	_, err := p.js.PublishMsg(ctx, m)
	var api *jetstream.APIError
	if errors.As(err, &api) && strings.Contains(api.Description, "per subject") { // an earlier try is queued
		return broker.ErrDuplicateID
	}
	return err
}

// cancel asks for the end of a request. Nobody may be there to hear it.
func (p *publisher) cancel(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, windowPatience)
	defer cancel()
	_, _ = client.New(p.broker, client.Options{}).Cancel(ctx, id, "chaos")
}
