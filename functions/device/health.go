// Package device decides how far one device can be trusted. It is pure computation over what its instance saw of
// it, with an injected clock, and free of native code.
//
// A device that had a fault takes no more requests until it has proved itself: with a fresh process, by validation
// and by a small generation whose result is known (a canary). One that fails to, or that has faults again and again
// although its canaries pass, is shed: others do its work, and it may prove itself again after a pause that doubles
// each time. One that fails too often is quarantined.
//
//	validating -> ready -> suspect -> ready
//	                         |  ^------------------.
//	                         v                     |
//	                       shed -> probation -> ready
//	                         ^         |
//	                         '---------+--> quarantined -> probation
package device

import (
	"slices"
	"sync"
	"time"

	"genfn/events"
)

// Reasons of a state: one word each, for programs.
const (
	ReasonStarting         = "starting"
	ReasonValidated        = "validated"
	ReasonValidationFailed = "validation_failed"
	ReasonFault            = "fault"
	ReasonCanaryPassed     = "canary_passed"
	ReasonCanaryFailed     = "canary_failed"
	ReasonPersistentFaults = "persistent_faults"
	ReasonBackOff          = "back_off_over"
	ReasonStuck            = "stuck_in_driver"
	ReasonHardware         = "hardware"
	ReasonNoRunner         = "no_runner"
)

// Policy says how much a device is forgiven. A zero field takes its default.
type Policy struct {
	ShedAfter       int           // faults in a row, without a generation between, that shed a device whose canaries pass; 0: 3
	Backoff         time.Duration // first pause of a shed device, doubled each time; 0: 30 s
	MaxBackoff      time.Duration // 0: 10 min
	QuarantineAfter int           // proofs that fail in a row; 0: 6
	Quarantine      time.Duration // pause of a device in quarantine; 0: 1 h
}

func (p Policy) withDefaults() Policy {
	if p.ShedAfter <= 0 {
		p.ShedAfter = 3
	}
	if p.Backoff <= 0 {
		p.Backoff = 30 * time.Second
	}
	if p.MaxBackoff <= 0 {
		p.MaxBackoff = 10 * time.Minute
	}
	if p.QuarantineAfter <= 0 {
		p.QuarantineAfter = 6
	}
	if p.Quarantine <= 0 {
		p.Quarantine = time.Hour
	}
	return p
}

// keptFaults bounds the faults a device's status tells of.
const keptFaults = 10

// Health is the standing of one device. Safe for concurrent use.
type Health struct {
	policy Policy
	now    func() time.Time
	notify func(events.DeviceStatus)

	mu       sync.Mutex
	status   events.DeviceStatus // of the fields that Health decides
	inARow   int                 // faults since the last generation
	unproved int                 // proofs that failed since the last that passed
	pauses   int                 // times it was shed since it was last ready for good
}

// New returns the health of a device of a class (events.DeviceCPU, DeviceGPU) that is being validated. now nil is time.Now. notify, which may be nil, is
// called on every change of the state, one call at a time and in order; it must not call back.
func New(class string, p Policy, now func() time.Time, notify func(events.DeviceStatus)) *Health {
	if now == nil {
		now = time.Now
	}
	if notify == nil {
		notify = func(events.DeviceStatus) {}
	}
	h := &Health{policy: p.withDefaults(), now: now, notify: notify}
	h.status.Class = class
	h.status.State, h.status.Reason, h.status.Since = events.StateValidating, ReasonStarting, now()
	return h
}

// Status returns state, reason, counts and faults; the rest is for the instance to fill in.
func (h *Health) Status() events.DeviceStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.copy()
}

func (h *Health) copy() events.DeviceStatus {
	s := h.status
	s.LastFaults = slices.Clone(s.LastFaults)
	return s
}

// enter changes the state. The lock is held.
func (h *Health) enter(state, reason, message string, pause time.Duration) {
	s := &h.status
	now := h.now()
	if s.State != state {
		s.Previous, s.Since = s.State, now
	}
	s.State, s.Reason, s.Message, s.NextTry = state, reason, message, nil
	if pause > 0 {
		next := now.Add(pause)
		s.NextTry = &next
	}
	h.notify(h.copy())
}

// Step is what the holder of a device does next.
type Step int

// The steps.
const (
	Fetch Step = iota // take a request
	Prove             // start a fresh process, validate, run a canary, then call Proved or Unproved
	Wait              // nothing, for the time given
)

