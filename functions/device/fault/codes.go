package fault

import "genfn/events"

// verdict is what a row of a table says of a fault.
type verdict struct {
	class   Class
	action  Action
	replace bool
	code    events.Code
}

// verdictOf is the verdict on an error that this program made itself: its code says all. A code without a case is
// one that nobody thought of here, hence fatal.
func verdictOf(code events.Code) verdict {
	switch code {
	case events.CodeInvalidRequest, events.CodeModelNotFound, events.CodeQueueFull, events.CodePermissionDenied:
		return verdict{ClassRequest, ActionReject, false, code}
	case events.CodeModelInvalid:
		return verdict{ClassHost, ActionReject, false, code}
	case events.CodeModelLoadFailed:
		// Usually an operation or a shape that this device's plugin does not have.
		return verdict{ClassRequest, ActionOtherDevice, false, code}
	case events.CodeDeviceUnavailable:
		return verdict{ClassHost, ActionOtherDevice, false, code}
	case events.CodeGPUOutOfMemory:
		return verdict{ClassMemory, ActionLadder, false, code}
	case events.CodeHostOutOfMemory:
		return verdict{ClassHost, ActionLadder, false, code}
	case events.CodeNumericalError:
		return verdict{ClassNumerical, ActionOtherDevice, false, code}
	case events.CodeHang:
		return verdict{ClassHang, ActionFreshRunner, true, code}
	case events.CodeDeadlineExceeded, events.CodeCancelled:
		return verdict{ClassStopped, ActionNone, false, code}
	case events.CodeGPURuntimeError, events.CodeDeviceLost, events.CodeInternal:
		return verdict{ClassFatal, ActionFreshRunner, true, code}
	default:
		return verdict{ClassFatal, ActionFreshRunner, true, code}
	}
}

// Of returns the fault that err says by its code alone, for errors of this program that no runtime caused, and for
// those that were classified in another process. It does not change err.
func Of(err *events.Error) Fault {
	e := *err
	complete(&e)
	v := verdictOf(e.Code)
	return Fault{Rule: "code_" + string(e.Code), Class: v.class, Action: v.action, Replace: v.replace, Err: &e}
}

// complete fills in what the error itself does not say with the words of its code.
func complete(e *events.Error) {
	words := events.Errorf(e.Code, "%s", e.Code.Title())
	if e.Title == "" {
		e.Title = words.Title
	}
	if e.Advice == "" {
		e.Advice = words.Advice
	}
	if e.Message == "" {
		e.Message = words.Message
	}
}
