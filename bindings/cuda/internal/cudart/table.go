// Package cudart is the raw layer over CUDA's runtime library: a table of symbols, each under its C prototype, and one
// Go method a symbol that converts the arguments, nothing more. It checks nothing. The safe layer above it is the only
// importer. A test compares prototypes, parameters, calls and structs with the headers of lines 12 and 13.
//
// These details have caused bugs:
//   - A Go pointer becomes a uintptr inside the argument list of SyscallN and nowhere else. An Address is one already:
//     of native memory, or of Go memory that the caller keeps pinned (runtime.Pinner).
//   - The current device and the last error belong to the OS thread.
//   - Outputs may be written although the call failed, or left as they were: only the status counts.
//   - cudaLaunchKernel takes dim3 by value, which SyscallN cannot pass: cudaLaunchKernelExC takes a pointer.
//   - cudaGetDeviceProperties fills a struct that differs between the lines: attributes are asked one by one.
package cudart

// Table holds the addresses of the C functions that genfn calls.
type Table struct {
	// const char *cudaGetErrorName(cudaError_t error);
	GetErrorName uintptr `sym:"cudaGetErrorName"`
	// const char *cudaGetErrorString(cudaError_t error);
	GetErrorString uintptr `sym:"cudaGetErrorString"`
	// cudaError_t cudaRuntimeGetVersion(int *runtimeVersion);
	RuntimeGetVersion uintptr `sym:"cudaRuntimeGetVersion"`
	// cudaError_t cudaDriverGetVersion(int *driverVersion);
	DriverGetVersion uintptr `sym:"cudaDriverGetVersion"`

	// cudaError_t cudaGetDeviceCount(int *count);
	GetDeviceCount uintptr `sym:"cudaGetDeviceCount"`
	// cudaError_t cudaSetDevice(int device);
	SetDevice uintptr `sym:"cudaSetDevice"`
	// cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device);
	DeviceGetAttribute uintptr `sym:"cudaDeviceGetAttribute"`
	// cudaError_t cudaDeviceGetPCIBusId(char *pciBusId, int len, int device);
	DeviceGetPCIBusID uintptr `sym:"cudaDeviceGetPCIBusId"`
	// cudaError_t cudaDeviceSynchronize(void);
	DeviceSynchronize uintptr `sym:"cudaDeviceSynchronize"`

	// cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
	MemGetInfo uintptr `sym:"cudaMemGetInfo"`
	// cudaError_t cudaMalloc(void **devPtr, size_t size);
	Malloc uintptr `sym:"cudaMalloc"`
	// cudaError_t cudaFree(void *devPtr);
	Free uintptr `sym:"cudaFree"`
	// cudaError_t cudaHostAlloc(void **pHost, size_t size, unsigned int flags);
	HostAlloc uintptr `sym:"cudaHostAlloc"`
	// cudaError_t cudaFreeHost(void *ptr);
	FreeHost uintptr `sym:"cudaFreeHost"`
	// cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind, cudaStream_t
	//	stream);
	MemcpyAsync uintptr `sym:"cudaMemcpyAsync"`
	// cudaError_t cudaMemsetAsync(void *devPtr, int value, size_t count, cudaStream_t stream);
	MemsetAsync uintptr `sym:"cudaMemsetAsync"`

	// cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *memPool, int device);
	DeviceGetDefaultMemPool uintptr `sym:"cudaDeviceGetDefaultMemPool"`
	// cudaError_t cudaMallocAsync(void **devPtr, size_t size, cudaStream_t hStream);
	MallocAsync uintptr `sym:"cudaMallocAsync"`
	// cudaError_t cudaFreeAsync(void *devPtr, cudaStream_t hStream);
	FreeAsync uintptr `sym:"cudaFreeAsync"`
	// cudaError_t cudaMemPoolTrimTo(cudaMemPool_t memPool, size_t minBytesToKeep);
	MemPoolTrimTo uintptr `sym:"cudaMemPoolTrimTo"`
	// cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t memPool, enum cudaMemPoolAttr attr, void *value);
	MemPoolGetAttribute uintptr `sym:"cudaMemPoolGetAttribute"`
	// cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t memPool, enum cudaMemPoolAttr attr, void *value);
	MemPoolSetAttribute uintptr `sym:"cudaMemPoolSetAttribute"`

	// cudaError_t cudaStreamCreateWithFlags(cudaStream_t *pStream, unsigned int flags);
	StreamCreateWithFlags uintptr `sym:"cudaStreamCreateWithFlags"`
	// cudaError_t cudaStreamDestroy(cudaStream_t stream);
	StreamDestroy uintptr `sym:"cudaStreamDestroy"`
	// cudaError_t cudaStreamSynchronize(cudaStream_t stream);
	StreamSynchronize uintptr `sym:"cudaStreamSynchronize"`
	// cudaError_t cudaStreamQuery(cudaStream_t stream);
	StreamQuery uintptr `sym:"cudaStreamQuery"`
	// cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags);
	StreamWaitEvent uintptr `sym:"cudaStreamWaitEvent"`

	// cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags);
	EventCreateWithFlags uintptr `sym:"cudaEventCreateWithFlags"`
	// cudaError_t cudaEventDestroy(cudaEvent_t event);
	EventDestroy uintptr `sym:"cudaEventDestroy"`
	// cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
	EventRecord uintptr `sym:"cudaEventRecord"`
	// cudaError_t cudaEventSynchronize(cudaEvent_t event);
	EventSynchronize uintptr `sym:"cudaEventSynchronize"`
	// cudaError_t cudaEventQuery(cudaEvent_t event);
	EventQuery uintptr `sym:"cudaEventQuery"`
	// cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end);
	EventElapsedTime uintptr `sym:"cudaEventElapsedTime"`

	// Not before release 12.8; then the driver loads modules.
	//
	// cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code, enum cudaJitOption *jitOptions,
	//	void **jitOptionsValues, unsigned int numJitOptions, enum cudaLibraryOption *libraryOptions, void**
	//	libraryOptionValues, unsigned int numLibraryOptions);
	LibraryLoadData uintptr `sym:"cudaLibraryLoadData,optional"`
	// With cudaLibraryLoadData.
	//
	// cudaError_t cudaLibraryGetKernel(cudaKernel_t *pKernel, cudaLibrary_t library, const char *name);
	LibraryGetKernel uintptr `sym:"cudaLibraryGetKernel,optional"`
	// With cudaLibraryLoadData.
	//
	// cudaError_t cudaLibraryUnload(cudaLibrary_t library);
	LibraryUnload uintptr `sym:"cudaLibraryUnload,optional"`
	// cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *func, void **args);
	LaunchKernelExC uintptr `sym:"cudaLaunchKernelExC"`
}
