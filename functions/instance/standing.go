package instance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"genfn/events"
	"genfn/functions/device"
	"genfn/functions/device/fault"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/runner/crashreport"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

func (s *slot) device() string { return s.config.Runner.Hello.Device }

func (s *slot) class() string { return events.ClassOf(s.device()) }

// field puts the device's class before a log line, as people grep for it: "[GPU] ...".
func (s *slot) field(words string) string {
	return "[" + strings.ToUpper(s.class()) + "] " + words
}

// note tells the device's health of a failed attempt.
func (s *slot) note(request string, f failed) {
	fault := events.DeviceFault{Request: request, Cause: f.cause, Error: f.err}
	h := s.instance.health
	switch {
	case f.kind == ofRequest, f.kind == transient, f.kind == ofMemory, f.kind == killed, s.class() == events.DeviceCPU:
		h.Observe(fault)
	default:
		h.Fault(fault)
	}
}

// admit waits until the device may take a request, and has it prove itself when it is time to. It reports false
// when nothing can be fetched now; it has waited then.
func (s *slot) admit(soft context.Context) bool {
	if !s.instance.orders.wait(soft) {
		return false
	}
	if s.instance.orders.demanded() {
		return s.proveOnDemand(soft)
	}
	step, wait := s.instance.health.Next()
	switch step {
	case device.Fetch:
		return true
	case device.Wait:
		return sleep(soft, min(wait, maxRestartPause)) && false
	}
	if s.class() == events.DeviceCPU {
		return true // its runner is started before the next fetch, which is all its proof
	}
	ctx, cancel := context.WithTimeout(soft, s.config.Budgets.Load)
	defer cancel()
	if err := s.prove(ctx, s.canaryModel); err != nil {
		if soft.Err() == nil {
			s.log.Warn(s.field("device did not prove itself, it takes no requests"), "error", err)
		}
		return false
	}
	return s.instance.health.Status().State == events.StateReady
}

// prove has a fresh runner validate the device, and run a canary of the model if one is named. The device's health
// learns the result.
func (s *slot) prove(ctx context.Context, name string) (err error) {
	h := s.instance.health
	defer s.instance.tellProof(time.Now(), s.instance.orders.current(), name, &err)
	if err := s.kill(fault.KilledForShutdown); err != nil {
		e := events.AsError(err)
		h.Stuck(e)
		return e
	}
	if err := s.start(ctx); err != nil {
		if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return err
		}
		e := unavailableError{err}.failure()
		s.log.Error(s.field(strings.ToUpper(s.class())+" validation failed"), "error", e, "detail", e.Detail)
		h.Unproved(device.ReasonValidationFailed, e)
		return e
	}
	if name != "" {
		if err := s.canary(ctx, name, s.economy); err != nil {
			if errors.Is(ctx.Err(), context.Canceled) {
				return err
			}
			e := events.AsError(err)
			s.log.Error(s.field("canary failed"), "model", name, "error", e)
			h.Unproved(device.ReasonCanaryFailed, e)
			return errors.Join(e, s.kill(fault.KilledForShutdown))
		}
	}
	if !h.Proved() {
		return events.Errorf(events.CodeDeviceUnavailable, "the device's canaries pass, but requests fail on it again and again")
	}
	return nil
}

// The canary: a generation of the model's own size whose result must be the same each time.
const (
	canarySteps = 2
	canarySeed  = 20260131
	// canaryBound is how far the latents of the same device may be apart, relative to the largest.
	canaryBound = 1e-3
)

// canaries are the results of the first canary of each model. Safe for concurrent use.
type canaries struct {
	mu    sync.Mutex
	first map[string][]float32
}

// compare returns numerical_error for latents that are not those of the model's first canary.
func (c *canaries) compare(model string, got []float32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	want, ok := c.first[model]
	if !ok {
		if c.first == nil {
			c.first = map[string][]float32{}
		}
		c.first[model] = slices.Clone(got)
		return nil
	}
	if len(got) != len(want) {
		return events.Errorf(events.CodeNumericalError, "the canary gave %d latents, the first time %d", len(got), len(want))
	}
	var apart, largest float64
	for i := range want {
		apart = max(apart, math.Abs(float64(got[i])-float64(want[i])))
		largest = max(largest, math.Abs(float64(want[i])))
	}
	if apart > canaryBound*largest {
		return events.Errorf(events.CodeNumericalError, "the canary's latents are %.2g apart from those of the first, at most %.2g is allowed: the device computes wrong numbers", apart/largest, canaryBound)
	}
	return nil
}

