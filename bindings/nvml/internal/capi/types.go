package capi

// The handles are pointers into the library's memory; 0 is null.
type (
	// Device is nvmlDevice_t. It needs no release.
	Device uintptr
	// EventSet is nvmlEventSet_t.
	EventSet uintptr
)

// Status is nvmlReturn_t.
type Status uint32

// The statuses that the safe layer tells apart.
const (
	Success          Status = 0  // NVML_SUCCESS
	NotSupported     Status = 3  // NVML_ERROR_NOT_SUPPORTED
	NotFound         Status = 6  // NVML_ERROR_NOT_FOUND
	InsufficientSize Status = 7  // NVML_ERROR_INSUFFICIENT_SIZE
	Timeout          Status = 10 // NVML_ERROR_TIMEOUT
	FunctionNotFound Status = 13 // NVML_ERROR_FUNCTION_NOT_FOUND
	GPUIsLost        Status = 15 // NVML_ERROR_GPU_IS_LOST
	ResetRequired    Status = 16 // NVML_ERROR_RESET_REQUIRED
)

// EnableState is nvmlEnableState_t.
type EnableState uint32

// Enabled is NVML_FEATURE_ENABLED.
const Enabled EnableState = 1

// TemperatureSensor is nvmlTemperatureSensors_t.
type TemperatureSensor uint32

// TemperatureGPU is the sensor of the GPU's die.
const TemperatureGPU TemperatureSensor = 0 // NVML_TEMPERATURE_GPU

// TemperatureThreshold is nvmlTemperatureThresholds_t.
type TemperatureThreshold uint32

// MemoryErrorType is nvmlMemoryErrorType_t.
type MemoryErrorType uint32

// ECCCounterType is nvmlEccCounterType_t.
type ECCCounterType uint32

// PageRetirementCause is nvmlPageRetirementCause_t.
type PageRetirementCause uint32

// Memory is nvmlMemory_v2_t. Version is MemoryVersion.
type Memory struct {
	Version                     uint32
	Total, Reserved, Free, Used uint64
}

// MemoryVersion is NVML_STRUCT_VERSION(Memory, 2): the size of the struct, and the version above it.
const MemoryVersion = 2<<24 | 40

// Utilization is nvmlUtilization_t.
type Utilization struct {
	GPU, Memory uint32
}

// ProcessInfo is nvmlProcessInfo_t.
type ProcessInfo struct {
	PID                              uint32
	UsedGPUMemory                    uint64
	GPUInstanceID, ComputeInstanceID uint32
}

// EventData is nvmlEventData_t.
type EventData struct {
	Device                           Device
	EventType, EventData             uint64
	GPUInstanceID, ComputeInstanceID uint32
}