// Next returns what to do now. It moves a device whose pause is over into probation.
func (h *Health) Next() (Step, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.status.State {
	case events.StateReady:
		return Fetch, 0
	case events.StateShed, events.StateQuarantined:
		if left := h.status.NextTry.Sub(h.now()); left > 0 {
			return Wait, left
		}
		h.enter(events.StateProbation, ReasonBackOff, "The pause is over, the device may prove itself.", 0)
	}
	return Prove, 0
}

// Fault notes a fault that the device is suspected of. It takes no requests until Proved.
func (h *Health) Fault(f events.DeviceFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note(f)
	h.inARow++
	if h.status.State == events.StateReady || h.status.State == events.StateValidating {
		h.enter(events.StateSuspect, ReasonFault, f.Error.Message, 0)
	}
}

// Observe notes a fault that the device is not suspected of.
func (h *Health) Observe(f events.DeviceFault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note(f)
}

func (h *Health) note(f events.DeviceFault) {
	if f.At.IsZero() {
		f.At = h.now().UTC()
	}
	h.status.FaultCount++
	faults := slices.Concat(h.status.LastFaults, []events.DeviceFault{f})
	h.status.LastFaults = faults[max(0, len(faults)-keptFaults):]
}

// Succeeded notes a generation for a request.
func (h *Health) Succeeded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status.GenerationCount++
	h.inARow, h.pauses = 0, 0
}

// Proved notes that the device passed its validation, and its canary if there was one to run. It returns whether
// the device may take requests: not if it was set aside meanwhile.
func (h *Health) Proved() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unproved = 0
	switch {
	case h.status.State == events.StateReady:
	case h.aside():
		return false
	case h.status.State == events.StateSuspect && h.inARow >= h.policy.ShedAfter:
		h.shed(ReasonPersistentFaults, "Its canaries pass, but requests fail on it again and again.")
		return false
	default:
		reason := ReasonCanaryPassed
		if h.status.State == events.StateValidating {
			reason = ReasonValidated
		}
		h.status.GPUFailed = false
		h.enter(events.StateReady, reason, "", 0)
	}
	return true
}

// Unproved notes that the device failed its validation or its canary.
func (h *Health) Unproved(reason string, cause *events.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unproved++
	h.note(events.DeviceFault{Cause: reason, Error: cause})
	h.shed(reason, cause.Message)
}

// Condemn sets the device aside at once, for what its driver says of the hardware.
func (h *Health) Condemn(cause *events.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note(events.DeviceFault{Cause: ReasonHardware, Error: cause})
	if !h.aside() {
		h.shed(ReasonHardware, cause.Message)
	}
}

// aside reports whether the device is set aside. The lock is held.
func (h *Health) aside() bool {
	return h.status.State == events.StateShed || h.status.State == events.StateQuarantined
}

// shed sets the device aside. The lock is held.
func (h *Health) shed(reason, message string) {
	h.status.GPUFailed = h.status.Class != events.DeviceCPU
	// A device that comes back only to fail again has used up its forgiveness: one fault more sheds it.
	h.inARow = h.policy.ShedAfter - 1
	if h.unproved >= h.policy.QuarantineAfter {
		h.enter(events.StateQuarantined, reason, message, h.policy.Quarantine)
		return
	}
	pause := min(h.policy.Backoff<<min(h.pauses, 16), h.policy.MaxBackoff)
	h.pauses++
	h.enter(events.StateShed, reason, message, pause)
}

// NoRunner notes that no runner process can be started, and how long it will be until the next try. It does so for a
// device that is ready only: of others more is known.
func (h *Health) NoRunner(cause *events.Error, pause time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.status; s.State == events.StateReady || s.State == events.StateValidating || s.Reason == ReasonNoRunner {
		h.note(events.DeviceFault{Cause: ReasonNoRunner, Error: cause})
		h.enter(events.StateSuspect, ReasonNoRunner, cause.Message, pause)
	}
}

// Runner notes that a runner process has started after all.
func (h *Health) Runner() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status.Reason == ReasonNoRunner {
		h.enter(events.StateReady, ReasonValidated, "", 0)
	}
}

// Stuck notes that the device holds a process that does not end: nothing may be started on it.
func (h *Health) Stuck(cause *events.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note(events.DeviceFault{Cause: ReasonStuck, Error: cause})
	h.unproved = h.policy.QuarantineAfter
	h.shed(ReasonStuck, cause.Message)
}
