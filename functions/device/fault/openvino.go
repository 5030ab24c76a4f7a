package fault

import "genfn/events"

// The numbers are those of ov_status_e, openvino/c/ov_common.h. -1 (general error), -7 (unexpected) and -17 (unknown
// exception) say nothing and have no row. The words are those of OpenVINO 2026.4 and, where an issue is named, of the
// release it is about.
var openvinoRows = []row{
	{
		name: "openvino_busy", status: []int{-8, -9, -10, -11, -12, -3, -14, -15, -16}, verdict: ownMistake,
		texts:   []string{"infer request is busy"},
		message: "OpenVINO was called in an order that it refuses, which is a mistake in this program",
		source:  "ov_common.h: REQUEST_BUSY, RESULT_NOT_READY, NOT_ALLOCATED, INFER_NOT_STARTED, NETWORK_NOT_READ, NETWORK_NOT_LOADED, INVALID_C_PARAM, UNKNOWN_C_ERROR, NOT_IMPLEMENT_C_METHOD",
	},
	{
		name: "openvino_cancelled", status: []int{-13}, verdict: stopped,
		texts:   []string{"infer request was canceled"},
		message: "the inference was cancelled",
		source:  "ov_common.h: INFER_CANCELLED",
	},
	{
		name: "openvino_allocation_too_large", verdict: noRoom,
		texts:   []string{"exceeded max size of memory object allocation", "exceeded max size of memory allocation"},
		message: "{device} does not allow an allocation of this size", advice: adviceSmaller,
		source: "intel_gpu ocl_engine.cpp, check_allocatable: refused before any work; openvino.genai issue 2406",
	},
	{
		name: "openvino_out_of_gpu_resources", verdict: noRoomDirty,
		texts:   []string{"[gpu] out of gpu resources"},
		message: "{device} has no memory left", advice: adviceSmaller,
		source: "intel_gpu ocl_engine.cpp, allocate_memory: OpenCL -4, -5, -6 or -61 while allocating; immich issue 13674",
	},
	{
		name: "openvino_usm_allocation", verdict: noRoomDirty,
		texts:   []string{"[cl ext] can not allocate"},
		message: "{device} has no memory left", advice: adviceSmaller,
		source: "intel_gpu ocl_ext.hpp, UsmMemory: the error of clHostMemAllocINTEL and its kin follows the text; seen with -4 and -6 injected",
	},
	{
		name: "openvino_opencl_loader", verdict: noDevice,
		texts:   []string{"libopencl.so.1: cannot open shared object file"},
		message: "OpenCL is not installed on the instance's machine, so {device} cannot be used",
		advice:  "Install OpenCL and Intel's GPU driver (Debian and Ubuntu: ocl-icd-libopencl1 and intel-opencl-icd), or serve the model on the CPU.",
		source:  "dlopen of libopenvino_intel_gpu_plugin.so; vllm-openvino issue 25",
	},
	{
		name: "openvino_no_device", verdict: noDevice,
		texts: []string{
			"property as no supported devices found", "no supported ocl devices found", "name is not registered in the openvino runtime", "cannot find available devices",
			"no gpu device was found", "[gpu] context was not initialized for", "failed to create context", "failed to create opencl context", "failed to create cuda context",
			"failed to create command queue", "failed to create plugin",
		},
		message: "OpenVINO cannot use {device} on this machine", advice: adviceInstall,
		source: "intel_gpu plugin.cpp, core_impl.cpp; openvino issues 24913, 452, openvino.genai issue 920",
	},
	{
		name: "openvino_plugin_library", verdict: noDevice,
		texts:   []string{"cannot load library"},
		message: "OpenVINO's plug-in for {device}, or a library that it needs, cannot be loaded",
		advice:  "The detail names the library. Install it, or point --openvino-dir at a complete OpenVINO.",
		source:  "openvino util/shared_object.cpp; openvino_notebooks issue 556",
	},
	{
		name: "openvino_stale_cache", verdict: verdict{ClassHost, ActionFreshRunner, true, events.CodeModelLoadFailed},
		texts:   []string{"cannot import compiled blob", "corrupt cache blob", "failed to open cache file"},
		message: "a compiled network that was kept for {device} cannot be used",
		advice:  "Remove the folder \"openvino\" in the cache folder of the instance (--cache-dir): it is made again.",
		source:  "intel_gpu plugin.cpp, import_model: made by another release or driver, or cut off",
	},
	{
		name: "openvino_model_file", verdict: badModel,
		texts: []string{
			"incorrect weights in bin file", "empty weights data in bin file", "layer has incorrect weights", "failed to read weights from", "can't open xml file", "can't open bin file",
			"unable to read the model", "error parsing xml", "unknown model format",
		},
		message: "a file of the model is missing, cut off or damaged", advice: adviceModel,
		source: "openvino ir frontend; openvino issues 679, 11760, openvino_notebooks issue 745",
	},
	{
		name: "openvino_input_mismatch", status: []int{-4, -6}, verdict: refused,
		texts: []string{
			"tensor size is not equal to the model", "can't set the input tensor", "can't set input tensor", "failed to set tensor for input", "can't set the output tensor",
			"blob size is not equal to the network input size",
		},
		message: "the model does not take inputs of this shape",
		advice:  "Use a size that the model was exported for: genfn model show prints its default size.",
		source:  "openvino sync_infer_request.cpp; ov_common.h: PARAMETER_MISMATCH, OUT_OF_BOUNDS; openvino_notebooks issues 863, 2812",
	},
	{
		name: "openvino_primitive_unsupported", verdict: unsupported,
		texts: []string{
			"could not create a primitive descriptor", "could not find a suitable kernel", "can't choose implementation for", "primitive descriptor was not found",
			"unsupported primitive of type", "is not supported by the cpu plugin",
			"from unsupported opset", "failed to translate onnx model", "mismatching primitive's type",
		},
		message: "{device} does not support an operation or a shape of the model", advice: adviceOther,
		source: "intel_gpu, intel_cpu and frontends; openvino issues 157, 8422, intel/openvino-ai-plugins-gimp issue 100, open-edge-platform/geti issue 5972",
	},
	{
		name: "openvino_not_implemented", status: []int{-2}, verdict: unsupported,
		texts:   []string{"[ not_implemented ]"},
		message: "OpenVINO does not support an operation of the model on {device}", advice: adviceOther,
		source: "ov_common.h: NOT_IMPLEMENTED",
	},
	{
		name: "openvino_not_found", status: []int{-5}, verdict: unsupported,
		message: "OpenVINO does not find a part of the model that it was asked for", advice: adviceModel,
		source: "ov_common.h: NOT_FOUND; not to be taken for OpenCL's -5",
	},
	{
		name: "onednn_execute", verdict: gpuError,
		texts:   []string{"could not execute a primitive"},
		message: "a computation on {device} failed", advice: adviceDriver,
		source: "oneDNN 914: lack of memory or a failed kernel, the text does not tell which; treated as the worse",
	},
	{
		name: "onednn_create", verdict: gpuError,
		texts:   []string{"could not create a primitive"},
		message: "a computation could not be prepared on {device}", advice: adviceDriver,
		source: "ComfyUI 5270: lack of memory; intel-extension-for-pytorch 508, compute-runtime 963: the driver; the text does not tell which",
	},
}
