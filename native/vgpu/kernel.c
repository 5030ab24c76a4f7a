// Kernels, their arguments, and running them.
#include <stdlib.h>

#include "alloc.h"
#include "fault.h"
#include "layer.h"
#include "object.h"

// argument is recorded to be set again on a variant of the kernel.
struct argument {
    enum { UNSET, VALUE, POINTER } kind;
    size_t size;
    void *value; // of VALUE, a copy; NULL: local memory
    const void *pointer;
};

// rewritten is the kernel in one variant of its program.
struct rewritten {
    size_t local[3];
    cl_kernel below;
    struct rewritten *next;
};

struct kernel {
    const void *dispatch;
    uint32_t magic;
    unsigned refs;
    struct program *program; // retained
    const struct unit *unit;
    cl_kernel below; // of program->built
    struct rewritten *rewritten;
    cl_program described; // for is_output, NULL until bits are to be inverted
    cl_uint count;
    struct argument args[]; // count of them
};

static struct kernel *kernel_of(cl_kernel handle) {
    struct kernel *k = (struct kernel *)handle;
    return k && k->magic == KERNEL_MAGIC ? k : NULL;
}

// wrap makes the layer's kernel around the runtime's, which it releases on an error.
static struct kernel *wrap(struct program *p, cl_kernel below, cl_int *err) {
    char name[1024] = "";
    cl_uint count = 0;
    cl_int error = NEXT(clGetKernelInfo)(below, CL_KERNEL_FUNCTION_NAME, sizeof name, name, NULL);
    if (!error) error = NEXT(clGetKernelInfo)(below, CL_KERNEL_NUM_ARGS, sizeof count, &count, NULL);
    const struct unit *unit = source_unit(&p->source, name);
    if (!error && !unit) {
        COMPLAIN("kernel %s is not announced in its program's source", name);
        error = CL_INVALID_KERNEL_NAME;
    }
    struct kernel *k = error ? NULL : calloc(1, sizeof *k + count * sizeof *k->args);
    if (!k) {
        NEXT(clReleaseKernel)(below);
        return fail(err, error ? error : CL_OUT_OF_HOST_MEMORY);
    }
    k->dispatch = p->dispatch;
    k->magic = KERNEL_MAGIC;
    k->refs = 1;
    k->program = p;
    k->unit = unit;
    k->below = below;
    k->count = count;
    program_retain(p);
    __atomic_add_fetch(&p->kernels, 1, __ATOMIC_RELAXED);
    if (err) *err = CL_SUCCESS;
    return k;
}

static void release(struct kernel *k) {
    if (__atomic_sub_fetch(&k->refs, 1, __ATOMIC_ACQ_REL)) return;
    for (struct rewritten *r = k->rewritten, *next; r; r = next) {
        next = r->next;
        NEXT(clReleaseKernel)(r->below);
        free(r);
    }
    if (k->described) NEXT(clReleaseProgram)(k->described);
    NEXT(clReleaseKernel)(k->below);
    for (cl_uint i = 0; i < k->count; i++) free(k->args[i].value);
    __atomic_sub_fetch(&k->program->kernels, 1, __ATOMIC_RELAXED);
    program_release(k->program);
    k->magic = 0;
    free(k);
}

static cl_kernel vgpu_clCreateKernel(cl_program handle, const char *name, cl_int *err) {
    int error = fault_before(CALL_clCreateKernel, NULL);
    if (error) return fail(err, error);
    struct program *p = program_of(handle);
    if (!p || !p->built) return fail(err, p ? CL_INVALID_PROGRAM_EXECUTABLE : CL_INVALID_PROGRAM);
    cl_kernel below = NEXT(clCreateKernel)(p->built, name, err);
    return below ? (cl_kernel)wrap(p, below, err) : NULL;
}

static cl_int vgpu_clCreateKernelsInProgram(cl_program handle, cl_uint room, cl_kernel *out, cl_uint *count_out) {
    int error = fault_before(CALL_clCreateKernelsInProgram, NULL);
    if (error) return error;
    struct program *p = program_of(handle);
    if (!p || !p->built) return p ? CL_INVALID_PROGRAM_EXECUTABLE : CL_INVALID_PROGRAM;
    cl_uint count = 0;
    error = NEXT(clCreateKernelsInProgram)(p->built, room, out, &count);
    if (count_out) *count_out = count;
    if (error || !out) return error;
    for (cl_uint i = 0; i < count; i++) {
        if (!error) out[i] = (cl_kernel)wrap(p, out[i], &error);
        else NEXT(clReleaseKernel)(out[i]), out[i] = NULL;
    }
    for (cl_uint i = 0; error && i < count && out[i]; i++) release(kernel_of(out[i]));
    return error;
}

