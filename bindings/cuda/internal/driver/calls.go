package driver

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

// API calls the functions of a Table.
type API struct {
	Table Table
}

func status(r1, _, _ uintptr) Status { return Status(int32(r1)) }

// Init calls cuInit.
func (a *API) Init(flags uint32) Status {
	return status(purego.SyscallN(a.Table.Init, uintptr(flags)))
}

// DeviceGetCount calls cuDeviceGetCount.
func (a *API) DeviceGetCount(count *int32) Status {
	return status(purego.SyscallN(a.Table.DeviceGetCount, uintptr(unsafe.Pointer(count))))
}

// DeviceGet calls cuDeviceGet.
func (a *API) DeviceGet(device *Device, ordinal int32) Status {
	return status(purego.SyscallN(a.Table.DeviceGet, uintptr(unsafe.Pointer(device)), uintptr(ordinal)))
}

// DeviceGetName calls cuDeviceGetName.
func (a *API) DeviceGetName(name *byte, length int32, dev Device) Status {
	return status(purego.SyscallN(a.Table.DeviceGetName, uintptr(unsafe.Pointer(name)), uintptr(length), uintptr(dev)))
}

// DeviceGetUUIDV2 calls cuDeviceGetUuid_v2.
func (a *API) DeviceGetUUIDV2(uuid *UUID, dev Device) Status {
	return status(purego.SyscallN(a.Table.DeviceGetUUIDV2, uintptr(unsafe.Pointer(uuid)), uintptr(dev)))
}

// DriverGetVersion calls cuDriverGetVersion.
func (a *API) DriverGetVersion(driverVersion *int32) Status {
	return status(purego.SyscallN(a.Table.DriverGetVersion, uintptr(unsafe.Pointer(driverVersion))))
}

// ModuleLoadData calls cuModuleLoadData.
func (a *API) ModuleLoadData(module *Module, image Address) Status {
	return status(purego.SyscallN(a.Table.ModuleLoadData, uintptr(unsafe.Pointer(module)), uintptr(image)))
}

// ModuleGetFunction calls cuModuleGetFunction.
func (a *API) ModuleGetFunction(function *Function, module Module, name *byte) Status {
	return status(purego.SyscallN(a.Table.ModuleGetFunction, uintptr(unsafe.Pointer(function)), uintptr(module), uintptr(unsafe.Pointer(name))))
}

// ModuleUnload calls cuModuleUnload.
func (a *API) ModuleUnload(module Module) Status {
	return status(purego.SyscallN(a.Table.ModuleUnload, uintptr(module)))
}

// LaunchKernel calls cuLaunchKernel.
func (a *API) LaunchKernel(function Function, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes uint32, stream Stream, kernelParams, extra *Address) Status {
	return status(purego.SyscallN(a.Table.LaunchKernel, uintptr(function), uintptr(gridDimX), uintptr(gridDimY), uintptr(gridDimZ), uintptr(blockDimX), uintptr(blockDimY), uintptr(blockDimZ), uintptr(sharedMemBytes), uintptr(stream), uintptr(unsafe.Pointer(kernelParams)), uintptr(unsafe.Pointer(extra))))
}
