#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"

struct fake fake;

// object is every OpenCL object of the fake.
struct object {
    const void *dispatch;
    unsigned refs;
    unsigned *alive;
    struct object *parent; // program of a kernel
    char *text;            // source of a program, name of a kernel
    bool binary;
    size_t size;
    unsigned char *bytes;
    uint32_t arg_value[4];
    const void *arg_pointer[4];
};

static struct object platform, device;

static void *create(unsigned *alive, cl_int *err) {
    struct object *o = calloc(1, sizeof *o);
    if (!o) abort();
    *o = (struct object){.dispatch = &fake, .refs = 1, .alive = alive};
    __atomic_add_fetch(alive, 1, __ATOMIC_RELAXED);
    if (err) *err = CL_SUCCESS;
    return o;
}

static void drop(struct object *o) {
    if (--o->refs) return;
    __atomic_sub_fetch(o->alive, 1, __ATOMIC_RELAXED);
    free(o->text);
    free(o->bytes);
    free(o);
}

static cl_int retain(void *o) { return ((struct object *)o)->refs++, CL_SUCCESS; }
static cl_int release(void *o) { return drop(o), CL_SUCCESS; }

cl_context fake_context(void) { return create(&fake.contexts, NULL); }

static cl_int fake_clGetDeviceIDs(cl_platform_id p, cl_bitfield type, cl_uint room, cl_device_id *out, cl_uint *count) {
    (void)p, (void)type;
    if (count) *count = 1;
    if (out && room) *out = (cl_device_id)&device;
    return CL_SUCCESS;
}

static cl_int fake_clGetDeviceInfo(cl_device_id d, cl_uint name, size_t room, void *out, size_t *size) {
    (void)d;
    if (name == CL_DEVICE_GLOBAL_MEM_SIZE) return answer(&(cl_ulong){1 << 30}, 8, room, out, size);
    if (name == CL_DEVICE_MAX_MEM_ALLOC_SIZE) return answer(&(cl_ulong){1 << 28}, 8, room, out, size);
    if (name == CL_DEVICE_NAME) return answer("fake", 5, room, out, size);
    if (name == CL_DRIVER_VERSION) return answer("1", 2, room, out, size);
    return CL_INVALID_VALUE;
}

static cl_int fake_clRetainContext(cl_context c) { return retain(c); }
static cl_int fake_clReleaseContext(cl_context c) { return release(c); }

static cl_int fake_clGetContextInfo(cl_context c, cl_uint name, size_t room, void *out, size_t *size) {
    (void)c, (void)name;
    return answer(&(void *){&device}, sizeof(void *), room, out, size);
}

static cl_mem fake_clCreateBuffer(cl_context c, cl_bitfield flags, size_t size, void *host, cl_int *err) {
    (void)c, (void)flags;
    struct object *o = create(&fake.mems, err);
    o->size = size;
    o->bytes = calloc(1, size);
    if (host && o->bytes) memcpy(o->bytes, host, size);
    return (cl_mem)o;
}

static cl_mem fake_clCreateSubBuffer(cl_mem parent, cl_bitfield flags, cl_uint type, const void *region, cl_int *err) {
    (void)parent, (void)flags, (void)type, (void)region;
    return create(&fake.mems, err);
}

static cl_int fake_clRetainMemObject(cl_mem m) { return retain(m); }
static cl_int fake_clReleaseMemObject(cl_mem m) { return release(m); }

static cl_program fake_clCreateProgramWithSource(cl_context c, cl_uint count, const char **strings, const size_t *lengths, cl_int *err) {
    (void)c, (void)count, (void)lengths;
    struct object *o = create(&fake.programs, err);
    o->text = strdup(strings[0]);
    return (cl_program)o;
}

static cl_program fake_clCreateProgramWithBinary(cl_context c, cl_uint count, const cl_device_id *list, const size_t *sizes,
                                                 const unsigned char **binaries, cl_int *status, cl_int *err) {
    (void)c, (void)count, (void)list;
    struct object *o = create(&fake.programs, err);
    o->text = strndup((const char *)binaries[0], sizes[0]);
    o->binary = true;
    *status = CL_SUCCESS;
    return (cl_program)o;
}

static cl_int fake_clReleaseProgram(cl_program p) { return release(p); }

