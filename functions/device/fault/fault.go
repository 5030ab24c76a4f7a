// Package fault is the one place that decides what a failure means: it turns the number and the words of a runtime
// or a driver, or the death of a runner process, into a class, an action and words for people. It is pure Go and
// free of native code, so both the runner and the instance use it.
//
// What is known stands in tables, each row with its source. The number of a runtime comes first, also one that a
// runtime quotes in its text ("[GPU] clFlush, error code: -5"), the words come second. What no row knows fails
// closed: it is fatal, and the process that said it must be replaced.
//
// These details have caused bugs:
//   - The same number means different things: -5 is NOT_FOUND of OpenVINO's C API and CL_OUT_OF_RESOURCES of
//     OpenCL. A number counts only together with its runtime, and in a text only in the form that runtime writes.
//   - OpenVINO reports every failure of its GPU plugin as -1 (general error), ONNX Runtime most of its CUDA
//     provider as 1 (fail) or 6 (runtime exception): the number that counts is inside the text.
//   - CL_OUT_OF_RESOURCES is no lack of memory that a smaller request would cure: the context is dead.
//   - Paths, prompts and sizes stand in the same texts. A bare number in a text never counts.
package fault

import "genfn/events"

// Class is the kind of a fault: who or what is to blame, and hence who must act.
type Class string

// The classes.
const (
	// ClassRequest: the input is bad, or the model or the runtime does not support what was asked for. The device
	// is well, and so is the process. Nobody counts it against the device.
	ClassRequest Class = "request"
	// ClassMemory: the memory of the device was not enough. The device is well. Walk the ladder of smaller demands;
	// never try again unchanged.
	ClassMemory Class = "memory"
	// ClassTransient: the device or its driver refused for now. The same process may try again after a back-off, a
	// few times.
	ClassTransient Class = "transient"
	// ClassFatal: the device's context is dead, or nobody knows what happened. Nothing in that process counts any
	// more: replace it, prove the device by a known computation, and count the fault against the device.
	ClassFatal Class = "fatal"
	// ClassHost: the machine around the device fails: its memory, a file, a library, a driver that is missing. No
	// retry in place helps; another instance may do it.
	ClassHost Class = "host"
	// ClassHang: no progress within the time allowed. The process is ended first; then as ClassFatal.
	ClassHang Class = "hang"
	// ClassNumerical: the computation ended and its numbers are invalid (NaN, infinite, all black). The process is
	// well; another device or a higher precision tells whether the request or the device is to blame.
	ClassNumerical Class = "numerical"
	// ClassKilled: somebody outside ended the process with a signal, and it was neither this program nor the
	// out-of-memory killer. Neither the request nor the device is to blame; a fresh runner may try at once.
	ClassKilled Class = "killed"
	// ClassStopped: this program ended the work on purpose (cancelled, deadline, shutdown). It is no fault.
	ClassStopped Class = "stopped"
)

// Action is what to do next about a fault.
type Action string

// The actions.
const (
	ActionRetry       Action = "retry"        // try again in the same process after a back-off, at most twice
	ActionFreshRunner Action = "fresh_runner" // replace the process; once it has proven itself, try once more there
	ActionOtherDevice Action = "other_device" // this device cannot do it however often it tries: another device or instance may
	ActionLadder      Action = "ladder"       // try again with a smaller demand for memory; never unchanged
	ActionReject      Action = "reject"       // it fails the same way everywhere: answer the request with failed
	ActionNone        Action = "none"         // nothing is wrong
)

// Fault is a failure that is understood as far as it can be.
type Fault struct {
	Rule   string `json:"rule"`   // the row that fitted, for logs and counters, e.g. "opencl_out_of_resources"; "unknown": none
	Class  Class  `json:"class"`  // what kind it is
	Action Action `json:"action"` // what to do next
	// Replace says that the process must not be used again, whatever the action is. A process that is gone already
	// counts as one.
	Replace bool          `json:"replace"`
	Err     *events.Error `json:"error"` // complete: every word is filled in. Never nil
}

// Unknown is the Rule of what no row knows.
const Unknown = "unknown"

// Runtime says whose number and words a piece of evidence holds.
type Runtime string

// The runtimes.
const (
	RuntimeOwn         Runtime = ""            // this program: an *events.Error, or an error without a code
	RuntimeOpenVINO    Runtime = "openvino"    // ov_status_e, openvino/c/ov_common.h
	RuntimeOpenCL      Runtime = "opencl"      // cl_int, CL/cl.h
	RuntimeCUDA        Runtime = "cuda"        // cudaError_t, which agrees with the driver's CUresult where it counts
	RuntimeNVRTC       Runtime = "nvrtc"       // nvrtcResult, nvrtc.h
	RuntimeONNXRuntime Runtime = "onnxruntime" // OrtErrorCode, onnxruntime_c_api.h
	RuntimeNVML        Runtime = "nvml"        // nvmlReturn_t, nvml.h
	RuntimeXid         Runtime = "xid"         // Xid numbers of the NVIDIA kernel driver
)

// Evidence is what is known of a failure inside a process that still runs.
type Evidence struct {
	Runtime Runtime
	Status  int    // the runtime's number; 0 (success, everywhere) if there is none
	Text    string // the runtime's own words, also of several lines
	Stage   string // where in the work, such as "denoise step 3 of 20"; may be empty
	Device  string // such as "GPU.0"; may be empty
	// Err is the error as the program has it. If there is an *events.Error in its chain, that error's words are kept
	// in front of what the evidence adds, and its code counts where the evidence is not understood. May be nil.
	Err error
}

// KillReason says why this program ended a runner process.
type KillReason string

// The reasons.
const (
	KilledNot         KillReason = ""         // it was not this program
	KilledForHang     KillReason = "hang"     // no progress within the time allowed
	KilledForCancel   KillReason = "cancel"   // the request was cancelled, or belongs to another instance now
	KilledForDeadline KillReason = "deadline" // the request's time was up
	KilledForShutdown KillReason = "shutdown" // the instance ends
)
