package runner

import (
	"errors"
	"strconv"
	"strings"

	"genfn/bindings/openvino"
	"genfn/events"
)

// fault is a failure in the words of the vocabulary.
type fault struct {
	err   *events.Error
	fatal bool // the process must not be used again
}

// nativeFault is what a text of a runtime or driver means.
type nativeFault struct {
	text  string // part of the text, in lower case
	code  events.Code
	fatal bool
}

// nativeFaults lists what is known; the first that fits counts.
func nativeFaults() []nativeFault {
	return []nativeFault{
		{"exceeded max size of memory object allocation", events.CodeGPUOutOfMemory, false}, // refused before any work
		{"cl_mem_object_allocation_failure", events.CodeGPUOutOfMemory, true},
		{"cl_out_of_host_memory", events.CodeHostOutOfMemory, true},
		{"bad_alloc", events.CodeHostOutOfMemory, true},
		{"failed to allocate ", events.CodeHostOutOfMemory, true}, // the CPU plugin's own words
		{"can't alloc", events.CodeHostOutOfMemory, true},         // too
		{"cannot allocate memory", events.CodeHostOutOfMemory, true},
		{"error code: -5 ", events.CodeDeviceLost, true},  // CL_OUT_OF_RESOURCES: the context is dead
		{"error code: -14 ", events.CodeDeviceLost, true}, // CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST: as well
		{"cl_out_of_resources", events.CodeDeviceLost, true},
		{"out of gpu resources", events.CodeDeviceLost, true},
		{"[gpu]", events.CodeGPURuntimeError, true},
	}
}

// classify is the one place where failures get their code. What nobody foresaw is internal, and fatal: a process
// that is not understood is not used again.
func classify(err error) fault {
	f := fault{err: events.AsError(err), fatal: true}
	var known *events.Error
	if errors.As(err, &known) {
		f.fatal = known.Code == events.CodeInternal
	}
	var native *openvino.Error
	if !errors.As(err, &native) {
		return f
	}
	e := *f.err
	if known == nil {
		e.Message, e.Cause = "the runtime failed", err
	}
	e.DriverCode, e.DriverText = strconv.Itoa(native.Status), native.Detail
	text := strings.ToLower(native.Detail)
	for _, n := range nativeFaults() {
		if strings.Contains(text, n.text) {
			e.Code, e.Title, e.Advice, e.Retriable = n.code, "", "", events.Errorf(n.code, "").Retriable
			f.fatal = n.fatal
			break
		}
	}
	f.err = &e
	return f
}