static cl_int fake_clBuildProgram(cl_program p, cl_uint count, const cl_device_id *list, const char *options, cl_build_notify *notify,
                                  void *data) {
    (void)count, (void)list, (void)notify, (void)data;
    struct object *o = (struct object *)p;
    if (o->binary) return fake.binary_loads++, fake.refuse_binaries ? CL_INVALID_BINARY : CL_SUCCESS;
    fake.builds++;
    snprintf(fake.source, sizeof fake.source, "%s", o->text);
    snprintf(fake.options, sizeof fake.options, "%s", options);
    return strstr(o->text, "#error") ? CL_BUILD_PROGRAM_FAILURE : CL_SUCCESS;
}

// A binary of the fake is its source.
static cl_int fake_clGetProgramInfo(cl_program p, cl_uint name, size_t room, void *out, size_t *size) {
    const struct object *o = (const struct object *)p;
    size_t length = strlen(o->text);
    if (name == CL_PROGRAM_BINARY_SIZES) return answer(&length, sizeof length, room, out, size);
    if (name == CL_PROGRAM_BINARIES) return memcpy(*(char **)out, o->text, length), CL_SUCCESS;
    return CL_INVALID_VALUE;
}

static cl_int fake_clGetProgramBuildInfo(cl_program p, cl_device_id d, cl_uint name, size_t room, void *out, size_t *size) {
    (void)p, (void)d, (void)name;
    return answer("log below", 10, room, out, size);
}

static cl_kernel new_kernel(cl_program p, const char *name, cl_int *err) {
    struct object *o = create(&fake.kernels, err);
    o->parent = (struct object *)p;
    o->text = strdup(name);
    return (cl_kernel)o;
}

static cl_kernel fake_clCreateKernel(cl_program p, const char *name, cl_int *err) {
    char definition[128];
    snprintf(definition, sizeof definition, "__kernel void %s(", name);
    if (!strstr(((struct object *)p)->text, definition)) return fail(err, CL_INVALID_KERNEL_NAME);
    return new_kernel(p, name, err);
}

static cl_int fake_clCreateKernelsInProgram(cl_program p, cl_uint room, cl_kernel *out, cl_uint *count) {
    cl_uint n = 0;
    for (const char *at = ((struct object *)p)->text; (at = strstr(at, "__kernel void ")); n++) {
        char name[64];
        sscanf(at += strlen("__kernel void "), "%63[^(]", name);
        if (out && n < room) out[n] = new_kernel(p, name, NULL);
    }
    *count = n;
    return CL_SUCCESS;
}

static cl_kernel fake_clCloneKernel(cl_kernel k, cl_int *err) {
    const struct object *o = (const struct object *)k;
    return new_kernel((cl_program)o->parent, o->text, err);
}

static cl_int fake_clReleaseKernel(cl_kernel k) { return release(k); }

static cl_int fake_clGetKernelInfo(cl_kernel k, cl_uint name, size_t room, void *out, size_t *size) {
    const struct object *o = (const struct object *)k;
    if (name == CL_KERNEL_FUNCTION_NAME) return answer(o->text, strlen(o->text) + 1, room, out, size);
    if (name == CL_KERNEL_NUM_ARGS) return answer(&(cl_uint){4}, 4, room, out, size);
    return CL_INVALID_VALUE;
}

// Arguments 0 and 1 are constant global pointers, 2 is an output, 3 a number.
static cl_int fake_clGetKernelArgInfo(cl_kernel k, cl_uint i, cl_uint name, size_t room, void *out, size_t *size) {
    (void)k;
    if (name == CL_KERNEL_ARG_ADDRESS_QUALIFIER) return answer(&(cl_uint){i < 3 ? CL_KERNEL_ARG_ADDRESS_GLOBAL : 0x119E}, 4, room, out, size);
    return answer(&(cl_ulong){i < 2 ? CL_KERNEL_ARG_TYPE_CONST : 0}, 8, room, out, size);
}

static cl_int fake_clGetKernelWorkGroupInfo(cl_kernel k, cl_device_id d, cl_uint name, size_t room, void *out, size_t *size) {
    (void)k, (void)d, (void)name;
    return answer(&(size_t){16}, sizeof(size_t), room, out, size);
}

static cl_int fake_clSetKernelArg(cl_kernel k, cl_uint i, size_t size, const void *value) {
    if (i >= 4) return CL_INVALID_ARG_INDEX;
    struct object *o = (struct object *)k;
    if (value && size == sizeof(void *)) memcpy(&o->arg_pointer[i], value, size);
    else if (value) memcpy(&o->arg_value[i], value, size < 4 ? size : 4);
    return CL_SUCCESS;
}

