package instance

import (
	"context"
	"errors"
	"strings"
	"time"

	"genfn/events"
	"genfn/functions/device"
	"genfn/functions/device/fault"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

func (s *slot) device() string { return s.config.Runner.Hello.Device }

func (s *slot) class() string { return events.ClassOf(s.device()) }

func (s *slot) field(words string) string { return s.instance.field(words) }

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
		s.instance.orders.pause(soft, wait)
		return false
	}
	if s.class() == events.DeviceCPU && (s.canaryModel == "" || s.instance.health.Status().Reason == device.ReasonNoRunner) {
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
		return events.Errorf(events.CodeDeviceUnavailable, "the device's canaries pass, but it is set aside: %s", h.Status().Message)
	}
	return nil
}

// await waits for the end of a job that is no request's, such as a canary. Each message renews the time it has.
func (s *slot) await(ctx context.Context, job uint64, what string) (protocol.Message, error) {
	silence := time.NewTimer(s.config.Budgets.Stage)
	defer silence.Stop()
	for {
		select {
		case m, ok := <-s.runner.Messages():
			if !ok {
				return nil, s.died(what, process.ErrHung)
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

// died is the fault of a runner that ended while it did what is no request's.
func (s *slot) died(what string, cause error) error {
	if err := s.kill(fault.KilledNot); err != nil {
		e := events.Errorf(events.CodeDeviceUnavailable, "the %s ended the runner: %w", what, cause)
		e.Device, e.Stage = s.device(), what
		return e
	}
	f := fault.ClassifyDeath(s.exit.Death(what, s.device()))
	f.Err.Detail = printable(f.Err.Detail)
	return runnerFault{f}
}
