package fault

// The numbers are those of CL/cl.h, where their names stand. Intel's GPU plugin of OpenVINO quotes them in its texts
// (src/plugins/intel_gpu/src/runtime/ocl/ocl_common.hpp) as "[GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES",
// older releases without the name, and -5 at some places as "[GPU] CL_OUT_OF_RESOURCES exception." without the number.
var openclRows = []row{
	{
		name: "opencl_out_of_resources", status: []int{-5}, names: []string{"CL_OUT_OF_RESOURCES"}, verdict: contextLost,
		message: "the driver of {device} gave up (out of resources): what it was computing is lost",
		advice:  adviceDriver,
		source:  "OpenVINO's own text under it: any further OpenCL call may hang; openvino PR 16724, 29062; intel/compute-runtime 697: often a GPU hang",
	},
	{
		name: "opencl_failed_event", status: []int{-14}, names: []string{"CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST"}, verdict: contextLost,
		message: "a computation on {device} failed and what waited for it is lost",
		advice:  adviceDriver,
		source:  "OpenCL 3.0, clWaitForEvents: an event ended with a negative status; openvino issue 31781; ILGPU 1169: the driver's watchdog",
	},
	{
		name: "opencl_allocation_failure", status: []int{-4}, names: []string{"CL_MEM_OBJECT_ALLOCATION_FAILURE"}, verdict: noRoomDirty,
		message: "{device} has no memory left", advice: adviceSmaller,
		source: "OpenCL 3.0, clCreateBuffer and clEnqueue*: failure to allocate memory for a buffer; also reported late, by the command that uses it",
	},
	{
		name: "opencl_invalid_buffer_size", status: []int{-61}, names: []string{"CL_INVALID_BUFFER_SIZE"}, verdict: noRoom,
		message: "a buffer would be larger than {device} allows", advice: adviceSmaller,
		source: "OpenCL 3.0, clCreateBuffer: size is 0 or greater than CL_DEVICE_MAX_MEM_ALLOC_SIZE; refused before any work",
	},
	{
		name: "opencl_out_of_host_memory", status: []int{-6}, names: []string{"CL_OUT_OF_HOST_MEMORY"}, verdict: hostMemory,
		message: "the driver of {device} got no memory from the machine", advice: adviceHostMemory,
		source: "OpenCL 3.0: failure to allocate resources required by the implementation on the host; intel/compute-runtime 963: also a driver that cannot build a kernel",
	},
	{
		name: "opencl_device_not_found", status: []int{-1, -32, -33}, names: []string{"CL_DEVICE_NOT_FOUND", "CL_INVALID_PLATFORM", "CL_INVALID_DEVICE"}, verdict: noDevice,
		message: "OpenCL finds no device {device}", advice: adviceInstall,
		source: "OpenCL 3.0, clGetDeviceIDs",
	},
	{
		name: "opencl_platform_not_found", status: []int{-1001}, names: []string{"CL_PLATFORM_NOT_FOUND_KHR"}, verdict: noDevice,
		message: "no OpenCL driver is installed for {device}", advice: adviceInstall,
		source: "cl_khr_icd: no platform; openvino issue 5, intel/inference-engine-node 36",
	},
	{
		name: "opencl_device_not_available", status: []int{-2}, names: []string{"CL_DEVICE_NOT_AVAILABLE"}, verdict: notNow,
		message: "{device} is not available at the moment", advice: adviceMoment,
		source: "OpenCL 3.0, clCreateContext: the device is currently not available even though it was listed",
	},
	{
		name: "opencl_no_compiler", status: []int{-3, -16}, names: []string{"CL_COMPILER_NOT_AVAILABLE", "CL_LINKER_NOT_AVAILABLE"}, verdict: noDevice,
		message: "the driver of {device} has no compiler", advice: adviceInstall,
		source: "OpenCL 3.0, clBuildProgram; Intel's driver without its graphics compiler (libigc)",
	},
	{
		name: "opencl_build_failure", status: []int{-11, -15, -17}, verdict: unsupported,
		names:   []string{"CL_BUILD_PROGRAM_FAILURE", "CL_COMPILE_PROGRAM_FAILURE", "CL_LINK_PROGRAM_FAILURE"},
		message: "the driver cannot compile the model's kernels for {device}", advice: adviceOther,
		source: "OpenCL 3.0, clBuildProgram: deterministic for one source and driver, nothing has run",
	},
	{
		name: "opencl_image_format", status: []int{-9, -10}, names: []string{"CL_IMAGE_FORMAT_MISMATCH", "CL_IMAGE_FORMAT_NOT_SUPPORTED"}, verdict: gpuError,
		message: "the runtime used an image format that {device} does not have", advice: adviceOther,
		source: "OpenCL 3.0, clCreateImage, clEnqueueCopyImage",
	},
	{
		name: "opencl_context_invalid", status: []int{-34, -36, -58}, verdict: contextLost,
		names:   []string{"CL_INVALID_CONTEXT", "CL_INVALID_COMMAND_QUEUE", "CL_INVALID_EVENT"},
		message: "the context of {device} is not valid any more", advice: adviceDriver,
		source: "OpenCL 3.0: a handle that worked before is refused, as after a reset of the device",
	},
	{
		name: "opencl_memory_object_invalid", status: []int{-38}, names: []string{"CL_INVALID_MEM_OBJECT"}, verdict: gpuError,
		message: "a buffer on {device} is not valid any more", advice: adviceDriver,
		source: "OpenCL 3.0, clSetKernelArg, clEnqueue*",
	},
	{
		name: "opencl_kernel_invalid", status: []int{-44, -45, -46, -48, -50, -51, -52}, verdict: gpuError,
		names: []string{
			"CL_INVALID_PROGRAM", "CL_INVALID_PROGRAM_EXECUTABLE", "CL_INVALID_KERNEL_NAME", "CL_INVALID_KERNEL",
			"CL_INVALID_ARG_VALUE", "CL_INVALID_ARG_SIZE", "CL_INVALID_KERNEL_ARGS",
		},
		message: "a kernel of the model cannot be started on {device}", advice: adviceOther,
		source: "OpenCL 3.0, clEnqueueNDRangeKernel; openvino issue 21004 (-52)",
	},
	{
		name: "opencl_work_size", status: []int{-53, -54, -55, -56, -63}, verdict: verdict{ClassRequest, ActionOtherDevice, true, gpuError.code},
		names: []string{
			"CL_INVALID_WORK_DIMENSION", "CL_INVALID_WORK_GROUP_SIZE", "CL_INVALID_WORK_ITEM_SIZE", "CL_INVALID_GLOBAL_OFFSET", "CL_INVALID_GLOBAL_WORK_SIZE",
		},
		message: "a kernel of the model does not fit {device} at this size",
		advice:  "Try another size, or serve the model on another device.",
		source:  "OpenCL 3.0, clEnqueueNDRangeKernel: deterministic for model, size and device; openvino issue 23449",
	},
	{
		name: "opencl_invalid_value", status: []int{-30, -37, -59}, names: []string{"CL_INVALID_VALUE", "CL_INVALID_HOST_PTR", "CL_INVALID_OPERATION"}, verdict: gpuError,
		message: "the runtime made a call that the driver of {device} refuses", advice: adviceDriver,
		source: "OpenCL 3.0",
	},
	{
		name: "opencl_map_failure", status: []int{-12}, names: []string{"CL_MAP_FAILURE"}, verdict: noRoomDirty,
		message: "memory of {device} cannot be mapped", advice: adviceSmaller,
		source: "OpenCL 3.0, clEnqueueMapBuffer: failure to map the requested region into the host's address space",
	},
}