// record keeps what the runtime has accepted.
static cl_int record(struct kernel *k, cl_uint i, struct argument a) {
    if (i >= k->count) return CL_INVALID_ARG_INDEX;
    if (a.kind == VALUE && a.value) {
        void *copy = malloc(a.size ? a.size : 1);
        if (!copy) return CL_OUT_OF_HOST_MEMORY;
        a.value = memcpy(copy, a.value, a.size);
    }
    free(k->args[i].value);
    k->args[i] = a;
    return CL_SUCCESS;
}

static cl_int vgpu_clSetKernelArg(cl_kernel handle, cl_uint i, size_t size, const void *value) {
    struct kernel *k = kernel_of(handle);
    if (!k) return CL_INVALID_KERNEL;
    cl_int error = NEXT(clSetKernelArg)(k->below, i, size, value);
    return error ? error : record(k, i, (struct argument){.kind = VALUE, .size = size, .value = (void *)value});
}

static cl_int vgpu_clSetKernelArgMemPointerINTEL(cl_kernel handle, cl_uint i, const void *pointer) {
    struct kernel *k = kernel_of(handle);
    if (!k) return CL_INVALID_KERNEL;
    cl_int error = layer.set_pointer(k->below, i, pointer);
    return error ? error : record(k, i, (struct argument){.kind = POINTER, .pointer = pointer});
}

static cl_int vgpu_clSetKernelArgSVMPointer(cl_kernel handle, cl_uint i, const void *pointer) {
    struct kernel *k = kernel_of(handle);
    if (!k) return CL_INVALID_KERNEL;
    cl_int error = NEXT(clSetKernelArgSVMPointer)(k->below, i, pointer);
    return error ? error : record(k, i, (struct argument){.kind = POINTER, .pointer = pointer});
}

static cl_kernel vgpu_clCloneKernel(cl_kernel handle, cl_int *err) {
    const struct kernel *k = kernel_of(handle);
    if (!k) return fail(err, CL_INVALID_KERNEL);
    cl_kernel below = NEXT(clCloneKernel)(k->below, err);
    struct kernel *copy = below ? wrap(k->program, below, err) : NULL;
    if (!copy) return NULL;
    for (cl_uint i = 0; i < k->count; i++) {
        cl_int error = record(copy, i, k->args[i]);
        if (error) return release(copy), fail(err, error);
    }
    return (cl_kernel)copy;
}

static cl_int vgpu_clRetainKernel(cl_kernel handle) {
    struct kernel *k = kernel_of(handle);
    if (!k) return CL_INVALID_KERNEL;
    __atomic_add_fetch(&k->refs, 1, __ATOMIC_RELAXED);
    return CL_SUCCESS;
}

static cl_int vgpu_clReleaseKernel(cl_kernel handle) {
    struct kernel *k = kernel_of(handle);
    if (!k) return CL_INVALID_KERNEL;
    release(k);
    return CL_SUCCESS;
}

static cl_int vgpu_clSetKernelExecInfo(cl_kernel handle, cl_uint name, size_t size, const void *value) {
    struct kernel *k = kernel_of(handle);
    return k ? NEXT(clSetKernelExecInfo)(k->below, name, size, value) : CL_INVALID_KERNEL;
}

static cl_int vgpu_clGetKernelInfo(cl_kernel handle, cl_uint name, size_t room, void *out, size_t *size) {
    const struct kernel *k = kernel_of(handle);
    if (!k) return CL_INVALID_KERNEL;
    switch (name) {
    case CL_KERNEL_REFERENCE_COUNT: return answer(&(cl_uint){__atomic_load_n(&k->refs, __ATOMIC_RELAXED)}, sizeof(cl_uint), room, out, size);
    case CL_KERNEL_CONTEXT: return answer(&k->program->context, sizeof(cl_context), room, out, size);
    case CL_KERNEL_PROGRAM: return answer(&k->program, sizeof(cl_program), room, out, size);
    }
    return NEXT(clGetKernelInfo)(k->below, name, room, out, size);
}

static cl_int vgpu_clGetKernelArgInfo(cl_kernel handle, cl_uint i, cl_uint name, size_t room, void *out, size_t *size) {
    const struct kernel *k = kernel_of(handle);
    return k ? NEXT(clGetKernelArgInfo)(k->below, i, name, room, out, size) : CL_INVALID_KERNEL;
}

static cl_int vgpu_clGetKernelWorkGroupInfo(cl_kernel handle, cl_device_id device, cl_uint name, size_t room, void *out, size_t *size) {
    const struct kernel *k = kernel_of(handle);
    return k ? NEXT(clGetKernelWorkGroupInfo)(k->below, device, name, room, out, size) : CL_INVALID_KERNEL;
}

