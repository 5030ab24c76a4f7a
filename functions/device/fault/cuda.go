package fault

import "genfn/events"

// The numbers and names are those of driver_types.h (CUDA 13); the numbers from 100 on agree with CUresult of cuda.h.
// Sticky errors are those whose comment there says "must be terminated and relaunched", and those after which every
// call of the process has been seen to fail. The texts are cudaGetErrorString's: releases before CUDA 10.1 had other
// numbers (77 for 700, 39 for 214) with the same texts.
var cudaRows = []row{
	{
		name: "cuda_out_of_memory", status: []int{2}, names: []string{"cudaErrorMemoryAllocation"}, verdict: noRoom,
		texts:   []string{"cuda out of memory", "cuda_error_out_of_memory", "out of memory ; gpu=", "cudamalloc failed: out of memory"},
		message: "{device} has no memory left", advice: adviceSmaller,
		source: "driver_types.h: unable to allocate enough memory; not sticky",
	},
	{
		name: "cuda_host_memory", status: []int{304}, names: []string{"cudaErrorOperatingSystem"}, verdict: hostTrouble,
		title:   "Resource limit exceeded",
		message: "the operating system refused a call of the CUDA driver for {device}",
		advice:  "Look at the detail and at the limits of the instance's machine or container (memory, locked memory, open files).",
		source:  "driver_types.h: an OS call failed",
	},
	{
		name: "cuda_illegal_address", status: []int{700, 714, 715, 716, 717, 718}, verdict: contextLost,
		names: []string{
			"cudaErrorIllegalAddress", "cudaErrorHardwareStackError", "cudaErrorIllegalInstruction", "cudaErrorMisalignedAddress",
			"cudaErrorInvalidAddressSpace", "cudaErrorInvalidPc",
		},
		texts:   []string{"an illegal memory access was encountered", "an illegal instruction was encountered", "misaligned address"},
		message: "a kernel made an illegal access on {device}: its context is dead", advice: adviceDriver,
		source: "driver_types.h: leaves the process in an inconsistent state; onnxruntime issues 26312, 5295",
	},
	{
		name: "cuda_launch_failure", status: []int{710, 719, 721, 4}, verdict: contextLost,
		names:   []string{"cudaErrorAssert", "cudaErrorLaunchFailure", "cudaErrorTensorMemoryLeak", "cudaErrorCudartUnloading"},
		texts:   []string{"unspecified launch failure", "device-side assert triggered"},
		message: "a kernel failed on {device}: its context is dead", advice: adviceDriver,
		source: "driver_types.h: must be terminated and relaunched; triton server issue 3627: the process answers ready for ever",
	},
	{
		name: "cuda_launch_timeout", status: []int{702}, names: []string{"cudaErrorLaunchTimeout"}, verdict: verdict{ClassHang, ActionFreshRunner, true, events.CodeHang},
		texts:   []string{"the launch timed out and was terminated"},
		message: "a kernel ran longer than the driver of {device} allows and was stopped",
		advice:  "Send the request again, or try a smaller size. On a GPU that also drives a display, the display's time limit can be the reason.",
		source:  "driver_types.h: the device kernel took too long; sticky",
	},
	{
		name: "cuda_ecc_uncorrectable", status: []int{214, 220, 226, 911}, verdict: needsReset,
		names:   []string{"cudaErrorECCUncorrectable", "cudaErrorNvlinkUncorrectable", "cudaErrorContained", "cudaErrorExternalDevice"},
		texts:   []string{"uncorrectable ecc error encountered", "cuda_error_ecc_uncorrectable", "uncorrectable nvlink error"},
		message: "the hardware of {device} reported an error that it could not correct", advice: adviceReset,
		source: "driver_types.h; vllm issue 5222, sglang issue 9151: gone after a reset or a new machine",
	},
	{
		name: "cuda_no_driver", status: []int{34, 35, 36, 803, 804}, verdict: noDevice,
		names: []string{
			"cudaErrorStubLibrary", "cudaErrorInsufficientDriver", "cudaErrorCallRequiresNewerDriver", "cudaErrorSystemDriverMismatch", "cudaErrorCompatNotSupportedOnDevice",
		},
		texts:   []string{"cuda driver version is insufficient for cuda runtime version"},
		message: "the NVIDIA driver for {device} is missing or too old", advice: adviceInstall,
		source: "driver_types.h; 35 is also what a machine without any driver says",
	},
	{
		name: "cuda_no_device", status: []int{100, 101, 102}, names: []string{"cudaErrorNoDevice", "cudaErrorInvalidDevice", "cudaErrorDeviceNotLicensed"}, verdict: noDevice,
		texts:   []string{"no cuda-capable device is detected", "invalid device ordinal"},
		message: "CUDA finds no device {device}", advice: adviceInstall,
		source: "driver_types.h",
	},
	{
		name: "cuda_initialization", status: []int{3, 127, 201}, names: []string{"cudaErrorInitializationError", "cudaErrorStartupFailure", "cudaErrorDeviceUninitialized"}, verdict: noDevice,
		message: "the CUDA driver for {device} cannot start", advice: adviceInstall,
		source: "driver_types.h",
	},
	{
		name: "cuda_devices_unavailable", status: []int{46, 216, 802}, verdict: notNow,
		names:   []string{"cudaErrorDevicesUnavailable", "cudaErrorDeviceAlreadyInUse", "cudaErrorSystemNotReady"},
		texts:   []string{"all cuda-capable devices are busy or unavailable"},
		message: "{device} is busy or not ready yet",
		advice:  "Send the request again in a moment. If it stays so, another program holds the device for itself (compute mode), or its service is not running.",
		source:  "driver_types.h",
	},
	{
		name: "cuda_no_kernel_image", status: []int{98, 200, 209, 218, 221, 222, 223, 225, 227}, verdict: unsupported,
		names: []string{
			"cudaErrorInvalidDeviceFunction", "cudaErrorInvalidKernelImage", "cudaErrorNoKernelImageForDevice", "cudaErrorInvalidPtx", "cudaErrorJitCompilerNotFound",
			"cudaErrorUnsupportedPtxVersion", "cudaErrorJitCompilationDisabled", "cudaErrorUnsupportedDevSideSync", "cudaErrorInsufficientLoaderVersion",
		},
		texts:   []string{"no kernel image is available for execution on the device"},
		message: "the installed CUDA libraries have no code for {device}",
		advice:  "Install CUDA libraries that support this device's generation, or serve the model on another device.",
		source:  "driver_types.h; onnxruntime issues 26221, 27504; deterministic, nothing has run",
	},
	{
		name: "cuda_symbol_not_found", status: []int{500}, names: []string{"cudaErrorSymbolNotFound"},
		verdict: verdict{ClassHost, ActionOtherDevice, false, events.CodeDeviceUnavailable},
		texts:   []string{"named symbol not found"},
		message: "the compiled kernels for {device} lack a function that is asked for",
		advice:  "Remove the kernels from the cache folder of the instance (--cache-dir), so that they are compiled again.",
		source:  "driver_types.h: cudaErrorSymbolNotFound, nothing has run; on an H200 the context went on",
	},
	{
		name: "cuda_launch_too_large", status: []int{9, 701, 720, 912}, verdict: verdict{ClassRequest, ActionOtherDevice, false, gpuError.code},
		names:   []string{"cudaErrorInvalidConfiguration", "cudaErrorLaunchOutOfResources", "cudaErrorCooperativeLaunchTooLarge", "cudaErrorInvalidClusterSize"},
		texts:   []string{"too many resources requested for launch"},
		message: "a kernel of the model does not fit {device} at this size",
		advice:  "Try another size, or serve the model on another device.",
		source:  "driver_types.h: the launch was refused, nothing has run",
	},
	{
		name: "cuda_invalid_value", status: []int{1, 400, 709}, names: []string{"cudaErrorInvalidValue", "cudaErrorInvalidResourceHandle", "cudaErrorContextIsDestroyed"}, verdict: ownMistake,
		message: "a call was made that CUDA refuses on {device}",
		source:  "driver_types.h: 1 is not sticky, but a wrong argument of our own may have written anywhere",
	},
	{
		name: "cuda_not_supported", status: []int{800, 801}, names: []string{"cudaErrorNotPermitted", "cudaErrorNotSupported"}, verdict: unsupported,
		message: "{device} does not support an operation of the model", advice: adviceOther,
		source: "driver_types.h",
	},
	{
		name: "cuda_mps", status: []int{805, 806, 807, 808, 809, 810}, verdict: noDevice,
		names: []string{
			"cudaErrorMpsConnectionFailed", "cudaErrorMpsRpcFailure", "cudaErrorMpsServerNotReady", "cudaErrorMpsMaxClientsReached",
			"cudaErrorMpsMaxConnectionsReached", "cudaErrorMpsClientTerminated",
		},
		message: "the MPS service that shares {device} does not work", advice: "Restart the MPS service of the instance's machine, or use the device without it.",
		source: "driver_types.h",
	},
	{
		name: "cuda_unknown", status: []int{999}, names: []string{"cudaErrorUnknown"}, verdict: contextLost,
		message: "the CUDA driver of {device} reported an unknown error", advice: adviceDriver,
		source: "driver_types.h; onnxruntime issue 14211; seen to stay until the process ends",
	},
}

