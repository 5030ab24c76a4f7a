package runner

import (
	"errors"

	"genfn/events"
)

// fault is an error in the words of the vocabulary.
type fault struct {
	err   *events.Error
	fatal bool // the process must not be used again
}

func classify(err error) fault {
	var e *events.Error
	if errors.As(err, &e) {
		return fault{err: e}
	}
	return fault{err: events.AsError(err), fatal: true}
}
