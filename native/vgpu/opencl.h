// What the layer needs of OpenCL 3.0 and of Intel's extensions, in place of the Khronos headers, which are not
// installed everywhere: the types, the constants and the prototypes that are used here, and the order of the ICD
// dispatch table. All of it is binary interface, from the OpenCL 3.0 specification, cl_khr_icd, the Khronos layer
// interface and cl_intel_unified_shared_memory.
#ifndef GENFN_VGPU_OPENCL_H
#define GENFN_VGPU_OPENCL_H

#include <stddef.h>
#include <stdint.h>

typedef int32_t cl_int;
typedef uint32_t cl_uint;
typedef uint64_t cl_ulong;
typedef cl_uint cl_bool;
typedef cl_ulong cl_bitfield;
typedef struct _cl_platform_id *cl_platform_id;
typedef struct _cl_device_id *cl_device_id;
typedef struct _cl_context *cl_context;
typedef struct _cl_command_queue *cl_command_queue;
typedef struct _cl_mem *cl_mem;
typedef struct _cl_program *cl_program;
typedef struct _cl_kernel *cl_kernel;
typedef struct _cl_event *cl_event;

enum {
    CL_SUCCESS = 0,

    CL_DEVICE_TYPE = 0x1000,
    CL_DEVICE_MAX_WORK_GROUP_SIZE = 0x1004,
    CL_DEVICE_MAX_WORK_ITEM_SIZES = 0x1005,
    CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010,
    CL_DEVICE_GLOBAL_MEM_SIZE = 0x101F,
    CL_DEVICE_NAME = 0x102B,
    CL_DRIVER_VERSION = 0x102D,
    CL_DEVICE_PARENT_DEVICE = 0x1042,
    CL_DEVICE_PARTITION_PROPERTIES = 0x1044,
    CL_DEVICE_PARTITION_TYPE = 0x1046,
    CL_DEVICE_REFERENCE_COUNT = 0x1047,
    CL_DEVICE_UUID_KHR = 0x106A,
    CL_DEVICE_PARTITION_BY_COUNTS = 0x1087,
    CL_DEVICE_MAX_COMPUTE_UNITS = 0x1002,

    // cl_intel_device_attribute_query
    CL_DEVICE_IP_VERSION_INTEL = 0x4250,
    CL_DEVICE_ID_INTEL = 0x4251,
    CL_DEVICE_NUM_SLICES_INTEL = 0x4252,
    CL_DEVICE_NUM_SUB_SLICES_PER_SLICE_INTEL = 0x4253,
    CL_DEVICE_NUM_EUS_PER_SUB_SLICE_INTEL = 0x4254,
    CL_DEVICE_NUM_THREADS_PER_EU_INTEL = 0x4255,
    CL_DEVICE_FEATURE_CAPABILITIES_INTEL = 0x4256,

    CL_CONTEXT_DEVICES = 0x1081,
    CL_MEM_SIZE = 0x1102,

    CL_PROGRAM_REFERENCE_COUNT = 0x1160,
    CL_PROGRAM_CONTEXT = 0x1161,
    CL_PROGRAM_NUM_DEVICES = 0x1162,
    CL_PROGRAM_DEVICES = 0x1163,
    CL_PROGRAM_SOURCE = 0x1164,
    CL_PROGRAM_BINARY_SIZES = 0x1165,
    CL_PROGRAM_BINARIES = 0x1166,
    CL_PROGRAM_NUM_KERNELS = 0x1167,
    CL_PROGRAM_KERNEL_NAMES = 0x1168,
    CL_PROGRAM_BUILD_STATUS = 0x1181,
    CL_PROGRAM_BUILD_OPTIONS = 0x1182,
    CL_PROGRAM_BUILD_LOG = 0x1183,
    CL_BUILD_SUCCESS = 0,
    CL_BUILD_NONE = -1,
    CL_BUILD_ERROR = -2,