// Status names of cuBLAS (cublas_api.h) and cuDNN (cudnn_graph.h), as ONNX Runtime quotes them. Their numbers differ
// between releases (cuDNN 8: EXECUTION_FAILED is 8, cuDNN 9: 5000), the names do not.
var cudaLibraryRows = []row{
	{
		name: "cuda_library_alloc_failed", names: []string{"CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"}, verdict: noRoomDirty,
		message: "{device} has no memory left for cuBLAS or cuDNN", advice: adviceSmaller,
		source: "cublas_api.h, cudnn_graph.h; onnxruntime issue 16512, hacksider/Deep-Live-Cam 645",
	},
	{
		name: "cuda_library_failed", verdict: contextLost,
		names: []string{
			"CUBLAS_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_INTERNAL_ERROR", "CUBLAS_STATUS_MAPPING_ERROR", "CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_EXECUTION_FAILED_CUDART",
			"CUDNN_STATUS_EXECUTION_FAILED_CUBLAS", "CUDNN_STATUS_INTERNAL_ERROR", "CUDNN_STATUS_MAPPING_ERROR", "CUDNN_BACKEND_API_FAILED",
		},
		message: "cuBLAS or cuDNN failed on {device}", advice: adviceDriver,
		source: "triton server issue 4766: crashes after days; onnxruntime issue 23497",
	},
	{
		name: "cuda_library_not_initialized", names: []string{"CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_NOT_INITIALIZED"}, verdict: noDevice,
		message: "cuBLAS or cuDNN cannot start on {device}",
		advice:  "Check that the versions of driver, CUDA libraries and cuDNN fit each other, and that the device has free memory.",
		source:  "onnxruntime issues 2386, 2524",
	},
	{
		name: "cuda_library_unsupported", verdict: unsupported,
		names:   []string{"CUBLAS_STATUS_ARCH_MISMATCH", "CUBLAS_STATUS_NOT_SUPPORTED", "CUDNN_STATUS_NOT_SUPPORTED", "CUDNN_STATUS_ARCH_MISMATCH", "CUDNN_STATUS_BAD_PARAM"},
		message: "cuBLAS or cuDNN does not support an operation of the model on {device}", advice: adviceOther,
		source: "cublas_api.h, cudnn_graph.h; onnxruntime issue 1606",
	},
}