static cl_int vgpu_clGetKernelSubGroupInfo(cl_kernel handle, cl_device_id device, cl_uint name, size_t in_size, const void *in,
                                           size_t room, void *out, size_t *size) {
    const struct kernel *k = kernel_of(handle);
    return k ? NEXT(clGetKernelSubGroupInfo)(k->below, device, name, in_size, in, room, out, size) : CL_INVALID_KERNEL;
}

static cl_int vgpu_clGetKernelSubGroupInfoKHR(cl_kernel handle, cl_device_id device, cl_uint name, size_t in_size, const void *in,
                                              size_t room, void *out, size_t *size) {
    return vgpu_clGetKernelSubGroupInfo(handle, device, name, in_size, in, room, out, size);
}

// set_all sets the recorded arguments on another form of the kernel.
static cl_int set_all(const struct kernel *k, cl_kernel below) {
    cl_int error = CL_SUCCESS;
    for (cl_uint i = 0; !error && i < k->count; i++) {
        const struct argument *a = &k->args[i];
        if (a->kind == VALUE) error = NEXT(clSetKernelArg)(below, i, a->size, a->value);
        if (a->kind == POINTER) {
            error = layer.set_pointer ? layer.set_pointer(below, i, a->pointer) : NEXT(clSetKernelArgSVMPointer)(below, i, a->pointer);
        }
    }
    return error;
}

// rewrite returns the kernel in the form for one local size, with its arguments.
static cl_int rewrite(struct kernel *k, const size_t local[3], cl_kernel *out) {
    struct rewritten *r = k->rewritten;
    while (r && memcmp(r->local, local, sizeof r->local)) r = r->next;
    if (!r) {
        cl_program program = NULL;
        cl_int error = program_variant(k->program, k->unit, local, &program);
        char name[1024] = "";
        if (!error) error = NEXT(clGetKernelInfo)(k->below, CL_KERNEL_FUNCTION_NAME, sizeof name, name, NULL);
        cl_kernel below = error ? NULL : NEXT(clCreateKernel)(program, name, &error);
        if (!below) return error;
        if (!(r = malloc(sizeof *r))) return NEXT(clReleaseKernel)(below), CL_OUT_OF_HOST_MEMORY;
        *r = (struct rewritten){.local = {local[0], local[1], local[2]}, .below = below, .next = k->rewritten};
        k->rewritten = r;
    }
    *out = r->below;
    return set_all(k, r->below);
}

// along_0 reports whether the runtime forms the sub-groups of this work-group as a GPU does.
static bool along_0(const struct kernel *k, const size_t local[3]) {
    if (local[1] * local[2] == 1) return true;
    size_t sub_group = 0;
    NEXT(clGetKernelWorkGroupInfo)(k->below, k->program->device, CL_KERNEL_COMPILE_SUB_GROUP_SIZE_INTEL, sizeof sub_group, &sub_group, NULL);
    return local[0] % (sub_group ? sub_group : 32) == 0;
}

// launch is what to enqueue in place of a kernel.
struct launch {
    cl_kernel below;
    size_t global[3], local[3];
};

// choose finds the form of the kernel for a local size, and its sizes.
static cl_int choose(struct kernel *k, cl_uint dimensions, const size_t *global, const size_t *local, struct launch *l) {
    *l = (struct launch){k->below, {1, 1, 1}, {1, 1, 1}};
    memcpy(l->global, global, dimensions * sizeof *global);
    memcpy(l->local, local ? local : k->unit->local, dimensions * sizeof *local);
    size_t asked[3];
    memcpy(asked, l->local, sizeof asked);
    bool built_for_it = k->unit->linear && !memcmp(asked, k->unit->local, sizeof asked);
    if (!k->unit->linear && along_0(k, asked)) return CL_SUCCESS;
    for (int i = 0; i < 3; i++) {
        if (!asked[i] || l->global[i] % asked[i]) return CL_INVALID_WORK_GROUP_SIZE;
    }
    l->local[0] = asked[0] * asked[1] * asked[2];
    l->local[1] = l->local[2] = 1;
    l->global[0] = l->global[0] / asked[0] * l->local[0]; // the same groups
    l->global[1] /= asked[1];
    l->global[2] /= asked[2];
    return built_for_it ? CL_SUCCESS : rewrite(k, asked, &l->below);
}

static cl_int run(struct kernel *k, cl_command_queue queue, cl_uint dimensions, const size_t *offset, const size_t *global,
                  const size_t *local, cl_uint count, const cl_event *wait, cl_event *event) {
    if (!k->unit->sub_groups || (!local && !k->unit->linear) || !global || dimensions < 1 || dimensions > 3) {
        return NEXT(clEnqueueNDRangeKernel)(queue, k->below, dimensions, offset, global, local, count, wait, event);
    }
    struct launch l;
    cl_int error = choose(k, dimensions, global, local, &l);
    if (error) {
        COMPLAIN("kernel %s cannot be run: error %d", k->unit->name ? k->unit->name : "?", error);
        return error;
    }
    return NEXT(clEnqueueNDRangeKernel)(queue, l.below, dimensions, offset, l.global, l.local, count, wait, event);
}