    CL_KERNEL_FUNCTION_NAME = 0x1190,
    CL_KERNEL_NUM_ARGS = 0x1191,
    CL_KERNEL_REFERENCE_COUNT = 0x1192,
    CL_KERNEL_CONTEXT = 0x1193,
    CL_KERNEL_PROGRAM = 0x1194,
    CL_KERNEL_ARG_ADDRESS_QUALIFIER = 0x1196,
    CL_KERNEL_ARG_TYPE_QUALIFIER = 0x1199,
    CL_KERNEL_ARG_ADDRESS_GLOBAL = 0x119B,
    CL_KERNEL_ARG_TYPE_CONST = 1,
    CL_KERNEL_COMPILE_SUB_GROUP_SIZE_INTEL = 0x410A,

    CL_LAYER_API_VERSION = 0x4240,
    CL_LAYER_NAME = 0x4241,
    CL_LAYER_API_VERSION_100 = 100,
};

#define CL_DEVICE_TYPE_GPU ((cl_bitfield)1 << 2)
#define CL_DEVICE_TYPE_ALL ((cl_bitfield)0xFFFFFFFF)
#define CL_MEM_USE_HOST_PTR ((cl_bitfield)1 << 3)

// The ICD dispatch table: one pointer for each name, in this order.
#define CL_SLOTS(S) \
    S(clGetPlatformIDs) S(clGetPlatformInfo) S(clGetDeviceIDs) S(clGetDeviceInfo) S(clCreateContext) \
    S(clCreateContextFromType) S(clRetainContext) S(clReleaseContext) S(clGetContextInfo) S(clCreateCommandQueue) \
    S(clRetainCommandQueue) S(clReleaseCommandQueue) S(clGetCommandQueueInfo) S(clSetCommandQueueProperty) \
    S(clCreateBuffer) S(clCreateImage2D) S(clCreateImage3D) S(clRetainMemObject) S(clReleaseMemObject) \
    S(clGetSupportedImageFormats) S(clGetMemObjectInfo) S(clGetImageInfo) S(clCreateSampler) S(clRetainSampler) \
    S(clReleaseSampler) S(clGetSamplerInfo) S(clCreateProgramWithSource) S(clCreateProgramWithBinary) \
    S(clRetainProgram) S(clReleaseProgram) S(clBuildProgram) S(clUnloadCompiler) S(clGetProgramInfo) \
    S(clGetProgramBuildInfo) S(clCreateKernel) S(clCreateKernelsInProgram) S(clRetainKernel) S(clReleaseKernel) \
    S(clSetKernelArg) S(clGetKernelInfo) S(clGetKernelWorkGroupInfo) S(clWaitForEvents) S(clGetEventInfo) \
    S(clRetainEvent) S(clReleaseEvent) S(clGetEventProfilingInfo) S(clFlush) S(clFinish) S(clEnqueueReadBuffer) \
    S(clEnqueueWriteBuffer) S(clEnqueueCopyBuffer) S(clEnqueueReadImage) S(clEnqueueWriteImage) \
    S(clEnqueueCopyImage) S(clEnqueueCopyImageToBuffer) S(clEnqueueCopyBufferToImage) S(clEnqueueMapBuffer) \
    S(clEnqueueMapImage) S(clEnqueueUnmapMemObject) S(clEnqueueNDRangeKernel) S(clEnqueueTask) \
    S(clEnqueueNativeKernel) S(clEnqueueMarker) S(clEnqueueWaitForEvents) S(clEnqueueBarrier) \
    S(clGetExtensionFunctionAddress) S(clCreateFromGLBuffer) S(clCreateFromGLTexture2D) S(clCreateFromGLTexture3D) \
    S(clCreateFromGLRenderbuffer) S(clGetGLObjectInfo) S(clGetGLTextureInfo) S(clEnqueueAcquireGLObjects) \
    S(clEnqueueReleaseGLObjects) S(clGetGLContextInfoKHR) S(clGetDeviceIDsFromD3D10KHR) \
    S(clCreateFromD3D10BufferKHR) S(clCreateFromD3D10Texture2DKHR) S(clCreateFromD3D10Texture3DKHR) \
    S(clEnqueueAcquireD3D10ObjectsKHR) S(clEnqueueReleaseD3D10ObjectsKHR) S(clSetEventCallback) S(clCreateSubBuffer) \
    S(clSetMemObjectDestructorCallback) S(clCreateUserEvent) S(clSetUserEventStatus) S(clEnqueueReadBufferRect) \
    S(clEnqueueWriteBufferRect) S(clEnqueueCopyBufferRect) S(clCreateSubDevicesEXT) S(clRetainDeviceEXT) \
    S(clReleaseDeviceEXT) S(clCreateEventFromGLsyncKHR) S(clCreateSubDevices) S(clRetainDevice) S(clReleaseDevice) \
    S(clCreateImage) S(clCreateProgramWithBuiltInKernels) S(clCompileProgram) S(clLinkProgram) \
    S(clUnloadPlatformCompiler) S(clGetKernelArgInfo) S(clEnqueueFillBuffer) S(clEnqueueFillImage) \
    S(clEnqueueMigrateMemObjects) S(clEnqueueMarkerWithWaitList) S(clEnqueueBarrierWithWaitList) \
    S(clGetExtensionFunctionAddressForPlatform) S(clCreateFromGLTexture) S(clGetDeviceIDsFromD3D11KHR) \
    S(clCreateFromD3D11BufferKHR) S(clCreateFromD3D11Texture2DKHR) S(clCreateFromD3D11Texture3DKHR) \
    S(clCreateFromDX9MediaSurfaceKHR) S(clEnqueueAcquireD3D11ObjectsKHR) S(clEnqueueReleaseD3D11ObjectsKHR) \
    S(clGetDeviceIDsFromDX9MediaAdapterKHR) S(clEnqueueAcquireDX9MediaSurfacesKHR) \
    S(clEnqueueReleaseDX9MediaSurfacesKHR) S(clCreateFromEGLImageKHR) S(clEnqueueAcquireEGLObjectsKHR) \
    S(clEnqueueReleaseEGLObjectsKHR) S(clCreateEventFromEGLSyncKHR) S(clCreateCommandQueueWithProperties) \
    S(clCreatePipe) S(clGetPipeInfo) S(clSVMAlloc) S(clSVMFree) S(clEnqueueSVMFree) S(clEnqueueSVMMemcpy) \
    S(clEnqueueSVMMemFill) S(clEnqueueSVMMap) S(clEnqueueSVMUnmap) S(clCreateSamplerWithProperties) \
    S(clSetKernelArgSVMPointer) S(clSetKernelExecInfo) S(clGetKernelSubGroupInfoKHR) S(clCloneKernel) \
    S(clCreateProgramWithIL) S(clEnqueueSVMMigrateMem) S(clGetDeviceAndHostTimer) S(clGetHostTimer) \
    S(clGetKernelSubGroupInfo) S(clSetDefaultDeviceCommandQueue) S(clSetProgramReleaseCallback) \
    S(clSetProgramSpecializationConstant) S(clCreateBufferWithProperties) S(clCreateImageWithProperties) \
    S(clSetContextDestructorCallback)

