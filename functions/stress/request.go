package stress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

// prompt is that of every request: pictures differ by size, steps and seed.
const prompt = "a red apple"

// Record is one request that has ended.
type Record struct {
	Case

	ID       string      `json:"id"`
	Outcome  string      `json:"outcome"` // succeeded, failed, cancelled, expired, lost
	Code     events.Code `json:"code,omitempty"`
	On       string      `json:"on,omitempty"` // the device that made the picture
	Attempts int         `json:"attempts"`
	FellBack bool        `json:"fell_back"`         // to another class of device
	Injected bool        `json:"injected"`          // the fault took place, as far as this side knows
	Missed   string      `json:"missed,omitempty"`  // why it did not
	MS       float64     `json:"ms"`                // from the publication to the answer
	Problem  string      `json:"problem,omitempty"` // what is wrong with the answer

	process *events.Process
	memory  *events.Memory
}

// flaws are values that no model takes.
var flaws = []func(*events.ImageGenerate){
	func(r *events.ImageGenerate) { r.Width = ptr(1 << 20) },
	func(r *events.ImageGenerate) { r.Height = ptr(3) },
	func(r *events.ImageGenerate) { r.Steps = ptr(0) },
	func(r *events.ImageGenerate) { r.Prompt = " " },
	func(r *events.ImageGenerate) { r.Scheduler = "no_such_scheduler" },
}

func ptr[T any](v T) *T { return &v }

// data is the request of a case.
func (s *Stress) data(c Case) events.ImageGenerate {
	r := events.ImageGenerate{
		Model: s.config.Model, Prompt: prompt, Width: ptr(c.Size.Width), Height: ptr(c.Size.Height), Steps: ptr(c.Steps), Seed: ptr(c.Seed), Device: c.Device,
	}
	switch {
	case c.Kind == UnknownModel:
		r.Model = s.config.Model + "-that-nobody-has"
	case c.Kind == Invalid:
		flaws[c.Flaw](&r)
	case slices.Contains(deviceFaults, c.Kind):
		r.Device = events.DeviceGPU
	}
	return r
}

// attempt follows one request from its publication to its end.
type attempt struct {
	stress *Stress
	Record
	follower *client.Follower
	step     int
}

// try makes one request. An error is of the broker or of this machine, not of the request.
func (s *Stress) try(ctx context.Context, c Case) (Record, error) {
	a := &attempt{stress: s, Record: Record{Case: c, ID: s.id(c.Number)}}
	if !slices.Contains(deviceFaults, c.Kind) {
		err := a.whole(ctx)
		return a.Record, err
	}
	release, err := s.faults.arm(ctx, c.Kind)
	if err != nil {
		return a.Record, err
	}
	defer release()
	if err := a.whole(ctx); err != nil {
		_, err2 := s.faults.clear()
		return a.Record, errors.Join(err, err2)
	}
	if a.Injected, err = s.faults.clear(); err == nil {
		_, err = s.watch.until(ctx, s.config.Patience, well(time.Now()))
	}
	return a.Record, err
}

// well returns whether all instances have said since then that they take requests.
func well(since time.Time) func([]sample) bool {
	return func(alive []sample) bool {
		return !slices.ContainsFunc(alive, func(x sample) bool { return x.at.Before(since) || x.status.State != events.StateReady })
	}
}

// whole publishes the request, follows it to its end and judges that.
func (a *attempt) whole(ctx context.Context) error {
	s := a.stress
	began := time.Now()
	patience, cancel := context.WithTimeout(ctx, s.config.Patience)
	defer cancel()
	if err := a.publish(patience); err != nil {
		return err
	}
	defer a.follower.Close()
	terminal, err := a.follow(patience)
	a.MS = float64(time.Since(began)) / float64(time.Millisecond)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		a.Outcome, a.Problem = lost, "no answer within "+s.config.Patience.String()
		return nil
	case err != nil:
		return err
	}
	return a.judge(ctx, terminal)
}

// publish follows the request and publishes it as any client of the broker could: what this client would refuse
// reaches the instances.
func (a *attempt) publish(ctx context.Context) error {
	s := a.stress
	var err error
	if a.follower, err = s.client.Follow(ctx, a.ID); err != nil {
		return err
	}
	data := s.data(a.Case)
	meta := events.Meta{RequestID: a.ID, Source: "/genfn/stress"}
	if a.Kind == Deadline {
		meta.ExpiryTime, a.Injected = time.Now().Add(s.config.Deadline), true
	}
	e, err := events.NewRequest(events.TypeImageGenerate, meta, data)
	if err == nil {
		s.watch.published(a.ID)
		err = s.config.Broker.PublishRequest(ctx, broker.Address{
			Pool: events.PoolToken(events.KindImage, data.Model), Lane: broker.LaneOf(data.Device), Priority: broker.Interactive, Tenant: s.config.Tenant, ID: a.ID,
		}, e)
	}
	if err != nil {
		a.follower.Close()
		return fmt.Errorf("publish: %w", err)
	}
	if a.Kind == Invalid || a.Kind == UnknownModel {
		a.Injected = true
	}
	if a.Kind == Cancel && a.Moment == 0 {
		return a.cancel(ctx)
	}
	return nil
}

// follow reads the request's events, does its fault at the moment it is due, and returns the terminal event.
func (a *attempt) follow(ctx context.Context) (terminal events.Event, err error) {
	for e, err := range a.follower.Events(ctx) {
		if err != nil {
			return e, err
		}
		switch e.Type() {
		case events.TypeStarted:
			started, err := events.Payload[events.Started](e)
			if err != nil {
				return e, err
			}
			a.process, a.step = started.Process, 0
			err = a.act(ctx)
			if err != nil {
				return e, err
			}
		case events.TypeProgress:
			if err := a.progress(ctx, e); err != nil {
				return e, err
			}
		default:
			if events.Terminal(e.Type()) {
				return e, nil
			}
		}
	}
	return events.Event{}, errors.New("the events ended without an answer")
}

func (a *attempt) progress(ctx context.Context, e events.Event) error {
	p, err := events.Payload[events.Progress](e)
	if err != nil {
		return err
	}
	if n := p.Notice; n != nil {
		a.FellBack = a.FellBack || n.Code == events.NoticeFallback
		if n.Code == events.NoticeFault && events.ClassOf(p.Device) == events.DeviceGPU {
			return a.stress.faults.seen()
		}
		return nil
	}
	a.step = max(a.step, p.Step)
	return a.act(ctx)
}

// act cancels the request or signals its runner, once, when the moment has come.
func (a *attempt) act(ctx context.Context) error {
	if a.Injected || a.Missed != "" || a.process == nil || a.step < min(a.Moment, a.Steps) && a.Moment > 0 {
		return nil
	}
	switch {
	case a.Kind == Cancel && a.Moment > 0:
		return a.cancel(ctx)
	case slices.Contains(signals, a.Kind):
		if err := signal(a.Kind, a.process); err != nil {
			a.Missed = err.Error()
			return nil //nolint:nilerr // the process may just have ended
		}
		a.Injected = true
	}
	return nil
}

// cancel asks for the end of the request. Whether it was in time the answer tells.
func (a *attempt) cancel(ctx context.Context) error {
	a.Injected = true
	if _, err := a.stress.client.Cancel(ctx, a.ID, "stress"); err != nil && ctx.Err() == nil {
		a.Problem = "the cancel was refused: " + err.Error()
	}
	return nil
}
