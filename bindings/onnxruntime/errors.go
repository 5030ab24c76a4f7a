package onnxruntime

import (
	"errors"
	"fmt"
	"strings"

	"genfn/bindings/dynlib"
	"genfn/bindings/onnxruntime/internal/capi"
)

// ErrClosed is returned for a use of a closed, nil or zero object.
var ErrClosed = errors.New("object is closed")

// ErrBusy is returned for a use of a Binding during its Run.
var ErrBusy = errors.New("binding is busy: an inference is running")

// Error is a failure that ONNX Runtime reported.
type Error struct {
	Op    string // what was tried, with its object: "run unet/model.onnx"
	Code  int    // OrtErrorCode
	Name  string // of the code: "INVALID_ARGUMENT"
	Text  string // ONNX Runtime's own words
	cause error
}

// Error puts the text on one line.
func (e *Error) Error() string {
	return fmt.Sprintf("onnxruntime: %s: %s (%s, %d)", e.Op, strings.Join(strings.Fields(e.Text), " "), e.Name, e.Code)
}

// Unwrap returns the context's error for an inference that was stopped, nil otherwise.
func (e *Error) Unwrap() error { return e.cause }

// codes are the names of OrtErrorCode (onnxruntime_c_api.h).
var codes = [...]string{
	"OK", "FAIL", "INVALID_ARGUMENT", "NO_SUCHFILE", "NO_MODEL", "ENGINE_ERROR", "RUNTIME_EXCEPTION", "INVALID_PROTOBUF", "MODEL_LOADED",
	"NOT_IMPLEMENTED", "INVALID_GRAPH", "EP_FAIL", "MODEL_LOAD_CANCELED", "MODEL_REQUIRES_COMPILATION", "NOT_FOUND",
}

// check makes the error of a status, and releases it; nil for success.
func (r *Runtime) check(op string, s capi.Status) error {
	if s == 0 {
		return nil
	}
	return r.failure(op, s)
}

// failure makes the error of a status that is not success, and releases it.
func (r *Runtime) failure(op string, s capi.Status) *Error {
	defer r.api.ReleaseStatus(s)
	e := &Error{Op: op, Code: int(r.api.GetErrorCode(s)), Name: "unknown code", Text: dynlib.GoString(r.api.GetErrorMessage(s))}
	if e.Code < len(codes) {
		e.Name = codes[e.Code]
	}
	return e
}

// closedError is the error for a use of a nil, zero or closed object.
func closedError(kind string) error { return fmt.Errorf("onnxruntime: %s: %w", kind, ErrClosed) }

// cString returns s for C. A NUL inside would cut it off silently, so it is an error.
func cString(s string) (*byte, error) {
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("onnxruntime: %q contains a NUL byte", s)
	}
	return &append([]byte(s), 0)[0], nil
}
