// The part of CUDA's runtime library and driver that the virtual device stands in for, with the ABI of line 13. Both
// have the same numbers for errors; handles of one are good for the other.
#ifndef GENFN_VCUDA_CUDA_H
#define GENFN_VCUDA_CUDA_H

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

struct dim3 {
    unsigned x, y, z;
};

// launch_config is cudaLaunchConfig_t.
struct launch_config {
    struct dim3 grid, block;
    size_t shared;
    void *stream, *attrs;
    unsigned attrs_n;
};

enum { STREAM_NON_BLOCKING = 1, EVENT_BLOCKING_SYNC = 1, EVENT_DISABLE_TIMING = 2, MEMCPY_DEFAULT = 4 };
enum { POOL_RELEASE_THRESHOLD = 4, POOL_RESERVED = 5, POOL_USED = 7 };

EXPORT const char *cudaGetErrorName(int error);
EXPORT const char *cudaGetErrorString(int error);
EXPORT int cudaGetLastError(void);
EXPORT int cudaPeekAtLastError(void);
EXPORT int cudaRuntimeGetVersion(int *version);
EXPORT int cudaDriverGetVersion(int *version);
EXPORT int cudaGetDeviceCount(int *count);
EXPORT int cudaGetDevice(int *device);
EXPORT int cudaSetDevice(int device);
EXPORT int cudaDeviceGetAttribute(int *value, int attribute, int device);
EXPORT int cudaDeviceGetPCIBusId(char *text, int room, int device);
EXPORT int cudaDeviceSynchronize(void);
EXPORT int cudaMemGetInfo(size_t *free, size_t *total);
EXPORT int cudaMalloc(void **out, size_t bytes);
EXPORT int cudaFree(void *address);
EXPORT int cudaHostAlloc(void **out, size_t bytes, unsigned flags);
EXPORT int cudaFreeHost(void *address);
EXPORT int cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, void *stream);
EXPORT int cudaMemsetAsync(void *dst, int value, size_t bytes, void *stream);
EXPORT int cudaDeviceGetDefaultMemPool(void **pool, int device);
EXPORT int cudaMallocAsync(void **out, size_t bytes, void *stream);
EXPORT int cudaFreeAsync(void *address, void *stream);
EXPORT int cudaMemPoolTrimTo(void *pool, size_t keep);
EXPORT int cudaMemPoolGetAttribute(void *pool, int attribute, void *value);
EXPORT int cudaMemPoolSetAttribute(void *pool, int attribute, void *value);
EXPORT int cudaStreamCreateWithFlags(void **stream, unsigned flags);
EXPORT int cudaStreamDestroy(void *stream);
EXPORT int cudaStreamSynchronize(void *stream);
EXPORT int cudaStreamQuery(void *stream);
EXPORT int cudaStreamWaitEvent(void *stream, void *event, unsigned flags);
EXPORT int cudaEventCreateWithFlags(void **event, unsigned flags);
EXPORT int cudaEventDestroy(void *event);
EXPORT int cudaEventRecord(void *event, void *stream);
EXPORT int cudaEventSynchronize(void *event);
EXPORT int cudaEventQuery(void *event);
EXPORT int cudaEventElapsedTime(float *ms, void *begin, void *end);
EXPORT int cudaLibraryLoadData(void **library, const void *code, void *jit, void *jit_values, unsigned jit_n, void *options,
                               void *option_values, unsigned options_n);
EXPORT int cudaLibraryGetKernel(void **kernel, void *library, const char *name);
EXPORT int cudaLibraryUnload(void *library);
EXPORT int cudaLaunchKernelExC(const struct launch_config *config, const void *kernel, void **args);

EXPORT int cuInit(unsigned flags);
EXPORT int cuDriverGetVersion(int *version);
EXPORT int cuDeviceGetCount(int *count);
EXPORT int cuDeviceGet(int *device, int ordinal);
EXPORT int cuDeviceGetName(char *name, int room, int device);
EXPORT int cuDeviceGetUuid_v2(unsigned char uuid[16], int device);
EXPORT int cuGetExportTable(const void **table, const void *id);
EXPORT int cuModuleLoadData(void **module, const void *image);
EXPORT int cuModuleGetFunction(void **function, void *module, const char *name);
EXPORT int cuModuleUnload(void *module);
EXPORT int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                          unsigned block_z, unsigned shared, void *stream, void **params, void **extra);

#endif