// nvrtcResult of nvrtc.h (CUDA 13). NVRTC compiles on the host and touches no device.
var nvrtcRows = []row{
	{
		name: "nvrtc_out_of_memory", status: []int{1, 14}, names: []string{"NVRTC_ERROR_OUT_OF_MEMORY", "NVRTC_ERROR_PCH_CREATE_HEAP_EXHAUSTED"}, verdict: hostMemory,
		message: "the machine has no memory left to compile the kernels for {device}", advice: adviceHostMemory,
		source: "nvrtc.h",
	},
	{
		name: "nvrtc_compilation", status: []int{5, 6}, names: []string{"NVRTC_ERROR_INVALID_OPTION", "NVRTC_ERROR_COMPILATION"}, verdict: noDevice,
		message: "the kernels cannot be compiled for {device}",
		advice:  "Install an NVRTC that knows this device's generation, or serve the model on another device.",
		source:  "nvrtc.h: 5 for an unknown --gpu-architecture, 6 with a log (a missing header says so there)",
	},
	{
		name: "nvrtc_builtins", status: []int{7}, names: []string{"NVRTC_ERROR_BUILTIN_OPERATION_FAILURE"}, verdict: noDevice,
		message: "the library libnvrtc-builtins is missing or does not fit libnvrtc", advice: adviceInstall,
		source: "nvrtc.h",
	},
	{
		name: "nvrtc_busy", status: []int{18}, names: []string{"NVRTC_ERROR_BUSY"}, verdict: notNow,
		message: "the compiler of the kernels for {device} is busy", advice: adviceMoment,
		source: "nvrtc.h",
	},
	{
		name: "nvrtc_internal", status: []int{2, 3, 4, 8, 9, 10, 11, 12, 13, 15, 16, 17}, names: []string{"NVRTC_ERROR_INTERNAL_ERROR"}, verdict: ownMistake,
		message: "the compiler of the kernels for {device} failed",
		source:  "nvrtc.h: its own failure, or calls in an order that it refuses",
	},
}
