// What the faults of ../fault are about here: calls of OpenCL and its errors.
#ifndef GENFN_VGPU_FAULT_TARGET_H
#define GENFN_VGPU_FAULT_TARGET_H

#include "calls.h"
#include "layer.h"

#define FAULT_ERRORS(E) CL_ERRORS(E)
#define FAULT_SIGN (-1)
#define FAULT_FLIPS(call) ((call) == CALL_clEnqueueNDRangeKernel || (call) == CALL_clEnqueueReadBuffer || (call) == CALL_clEnqueueMemcpyINTEL)
#define FAULT_FLIP_WORDS "clEnqueueNDRangeKernel, clEnqueueReadBuffer and clEnqueueMemcpyINTEL"
#define FAULT_KERNELS(call) ((call) == CALL_clEnqueueNDRangeKernel)
#define FAULT_KERNEL_WORDS "clEnqueueNDRangeKernel"
#define FAULT_CALL_WORDS "an OpenCL call that can fail (such as clFlush, clEnqueueNDRangeKernel, clCreateBuffer)"
#define FAULT_ERROR_WORDS "the name of an OpenCL error such as CL_OUT_OF_RESOURCES, or its number, -9999 to -1"
#define FAULT_REFUSED(call) ((call) == CALL_clGetDeviceIDs ? CL_DEVICE_NOT_FOUND : CL_DEVICE_NOT_AVAILABLE)
#define FAULT_SUBJECT "the virtual GPU"
#define FAULT_ENV "GENFN_VGPU_FAULTS"

#endif
