// Buffers, images and unified shared memory (USM): counted, limited, and zeroed, as a GPU's driver hands them out.
// Kernels do read the padding of what they allocated.
#include "alloc.h"

#include <pthread.h>
#include <stdlib.h>

#include "account.h"
#include "device.h"
#include "fault.h"
#include "layer.h"
#include "table.h"

// allocation is a buffer, image, sub-buffer or piece of USM.
struct allocation {
    size_t size;   // bytes taken from the device; a sub-buffer's are its parent's
    size_t length; // bytes it has
    int device;
    unsigned refs;
    cl_mem parent; // of a sub-buffer
    const char *start; // of USM
    struct allocation *next_usm, *previous_usm;
};

static struct table mems, usm;
static struct allocation *usm_list; // for pointers into the middle
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// begin takes size bytes of the context's device; on success *a is a record with one reference.
static cl_int begin(cl_context context, cl_device_id device, size_t size, bool counted, struct allocation **a) {
    if (!device) device = device_of_context(context);
    if (!device) return CL_INVALID_CONTEXT;
    if (size > device_max_alloc(device)) return CL_INVALID_BUFFER_SIZE;
    struct allocation made = {.size = counted ? size : 0, .length = size, .device = device_index(device), .refs = 1};
    if (!account_take(made.device, made.size)) {
        TRACE("out of memory: %zu bytes refused", size);
        return CL_MEM_OBJECT_ALLOCATION_FAILURE;
    }
    if (!(*a = malloc(sizeof made))) {
        account_give(made.device, made.size);
        return CL_OUT_OF_HOST_MEMORY;
    }
    **a = made;
    return CL_SUCCESS;
}

static void end(struct allocation *a) {
    account_give(a->device, a->size);
    free(a);
}

// keep records what the runtime made under handle, or drops the record if it made nothing.
static bool keep(struct table *t, const void *handle, struct allocation *a) {
    pthread_mutex_lock(&lock);
    bool kept = handle && table_put(t, handle, a);
    if (kept && t == &usm) {
        a->start = handle;
        a->next_usm = usm_list;
        if (usm_list) usm_list->previous_usm = a;
        usm_list = a;
    }
    pthread_mutex_unlock(&lock);
    if (!kept) end(a);
    return kept;
}

// made is keep for memory objects.
static cl_mem made(cl_mem mem, struct allocation *a, cl_int *err) {
    if (keep(&mems, mem, a)) return mem;
    if (!mem) return NULL; // the runtime has set err
    NEXT(clReleaseMemObject)(mem);
    return fail(err, CL_OUT_OF_HOST_MEMORY);
}

// contents returns what a new buffer shall hold: what the application gives, or zeros, which the caller frees.
static void *contents(cl_bitfield *flags, void *host, size_t size, void **zeros) {
    const cl_bitfield use_or_copy = CL_MEM_USE_HOST_PTR | (1 << 5);
    *zeros = NULL;
    if ((*flags & use_or_copy) || !size || !(*zeros = calloc(1, size))) return host;
    *flags |= 1 << 5; // CL_MEM_COPY_HOST_PTR
    return *zeros;
}

static cl_mem create_buffer(cl_context context, const cl_ulong *properties, cl_bitfield flags, size_t size, void *host, cl_int *err) {
    int error = fault_before(CALL_clCreateBuffer, NULL);
    struct allocation *a;
    if (!error) error = begin(context, NULL, size, !(flags & CL_MEM_USE_HOST_PTR), &a);
    if (error) return fail(err, error);
    void *zeros;
    host = contents(&flags, host, size, &zeros);
    cl_mem mem = properties ? NEXT(clCreateBufferWithProperties)(context, properties, flags, size, host, err)
                            : NEXT(clCreateBuffer)(context, flags, size, host, err);
    free(zeros);
    return made(mem, a, err);
}

static cl_mem vgpu_clCreateBuffer(cl_context context, cl_bitfield flags, size_t size, void *host, cl_int *err) {
    return create_buffer(context, NULL, flags, size, host, err);
}

static cl_mem vgpu_clCreateBufferWithProperties(cl_context context, const cl_ulong *properties, cl_bitfield flags, size_t size,
                                                void *host, cl_int *err) {
    return create_buffer(context, properties, flags, size, host, err);
}

static cl_mem vgpu_clCreateImage(cl_context context, cl_bitfield flags, const void *format, const void *desc, void *host, cl_int *err) {
    int error = fault_before(CALL_clCreateImage, NULL);
    if (error) return fail(err, error);
    cl_mem mem = NEXT(clCreateImage)(context, flags, format, desc, host, err);
    if (!mem) return NULL;
    size_t size = 0; // only the runtime knows what the image takes
    NEXT(clGetMemObjectInfo)(mem, CL_MEM_SIZE, sizeof size, &size, NULL);
    struct allocation *a;
    if ((error = begin(context, NULL, size, !(flags & CL_MEM_USE_HOST_PTR), &a))) {
        NEXT(clReleaseMemObject)(mem);
        return fail(err, error);
    }
    return made(mem, a, err);
}

static cl_mem vgpu_clCreateSubBuffer(cl_mem parent, cl_bitfield flags, cl_uint type, const void *region, cl_int *err) {
    cl_mem mem = NEXT(clCreateSubBuffer)(parent, flags, type, region, err);
    if (!mem) return NULL;
    struct allocation *a = calloc(1, sizeof *a);
    pthread_mutex_lock(&lock);
    struct allocation *p = table_get(&mems, parent);
    bool kept = a && p && table_put(&mems, mem, a);
    if (kept) {
        p->refs++;
        *a = (struct allocation){.length = ((const size_t *)region)[1], .device = p->device, .refs = 1, .parent = parent};
    }
    pthread_mutex_unlock(&lock);
    if (kept) return mem;
    free(a);
    NEXT(clReleaseMemObject)(mem);
    return fail(err, CL_OUT_OF_HOST_MEMORY);
}