// canary makes a small generation of the model on the slot's runner and compares its latents with those of the
// first one on this device.
func (s *slot) canary(ctx context.Context, name string, economy model.Economy) error {
	m, err := s.instance.catalog.get(name)
	if err != nil {
		return err
	}
	s.jobs++
	job := s.jobs
	s.runner.SetWork(crashreport.Work{Model: name})
	s.uses(name, shapeKey(name, m.Width, m.Height, 1, m.GuidanceScale > 1, economy))
	err = s.runner.Send(&protocol.Generate{Job: job, Model: m.protocol(), Request: protocol.Request{
		Prompt: protocol.CanaryPrompt, Width: m.Width, Height: m.Height, Steps: canarySteps, GuidanceScale: m.GuidanceScale,
		Seed: canarySeed, Count: 1, OutputLatents: true, Economy: economy,
	}})
	if err != nil {
		return s.died("canary", err)
	}
	answer, err := s.await(ctx, job)
	if err != nil {
		return err
	}
	result, ok := answer.(*protocol.Result)
	if !ok {
		return fmt.Errorf("the runner answered the canary with %s", protocol.KindOf(answer))
	}
	latents, err := s.latentsOf(result)
	if err != nil {
		return err
	}
	if err := s.instance.canaries.compare(name, latents); err != nil {
		return err
	}
	s.canaryModel, s.economy, s.warmed = name, economy, s.runner
	return s.runner.Bulk().Trim()
}

// await waits for the end of a job that is no request's. Each message renews the time it has.
func (s *slot) await(ctx context.Context, job uint64) (protocol.Message, error) {
	silence := time.NewTimer(s.config.Budgets.Stage)
	defer silence.Stop()
	for {
		select {
		case m, ok := <-s.runner.Messages():
			if !ok {
				return nil, s.died("canary", process.ErrHung)
			}
			if u, ok := m.(*protocol.Usage); ok { // no sign of progress
				s.instance.usage.seen(s.runner.PID(), u.Memory)
				continue
			}
			silence.Reset(s.config.Budgets.Stage)
			if !answers(m, job) {
				continue
			}
			if f, ok := m.(*protocol.Failed); ok {
				s.condemned = f.Fatal
				return nil, runnerFault{f.Fault()}
			}
			return m, nil
		case <-silence.C:
			s.condemned = true
			e := events.Errorf(events.CodeHang, "the runner made no progress within %s with what is no request's", s.config.Budgets.Stage)
			e.Device = s.device()
			return nil, e
		case <-ctx.Done():
			s.condemned = true
			return nil, ctx.Err()
		}
	}
}

// died is the error of a runner that ended while it did what is no request's, such as a canary.
func (s *slot) died(what string, cause error) error {
	words := cause.Error()
	if err := s.kill(fault.KilledNot); err == nil {
		words = s.exit.String()
	}
	e := events.Errorf(events.CodeDeviceUnavailable, "the %s ended the runner: %s", what, words)
	e.Device, e.Detail, e.Cause = s.device(), printable(s.exit.Stderr), cause
	return e
}

func (s *slot) latentsOf(r *protocol.Result) ([]float32, error) {
	if r.Latents == nil || len(r.Images) == 0 {
		return nil, events.Errorf(events.CodeNumericalError, "the canary gave no picture")
	}
	pix, err := s.runner.Bulk().Read(r.Images[0].Block)
	if err != nil {
		return nil, err
	}
	if err := notBlank(imagefile.Image{Width: r.Images[0].Width, Height: r.Images[0].Height, Pix: pix}); err != nil {
		return nil, err
	}
	return s.runner.Bulk().ReadF32(r.Latents.Block)
}

// notBlank returns numerical_error for a picture that is black: what broken numbers look like.
func notBlank(image imagefile.Image) error {
	if slices.Max(image.Pix) == 0 {
		return events.Errorf(events.CodeNumericalError, "the picture is black (%dx%d)", image.Width, image.Height)
	}
	return nil
}

// warm runs the first canary of a model on a GPU's runner, before the first request for it: the device proves that
// it can, and what it makes is what later canaries must make.
func (s *slot) warm(ctx context.Context, m Model, economy model.Economy) error {
	if s.class() != events.DeviceGPU || s.warmed == s.runner && s.canaryModel == m.Name || m.Dir == "" {
		return nil
	}
	began := time.Now()
	if err := s.canary(ctx, m.Name, economy); err != nil {
		return fmt.Errorf("warm-up of %s: %w", m.Name, err)
	}
	s.log.Info(s.field("model warmed up"), "model", m.Name, "ms", time.Since(began).Milliseconds())
	return nil
}