enum cl_slot {
#define CL_SLOT(name) SLOT_##name,
    CL_SLOTS(CL_SLOT)
#undef CL_SLOT
    SLOT_COUNT
};

typedef void cl_build_notify(cl_program, void *);

// The functions that the layer replaces or calls.
typedef cl_int clGetDeviceIDs_fn(cl_platform_id, cl_bitfield type, cl_uint, cl_device_id *, cl_uint *);
typedef cl_int clGetDeviceInfo_fn(cl_device_id, cl_uint name, size_t, void *, size_t *);
typedef cl_int clCreateSubDevices_fn(cl_device_id, const intptr_t *, cl_uint, cl_device_id *, cl_uint *);
typedef cl_context clCreateContext_fn(const intptr_t *, cl_uint, const cl_device_id *,
                                      void (*)(const char *, const void *, size_t, void *), void *, cl_int *);
typedef cl_int clRetainContext_fn(cl_context);
typedef cl_int clReleaseContext_fn(cl_context);
typedef cl_int clGetContextInfo_fn(cl_context, cl_uint name, size_t, void *, size_t *);
typedef cl_command_queue clCreateCommandQueue_fn(cl_context, cl_device_id, cl_bitfield, cl_int *);
typedef cl_command_queue clCreateCommandQueueWithProperties_fn(cl_context, cl_device_id, const cl_ulong *, cl_int *);