// is_output reports whether the kernel, which has argument information, may write to where its argument points.
static bool is_output(cl_kernel described, cl_uint i) {
    cl_uint space = 0;
    cl_ulong qualifier = 0;
    if (NEXT(clGetKernelArgInfo)(described, i, CL_KERNEL_ARG_ADDRESS_QUALIFIER, sizeof space, &space, NULL)) return false;
    if (NEXT(clGetKernelArgInfo)(described, i, CL_KERNEL_ARG_TYPE_QUALIFIER, sizeof qualifier, &qualifier, NULL)) return false;
    return space == CL_KERNEL_ARG_ADDRESS_GLOBAL && !(qualifier & CL_KERNEL_ARG_TYPE_CONST);
}

// spoil_argument inverts bits behind a pointer or in a buffer. The device below is this machine's memory.
static cl_int spoil_argument(const struct argument *a, cl_command_queue queue, const struct flip *flip) {
    if (a->kind == POINTER) return fault_flip(flip, (void *)a->pointer, alloc_extent(a->pointer)), CL_SUCCESS;
    cl_mem buffer = a->kind == VALUE && a->value && a->size == sizeof buffer ? *(cl_mem *)a->value : NULL;
    size_t size = buffer ? alloc_buffer_size(buffer) : 0;
    if (!size) return CL_SUCCESS;
    cl_int error;
    void *at = NEXT(clEnqueueMapBuffer)(queue, buffer, 1, 3 /* read, write */, 0, size, 0, NULL, NULL, &error);
    if (!at) return error;
    fault_flip(flip, at, size);
    return NEXT(clEnqueueUnmapMemObject)(queue, buffer, at, 0, NULL, NULL);
}

// spoil inverts bits in what a kernel has written.
static cl_int spoil(struct kernel *k, cl_command_queue queue, const struct flip *flip) {
    char name[1024] = "";
    if (!k->described) k->described = program_described(k->program, k->unit);
    cl_int error = NEXT(clGetKernelInfo)(k->below, CL_KERNEL_FUNCTION_NAME, sizeof name, name, NULL);
    cl_kernel described = k->described && !error ? NEXT(clCreateKernel)(k->described, name, &error) : NULL;
    if (!error) error = NEXT(clFinish)(queue);
    for (cl_uint i = 0; described && !error && i < k->count; i++) {
        if (is_output(described, i)) error = spoil_argument(&k->args[i], queue, flip);
    }
    if (described) NEXT(clReleaseKernel)(described);
    return error ? error : NEXT(clFinish)(queue);
}

static cl_int vgpu_clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel handle, cl_uint dimensions, const size_t *offset,
                                          const size_t *global, const size_t *local, cl_uint count, const cl_event *wait, cl_event *event) {
    struct kernel *k = kernel_of(handle);
    struct flip flip;
    cl_int error = fault_before_kernel(CALL_clEnqueueNDRangeKernel, k && k->unit->name ? k->unit->name : "", &flip);
    if (error) return settle(queue, error);
    if (!k) return CL_INVALID_KERNEL;
    error = run(k, queue, dimensions, offset, global, local, count, wait, event);
    return error || !flip.bits ? error : spoil(k, queue, &flip);
}

static cl_int vgpu_clEnqueueTask(cl_command_queue queue, cl_kernel handle, cl_uint count, const cl_event *wait, cl_event *event) {
    const size_t one = 1;
    return vgpu_clEnqueueNDRangeKernel(queue, handle, 1, NULL, &one, &one, count, wait, event);
}

void *kernel_extension(const char *name, void *below) {
    if (strcmp(name, "clSetKernelArgMemPointerINTEL")) return NULL;
    layer.set_pointer = (clSetKernelArgMemPointerINTEL_fn *)below;
    return (void *)vgpu_clSetKernelArgMemPointerINTEL;
}

void kernel_install(void) {
    REPLACE(clCreateKernel);
    REPLACE(clCreateKernelsInProgram);
    REPLACE(clCloneKernel);
    REPLACE(clRetainKernel);
    REPLACE(clReleaseKernel);
    REPLACE(clSetKernelArg);
    REPLACE(clSetKernelArgSVMPointer);
    REPLACE(clSetKernelExecInfo);
    REPLACE(clGetKernelInfo);
    REPLACE(clGetKernelArgInfo);
    REPLACE(clGetKernelWorkGroupInfo);
    REPLACE(clGetKernelSubGroupInfo);
    REPLACE(clGetKernelSubGroupInfoKHR);
    REPLACE(clEnqueueNDRangeKernel);
    REPLACE(clEnqueueTask);
}
