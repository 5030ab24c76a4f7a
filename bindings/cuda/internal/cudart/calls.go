package cudart

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

// API calls the functions of a Table.
type API struct {
	Table Table
}

func status(r1, _, _ uintptr) Status { return Status(int32(r1)) }

// GetErrorName calls cudaGetErrorName.
func (a *API) GetErrorName(error Status) *byte {
	r1, _, _ := purego.SyscallN(a.Table.GetErrorName, uintptr(error))
	return *(**byte)(unsafe.Pointer(&r1))
}

// GetErrorString calls cudaGetErrorString.
func (a *API) GetErrorString(error Status) *byte {
	r1, _, _ := purego.SyscallN(a.Table.GetErrorString, uintptr(error))
	return *(**byte)(unsafe.Pointer(&r1))
}

// RuntimeGetVersion calls cudaRuntimeGetVersion.
func (a *API) RuntimeGetVersion(runtimeVersion *int32) Status {
	return status(purego.SyscallN(a.Table.RuntimeGetVersion, uintptr(unsafe.Pointer(runtimeVersion))))
}

// DriverGetVersion calls cudaDriverGetVersion.
func (a *API) DriverGetVersion(driverVersion *int32) Status {
	return status(purego.SyscallN(a.Table.DriverGetVersion, uintptr(unsafe.Pointer(driverVersion))))
}

// GetDeviceCount calls cudaGetDeviceCount.
func (a *API) GetDeviceCount(count *int32) Status {
	return status(purego.SyscallN(a.Table.GetDeviceCount, uintptr(unsafe.Pointer(count))))
}

// SetDevice calls cudaSetDevice.
func (a *API) SetDevice(device int32) Status {
	return status(purego.SyscallN(a.Table.SetDevice, uintptr(device)))
}

// DeviceGetAttribute calls cudaDeviceGetAttribute.
func (a *API) DeviceGetAttribute(value *int32, attr DeviceAttr, device int32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetAttribute, uintptr(unsafe.Pointer(value)), uintptr(attr), uintptr(device)))
}

// DeviceGetPCIBusID calls cudaDeviceGetPCIBusId.
func (a *API) DeviceGetPCIBusID(pciBusID *byte, length, device int32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetPCIBusID, uintptr(unsafe.Pointer(pciBusID)), uintptr(length), uintptr(device)))
}

// DeviceSynchronize calls cudaDeviceSynchronize.
func (a *API) DeviceSynchronize() Status {
	return status(purego.SyscallN(a.Table.DeviceSynchronize))
}

// MemGetInfo calls cudaMemGetInfo.
func (a *API) MemGetInfo(free, total *Size) Status {
	return status(purego.SyscallN(a.Table.MemGetInfo, uintptr(unsafe.Pointer(free)), uintptr(unsafe.Pointer(total))))
}

// Malloc calls cudaMalloc.
func (a *API) Malloc(devPtr *Address, size Size) Status {
	return status(purego.SyscallN(a.Table.Malloc, uintptr(unsafe.Pointer(devPtr)), uintptr(size)))
}

// Free calls cudaFree.
func (a *API) Free(devPtr Address) Status {
	return status(purego.SyscallN(a.Table.Free, uintptr(devPtr)))
}

// HostAlloc calls cudaHostAlloc.
func (a *API) HostAlloc(host *Address, size Size, flags uint32) Status {
	return status(purego.SyscallN(a.Table.HostAlloc, uintptr(unsafe.Pointer(host)), uintptr(size), uintptr(flags)))
}

// FreeHost calls cudaFreeHost.
func (a *API) FreeHost(devPtr Address) Status {
	return status(purego.SyscallN(a.Table.FreeHost, uintptr(devPtr)))
}

// MemcpyAsync calls cudaMemcpyAsync.
func (a *API) MemcpyAsync(dst, src Address, count Size, kind MemcpyKind, stream Stream) Status {
	return status(purego.SyscallN(a.Table.MemcpyAsync, uintptr(dst), uintptr(src), uintptr(count), uintptr(kind), uintptr(stream)))
}

// MemsetAsync calls cudaMemsetAsync.
func (a *API) MemsetAsync(devPtr Address, value int32, count Size, stream Stream) Status {
	return status(purego.SyscallN(a.Table.MemsetAsync, uintptr(devPtr), uintptr(value), uintptr(count), uintptr(stream)))
}

// DeviceGetDefaultMemPool calls cudaDeviceGetDefaultMemPool.
func (a *API) DeviceGetDefaultMemPool(memPool *MemPool, device int32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetDefaultMemPool, uintptr(unsafe.Pointer(memPool)), uintptr(device)))
}

// MallocAsync calls cudaMallocAsync.
func (a *API) MallocAsync(devPtr *Address, size Size, stream Stream) Status {
	return status(purego.SyscallN(a.Table.MallocAsync, uintptr(unsafe.Pointer(devPtr)), uintptr(size), uintptr(stream)))
}

// FreeAsync calls cudaFreeAsync.
func (a *API) FreeAsync(devPtr Address, stream Stream) Status {
	return status(purego.SyscallN(a.Table.FreeAsync, uintptr(devPtr), uintptr(stream)))
}

