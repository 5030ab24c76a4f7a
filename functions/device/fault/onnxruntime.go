package fault

import "genfn/events"

// The numbers are those of OrtErrorCode, onnxruntime_c_api.h. 1 (fail), 6 (runtime exception) and 11 (failure of an
// execution provider) say nothing and have no row: what they are about is in the text. So it is with 2 (invalid
// argument), which a damaged file gives as well as a tensor of the wrong shape: these words count before the numbers.
var onnxruntimeRows = []row{
	{
		name: "onnxruntime_arena", verdict: noRoomDirty,
		texts:   []string{"failed to allocate memory for requested buffer of size", "is smaller than requested bytes of"},
		message: "{device} has no memory left", advice: adviceSmaller,
		source: "onnxruntime bfc_arena.cc: the arena keeps what it has, so the session must be made anew; issues 20038, 22702, 9939",
	},
	{
		name: "onnxruntime_terminated", verdict: stopped,
		texts:   []string{"exiting due to terminate flag being set"},
		message: "the inference was cancelled",
		source:  "onnxruntime sequential_executor.cc, code 1",
	},
	{
		name: "onnxruntime_provider_library", verdict: noDevice,
		texts:   []string{"failed to load library", "loadlibrary failed with error"},
		message: "ONNX Runtime's CUDA provider, or a library that it needs, cannot be loaded for {device}",
		advice:  "The detail names the library. Install the CUDA libraries and cuDNN that this release of ONNX Runtime needs.",
		source:  "onnxruntime provider_bridge_ort.cc, code 1; issues 21684, 22968",
	},
	{
		name: "onnxruntime_provider_missing", verdict: noDevice,
		texts:   []string{"execution provider is not enabled in this build", "is not in available provider names"},
		message: "the installed ONNX Runtime cannot use {device}",
		advice:  "Install ONNX Runtime with its CUDA provider, or serve the model on the CPU.",
		source:  "onnxruntime C API, code 1: the CPU-only package",
	},
	{
		name: "onnxruntime_invalid_argument", status: []int{2}, verdict: refused,
		texts:   []string{"got invalid dimensions for input", "unexpected input data type", "invalid rank for input", "invalid rank for output"},
		message: "the model does not take inputs of this shape",
		advice:  "Use a size that the model was exported for: genfn model show prints its default size.",
		source:  "onnxruntime inference_session.cc, code 2 INVALID_ARGUMENT",
	},
	{
		name: "onnxruntime_model_file", status: []int{3, 7, 10, 14}, verdict: badModel,
		texts: []string{
			"protobuf parsing failed", "no graph was found in the protobuf", "this is an invalid model", "invalid model. node", "file doesn't exist", "invalid_graph",
			"model verification failed",
		},
		message: "a file of the model is missing, cut off or damaged", advice: adviceModel,
		source: "onnxruntime_c_api.h: NO_SUCHFILE, INVALID_PROTOBUF, INVALID_GRAPH, NOT_FOUND; release 1.31.1; commaai/commavq issue 12",
	},
	{
		name: "onnxruntime_not_implemented", status: []int{9, 13}, verdict: unsupported,
		texts:   []string{"could not find an implementation for"},
		message: "ONNX Runtime does not support an operation of the model on {device}", advice: adviceOther,
		source: "onnxruntime_c_api.h: NOT_IMPLEMENTED, MODEL_REQUIRES_COMPILATION; issues 24441, 17299",
	},
	{
		name: "onnxruntime_order", status: []int{4, 8}, verdict: ownMistake,
		message: "ONNX Runtime was called in an order that it refuses",
		source:  "onnxruntime_c_api.h: NO_MODEL, MODEL_LOADED",
	},
	{
		name: "onnxruntime_engine", status: []int{5}, verdict: gpuError,
		message: "ONNX Runtime's engine failed on {device}", advice: adviceDriver,
		source: "onnxruntime_c_api.h: ENGINE_ERROR",
	},
	{
		name: "onnxruntime_load_cancelled", status: []int{12}, verdict: verdict{ClassStopped, ActionNone, false, events.CodeCancelled},
		message: "loading the model was cancelled",
		source:  "onnxruntime_c_api.h: MODEL_LOAD_CANCELED",
	},
}
