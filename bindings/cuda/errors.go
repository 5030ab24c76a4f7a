package cuda

import (
	"errors"
	"fmt"
	"slices"

	"genfn/bindings/cuda/internal/cudart"
	"genfn/bindings/dynlib"
)

// ErrClosed is returned for a use of a closed, nil or zero object.
var ErrClosed = errors.New("object is closed")

// ErrDead is what every call of a device returns after an error that killed its context: nothing in this process can
// use the device again. The chain has the *Error that did it.
var ErrDead = errors.New("the device's context is dead: use a fresh process")

// Error is a failure that CUDA reported.
type Error struct {
	Op   string // what was tried: "allocate 64 MiB for latents"
	Code int    // cudaError_t, or CUresult, which has the same numbers
	Name string // "cudaErrorMemoryAllocation"
	Text string // CUDA's own words: "out of memory"
}

func (e *Error) Error() string {
	return fmt.Sprintf("cuda: %s: %s (%s, %d)", e.Op, e.Text, e.Name, e.Code)
}

// Dead reports whether the context of the device is dead after this error: everything that is not known to leave it
// alive counts as such.
func (e *Error) Dead() bool { return !slices.Contains(alive[:], e.Code) }

// alive are the errors that refuse a call and leave the context as it was (driver_types.h). An error of an earlier
// asynchronous operation may come back from any call, and is never one of these.
var alive = [...]int{
	1,          // cudaErrorInvalidValue
	2,          // cudaErrorMemoryAllocation
	9,          // cudaErrorInvalidConfiguration
	34, 35, 36, // stub library, insufficient driver, call requires newer driver
	46,       // cudaErrorDevicesUnavailable
	98,       // cudaErrorInvalidDeviceFunction
	100, 101, // no device, invalid device
	200, 209, // invalid kernel image, no kernel image for the device
	216,      // cudaErrorDeviceAlreadyInUse
	218,      // cudaErrorInvalidPtx
	221, 222, // JIT compiler not found, unsupported PTX version
	223,      // cudaErrorJitCompilationDisabled
	225, 227, // PTX calls the device's synchronize, loader too old
	400,      // cudaErrorInvalidResourceHandle
	500,      // cudaErrorSymbolNotFound
	600,      // cudaErrorNotReady
	701, 720, // too many resources, cooperative launch too large
	800, 801, // not permitted, not supported
	802, 803, 804, // system not ready, driver mismatch, compatibility mode not supported
	912, // cudaErrorInvalidClusterSize
}

// failure makes the error of a status; nil for success.
func failure(a *cudart.API, op string, code cudart.Status) error {
	if code == cudart.Success {
		return nil
	}
	return &Error{Op: op, Code: int(code), Name: dynlib.GoString(a.GetErrorName(code)), Text: dynlib.GoString(a.GetErrorString(code))}
}

// closedError is the error for a use of a nil, zero or closed object.
func closedError(kind string) error { return fmt.Errorf("cuda: %s: %w", kind, ErrClosed) }
