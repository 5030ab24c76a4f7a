package capi

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

// API calls the functions of a Table.
type API struct {
	Table Table
}

func status(r1, _, _ uintptr) Status { return Status(uint32(r1)) }

// InitV2 calls nvmlInit_v2.
func (a *API) InitV2() Status {
	return status(purego.SyscallN(a.Table.InitV2))
}

// Shutdown calls nvmlShutdown.
func (a *API) Shutdown() Status {
	return status(purego.SyscallN(a.Table.Shutdown))
}

// ErrorString calls nvmlErrorString. The text is the library's own and stays.
func (a *API) ErrorString(result Status) *byte {
	r1, _, _ := purego.SyscallN(a.Table.ErrorString, uintptr(result))
	return *(**byte)(unsafe.Pointer(&r1))
}

// SystemGetDriverVersion calls nvmlSystemGetDriverVersion.
func (a *API) SystemGetDriverVersion(version *byte, length uint32) Status {
	return status(purego.SyscallN(a.Table.SystemGetDriverVersion, uintptr(unsafe.Pointer(version)), uintptr(length)))
}

// DeviceGetCountV2 calls nvmlDeviceGetCount_v2.
func (a *API) DeviceGetCountV2(count *uint32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetCountV2, uintptr(unsafe.Pointer(count))))
}

// DeviceGetHandleByIndexV2 calls nvmlDeviceGetHandleByIndex_v2.
func (a *API) DeviceGetHandleByIndexV2(index uint32, device *Device) Status {
	return status(purego.SyscallN(a.Table.DeviceGetHandleByIndexV2, uintptr(index), uintptr(unsafe.Pointer(device))))
}

// DeviceGetHandleByUUID calls nvmlDeviceGetHandleByUUID.
func (a *API) DeviceGetHandleByUUID(uuid *byte, device *Device) Status {
	return status(purego.SyscallN(a.Table.DeviceGetHandleByUUID, uintptr(unsafe.Pointer(uuid)), uintptr(unsafe.Pointer(device))))
}

// DeviceGetHandleByPCIBusIDV2 calls nvmlDeviceGetHandleByPciBusId_v2.
func (a *API) DeviceGetHandleByPCIBusIDV2(busID *byte, device *Device) Status {
	return status(purego.SyscallN(a.Table.DeviceGetHandleByPCIBusIDV2, uintptr(unsafe.Pointer(busID)), uintptr(unsafe.Pointer(device))))
}

// DeviceGetName calls nvmlDeviceGetName.
func (a *API) DeviceGetName(device Device, name *byte, length uint32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetName, uintptr(device), uintptr(unsafe.Pointer(name)), uintptr(length)))
}

// DeviceGetUUID calls nvmlDeviceGetUUID.
func (a *API) DeviceGetUUID(device Device, uuid *byte, length uint32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetUUID, uintptr(device), uintptr(unsafe.Pointer(uuid)), uintptr(length)))
}

// DeviceGetMemoryInfoV2 calls nvmlDeviceGetMemoryInfo_v2.
func (a *API) DeviceGetMemoryInfoV2(device Device, memory *Memory) Status {
	return status(purego.SyscallN(a.Table.DeviceGetMemoryInfoV2, uintptr(device), uintptr(unsafe.Pointer(memory))))
}

// DeviceGetTemperature calls nvmlDeviceGetTemperature.
func (a *API) DeviceGetTemperature(device Device, sensor TemperatureSensor, temp *uint32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetTemperature, uintptr(device), uintptr(sensor), uintptr(unsafe.Pointer(temp))))
}

// DeviceGetTemperatureThreshold calls nvmlDeviceGetTemperatureThreshold.
func (a *API) DeviceGetTemperatureThreshold(device Device, threshold TemperatureThreshold, temp *uint32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetTemperatureThreshold, uintptr(device), uintptr(threshold), uintptr(unsafe.Pointer(temp))))
}

// DeviceGetCurrentClocksThrottleReasons calls nvmlDeviceGetCurrentClocksThrottleReasons.
func (a *API) DeviceGetCurrentClocksThrottleReasons(device Device, reasons *uint64) Status {
	return status(purego.SyscallN(a.Table.DeviceGetCurrentClocksThrottleReasons, uintptr(device), uintptr(unsafe.Pointer(reasons))))
}

