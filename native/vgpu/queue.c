// Transfers and waiting: faults before, wrong numbers after.
#include "alloc.h"
#include "fault.h"
#include "layer.h"

cl_int settle(cl_command_queue queue, cl_int error) {
    NEXT(clFinish)(queue);
    return error;
}

static cl_int vgpu_clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, void *out,
                                       cl_uint count, const cl_event *wait, cl_event *event) {
    struct flip flip;
    int error = fault_before(CALL_clEnqueueReadBuffer, &flip);
    if (error) return settle(queue, error);
    error = NEXT(clEnqueueReadBuffer)(queue, buffer, blocking || flip.bits, offset, size, out, count, wait, event);
    if (!error && flip.bits) fault_flip(&flip, out, size);
    return error;
}

static cl_int vgpu_clEnqueueMemcpyINTEL(cl_command_queue queue, cl_bool blocking, void *to, const void *from, size_t size, cl_uint count,
                                        const cl_event *wait, cl_event *event) {
    struct flip flip;
    int error = fault_before(CALL_clEnqueueMemcpyINTEL, &flip);
    if (error) return settle(queue, error);
    error = layer.memcpy(queue, blocking || flip.bits, to, from, size, count, wait, event);
    if (!error && flip.bits) fault_flip(&flip, to, size);
    return error;
}

static void *vgpu_clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_bitfield flags, size_t offset, size_t size,
                                     cl_uint count, const cl_event *wait, cl_event *event, cl_int *err) {
    int error = fault_before(CALL_clEnqueueMapBuffer, NULL);
    if (error) return fail(err, settle(queue, error));
    return NEXT(clEnqueueMapBuffer)(queue, buffer, blocking, flags, offset, size, count, wait, event, err);
}

static cl_int vgpu_clEnqueueMemFillINTEL(cl_command_queue queue, void *to, const void *pattern, size_t pattern_size, size_t size,
                                         cl_uint count, const cl_event *wait, cl_event *event) {
    int error = fault_before(CALL_clEnqueueMemFillINTEL, NULL);
    return error ? settle(queue, error) : layer.memfill(queue, to, pattern, pattern_size, size, count, wait, event);
}

// PASS defines the replacement of a call that can only fail as a whole.
#define PASS(name, parameters, arguments)                              \
    static cl_int vgpu_##name parameters {                             \
        int error = fault_before(CALL_##name, NULL);                   \
        return error ? settle(queue, error) : NEXT(name) arguments;    \
    }

PASS(clEnqueueWriteBuffer,
     (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, const void *in, cl_uint count,
      const cl_event *wait, cl_event *event),
     (queue, buffer, blocking, offset, size, in, count, wait, event))
PASS(clEnqueueCopyBuffer,
     (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, size_t to_offset, size_t size, cl_uint count,
      const cl_event *wait, cl_event *event),
     (queue, from, to, from_offset, to_offset, size, count, wait, event))
PASS(clEnqueueFillBuffer,
     (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_size, size_t offset, size_t size, cl_uint count,
      const cl_event *wait, cl_event *event),
     (queue, buffer, pattern, pattern_size, offset, size, count, wait, event))
PASS(clEnqueueUnmapMemObject, (cl_command_queue queue, cl_mem mem, void *mapped, cl_uint count, const cl_event *wait, cl_event *event),
     (queue, mem, mapped, count, wait, event))
PASS(clEnqueueMarkerWithWaitList, (cl_command_queue queue, cl_uint count, const cl_event *wait, cl_event *event),
     (queue, count, wait, event))
PASS(clEnqueueBarrierWithWaitList, (cl_command_queue queue, cl_uint count, const cl_event *wait, cl_event *event),
     (queue, count, wait, event))
PASS(clFlush, (cl_command_queue queue), (queue))
PASS(clFinish, (cl_command_queue queue), (queue))

static cl_int vgpu_clWaitForEvents(cl_uint count, const cl_event *events) {
    int error = fault_before(CALL_clWaitForEvents, NULL);
    cl_int waited = NEXT(clWaitForEvents)(count, events);
    return error ? error : waited;
}

void *queue_extension(const char *name, void *below) {
    if (!strcmp(name, "clEnqueueMemcpyINTEL")) return layer.memcpy = (clEnqueueMemcpyINTEL_fn *)below, (void *)vgpu_clEnqueueMemcpyINTEL;
    if (!strcmp(name, "clEnqueueMemFillINTEL")) return layer.memfill = (clEnqueueMemFillINTEL_fn *)below, (void *)vgpu_clEnqueueMemFillINTEL;
    return NULL;
}

void queue_install(void) {
    REPLACE(clEnqueueReadBuffer);
    REPLACE(clEnqueueWriteBuffer);
    REPLACE(clEnqueueCopyBuffer);
    REPLACE(clEnqueueFillBuffer);
    REPLACE(clEnqueueMapBuffer);
    REPLACE(clEnqueueUnmapMemObject);
    REPLACE(clEnqueueMarkerWithWaitList);
    REPLACE(clEnqueueBarrierWithWaitList);
    REPLACE(clFlush);
    REPLACE(clFinish);
    REPLACE(clWaitForEvents);
}
