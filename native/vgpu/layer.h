// What the parts of the layer share: the functions below it, the settings, and how a call is replaced.
#ifndef GENFN_VGPU_LAYER_H
#define GENFN_VGPU_LAYER_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "errors.h"
#include "opencl.h"

enum cl_error {
#define CL_ERROR(name, number) name = number,
    CL_ERRORS(CL_ERROR)
#undef CL_ERROR
};

#define MAX_DEVICES 8

// The layer of this process; written by layer_start only.
struct layer {
    void *const *next;      // dispatch table of what lies below
    void *table[SLOT_COUNT]; // ours: next's, with the replaced calls
    bool verbose;           // GENFN_VGPU_VERBOSE
    uint64_t memory;        // GENFN_VGPU_MEMORY, bytes; 0: what the device below has
    uint64_t max_alloc;     // GENFN_VGPU_MAX_ALLOC, bytes; 0: the lesser of memory and the device's own
    unsigned devices;       // GENFN_VGPU_DEVICES
    const char *options;    // GENFN_VGPU_BUILD_OPTIONS
    const char *cache;      // GENFN_VGPU_CACHE, or NULL
    // Extension functions, NULL until the application asks for them.
    clHostMemAllocINTEL_fn *host_alloc;
    clDeviceMemAllocINTEL_fn *device_alloc, *shared_alloc;
    clMemFreeINTEL_fn *mem_free, *blocking_free;
    clSetKernelArgMemPointerINTEL_fn *set_pointer;
    clEnqueueMemcpyINTEL_fn *memcpy;
    clEnqueueMemFillINTEL_fn *memfill;
};
extern struct layer layer;

// NEXT is the function of that name below the layer.
#define NEXT(name) ((name##_fn *)layer.next[SLOT_##name])

// REPLACE puts vgpu_<name> in place of the function of that name; the types must agree.
#define REPLACE(name)                                   \
    do {                                                \
        name##_fn *replacement = vgpu_##name;           \
        layer.table[SLOT_##name] = (void *)replacement; \
    } while (0)

// Each part puts its calls into layer.table.
void device_install(void);
void alloc_install(void);
void program_install(void);
void kernel_install(void);
void queue_install(void);

// layer_start reads the settings from the environment, starts the parts and fills layer.table; next stays in use.
// With a bad setting it says so on standard error, and the virtual device is not available.
void layer_start(void *const *next);

// layer_stop frees what layer_start and the calls since have made, for tests: objects still alive become invalid.
void layer_stop(void);

// Each of these returns the layer's function in place of below, found under that name, or NULL for others.
void *queue_extension(const char *name, void *below);
void *kernel_extension(const char *name, void *below);

// settle waits for the work of a queue whose call is about to fail, and returns error. The application may free the
// memory of a failed inference at once, and kernels of this device would go on writing to it.
cl_int settle(cl_command_queue queue, cl_int error);

// fail sets an optional error code and returns NULL.
static inline void *fail(cl_int *err, cl_int code) {
    if (err) *err = code;
    return NULL;
}

// answer gives out value as an OpenCL query does.
static inline cl_int answer(const void *value, size_t size, size_t room, void *out, size_t *size_out) {
    if (size_out) *size_out = size;
    if (out) {
        if (room < size) return CL_INVALID_VALUE;
        memcpy(out, value, size);
    }
    return CL_SUCCESS;
}

#define COMPLAIN(...) (fprintf(stderr, "vgpu: " __VA_ARGS__), fputc('\n', stderr))
#define TRACE(...)                              \
    do {                                        \
        if (layer.verbose) COMPLAIN(__VA_ARGS__); \
    } while (0)

#endif
