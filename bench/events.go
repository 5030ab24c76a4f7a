package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
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
		"Python worker: the raw JetStream's server with somebody in a process of his own, in Python with nats-py, who fetches, publishes and acknowledges the same. " +
		"All processes are started anew again and again. " +
		"With sync every write reaches the disk before it is confirmed."}
	if err := h.needGenfn(); err != nil {
		return g, err
	}
	self, err := h.build(ctx, "./bench", false)
	if err != nil {
		return g, err
	}
	for _, sync := range []bool{true, false} {
		if err := h.roundTrips(ctx, &g, self, sync); err != nil {
			return g, err
		}
	}
	return g, nil
}

// eventProcesses is how often the processes of all sides are started anew.
const eventProcesses = 10

// roundTrips measures genfn, the floor and the peers in one mode. A Python worker that cannot run is told in the group.
func (h *harness) roundTrips(ctx context.Context, g *report.Group, self string, sync bool) error {
	mode := "without sync"
	if sync {
		mode = "with sync"
	}
	python := h.needNATS(ctx)
	if python != "" {
		g.NotRun = append(g.NotRun, "round trips "+mode+" beside a Python worker: "+python)
	}
	t, processes, what := turns{}, h.rounds(eventProcesses, 1), "round trips "+mode
	for i := range processes {
		e := &eventSides{h: h, self: self, sync: sync, python: python == "", n: i}
		err := e.start(ctx)
		if err == nil {
			err = h.inTurn(ctx, t, what, h.rounds(20, 5), h.rounds(100, 20), e.sides...)
		}
		if err = errors.Join(err, e.stop()); err != nil {
			return err
		}
	}
	s := t[what]
	for _, event := range []struct {
		about, name string
		goal        float64
	}{{"request → accepted, " + mode, "accepted", goalAccepted}, {"no-op request → terminal event, " + mode, "terminal", goalTerminal}} {
		row := report.Against(event.about, "ms", s[0][event.name], "raw JetStream", s[1][event.name]).AtMost(event.goal).OnFloor("the same writes", s[2][event.name])
		g.Rows = append(g.Rows, row.FromProcesses(processes))
		if len(s) > 3 {
			g.Rows = append(g.Rows, report.Against(event.about, "ms", s[0][event.name], "Python worker", s[3][event.name]).FromProcesses(processes))
		}
	}
	return nil
}

// eventSides are the running processes of all sides, and clients of them.
type eventSides struct {
	h      *harness
	self   string
	sync   bool
	python bool // is there
	n      int  // of times that they were started before
	sides  []measure.Side
	stops  []func() error
}

func (e *eventSides) start(ctx context.Context) error {
	flag := "--sync=" + strconv.FormatBool(e.sync)
	up, err := e.h.up(ctx, fmt.Sprintf("genfn%s-%d", flag, e.n), flag, "--serve-noop", "--models", e.h.work, "--cache-dir", e.h.work)
	if err != nil {
		return err
	}
	e.stops = append(e.stops, up.stop)
	c, b, err := up.client()
	if err != nil {
		return err
	}
	e.stops = append(e.stops, func() error { b.Close(); return nil })
	e.sides = []measure.Side{{Name: "genfn", Run: func(ctx context.Context) (map[string]float64, error) { return roundTrip(ctx, c) }}}
	for _, raw := range []struct{ name, heard, flag string }{
		{"raw JetStream", rawFinal, "--writes=false"}, {"the same writes", rawAnswer, "--writes"}, {"Python worker", rawFinal, "--answer=false"},
	} {
		if raw.flag == "--answer=false" && !e.python {
			continue
		}
		store := filepath.Join(e.h.work, fmt.Sprintf("%s%s-%d", raw.name, flag, e.n))
		url, err := e.startRaw(ctx, raw.name, raw.heard, []string{e.self, "worker", "broker", "--store-dir", store, flag, raw.flag})
		if err == nil && raw.flag == "--answer=false" {
			err = e.startWorker(ctx, raw.name, []string{e.h.python, "-B", e.h.path("bench", "peers", "nats_worker.py"), url})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startRaw starts a broker worker and a client of it, and returns its address.
func (e *eventSides) startRaw(ctx context.Context, name, heard string, command []string) (url string, err error) {
	w, err := worker.Start(ctx, name, command...)
	if err != nil {
		return "", err
	}
	e.stops = append(e.stops, w.Close)
	url = w.Ready().Texts["url"]
	r, err := connectRaw(url, heard)
	if err != nil {
		return "", err
	}
	e.stops = append(e.stops, func() error { r.nc.Close(); return nil })
	e.sides = append(e.sides, measure.Side{Name: name, Run: r.roundTrip})
	return url, nil
}

// startWorker starts somebody who answers the requests of a broker worker.
func (e *eventSides) startWorker(ctx context.Context, name string, command []string) error {
	w, err := worker.Start(ctx, name, command...)
	if err != nil {
		return err
	}
	e.stops = append(e.stops, w.Close)
	return nil
}

// stop ends all in the opposite order.
func (e *eventSides) stop() error {
	var errs []error
	for _, stop := range slices.Backward(e.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
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
