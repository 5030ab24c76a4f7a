package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/bench/measure"
	"genfn/bench/report"
	"genfn/bench/worker"
	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

// Goals in milliseconds, medians.
const (
	goalAccepted = 1.0
	goalTerminal = 3.0
)

func measureEvents(ctx context.Context, h *harness) (report.Group, error) {
	g := report.Group{About: "Milliseconds from publishing a request, one in flight, until the client has the event. genfn: `genfn up --serve-noop`, the model noop, 1 step, 64 px, " +
		"through queue, attempt record, runner process, PNG, object store and terminal event. Peer: the same embedded server, where somebody fetches the request, publishes one message to a stream in memory " +
		"(beside `accepted`) and one to a stream on disk (beside the terminal event; heard by its client before it is on disk). Floor: the same with everything that genfn writes, in its order, and nothing else: " +
		"before `accepted` the attempt record, before the terminal event the picture's chunk and what tells of it; the event is heard once it is stored. " +
		"With sync every write reaches the disk before it is confirmed."}
	if err := h.needGenfn(); err != nil {
		return g, err
	}
	self, err := h.build(ctx, "./bench", false)
	if err != nil {
		return g, err
	}
	for _, sync := range []bool{true, false} {
		rows, err := h.roundTrips(ctx, self, sync)
		if err != nil {
			return g, err
		}
		g.Rows = append(g.Rows, rows...)
	}
	return g, nil
}

// roundTrips measures genfn and the floor in one mode.
func (h *harness) roundTrips(ctx context.Context, self string, sync bool) (rows []report.Row, err error) {
	mode, flag := "without sync", "--sync="+strconv.FormatBool(sync)
	if sync {
		mode = "with sync"
	}
	up, err := h.up(ctx, "genfn-"+flag, flag, "--serve-noop", "--models", h.work, "--cache-dir", h.work)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	c, b, err := up.client()
	if err != nil {
		return nil, err
	}
	defer b.Close()

	sides := []measure.Side{{Name: "genfn", Run: func(ctx context.Context) (map[string]float64, error) { return roundTrip(ctx, c) }}}
	for _, raw := range []struct{ name, heard, writes string }{{"raw JetStream", rawFinal, "--writes=false"}, {"the same writes", rawAnswer, "--writes"}} {
		w, err := worker.Start(ctx, raw.name, self, "worker", "broker", "--store-dir", h.work+"/"+raw.name+flag, flag, raw.writes)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		r, err := connectRaw(w.Ready().Texts["url"], raw.heard)
		if err != nil {
			return nil, err
		}
		defer r.nc.Close()
		sides = append(sides, measure.Side{Name: raw.name, Run: r.roundTrip})
	}
	s, err := h.compare(ctx, "round trips "+mode, h.rounds(100, 5), h.rounds(1000, 20), sides...)
	if err != nil {
		return nil, err
	}
	row := func(about, event string, goal float64) report.Row {
		return report.Against(about+", "+mode, "ms", s[0][event], sides[1].Name, s[1][event]).AtMost(goal).OnFloor(sides[2].Name, s[2][event])
	}
	return []report.Row{row("request → accepted", "accepted", goalAccepted), row("no-op request → terminal event", "terminal", goalTerminal)}, nil
}

// noopRequest asks for nothing that takes time.
func noopRequest() events.ImageGenerate {
	side, steps, seed := 64, 1, uint64(1)
	return events.ImageGenerate{Model: "noop", Prompt: "a red apple", Width: &side, Height: &side, Steps: &steps, Seed: &seed}
}

// roundTrip publishes one no-op request and follows it as a client does.
func roundTrip(ctx context.Context, c *client.Client) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	follower, err := c.PublishAndFollow(ctx, client.Request{Priority: broker.Interactive, Data: noopRequest()})
	if err != nil {
		return nil, err
	}
	defer follower.Close()
	return arrivals(ctx, follower, began)
}

// arrivals returns the milliseconds from began until each kind of event came.
func arrivals(ctx context.Context, f *client.Follower, began time.Time) (map[string]float64, error) {
	figures := map[string]float64{}
	for e, err := range f.Events(ctx) {
		if err != nil {
			return nil, err
		}
		switch {
		case e.Type() == events.TypeAccepted:
			figures["accepted"] = milliseconds(time.Since(began))
		case e.Type() == events.TypeSucceeded:
			figures["terminal"] = milliseconds(time.Since(began))
		case events.Terminal(e.Type()):
			return nil, fmt.Errorf("the request ended with %s: %s", e.Type(), e.Data())
		}
	}
	if len(figures) != 2 {
		return nil, fmt.Errorf("the request ended without all events: %v", figures)
	}
	return figures, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// rawClient sends requests to a broker worker.
type rawClient struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	heard string // where it hears of the answer
	data  []byte
	n     int
}

func connectRaw(url, heard string) (*rawClient, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	r := &rawClient{nc: nc, heard: heard}
	if r.js, err = jetstream.New(nc); err == nil {
		r.data, err = json.Marshal(noopRequest())
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return r, nil
}

// roundTrip publishes one message and waits for both that come back.
func (r *rawClient) roundTrip(ctx context.Context) (map[string]float64, error) {
	r.n++
	id := strconv.Itoa(r.n)
	live, final := make(chan time.Time, 1), make(chan time.Time, 1)
	for subject, arrived := range map[string]chan time.Time{rawLive + id: live, r.heard + id: final} {
		sub, err := r.nc.Subscribe(subject, func(*nats.Msg) { arrived <- time.Now() })
		if err != nil {
			return nil, err
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	began := time.Now()
	if _, err := r.js.Publish(ctx, rawRequests+id, r.data); err != nil {
		return nil, err
	}
	figures := map[string]float64{}
	for name, arrived := range map[string]chan time.Time{"accepted": live, "terminal": final} {
		select {
		case at := <-arrived:
			figures[name] = milliseconds(at.Sub(began))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return figures, nil
}
