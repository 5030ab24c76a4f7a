package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Code says in one stable word what went wrong. Codes never change meaning.
type Code string

// The error codes.
const (
	CodeInvalidRequest    Code = "invalid_request"
	CodeModelNotFound     Code = "model_not_found"
	CodeModelInvalid      Code = "model_invalid"
	CodeModelLoadFailed   Code = "model_load_failed"
	CodeDeviceUnavailable Code = "device_unavailable"
	CodeGPUOutOfMemory    Code = "gpu_out_of_memory"
	CodeHostOutOfMemory   Code = "host_out_of_memory"
	CodeGPURuntimeError   Code = "gpu_runtime_error"
	CodeDeviceLost        Code = "device_lost"
	CodeHang              Code = "hang"
	CodeNumericalError    Code = "numerical_error"
	CodeDeadlineExceeded  Code = "deadline_exceeded"
	CodeCancelled         Code = "cancelled"
	CodeQueueFull         Code = "queue_full"
	CodePermissionDenied  Code = "permission_denied"
	CodeInternal          Code = "internal"
)

// codeText is what people and programs are told about a code when the error
// itself does not say more.
type codeText struct {
	title     string
	advice    string
	retriable bool // the same request may succeed if it is sent again
}

func (c Code) text() codeText {
	switch c {
	case CodeInvalidRequest:
		return codeText{"Invalid request", "Correct the named field and send the request again under a new id.", false}
	case CodeModelNotFound:
		return codeText{"Model not found", "Choose one of the models that are served, or start an instance that has this one (genfn model list names those of a folder).", false}
	case CodeModelInvalid:
		return codeText{"Model folder is damaged or not supported", "Repair or export the model folder again; genfn model check tells what is wrong with it.", false}
	case CodeModelLoadFailed:
		return codeText{"Model could not be loaded", "Check the model folder (genfn model check) and the free memory of the device (genfn devices).", false}
	case CodeDeviceUnavailable:
		return codeText{"No device available", "Start an instance with a working device (genfn devices tells which work), or allow another class of device (fallback: allowed).", true}
	case CodeGPUOutOfMemory:
		return codeText{"GPU out of memory", "Try a smaller size or fewer images, or allow the CPU (fallback: allowed).", true}
	case CodeHostOutOfMemory:
		return codeText{"Out of memory", "Try a smaller size or fewer images, or give the instance more memory.", true}
	case CodeGPURuntimeError:
		return codeText{"GPU error", "Send the request again. If it keeps failing, genfn devices tells the state of the device and its driver.", true}
	case CodeDeviceLost:
		return codeText{"Device lost", "Send the request again; the device restarts or is taken out of service.", true}
	case CodeHang:
		return codeText{"Device stopped making progress", "Send the request again. If it keeps hanging, try a smaller size or another device.", true}
	case CodeNumericalError:
		return codeText{"The model computed invalid numbers", "Try another seed, scheduler or guidance scale, or a higher precision.", false}
	case CodeDeadlineExceeded:
		return codeText{"Deadline exceeded", "Allow more time, or ask for fewer steps or a smaller size.", false}
	case CodeCancelled:
		return codeText{"Cancelled", "Send the request again under a new id if it is still wanted.", false}
	case CodeQueueFull:
		return codeText{"Queue is full", "Wait and send the request again, or start more instances.", true}
	case CodePermissionDenied:
		return codeText{"Permission denied", "Use credentials that allow this operation (--creds), or ask who runs the server for the permission.", false}
	default:
		return codeText{"Internal error", "Send the request again. If it keeps happening, report this error together with its detail.", false}
	}
}

// Title returns what the code means in a few words for people.
func (c Code) Title() string { return c.text().title }

// Error is the one error type of events and functions. Title, Message and
// Advice are for people and safe to show to users; Code, Field and Retriable
// are for programs; Detail is for operators. Its JSON form is part of the
// vocabulary.
type Error struct {
	Code       Code   `json:"code"`
	Title      string `json:"title"`                 // "": the code's title
	Message    string `json:"message"`               // what happened: what was found
	Advice     string `json:"advice"`                // what to do; "": the code's advice
	Field      string `json:"field,omitempty"`       // JSON pointer into the data, or an attribute or header name
	Expected   string `json:"expected,omitempty"`    // what the field may be, in words
	Stage      string `json:"stage,omitempty"`       // where in the work, e.g. "denoise step 3 of 20"
	Device     string `json:"device,omitempty"`      // e.g. "GPU.0"
	DriverCode string `json:"driver_code,omitempty"` // e.g. "-5" or "CL_OUT_OF_RESOURCES"
	DriverText string `json:"driver_text,omitempty"`
	// RequestedBytes is the allocation that failed, of an error about memory; 0: not known.
	RequestedBytes int64 `json:"requested_bytes,omitempty"`
	// PredictedBytes is what the work was expected to need in all, and AvailableBytes what there was for it, of an
	// error about memory; 0: not known.
	PredictedBytes int64 `json:"predicted_bytes,omitempty"`
	AvailableBytes int64 `json:"available_bytes,omitempty"`
	// UnloadedModels are those that were unloaded because memory ran out.
	UnloadedModels []string `json:"unloaded_models,omitempty"`
	Retriable      bool     `json:"retriable"` // the same request may succeed if it is sent again
	Detail         string   `json:"detail,omitempty"`
	Memory         *Memory  `json:"memory,omitempty"`
	Cause          error    `json:"-"`
}

// Errorf returns an Error with a formatted message and the code's title, advice
// and Retriable. An error formatted with %w becomes its Cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	t := code.text()
	return &Error{Code: code, Title: t.title, Message: err.Error(), Advice: t.advice, Retriable: t.retriable, Cause: errors.Unwrap(err)}
}

// Error returns code, field, message and expectation on one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Expected != "" {
		b.WriteString("; expected ")
		b.WriteString(e.Expected)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is an *Error of the same code, so that
// errors.Is(err, &Error{Code: CodeQueueFull}) asks for a code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// MarshalJSON writes the error with its title and advice filled in.
func (e Error) MarshalJSON() ([]byte, error) {
	t := e.Code.text()
	if e.Title == "" {
		e.Title = t.title
	}
	if e.Advice == "" {
		e.Advice = t.advice
	}
	type plain Error
	return json.Marshal(plain(e))
}

// bounded cuts what an *Error quotes from a message, so that the error fits into
// an event whatever the message was. Where no field is at fault, whole is.
func bounded(err error, whole string) error {
	var e *Error
	if errors.As(err, &e) {
		if e.Field == "" && e.Code == CodeInvalidRequest {
			e.Field = whole
		}
		e.Field = cut(e.Field, 256)
		e.Message = cut(e.Message, 1024)
		e.Detail = cut(e.Detail, 4096)
	}
	return err
}

// cut returns at most about n bytes of s as valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// AsError returns the *Error in err's chain, or err as an internal error. It
// returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	e = Errorf(CodeInternal, "something unexpected happened")
	e.Detail, e.Cause = err.Error(), err
	return e
}
