// The calls at which a fault can happen, with their group. kernel and copy are no calls but work of a stream, when it
// is done: copies and fills are both copy. Those of the last lines are NVML's, and no group means them: programs ask at
// any time. nvml is every call about a device, the others are what is told of one, as the README says.
#define FAULT_CALLS(C) \
    C(cuInit, DEVICE) C(cudaGetDeviceCount, DEVICE) C(cudaSetDevice, DEVICE) C(cudaDeviceGetAttribute, DEVICE) \
    C(cudaDeviceGetPCIBusId, DEVICE) C(cudaMemGetInfo, DEVICE) C(cudaStreamCreateWithFlags, DEVICE) \
    C(cudaStreamDestroy, DEVICE) C(cudaEventCreateWithFlags, DEVICE) C(cudaEventDestroy, DEVICE) \
    C(cudaLibraryLoadData, BUILD) C(cudaLibraryGetKernel, BUILD) C(cudaLibraryUnload, BUILD) \
    C(cuModuleLoadData, BUILD) C(cuModuleGetFunction, BUILD) C(cuModuleUnload, BUILD) \
    C(cudaMalloc, MEMORY) C(cudaFree, MEMORY) C(cudaHostAlloc, MEMORY) C(cudaFreeHost, MEMORY) \
    C(cudaDeviceGetDefaultMemPool, MEMORY) C(cudaMallocAsync, MEMORY) C(cudaFreeAsync, MEMORY) \
    C(cudaMemPoolTrimTo, MEMORY) C(cudaMemPoolGetAttribute, MEMORY) C(cudaMemPoolSetAttribute, MEMORY) \
    C(cudaLaunchKernelExC, QUEUE) C(cuLaunchKernel, QUEUE) C(cudaMemcpyAsync, QUEUE) C(cudaMemsetAsync, QUEUE) \
    C(cudaDeviceSynchronize, QUEUE) C(cudaStreamSynchronize, QUEUE) C(cudaStreamQuery, QUEUE) \
    C(cudaStreamWaitEvent, QUEUE) C(cudaEventRecord, QUEUE) C(cudaEventSynchronize, QUEUE) C(cudaEventQuery, QUEUE) \
    C(cudaEventElapsedTime, QUEUE) C(kernel, QUEUE) C(copy, QUEUE) \
    C(nvmlInit_v2, NONE) C(nvml, NONE) C(xid, NONE) C(temperature, NONE) C(throttling, NONE) C(ecc, NONE) \
    C(ecc_corrected, NONE) C(remapped, NONE) C(remap_pending, NONE) C(remap_failed, NONE) C(others, NONE)