static cl_int fake_set_pointer(cl_kernel k, cl_uint i, const void *p) {
    if (i >= 4) return CL_INVALID_ARG_INDEX;
    ((struct object *)k)->arg_pointer[i] = p;
    return CL_SUCCESS;
}

static cl_int fake_clEnqueueNDRangeKernel(cl_command_queue q, cl_kernel k, cl_uint dimensions, const size_t *offset, const size_t *global,
                                          const size_t *local, cl_uint count, const cl_event *wait, cl_event *event) {
    (void)q, (void)offset, (void)count, (void)wait, (void)event;
    const struct object *o = (const struct object *)k;
    memset(fake.global, 0, sizeof fake.global);
    memset(fake.local, 0, sizeof fake.local);
    memcpy(fake.global, global, dimensions * sizeof *global);
    if (local) memcpy(fake.local, local, dimensions * sizeof *local);
    fake.kernel = k;
    snprintf(fake.kernel_name, sizeof fake.kernel_name, "%s", o->text);
    memcpy(fake.arg_value, o->arg_value, sizeof o->arg_value);
    memcpy(fake.arg_pointer, o->arg_pointer, sizeof o->arg_pointer);
    return CL_SUCCESS;
}

static cl_int fake_clEnqueueReadBuffer(cl_command_queue q, cl_mem m, cl_bool blocking, size_t offset, size_t size, void *out, cl_uint count,
                                       const cl_event *wait, cl_event *event) {
    (void)q, (void)blocking, (void)count, (void)wait, (void)event;
    memcpy(out, ((struct object *)m)->bytes + offset, size);
    return CL_SUCCESS;
}

static cl_int fake_clFlush(cl_command_queue q) { return (void)q, __atomic_add_fetch(&fake.flushes, 1, __ATOMIC_RELAXED), CL_SUCCESS; }
static cl_int fake_clFinish(cl_command_queue q) { return (void)q, CL_SUCCESS; }

static void *fake_host_alloc(cl_context c, const cl_ulong *properties, size_t size, cl_uint alignment, cl_int *err) {
    (void)c, (void)properties, (void)alignment;
    fake.usm++;
    *err = CL_SUCCESS;
    void *p = malloc(size);
    return p ? memset(p, 0xAA, size) : NULL;
}

static cl_int fake_mem_free(cl_context c, void *p) { return (void)c, free(p), fake.usm--, CL_SUCCESS; }

static void *fake_clGetExtensionFunctionAddressForPlatform(cl_platform_id p, const char *name) {
    (void)p;
    if (!strcmp(name, "clHostMemAllocINTEL")) return (void *)fake_host_alloc;
    if (!strcmp(name, "clMemFreeINTEL")) return (void *)fake_mem_free;
    if (!strcmp(name, "clSetKernelArgMemPointerINTEL")) return (void *)fake_set_pointer;
    return NULL;
}

void *const *fake_table(void) {
    static void *table[SLOT_COUNT];
    platform.dispatch = device.dispatch = &fake;
#define HAS(name) table[SLOT_##name] = (void *)(name##_fn *){fake_##name}
    HAS(clGetDeviceIDs), HAS(clGetDeviceInfo), HAS(clRetainContext), HAS(clReleaseContext), HAS(clGetContextInfo);
    HAS(clCreateBuffer), HAS(clCreateSubBuffer), HAS(clRetainMemObject), HAS(clReleaseMemObject);
    HAS(clCreateProgramWithSource), HAS(clCreateProgramWithBinary), HAS(clReleaseProgram), HAS(clBuildProgram);
    HAS(clGetProgramInfo), HAS(clGetProgramBuildInfo), HAS(clCreateKernel), HAS(clCreateKernelsInProgram), HAS(clCloneKernel);
    HAS(clReleaseKernel), HAS(clGetKernelInfo), HAS(clGetKernelArgInfo), HAS(clGetKernelWorkGroupInfo), HAS(clSetKernelArg);
    HAS(clEnqueueNDRangeKernel), HAS(clEnqueueReadBuffer), HAS(clFlush), HAS(clFinish);
    HAS(clGetExtensionFunctionAddressForPlatform);
#undef HAS
    return table;
}
