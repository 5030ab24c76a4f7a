package nvml

import (
	"errors"
	"fmt"

	"genfn/bindings/dynlib"
	"genfn/bindings/nvml/internal/capi"
)

// What an *Error can be besides itself, for errors.Is.
var (
	// ErrNotSupported: the device or its driver does not have what was asked for.
	ErrNotSupported = errors.New("not supported by the device or its driver")
	// ErrLost: the device has fallen off the bus, or cannot be reached any more.
	ErrLost = errors.New("the device is lost")
	// ErrResetRequired: the device must be reset before it can be used again.
	ErrResetRequired = errors.New("the device needs a reset")
	// ErrNotFound: there is no such device.
	ErrNotFound = errors.New("no such device")
)

// ErrClosed is returned for a use of a closed, nil or zero object.
var ErrClosed = errors.New("object is closed")

// Error is a failure that NVML reported.
type Error struct {
	Op   string // what was tried: "get temperature"
	Code int    // nvmlReturn_t
	Text string // NVML's own words: "GPU is lost"
}

func (e *Error) Error() string { return fmt.Sprintf("nvml: %s: %s (%d)", e.Op, e.Text, e.Code) }

// Is has errors.Is find the meaning of a code.
func (e *Error) Is(target error) bool {
	switch capi.Status(e.Code) { //nolint:gosec // it was one
	case capi.NotSupported, capi.FunctionNotFound:
		return target == ErrNotSupported
	case capi.GPUIsLost:
		return target == ErrLost
	case capi.ResetRequired:
		return target == ErrResetRequired
	case capi.NotFound:
		return target == ErrNotFound
	}
	return false
}

// failure makes the error of a status; nil for success.
func (l *Library) failure(op string, status capi.Status) error {
	if status == capi.Success {
		return nil
	}
	return &Error{Op: op, Code: int(status), Text: dynlib.GoString(l.api.ErrorString(status))}
}

// closedError is the error for a use of a nil, zero or closed object.
func closedError(op string) error { return fmt.Errorf("nvml: %s: %w", op, ErrClosed) }
