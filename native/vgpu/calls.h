// The OpenCL calls at which a fault can happen, with their group. functions/device/virtualgpu has the same list; its
// tests compare them.
#define FAULT_CALLS(C) \
    C(clGetDeviceIDs, DEVICE) C(clCreateContext, DEVICE) C(clCreateCommandQueue, DEVICE) \
    C(clCreateCommandQueueWithProperties, DEVICE) \
    C(clCreateProgramWithSource, BUILD) C(clCreateProgramWithBinary, BUILD) C(clBuildProgram, BUILD) \
    C(clCompileProgram, BUILD) C(clLinkProgram, BUILD) C(clCreateKernel, BUILD) C(clCreateKernelsInProgram, BUILD) \
    C(clCreateBuffer, MEMORY) C(clCreateImage, MEMORY) C(clHostMemAllocINTEL, MEMORY) C(clDeviceMemAllocINTEL, MEMORY) \
    C(clSharedMemAllocINTEL, MEMORY) \
    C(clEnqueueNDRangeKernel, QUEUE) C(clEnqueueReadBuffer, QUEUE) C(clEnqueueWriteBuffer, QUEUE) \
    C(clEnqueueCopyBuffer, QUEUE) C(clEnqueueFillBuffer, QUEUE) C(clEnqueueMapBuffer, QUEUE) \
    C(clEnqueueUnmapMemObject, QUEUE) C(clEnqueueMarkerWithWaitList, QUEUE) C(clEnqueueBarrierWithWaitList, QUEUE) \
    C(clEnqueueMemcpyINTEL, QUEUE) C(clEnqueueMemFillINTEL, QUEUE) C(clFlush, QUEUE) C(clFinish, QUEUE) \
    C(clWaitForEvents, QUEUE)
