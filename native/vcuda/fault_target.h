// What the faults of ../fault are about here: calls of CUDA, the work of its streams, what NVML tells, and their errors.
#ifndef GENFN_VCUDA_FAULT_TARGET_H
#define GENFN_VCUDA_FAULT_TARGET_H

#include <stdbool.h>
#include <stdio.h>

#include "calls.h"
#include "errors.h"

#define FAULT_ERRORS(E) CUDA_ERRORS(E) NVML_ERRORS(E)
#define FAULT_SIGN 1
#define FAULT_FLIPS(call) ((call) == CALL_kernel || (call) == CALL_copy)
#define FAULT_FLIP_WORDS "kernel and copy"
#define FAULT_KERNELS(call) ((call) == CALL_kernel || (call) == CALL_cudaLaunchKernelExC || (call) == CALL_cuLaunchKernel)
#define FAULT_KERNEL_WORDS "kernel, cudaLaunchKernelExC and cuLaunchKernel"
#define FAULT_VALUES(call) ((int)(call) >= (int)CALL_xid)
#define FAULT_VALUE_WORDS "xid, temperature, throttling, ecc, ecc_corrected, remapped, remap_pending, remap_failed and others"
#define FAULT_CALL_WORDS "a CUDA call that can fail (such as cudaMalloc, cudaLaunchKernelExC), kernel, copy, nvmlInit_v2, nvml, xid, temperature, throttling, ecc, ecc_corrected, remapped, remap_pending, remap_failed or others"
#define FAULT_ERROR_WORDS "the name of an error of CUDA or NVML such as cudaErrorMemoryAllocation, or its number, 1 to 9999"
#define FAULT_REFUSED(call) ((int)(call) >= (int)CALL_nvmlInit_v2 ? (int)NVML_ERROR_UNKNOWN : (int)cudaErrorDevicesUnavailable)
#define FAULT_SUBJECT "the virtual CUDA device"
#define FAULT_ENV "GENFN_VCUDA_FAULTS"

enum cuda_error {
    cudaSuccess = 0,
#define CUDA_ERROR(name, number, text) name = number,
    CUDA_ERRORS(CUDA_ERROR)
#undef CUDA_ERROR
};

enum nvml_error {
    NVML_SUCCESS = 0,
#define NVML_ERROR(name, number, text) name = number,
    NVML_ERRORS(NVML_ERROR)
#undef NVML_ERROR
};

extern bool vcuda_verbose;

#define COMPLAIN(...) (fprintf(stderr, "vcuda: " __VA_ARGS__), fputc('\n', stderr))
#define TRACE(...)                               \
    do {                                         \
        if (vcuda_verbose) COMPLAIN(__VA_ARGS__); \
    } while (0)

#endif