// MemPoolTrimTo calls cudaMemPoolTrimTo.
func (a *API) MemPoolTrimTo(memPool MemPool, minBytesToKeep Size) Status {
	return status(purego.SyscallN(a.Table.MemPoolTrimTo, uintptr(memPool), uintptr(minBytesToKeep)))
}

// MemPoolGetAttribute calls cudaMemPoolGetAttribute.
func (a *API) MemPoolGetAttribute(memPool MemPool, attr MemPoolAttr, value Address) Status {
	return status(purego.SyscallN(a.Table.MemPoolGetAttribute, uintptr(memPool), uintptr(attr), uintptr(value)))
}

// MemPoolSetAttribute calls cudaMemPoolSetAttribute.
func (a *API) MemPoolSetAttribute(memPool MemPool, attr MemPoolAttr, value Address) Status {
	return status(purego.SyscallN(a.Table.MemPoolSetAttribute, uintptr(memPool), uintptr(attr), uintptr(value)))
}

// StreamCreateWithFlags calls cudaStreamCreateWithFlags.
func (a *API) StreamCreateWithFlags(stream *Stream, flags uint32) Status {
	return status(purego.SyscallN(a.Table.StreamCreateWithFlags, uintptr(unsafe.Pointer(stream)), uintptr(flags)))
}

// StreamDestroy calls cudaStreamDestroy.
func (a *API) StreamDestroy(stream Stream) Status {
	return status(purego.SyscallN(a.Table.StreamDestroy, uintptr(stream)))
}

// StreamSynchronize calls cudaStreamSynchronize.
func (a *API) StreamSynchronize(stream Stream) Status {
	return status(purego.SyscallN(a.Table.StreamSynchronize, uintptr(stream)))
}

// StreamQuery calls cudaStreamQuery.
func (a *API) StreamQuery(stream Stream) Status {
	return status(purego.SyscallN(a.Table.StreamQuery, uintptr(stream)))
}

// StreamWaitEvent calls cudaStreamWaitEvent.
func (a *API) StreamWaitEvent(stream Stream, event Event, flags uint32) Status {
	return status(purego.SyscallN(a.Table.StreamWaitEvent, uintptr(stream), uintptr(event), uintptr(flags)))
}

// EventCreateWithFlags calls cudaEventCreateWithFlags.
func (a *API) EventCreateWithFlags(event *Event, flags uint32) Status {
	return status(purego.SyscallN(a.Table.EventCreateWithFlags, uintptr(unsafe.Pointer(event)), uintptr(flags)))
}

// EventDestroy calls cudaEventDestroy.
func (a *API) EventDestroy(event Event) Status {
	return status(purego.SyscallN(a.Table.EventDestroy, uintptr(event)))
}

// EventRecord calls cudaEventRecord.
func (a *API) EventRecord(event Event, stream Stream) Status {
	return status(purego.SyscallN(a.Table.EventRecord, uintptr(event), uintptr(stream)))
}

// EventSynchronize calls cudaEventSynchronize.
func (a *API) EventSynchronize(event Event) Status {
	return status(purego.SyscallN(a.Table.EventSynchronize, uintptr(event)))
}

// EventQuery calls cudaEventQuery.
func (a *API) EventQuery(event Event) Status {
	return status(purego.SyscallN(a.Table.EventQuery, uintptr(event)))
}

// EventElapsedTime calls cudaEventElapsedTime.
func (a *API) EventElapsedTime(ms *float32, start, end Event) Status {
	return status(purego.SyscallN(a.Table.EventElapsedTime, uintptr(unsafe.Pointer(ms)), uintptr(start), uintptr(end)))
}

// LibraryLoadData calls cudaLibraryLoadData.
func (a *API) LibraryLoadData(library *Library, code Address, jitOptions *JitOption, jitOptionsValues *Address, numJitOptions uint32, libraryOptions *LibraryOption, libraryOptionValues *Address, numLibraryOptions uint32) Status {
	return status(purego.SyscallN(a.Table.LibraryLoadData, uintptr(unsafe.Pointer(library)), uintptr(code), uintptr(unsafe.Pointer(jitOptions)), uintptr(unsafe.Pointer(jitOptionsValues)), uintptr(numJitOptions), uintptr(unsafe.Pointer(libraryOptions)), uintptr(unsafe.Pointer(libraryOptionValues)), uintptr(numLibraryOptions)))
}

// LibraryGetKernel calls cudaLibraryGetKernel.
func (a *API) LibraryGetKernel(kernel *Kernel, library Library, name *byte) Status {
	return status(purego.SyscallN(a.Table.LibraryGetKernel, uintptr(unsafe.Pointer(kernel)), uintptr(library), uintptr(unsafe.Pointer(name))))
}

// LibraryUnload calls cudaLibraryUnload.
func (a *API) LibraryUnload(library Library) Status {
	return status(purego.SyscallN(a.Table.LibraryUnload, uintptr(library)))
}

// LaunchKernelExC calls cudaLaunchKernelExC.
func (a *API) LaunchKernelExC(config *LaunchConfig, function Address, args *Address) Status {
	return status(purego.SyscallN(a.Table.LaunchKernelExC, uintptr(unsafe.Pointer(config)), uintptr(function), uintptr(unsafe.Pointer(args))))
}