// DeviceGetUtilizationRates calls nvmlDeviceGetUtilizationRates.
func (a *API) DeviceGetUtilizationRates(device Device, utilization *Utilization) Status {
	return status(purego.SyscallN(a.Table.DeviceGetUtilizationRates, uintptr(device), uintptr(unsafe.Pointer(utilization))))
}

// DeviceGetPowerUsage calls nvmlDeviceGetPowerUsage.
func (a *API) DeviceGetPowerUsage(device Device, power *uint32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetPowerUsage, uintptr(device), uintptr(unsafe.Pointer(power))))
}

// DeviceGetEnforcedPowerLimit calls nvmlDeviceGetEnforcedPowerLimit.
func (a *API) DeviceGetEnforcedPowerLimit(device Device, limit *uint32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetEnforcedPowerLimit, uintptr(device), uintptr(unsafe.Pointer(limit))))
}

// DeviceGetECCMode calls nvmlDeviceGetEccMode.
func (a *API) DeviceGetECCMode(device Device, current, pending *EnableState) Status {
	return status(purego.SyscallN(a.Table.DeviceGetECCMode, uintptr(device), uintptr(unsafe.Pointer(current)), uintptr(unsafe.Pointer(pending))))
}

// DeviceGetTotalECCErrors calls nvmlDeviceGetTotalEccErrors.
func (a *API) DeviceGetTotalECCErrors(device Device, errorType MemoryErrorType, counterType ECCCounterType, count *uint64) Status {
	return status(purego.SyscallN(a.Table.DeviceGetTotalECCErrors, uintptr(device), uintptr(errorType), uintptr(counterType), uintptr(unsafe.Pointer(count))))
}

// DeviceGetRetiredPages calls nvmlDeviceGetRetiredPages.
func (a *API) DeviceGetRetiredPages(device Device, cause PageRetirementCause, count *uint32, addresses *uint64) Status {
	return status(purego.SyscallN(a.Table.DeviceGetRetiredPages, uintptr(device), uintptr(cause), uintptr(unsafe.Pointer(count)), uintptr(unsafe.Pointer(addresses))))
}

// DeviceGetRetiredPagesPendingStatus calls nvmlDeviceGetRetiredPagesPendingStatus.
func (a *API) DeviceGetRetiredPagesPendingStatus(device Device, pending *EnableState) Status {
	return status(purego.SyscallN(a.Table.DeviceGetRetiredPagesPendingStatus, uintptr(device), uintptr(unsafe.Pointer(pending))))
}

// DeviceGetRemappedRows calls nvmlDeviceGetRemappedRows.
func (a *API) DeviceGetRemappedRows(device Device, correctable, uncorrectable, pending, failed *uint32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetRemappedRows, uintptr(device), uintptr(unsafe.Pointer(correctable)), uintptr(unsafe.Pointer(uncorrectable)), uintptr(unsafe.Pointer(pending)), uintptr(unsafe.Pointer(failed))))
}

// DeviceGetComputeRunningProcessesV3 calls nvmlDeviceGetComputeRunningProcesses_v3.
func (a *API) DeviceGetComputeRunningProcessesV3(device Device, count *uint32, infos *ProcessInfo) Status {
	return status(purego.SyscallN(a.Table.DeviceGetComputeRunningProcessesV3, uintptr(device), uintptr(unsafe.Pointer(count)), uintptr(unsafe.Pointer(infos))))
}

// EventSetCreate calls nvmlEventSetCreate.
func (a *API) EventSetCreate(set *EventSet) Status {
	return status(purego.SyscallN(a.Table.EventSetCreate, uintptr(unsafe.Pointer(set))))
}

// DeviceRegisterEvents calls nvmlDeviceRegisterEvents.
func (a *API) DeviceRegisterEvents(device Device, eventTypes uint64, set EventSet) Status {
	return status(purego.SyscallN(a.Table.DeviceRegisterEvents, uintptr(device), uintptr(eventTypes), uintptr(set)))
}

// EventSetWaitV2 calls nvmlEventSetWait_v2.
func (a *API) EventSetWaitV2(set EventSet, data *EventData, timeoutMS uint32) Status {
	return status(purego.SyscallN(a.Table.EventSetWaitV2, uintptr(set), uintptr(unsafe.Pointer(data)), uintptr(timeoutMS)))
}

// EventSetFree calls nvmlEventSetFree.
func (a *API) EventSetFree(set EventSet) Status {
	return status(purego.SyscallN(a.Table.EventSetFree, uintptr(set)))
}