static cl_int vgpu_clRetainMemObject(cl_mem mem) {
    cl_int error = NEXT(clRetainMemObject)(mem);
    pthread_mutex_lock(&lock);
    struct allocation *a = error ? NULL : table_get(&mems, mem);
    if (a) a->refs++;
    pthread_mutex_unlock(&lock);
    return error;
}

// drop takes a reference away; the lock is held. The record goes before the object does: its handle may be used again
// at once.
static void drop(cl_mem mem) {
    struct allocation *a = table_get(&mems, mem);
    if (!a || --a->refs) return;
    table_remove(&mems, mem);
    if (a->parent) { // has taken no memory of its own
        drop(a->parent);
        free(a);
    } else {
        end(a);
    }
}

static cl_int vgpu_clReleaseMemObject(cl_mem mem) {
    pthread_mutex_lock(&lock);
    drop(mem);
    pthread_mutex_unlock(&lock);
    return NEXT(clReleaseMemObject)(mem);
}

// usm_made is keep for USM.
static void *usm_made(cl_context context, void *p, struct allocation *a, size_t size, cl_int *err) {
    if (keep(&usm, p, a)) return memset(p, 0, size);
    if (!p) return NULL;
    if (layer.mem_free) layer.mem_free(context, p);
    return fail(err, CL_OUT_OF_HOST_MEMORY);
}

static void *vgpu_clHostMemAllocINTEL(cl_context context, const cl_ulong *properties, size_t size, cl_uint alignment, cl_int *err) {
    int error = fault_before(CALL_clHostMemAllocINTEL, NULL);
    struct allocation *a;
    if (!error) error = begin(context, NULL, size, true, &a);
    if (error) return fail(err, error);
    return usm_made(context, layer.host_alloc(context, properties, size, alignment, err), a, size, err);
}

static void *vgpu_clDeviceMemAllocINTEL(cl_context context, cl_device_id device, const cl_ulong *properties, size_t size,
                                        cl_uint alignment, cl_int *err) {
    int error = fault_before(CALL_clDeviceMemAllocINTEL, NULL);
    struct allocation *a;
    if (!error) error = begin(context, device, size, true, &a);
    if (error) return fail(err, error);
    return usm_made(context, layer.device_alloc(context, device, properties, size, alignment, err), a, size, err);
}

static void *vgpu_clSharedMemAllocINTEL(cl_context context, cl_device_id device, const cl_ulong *properties, size_t size,
                                        cl_uint alignment, cl_int *err) {
    int error = fault_before(CALL_clSharedMemAllocINTEL, NULL);
    struct allocation *a;
    if (!error) error = begin(context, device, size, true, &a);
    if (error) return fail(err, error);
    return usm_made(context, layer.shared_alloc(context, device, properties, size, alignment, err), a, size, err);
}

static cl_int usm_free(clMemFreeINTEL_fn *below, cl_context context, void *p) {
    pthread_mutex_lock(&lock);
    struct allocation *a = table_remove(&usm, p);
    if (a) {
        if (a->previous_usm) a->previous_usm->next_usm = a->next_usm;
        else usm_list = a->next_usm;
        if (a->next_usm) a->next_usm->previous_usm = a->previous_usm;
    }
    pthread_mutex_unlock(&lock);
    cl_int error = below(context, p);
    if (a) end(a);
    return error;
}

static cl_int vgpu_clMemFreeINTEL(cl_context context, void *p) { return usm_free(layer.mem_free, context, p); }
static cl_int vgpu_clMemBlockingFreeINTEL(cl_context context, void *p) { return usm_free(layer.blocking_free, context, p); }

size_t alloc_extent(const void *p) {
    size_t extent = 0;
    pthread_mutex_lock(&lock);
    for (const struct allocation *a = usm_list; a && !extent; a = a->next_usm) {
        if ((const char *)p >= a->start && (const char *)p < a->start + a->length) extent = (size_t)(a->start + a->length - (const char *)p);
    }
    pthread_mutex_unlock(&lock);
    return extent;
}

size_t alloc_buffer_size(cl_mem buffer) {
    pthread_mutex_lock(&lock);
    const struct allocation *a = table_get(&mems, buffer);
    size_t length = a ? a->length : 0;
    pthread_mutex_unlock(&lock);
    return length;
}

void *alloc_extension(const char *name, void *below) {
    // Each name with where the function below is kept and what stands in its place.
#define EXTENSION(field, function) \
    if (!strcmp(name, #function)) return layer.field = (function##_fn *)below, (void *)vgpu_##function
    EXTENSION(host_alloc, clHostMemAllocINTEL);
    EXTENSION(device_alloc, clDeviceMemAllocINTEL);
    EXTENSION(shared_alloc, clSharedMemAllocINTEL);
    EXTENSION(mem_free, clMemFreeINTEL);
    EXTENSION(blocking_free, clMemBlockingFreeINTEL);
#undef EXTENSION
    return NULL;
}

void alloc_install(void) {
    REPLACE(clCreateBuffer);
    REPLACE(clCreateBufferWithProperties);
    REPLACE(clCreateImage);
    REPLACE(clCreateSubBuffer);
    REPLACE(clRetainMemObject);
    REPLACE(clReleaseMemObject);
}

static void free_all(struct table *t) {
    for (size_t i = 0; i < t->size; i++) free(t->slots[i].value);
    table_free(t);
}

void alloc_stop(void) {
    free_all(&mems);
    free_all(&usm);
    usm_list = NULL;
}
