package fault

import (
	"errors"

	"genfn/events"
)

// Classify says what a failure inside a living process means. The returned error has a code, title, message, advice,
// Retriable as the vocabulary has it for the code, and, where they are known, stage, device, the driver's code and
// text, and the bytes asked for. Its Cause is Evidence.Err. Evidence.Err is not changed.
func Classify(e Evidence) Fault {
	var known *events.Error
	if !errors.As(e.Err, &known) {
		known = events.AsError(e.Err)
	}
	return Of(known)
}

// ClassifyDeath says what the end of a process means. It is never ActionRetry or ActionNone with work in flight:
// the process is gone, so Replace is always true.
func ClassifyDeath(d Death) Fault {
	return Of(events.Errorf(events.CodeInternal, "%s", d.Signal))
}
