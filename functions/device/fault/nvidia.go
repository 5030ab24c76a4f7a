package fault

import "genfn/events"

// nvmlReturn_t of nvml.h.
var nvmlRows = []row{
	{
		name: "nvml_gpu_lost", status: []int{15, 16}, names: []string{"NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED"}, verdict: needsReset,
		texts:   []string{"gpu is lost", "error_gpu_is_lost"},
		message: "{device} has fallen off the bus or needs a reset", advice: adviceReset,
		source: "nvml.h; leptonai/gpud issue 604",
	},
	{
		name: "nvml_no_driver", status: []int{9, 12, 13, 18, 25}, verdict: noDevice,
		names: []string{
			"NVML_ERROR_DRIVER_NOT_LOADED", "NVML_ERROR_LIBRARY_NOT_FOUND", "NVML_ERROR_FUNCTION_NOT_FOUND", "NVML_ERROR_LIB_RM_VERSION_MISMATCH", "NVML_ERROR_ARGUMENT_VERSION_MISMATCH",
		},
		texts:   []string{"driver/library version mismatch"},
		message: "the NVIDIA driver for {device} is not loaded, or its parts are of different versions", advice: adviceInstall,
		source: "nvml.h: a mismatch is left by an update of the driver until the machine restarts",
	},
	{
		name: "nvml_not_found", status: []int{6, 28}, names: []string{"NVML_ERROR_NOT_FOUND", "NVML_ERROR_GPU_NOT_FOUND"}, verdict: noDevice,
		message: "NVML finds no device {device}", advice: adviceInstall,
		source: "nvml.h",
	},
	{
		name: "nvml_power", status: []int{8, 11, 14}, names: []string{"NVML_ERROR_INSUFFICIENT_POWER", "NVML_ERROR_IRQ_ISSUE", "NVML_ERROR_CORRUPTED_INFOROM"}, verdict: needsReset,
		message: "{device} has a hardware problem (power, interrupt or its own storage)", advice: adviceReset,
		source: "nvml.h",
	},
	{
		name: "nvml_not_now", status: []int{10, 19, 27}, names: []string{"NVML_ERROR_TIMEOUT", "NVML_ERROR_IN_USE", "NVML_ERROR_NOT_READY"}, verdict: notNow,
		message: "{device} does not answer at the moment", advice: adviceMoment,
		source: "nvml.h",
	},
	{
		name: "nvml_memory", status: []int{20, 23}, names: []string{"NVML_ERROR_MEMORY", "NVML_ERROR_INSUFFICIENT_RESOURCES"}, verdict: hostMemory,
		message: "the machine has no memory left to ask {device} for its state", advice: adviceHostMemory,
		source: "nvml.h",
	},
}

// Numbers of NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors), from the kernel log or an NVML event.
var xidRows = []row{
	{
		name: "xid_application", status: []int{13, 31, 32, 43, 45, 68, 94}, verdict: gpuError,
		message: "the driver of {device} stopped the runner's work", advice: adviceDriver,
		source: "Xid catalogue: faults of one application (94: a contained memory error), the device itself goes on",
	},
	{
		name: "xid_information", status: []int{63, 92, 93}, verdict: verdict{ClassTransient, ActionRetry, false, events.CodeGPURuntimeError},
		message: "the driver of {device} has noted errors that were dealt with", advice: "Nothing needs to be done at once. If many come, plan to exchange the device.",
		source: "Xid catalogue: 63 a retired page or remapped row was recorded, 92 many corrected errors, 93 wear of the device's own storage",
	},
	{
		name: "xid_reset", status: []int{46, 48, 62, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158}, verdict: needsReset,
		message: "the driver of {device} asks for a reset of the device", advice: adviceReset,
		source: "Xid catalogue: immediate action RESET_GPU",
	},
	{
		name: "xid_off_the_bus", status: []int{79}, verdict: needsReset,
		texts:   []string{"gpu has fallen off the bus", "fallen off the bus and is not responding"},
		message: "{device} has fallen off the bus",
		advice:  "Restart the machine of the instance; check power and cooling of the device if it happens again. Until then serve the model on another device.",
		source:  "Xid catalogue: RESTART_BM; NVIDIA/open-gpu-kernel-modules issue 507",
	},
}
