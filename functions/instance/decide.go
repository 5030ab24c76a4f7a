package instance

import (
	"fmt"
	"slices"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/fault"
)

// kind says what a failure of an attempt is about, as far as it decides what is tried next.
type kind int

// The kinds of failures.
const (
	ofRequest kind = iota // the request, the model or something that no other device would change
	ofMemory              // not enough memory of the device, or of the machine
	transient             // of the device, which may go on in the same process
	ofDevice              // of the device: its process must not be used again
	death                 // the process crashed or hung: the request or the device may be to blame
	killed                // somebody outside ended the process: neither is
	unfit                 // this device cannot do it, or gave invalid numbers: another may do it
)

// kindOf says what a fault decides. One that names a field of the request is the request's own, and one that no runtime
// said is this program's: no other device would change it.
func kindOf(f fault.Fault) kind {
	switch {
	case f.Err.Field != "":
		return ofRequest
	case f.Action == fault.ActionLadder:
		return ofMemory
	case f.Class == fault.ClassTransient:
		return transient
	case f.Class == fault.ClassKilled:
		return killed
	case f.Class == fault.ClassHang:
		return death
	case f.Action == fault.ActionOtherDevice:
		return unfit
	case f.Action == fault.ActionFreshRunner && (f.Err.Code != events.CodeInternal || f.Err.DriverText != ""):
		return ofDevice
	}
	return ofRequest
}

// cause is the word for attempt records.
func (k kind) cause() string {
	switch k {
	case ofMemory:
		return causeMemory
	case transient:
		return causeTransient
	case killed:
		return causeKilled
	case ofDevice:
		return causeDevice
	case unfit:
		return causeUnfit
	}
	return causeCrash
}

// next is what follows a failed attempt.
type next int

// The ways to go on.
const (
	giveUp    next = iota // fail the request
	sameAgain             // on the same device, in the same process if that lives, after a pause
	fresh                 // on the same device in a fresh process, once the device has proved itself
	elsewhere             // on another class of device
)

// limits bound the attempts by their causes.
type limits struct {
	transient int // retries in the same process
	device    int // attempts on one class whose device failed
	deaths    int // runners that die for one request where no other class can have it
	kills     int // runners that somebody outside ends on one class
}

// situation is everything that a decision depends on.
type situation struct {
	class   string                 // of this device
	policy  string                 // events.FallbackNever, FallbackAllowed; FallbackDeadline is settled before: one of the two
	kind    kind                   // of the failure
	records []broker.AttemptRecord // of all attempts, with the end of the last
	other   bool                   // another class serves this pool
	rungs   int                    // ways to use less memory that are left to this request
	limits  limits
}

// decide says what follows a failed attempt.
//
//   - Memory: a way to use less that was not tried, each once; then another class.
//   - A transient fault: the same process, twice. A dead context: a fresh process, once.
//   - A death, or invalid numbers: if the other class can have the request, it decides whether the request or the
//     device is to blame; where it cannot, fresh processes that proved themselves do.
//   - A process that somebody outside ended: a fresh one, a few times. It says nothing about request and device.
//   - What failed on both classes is the request's own fault.
func decide(s situation) next {
	here := s.count(s.class)
	away := s.other && s.policy != events.FallbackNever && !s.failed(otherClass(s.class))
	leave := giveUp
	if away {
		leave = elsewhere
	}
	switch s.kind {
	case ofMemory:
		if s.rungs > 0 {
			return fresh
		}
		return leave
	case transient:
		if here[causeTransient] <= s.limits.transient {
			return sameAgain
		}
		return leave
	case ofDevice:
		if here[causeDevice] < s.limits.device {
			return fresh
		}
		return leave
	case death:
		switch deaths := here[causeCrash] + here[causeHang]; {
		case away:
			return elsewhere
		case s.failed(otherClass(s.class)), deaths >= s.limits.deaths:
			return giveUp
		}
		return fresh
	case killed:
		if here[causeKilled] < s.limits.kills {
			return fresh
		}
		return leave
	case unfit:
		return leave
	}
	return giveUp
}

// count counts the ends of the attempts on a class by cause.
func (s situation) count(class string) map[string]int {
	n := map[string]int{}
	for _, r := range s.records {
		if events.ClassOf(r.Device) == class {
			n[r.Cause]++
		}
	}
	return n
}

// failed reports whether a class has had the request and is not to have it again.
func (s situation) failed(class string) bool {
	for _, r := range s.records {
		if events.ClassOf(r.Device) == class && (slices.Contains(r.Excluded, class) || r.Cause == causeCrash || r.Cause == causeHang || r.Cause == causeUnfit) {
			return true
		}
	}
	return false
}

// excluded reports whether a class must not try the request again.
func excluded(records []broker.AttemptRecord, class string) bool {
	return slices.ContainsFunc(records, func(r broker.AttemptRecord) bool { return slices.Contains(r.Excluded, class) })
}

// verdict is the error of a request that is given up after failure. It tells all causes if there are several.
func verdict(failure *events.Error, records []broker.AttemptRecord, class string) *events.Error {
	e := *failure
	var earlier *events.Error
	faults, both := 0, false
	for _, r := range records {
		if r.Error == nil {
			continue
		}
		faults++
		if events.ClassOf(r.Device) != class {
			both, earlier = true, r.Error
		}
	}
	switch {
	case both && earlier != nil:
		e.Message = fmt.Sprintf("it failed on %s (%s) and on %s (%s)", otherClass(class), earlier.Message, class, failure.Message)
		e.Retriable, e.Detail = false, ""
		e.Advice = "Two classes of device failed at the same request, so the request is the likely cause: try another size, fewer steps or another model. The attempts tell what was said each time."
	case faults > 1:
		return repeated(faults, failure)
	}
	return &e
}

func otherClass(class string) string {
	if class == events.DeviceGPU {
		return events.DeviceCPU
	}
	return events.DeviceGPU
}