typedef cl_mem clCreateBuffer_fn(cl_context, cl_bitfield flags, size_t, void *, cl_int *);
typedef cl_mem clCreateBufferWithProperties_fn(cl_context, const cl_ulong *, cl_bitfield flags, size_t, void *, cl_int *);
typedef cl_mem clCreateSubBuffer_fn(cl_mem, cl_bitfield flags, cl_uint type, const void *, cl_int *);
typedef cl_mem clCreateImage_fn(cl_context, cl_bitfield flags, const void *format, const void *desc, void *, cl_int *);
typedef cl_int clGetMemObjectInfo_fn(cl_mem, cl_uint name, size_t, void *, size_t *);
typedef cl_int clRetainMemObject_fn(cl_mem);
typedef cl_int clReleaseMemObject_fn(cl_mem);

typedef cl_program clCreateProgramWithSource_fn(cl_context, cl_uint, const char **, const size_t *, cl_int *);
typedef cl_program clCreateProgramWithBinary_fn(cl_context, cl_uint, const cl_device_id *, const size_t *,
                                                const unsigned char **, cl_int *, cl_int *);
typedef cl_program clCreateProgramWithBuiltInKernels_fn(cl_context, cl_uint, const cl_device_id *, const char *, cl_int *);
typedef cl_program clCreateProgramWithIL_fn(cl_context, const void *, size_t, cl_int *);
typedef cl_int clRetainProgram_fn(cl_program);
typedef cl_int clReleaseProgram_fn(cl_program);
typedef cl_int clBuildProgram_fn(cl_program, cl_uint, const cl_device_id *, const char *, cl_build_notify *, void *);
typedef cl_int clCompileProgram_fn(cl_program, cl_uint, const cl_device_id *, const char *, cl_uint, const cl_program *,
                                   const char **, cl_build_notify *, void *);
typedef cl_program clLinkProgram_fn(cl_context, cl_uint, const cl_device_id *, const char *, cl_uint, const cl_program *,
                                    cl_build_notify *, void *, cl_int *);
typedef cl_int clGetProgramInfo_fn(cl_program, cl_uint name, size_t, void *, size_t *);
typedef cl_int clGetProgramBuildInfo_fn(cl_program, cl_device_id, cl_uint name, size_t, void *, size_t *);
typedef cl_int clSetProgramReleaseCallback_fn(cl_program, cl_build_notify *, void *);
typedef cl_int clSetProgramSpecializationConstant_fn(cl_program, cl_uint, size_t, const void *);

typedef cl_kernel clCreateKernel_fn(cl_program, const char *, cl_int *);
typedef cl_int clCreateKernelsInProgram_fn(cl_program, cl_uint, cl_kernel *, cl_uint *);
typedef cl_kernel clCloneKernel_fn(cl_kernel, cl_int *);
typedef cl_int clRetainKernel_fn(cl_kernel);
typedef cl_int clReleaseKernel_fn(cl_kernel);
typedef cl_int clSetKernelArg_fn(cl_kernel, cl_uint, size_t, const void *);
typedef cl_int clSetKernelArgSVMPointer_fn(cl_kernel, cl_uint, const void *);
typedef cl_int clSetKernelExecInfo_fn(cl_kernel, cl_uint name, size_t, const void *);
typedef cl_int clGetKernelInfo_fn(cl_kernel, cl_uint name, size_t, void *, size_t *);
typedef cl_int clGetKernelArgInfo_fn(cl_kernel, cl_uint, cl_uint name, size_t, void *, size_t *);
typedef cl_int clGetKernelWorkGroupInfo_fn(cl_kernel, cl_device_id, cl_uint name, size_t, void *, size_t *);
typedef cl_int clGetKernelSubGroupInfo_fn(cl_kernel, cl_device_id, cl_uint name, size_t, const void *, size_t, void *, size_t *);
typedef clGetKernelSubGroupInfo_fn clGetKernelSubGroupInfoKHR_fn;

