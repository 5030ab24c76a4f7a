package fault

import (
	"cmp"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"genfn/events"
)

// Classify says what a failure inside a living process means. The returned error has a code, title, message, advice,
// Retriable as the vocabulary has it for the code, and, where they are known, stage, device, the driver's code and
// text, and the bytes asked for. Its Cause is Evidence.Err, which is not changed.
func Classify(e Evidence) Fault {
	var known *events.Error
	if errors.As(e.Err, &known) && e.Runtime == RuntimeOwn {
		return e.vouched(known)
	}
	r, code := find(e)
	if r == nil && known != nil && known.Code != events.CodeInternal {
		return e.vouched(known)
	}
	if r == nil {
		r = &unknownRow
	}
	f := r.fault(e.Text, e.Device)
	f.Err.Stage, f.Err.Device, f.Err.Cause = e.Stage, e.Device, e.Err
	f.Err.DriverCode, f.Err.DriverText = code, e.Text
	f.Err.Detail = detail(e)
	if known != nil {
		f.Err.Message = join(known.Message, f.Err.Message)
		f.Err.Stage, f.Err.Device = cmp.Or(known.Stage, e.Stage), cmp.Or(known.Device, e.Device)
		f.Err.Memory = known.Memory
	}
	return f
}

// unknownRow is what no row knows.
var unknownRow = row{
	name: Unknown, verdict: ownMistake,
	message: "the runtime or a driver failed in a way that is not known",
	advice:  "Send the request again; the runner is replaced. If it keeps happening, report this error together with its detail.",
	source:  "nothing: it fails closed",
}

// find returns the row that fits and the code that it was found by: what the text quotes, then the runtime's own
// number, then the words. It returns nil and the runtime's number if nothing is known.
func find(e Evidence) (*row, string) {
	own := ""
	if e.Status != 0 {
		own = strconv.Itoa(e.Status)
	}
	if e.Runtime == RuntimeOwn {
		return byErrno(e.Err), own
	}
	if r, code := rows().byQuotation(e.Text); r != nil {
		return r, code
	}
	if e.Runtime == RuntimeONNXRuntime { // its numbers say less than its words, see onnxruntimeRows
		if r := rows().byTextOf(e.Runtime, e.Text); r != nil {
			return r, own
		}
	}
	if r := rows().status[e.Runtime][e.Status]; r != nil && e.Status != 0 {
		return r, own
	}
	return rows().byText(e.Text), own
}

// byErrno returns the row of an error that the operating system returned to Go; nil for all others.
func byErrno(err error) *row {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return rows().byText(errno.Error())
	case errors.Is(err, fs.ErrPermission):
		return rows().byText(syscall.EACCES.Error())
	case errors.Is(err, fs.ErrNotExist):
		return rows().byText(syscall.ENOENT.Error())
	}
	return nil
}

// vouched is the fault of an error whose code is all that is known.
func (e Evidence) vouched(known *events.Error) Fault {
	f := Of(known)
	f.Err.Stage, f.Err.Device = cmp.Or(f.Err.Stage, e.Stage), cmp.Or(f.Err.Device, e.Device)
	if e.Status != 0 {
		f.Err.DriverCode = strconv.Itoa(e.Status)
	}
	f.Err.DriverText = cmp.Or(e.Text, f.Err.DriverText)
	return f
}

// fault is the fault that r and text tell of on device.
func (r *row) fault(text, device string) Fault {
	v := r.verdict.on(device)
	e := &events.Error{Code: v.code, Title: r.title, Advice: r.advice, Retriable: events.Errorf(v.code, "").Retriable}
	e.Message = strings.ReplaceAll(r.message, "{device}", cmp.Or(device, "the device"))
	if v.code == events.CodeGPUOutOfMemory || v.code == events.CodeHostOutOfMemory {
		e.RequestedBytes = bytesIn(text, askedForms)
		e.Message += sayDemand(e.RequestedBytes, bytesIn(text, limitForms))
	}
	if v != r.verdict && v.code == events.CodeHostOutOfMemory {
		e.Advice = adviceHostMemory
	}
	complete(e)
	return Fault{Rule: r.name, Class: v.class, Action: v.action, Replace: v.replace, Err: e}
}

// sayDemand says how much was asked for, of how much at most; 0 is not known.
func sayDemand(asked, limit int64) string {
	switch {
	case asked > 0 && limit > 0:
		return ": tried to allocate " + sayBytes(asked) + ", of " + sayBytes(limit) + " at most"
	case asked > 0:
		return ": tried to allocate " + sayBytes(asked)
	default:
		return ""
	}
}

// on is v for a device: a CPU has no memory and no driver of its own, so what a library that also serves GPUs says
// there is about the machine and the process.
func (v verdict) on(device string) verdict {
	if !strings.HasPrefix(strings.ToUpper(device), "CPU") {
		return v
	}
	switch v.code {
	case events.CodeGPUOutOfMemory:
		return verdict{ClassHost, v.action, v.replace, events.CodeHostOutOfMemory}
	case events.CodeGPURuntimeError, events.CodeDeviceLost:
		v.code = events.CodeInternal
	}
	return v
}

// detail is what operators get to see: the error as the program has it, where that says more than the text.
func detail(e Evidence) string {
	if e.Err == nil {
		return ""
	}
	var known *events.Error
	if errors.As(e.Err, &known) && known.Detail != "" {
		return known.Detail
	}
	return e.Err.Error()
}

// join puts what was tried before what went wrong.
func join(what, why string) string {
	if what == "" {
		return why
	}
	return what + ": " + why
}
