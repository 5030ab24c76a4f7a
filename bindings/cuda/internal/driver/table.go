// Package driver is the raw layer over the part of the CUDA driver library (libcuda) that the runtime library does not
// have: names and UUIDs of devices, and modules for runtime libraries that have none. It is made like package cudart;
// statuses have the numbers of cudaError_t where both have one.
package driver

// Table holds the addresses of the C functions that genfn calls.
type Table struct {
	// CUresult cuInit(unsigned int Flags);
	Init uintptr `sym:"cuInit"`
	// CUresult cuDeviceGetCount(int *count);
	DeviceGetCount uintptr `sym:"cuDeviceGetCount"`
	// CUresult cuDeviceGet(CUdevice *device, int ordinal);
	DeviceGet uintptr `sym:"cuDeviceGet"`
	// CUresult cuDeviceGetName(char *name, int len, CUdevice dev);
	DeviceGetName uintptr `sym:"cuDeviceGetName"`
	// CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev);
	DeviceGetUUIDV2 uintptr `sym:"cuDeviceGetUuid_v2"`
	// CUresult cuDriverGetVersion(int *driverVersion);
	DriverGetVersion uintptr `sym:"cuDriverGetVersion"`

	// CUresult cuModuleLoadData(CUmodule *module, const void *image);
	ModuleLoadData uintptr `sym:"cuModuleLoadData"`
	// CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name);
	ModuleGetFunction uintptr `sym:"cuModuleGetFunction"`
	// CUresult cuModuleUnload(CUmodule hmod);
	ModuleUnload uintptr `sym:"cuModuleUnload"`
	// CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
	//	unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ, unsigned int sharedMemBytes,
	//	CUstream hStream, void **kernelParams, void **extra);
	LaunchKernel uintptr `sym:"cuLaunchKernel"`
}