typedef cl_int clEnqueueNDRangeKernel_fn(cl_command_queue, cl_kernel, cl_uint dimensions, const size_t *offset,
                                         const size_t *global, const size_t *local, cl_uint, const cl_event *, cl_event *);
typedef cl_int clEnqueueTask_fn(cl_command_queue, cl_kernel, cl_uint, const cl_event *, cl_event *);
typedef cl_int clEnqueueReadBuffer_fn(cl_command_queue, cl_mem, cl_bool blocking, size_t offset, size_t, void *, cl_uint,
                                      const cl_event *, cl_event *);
typedef cl_int clEnqueueWriteBuffer_fn(cl_command_queue, cl_mem, cl_bool blocking, size_t offset, size_t, const void *, cl_uint,
                                       const cl_event *, cl_event *);
typedef cl_int clEnqueueCopyBuffer_fn(cl_command_queue, cl_mem, cl_mem, size_t, size_t, size_t, cl_uint, const cl_event *, cl_event *);
typedef cl_int clEnqueueFillBuffer_fn(cl_command_queue, cl_mem, const void *, size_t, size_t, size_t, cl_uint, const cl_event *,
                                      cl_event *);
typedef void *clEnqueueMapBuffer_fn(cl_command_queue, cl_mem, cl_bool blocking, cl_bitfield flags, size_t offset, size_t, cl_uint,
                                    const cl_event *, cl_event *, cl_int *);
typedef cl_int clEnqueueUnmapMemObject_fn(cl_command_queue, cl_mem, void *, cl_uint, const cl_event *, cl_event *);
typedef cl_int clEnqueueMarkerWithWaitList_fn(cl_command_queue, cl_uint, const cl_event *, cl_event *);
typedef clEnqueueMarkerWithWaitList_fn clEnqueueBarrierWithWaitList_fn;
typedef cl_int clFlush_fn(cl_command_queue);
typedef clFlush_fn clFinish_fn;
typedef cl_int clWaitForEvents_fn(cl_uint, const cl_event *);
typedef void *clGetExtensionFunctionAddressForPlatform_fn(cl_platform_id, const char *);

// cl_intel_unified_shared_memory
typedef void *clHostMemAllocINTEL_fn(cl_context, const cl_ulong *, size_t, cl_uint alignment, cl_int *);
typedef void *clDeviceMemAllocINTEL_fn(cl_context, cl_device_id, const cl_ulong *, size_t, cl_uint alignment, cl_int *);
typedef clDeviceMemAllocINTEL_fn clSharedMemAllocINTEL_fn;
typedef cl_int clMemFreeINTEL_fn(cl_context, void *);
typedef clMemFreeINTEL_fn clMemBlockingFreeINTEL_fn;
typedef cl_int clSetKernelArgMemPointerINTEL_fn(cl_kernel, cl_uint, const void *);
typedef cl_int clEnqueueMemcpyINTEL_fn(cl_command_queue, cl_bool blocking, void *, const void *, size_t, cl_uint,
                                       const cl_event *, cl_event *);
typedef cl_int clEnqueueMemFillINTEL_fn(cl_command_queue, void *, const void *, size_t, size_t, cl_uint, const cl_event *,
                                        cl_event *);

#endif
