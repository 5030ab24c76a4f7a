// Package capi is the raw layer over the part of OpenCL that describes devices: a table of symbols, each under its C
// prototype, and one Go method a symbol that converts the arguments, nothing more. The safe layer above it is the only
// importer. A test compares prototypes, parameters and constants with Khronos' headers.
//
// These details have caused bugs:
//   - A Go pointer becomes a uintptr inside the argument list of SyscallN and nowhere else: the stack may move in
//     between.
//   - cl_int and cl_uint are 32 bits, cl_bool too; cl_ulong, cl_device_type (a bit field) and size_t are 64.
package capi

import (
	"unsafe"

	"github.com/ebitengine/purego"
)

// The types of CL/cl.h and CL/cl_platform.h.
type (
	// Int is cl_int: a status.
	Int int32
	// Uint is cl_uint.
	Uint uint32
	// Platform is cl_platform_id, a pointer into the driver.
	Platform uintptr
	// Device is cl_device_id, a pointer into the driver.
	Device uintptr
	// DeviceType is cl_device_type.
	DeviceType uint64
	// DeviceInfo is cl_device_info.
	DeviceInfo uint32
	// Size is size_t.
	Size uintptr
)

// Table holds the addresses of the C functions that genfn calls.
type Table struct {
	// cl_int clGetPlatformIDs(cl_uint num_entries, cl_platform_id * platforms, cl_uint * num_platforms);
	GetPlatformIDs uintptr `sym:"clGetPlatformIDs"`
	// cl_int clGetDeviceIDs(cl_platform_id platform, cl_device_type device_type, cl_uint num_entries,
	//	cl_device_id * devices, cl_uint * num_devices);
	GetDeviceIDs uintptr `sym:"clGetDeviceIDs"`
	// cl_int clGetDeviceInfo(cl_device_id device, cl_device_info param_name, size_t param_value_size,
	//	void * param_value, size_t * param_value_size_ret);
	GetDeviceInfo uintptr `sym:"clGetDeviceInfo"`
}

// The statuses and queries that are used, under their names in the headers.
const (
	Success             Int = 0     // CL_SUCCESS
	DeviceNotFound      Int = -1    // CL_DEVICE_NOT_FOUND
	PlatformNotFoundKHR Int = -1001 // CL_PLATFORM_NOT_FOUND_KHR

	DeviceTypeGPU DeviceType = 1 << 2 // CL_DEVICE_TYPE_GPU

	DeviceMaxMemAllocSize   DeviceInfo = 0x1010 // CL_DEVICE_MAX_MEM_ALLOC_SIZE: cl_ulong
	DeviceGlobalMemSize     DeviceInfo = 0x101F // CL_DEVICE_GLOBAL_MEM_SIZE: cl_ulong
	DeviceName              DeviceInfo = 0x102B // CL_DEVICE_NAME: text
	DeviceVendor            DeviceInfo = 0x102C // CL_DEVICE_VENDOR: text
	DriverVersion           DeviceInfo = 0x102D // CL_DRIVER_VERSION: text
	DeviceVersion           DeviceInfo = 0x102F // CL_DEVICE_VERSION: text
	DeviceHostUnifiedMemory DeviceInfo = 0x1035 // CL_DEVICE_HOST_UNIFIED_MEMORY: cl_bool
	DeviceUUIDKHR           DeviceInfo = 0x106A // CL_DEVICE_UUID_KHR: 16 bytes
	DeviceLUIDValidKHR      DeviceInfo = 0x106C // CL_DEVICE_LUID_VALID_KHR: cl_bool
	DeviceLUIDKHR           DeviceInfo = 0x106D // CL_DEVICE_LUID_KHR: 8 bytes
	DevicePCIBusInfoKHR     DeviceInfo = 0x410F // CL_DEVICE_PCI_BUS_INFO_KHR: domain, bus, device, function, each cl_uint
)

// API calls the functions of a Table.
type API struct {
	Table Table
}

// GetPlatformIDs calls clGetPlatformIDs.
func (a *API) GetPlatformIDs(numEntries Uint, platforms *Platform, numPlatforms *Uint) Int {
	r1, _, _ := purego.SyscallN(a.Table.GetPlatformIDs, uintptr(numEntries), uintptr(unsafe.Pointer(platforms)), uintptr(unsafe.Pointer(numPlatforms)))
	return Int(int32(r1))
}

// GetDeviceIDs calls clGetDeviceIDs.
func (a *API) GetDeviceIDs(platform Platform, deviceType DeviceType, numEntries Uint, devices *Device, numDevices *Uint) Int {
	r1, _, _ := purego.SyscallN(a.Table.GetDeviceIDs, uintptr(platform), uintptr(deviceType), uintptr(numEntries), uintptr(unsafe.Pointer(devices)), uintptr(unsafe.Pointer(numDevices)))
	return Int(int32(r1))
}

// GetDeviceInfo calls clGetDeviceInfo.
func (a *API) GetDeviceInfo(device Device, paramName DeviceInfo, paramValueSize Size, paramValue *byte, paramValueSizeRet *Size) Int {
	r1, _, _ := purego.SyscallN(a.Table.GetDeviceInfo, uintptr(device), uintptr(paramName), uintptr(paramValueSize), uintptr(unsafe.Pointer(paramValue)), uintptr(unsafe.Pointer(paramValueSizeRet)))
	return Int(int32(r1))
}
