package openvino

import (
	"errors"
	"fmt"
	"strings"

	"genfn/bindings/dynlib"
	"genfn/bindings/openvino/internal/capi"
)

// ErrClosed is returned for a use of a closed, nil or zero object.
var ErrClosed = errors.New("object is closed")

// ErrBusy is returned for a use of a Request during its Infer.
var ErrBusy = errors.New("request is busy: an inference is running")

// Error is a failure that OpenVINO reported.
type Error struct {
	Op         string // what was tried, with its object: "compile unet.xml for CPU"
	Status     int    // ov_status_e
	StatusText string // OpenVINO's name of the status: "general error"
	Detail     string // OpenVINO's own text for this failure, possibly of several lines; may be empty
	cause      error
}

// Error puts the text on one line, without the source positions inside OpenVINO; Detail has them.
func (e *Error) Error() string {
	var words []string
	for line := range strings.Lines(e.Detail) {
		line = strings.TrimSpace(line)
		position := strings.HasPrefix(line, "Exception from ") || strings.HasPrefix(line, "Check '")
		if line != "" && !position {
			words = append(words, line)
		}
	}
	text := strings.Join(words, " ")
	if text == "" {
		text = strings.Join(strings.Fields(e.Detail), " ")
	}
	if text == "" {
		text = "no further text"
	}
	return fmt.Sprintf("openvino: %s: %s (%s, %d)", e.Op, text, e.StatusText, e.Status)
}

// Unwrap returns the context's error for a cancelled inference, nil otherwise.
func (e *Error) Unwrap() error { return e.cause }

// invalidParameter is the one status that OpenVINO's C API returns without setting a text.
const invalidParameter capi.Status = -14

// failure makes the error of a call in this domain that has just returned code. It must come before
// the domain's next call.
func (d *domain) failure(op string, code capi.Status) *Error {
	e := &Error{Op: op, Status: int(code), StatusText: dynlib.GoString(d.api.GetErrorInfo(code))}
	if code == invalidParameter {
		return e
	}
	if text := d.api.GetLastErrMsg(); text != nil {
		e.Detail = strings.TrimSpace(dynlib.GoString(text))
		d.api.Free(text)
	}
	return e
}
