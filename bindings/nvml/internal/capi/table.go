// Package capi is the raw layer over NVML, the NVIDIA Management Library (libnvidia-ml), which comes with the driver: a
// table of symbols, each under its C prototype, and one Go method a symbol that converts the arguments, nothing more. It
// checks nothing. The safe layer above it is the only importer. A test compares prototypes, parameters, calls and structs
// with the headers of lines 12 and 13.
//
// These details have caused bugs:
//   - nvml.h names functions without a version and defines the newest over them: nvmlInit means the symbol nvmlInit_v2,
//     and the plain symbol is an older function with other arguments.
//   - Symbols that came with later drivers are optional here: calling address 0 is a crash, so the safe layer looks first.
//   - Memory and ProcessInfo have padding after their first field, which Go puts where C does.
package capi

// Table holds the addresses of the C functions that genfn calls.
type Table struct {
	// nvmlReturn_t nvmlInit_v2(void);
	InitV2 uintptr `sym:"nvmlInit_v2"`
	// nvmlReturn_t nvmlShutdown(void);
	Shutdown uintptr `sym:"nvmlShutdown"`
	// const char *nvmlErrorString(nvmlReturn_t result);
	ErrorString uintptr `sym:"nvmlErrorString"`
	// nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length);
	SystemGetDriverVersion uintptr `sym:"nvmlSystemGetDriverVersion"`

	// nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *deviceCount);
	DeviceGetCountV2 uintptr `sym:"nvmlDeviceGetCount_v2"`
	// nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device);
	DeviceGetHandleByIndexV2 uintptr `sym:"nvmlDeviceGetHandleByIndex_v2"`
	// nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device);
	DeviceGetHandleByUUID uintptr `sym:"nvmlDeviceGetHandleByUUID"`
	// nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pciBusId, nvmlDevice_t *device);
	DeviceGetHandleByPCIBusIDV2 uintptr `sym:"nvmlDeviceGetHandleByPciBusId_v2"`
	// nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length);
	DeviceGetName uintptr `sym:"nvmlDeviceGetName"`
	// nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length);
	DeviceGetUUID uintptr `sym:"nvmlDeviceGetUUID"`

	// Drivers from 510 on have it.
	//
	// nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory);
	DeviceGetMemoryInfoV2 uintptr `sym:"nvmlDeviceGetMemoryInfo_v2,optional"`
	// nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensorType, unsigned int *temp);
	DeviceGetTemperature uintptr `sym:"nvmlDeviceGetTemperature"`
	// nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t thresholdType,
	//	unsigned int *temp);
	DeviceGetTemperatureThreshold uintptr `sym:"nvmlDeviceGetTemperatureThreshold"`
	// The same as nvmlDeviceGetCurrentClocksEventReasons, which drivers before 535 do not have.
	//
	// nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *clocksThrottleReasons);
	DeviceGetCurrentClocksThrottleReasons uintptr `sym:"nvmlDeviceGetCurrentClocksThrottleReasons"`
	// nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization);
	DeviceGetUtilizationRates uintptr `sym:"nvmlDeviceGetUtilizationRates"`
	// nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *power);
	DeviceGetPowerUsage uintptr `sym:"nvmlDeviceGetPowerUsage"`
	// nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *limit);
	DeviceGetEnforcedPowerLimit uintptr `sym:"nvmlDeviceGetEnforcedPowerLimit"`

	// nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending);
	DeviceGetECCMode uintptr `sym:"nvmlDeviceGetEccMode"`
	// nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t errorType, nvmlEccCounterType_t
	//	counterType, unsigned long long *eccCounts);
	DeviceGetTotalECCErrors uintptr `sym:"nvmlDeviceGetTotalEccErrors"`
	// nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *pageCount,
	//	unsigned long long *addresses);
	DeviceGetRetiredPages uintptr `sym:"nvmlDeviceGetRetiredPages"`
	// nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, nvmlEnableState_t *isPending);
	DeviceGetRetiredPagesPendingStatus uintptr `sym:"nvmlDeviceGetRetiredPagesPendingStatus"`
	// Drivers from 450 on have it.
	//
	// nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrRows, unsigned int *uncRows, unsigned int
	//	*isPending, unsigned int *failureOccurred);
	DeviceGetRemappedRows uintptr `sym:"nvmlDeviceGetRemappedRows,optional"`
	// Drivers from 510 on have it.
	//
	// nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_t
	//	*infos);
	DeviceGetComputeRunningProcessesV3 uintptr `sym:"nvmlDeviceGetComputeRunningProcesses_v3,optional"`

	// nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set);
	EventSetCreate uintptr `sym:"nvmlEventSetCreate"`
	// nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long eventTypes, nvmlEventSet_t set);
	DeviceRegisterEvents uintptr `sym:"nvmlDeviceRegisterEvents"`
	// Drivers from 450 on have it.
	//
	// nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeoutms);
	EventSetWaitV2 uintptr `sym:"nvmlEventSetWait_v2,optional"`
	// nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set);
	EventSetFree uintptr `sym:"nvmlEventSetFree"`
}
