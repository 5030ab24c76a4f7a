// Kernels. The CPU runtime forms sub-groups along dimension 0 alone, an Intel GPU along the linear local id: a kernel
// enqueued with a local size such as (1,1,16) would compute wrong numbers without an error. Such a one is replaced by a
// variant compiled with the dimensions swapped, which gets the same arguments; so the layer keeps these.

#include "layer.h"

#include <stdlib.h>
#include <string.h>

struct argument {
	bool set, usm;
	size_t size;
	void *bytes;         // a copy; NULL for local memory
	const void *pointer; // of USM
};

struct kernel {
	cl_kernel handle;
	struct program *program;
	char name[256];
	struct argument *arguments;
	cl_uint count;
	cl_kernel variant[3];
	bool sub_groups; // its source uses them
	int references;
};

static struct table kernels;
typedef cl_int(CL_API_CALL *set_usm)(cl_kernel, cl_uint, const void *);
static set_usm set_usm_argument;

static struct kernel *kernel_of(cl_kernel handle) {
	pthread_mutex_lock(&lock);
	struct kernel *k = table_get(&kernels, handle);
	pthread_mutex_unlock(&lock);
	return k;
}

static struct kernel *adopt(cl_kernel handle, struct program *p) {
	struct kernel *k = calloc(1, sizeof *k);
	if (k == NULL) abort();
	k->handle = handle;
	k->program = p;
	k->references = 1;
	k->sub_groups = p->source != NULL && strstr(p->source, "sub_group") != NULL;
	program_retain(p);
	next->clGetKernelInfo(handle, CL_KERNEL_FUNCTION_NAME, sizeof k->name - 1, k->name, NULL);
	next->clGetKernelInfo(handle, CL_KERNEL_NUM_ARGS, sizeof k->count, &k->count, NULL);
	k->arguments = calloc(k->count + 1, sizeof *k->arguments);
	if (k->arguments == NULL) abort();
	pthread_mutex_lock(&lock);
	table_put(&kernels, handle, k);
	pthread_mutex_unlock(&lock);
	return k;
}

static void note(struct kernel *k, cl_uint i, bool usm, size_t size, const void *value) {
	if (i >= k->count) return; // the runtime refuses it
	struct argument *a = &k->arguments[i];
	free(a->bytes);
	*a = (struct argument){.set = true, .usm = usm, .size = size, .pointer = usm ? value : NULL};
	if (!usm && value != NULL) {
		a->bytes = malloc(size != 0 ? size : 1);
		if (a->bytes == NULL) abort();
		memcpy(a->bytes, value, size);
	}
}

static cl_kernel CL_API_CALL create(cl_program handle, const char *name, cl_int *error) {
	struct program *p = program_of(handle);
	cl_kernel k = next->clCreateKernel(p != NULL ? p->built : handle, name, error);
	if (k != NULL && p != NULL) adopt(k, p);
	return k;
}

static cl_int CL_API_CALL create_all(cl_program handle, cl_uint room, cl_kernel *to, cl_uint *found) {
	struct program *p = program_of(handle);
	cl_uint n = 0;
	cl_int error = next->clCreateKernelsInProgram(p != NULL ? p->built : handle, room, to, &n);
	if (found != NULL) *found = n;
	for (cl_uint i = 0; error == CL_SUCCESS && to != NULL && p != NULL && i < n && i < room; i++) adopt(to[i], p);
	return error;
}

static cl_kernel CL_API_CALL clone(cl_kernel handle, cl_int *error) {
	cl_kernel copy = next->clCloneKernel(handle, error);
	struct kernel *k = kernel_of(handle);
	if (copy == NULL || k == NULL) return copy;
	struct kernel *c = adopt(copy, k->program);
	for (cl_uint i = 0; i < k->count; i++) {
		const struct argument *a = &k->arguments[i];
		if (a->set) note(c, i, a->usm, a->size, a->usm ? a->pointer : a->bytes);
	}
	return copy;
}

static cl_int CL_API_CALL retain(cl_kernel handle) {
	struct kernel *k = kernel_of(handle);
	if (k != NULL) __atomic_add_fetch(&k->references, 1, __ATOMIC_SEQ_CST);
	return next->clRetainKernel(handle);
}

static cl_int CL_API_CALL release(cl_kernel handle) {
	struct kernel *k = kernel_of(handle);
	if (k == NULL || __atomic_sub_fetch(&k->references, 1, __ATOMIC_SEQ_CST) > 0) return next->clReleaseKernel(handle);
	pthread_mutex_lock(&lock);
	table_remove(&kernels, handle);
	pthread_mutex_unlock(&lock);
	for (int d = 0; d < 3; d++)
		if (k->variant[d] != NULL) next->clReleaseKernel(k->variant[d]);
	for (cl_uint i = 0; i < k->count; i++) free(k->arguments[i].bytes);
	cl_int error = next->clReleaseKernel(handle);
	program_release(k->program);
	free(k->arguments);
	free(k);
	return error;
}

static cl_int CL_API_CALL set_argument(cl_kernel handle, cl_uint i, size_t size, const void *value) {
	struct kernel *k = kernel_of(handle);
	if (k != NULL) note(k, i, false, size, value);
	return next->clSetKernelArg(handle, i, size, value);
}

static cl_int CL_API_CALL set_pointer(cl_kernel handle, cl_uint i, const void *value) {
	struct kernel *k = kernel_of(handle);
	if (k != NULL) note(k, i, true, 0, value);
	return set_usm_argument(handle, i, value);
}

static cl_int CL_API_CALL get_info(cl_kernel handle, cl_kernel_info what, size_t room, void *to, size_t *needed) {
	struct kernel *k = what == CL_KERNEL_PROGRAM ? kernel_of(handle) : NULL;
	if (k != NULL) return answer(&k->program->handle, sizeof k->program->handle, room, to, needed);
	return next->clGetKernelInfo(handle, what, room, to, needed);
}

// replay gives a variant the arguments of its kernel.
static cl_int replay(const struct kernel *k, cl_kernel variant) {
	for (cl_uint i = 0; i < k->count; i++) {
		const struct argument *a = &k->arguments[i];
		if (!a->set) continue;
		cl_int error = a->usm ? set_usm_argument(variant, i, a->pointer) : next->clSetKernelArg(variant, i, a->size, a->bytes);
		if (error != CL_SUCCESS) return error;
	}
	return CL_SUCCESS;
}

static cl_kernel variant_of(struct kernel *k, int d) {
	if (k->variant[d] == NULL) {
		cl_program p = program_variant(k->program, d);
		cl_int error;
		if (p != NULL) k->variant[d] = next->clCreateKernel(p, k->name, &error);
	}
	return k->variant[d];
}

// spoil flips a bit of some values behind the pointers that a kernel was given, its output among them.
static void spoil(const struct kernel *k, cl_command_queue queue) {
	next->clFinish(queue);
	for (cl_uint i = 0; i < k->count; i++) {
		const struct argument *a = &k->arguments[i];
		size_t words = a->set && a->usm && a->pointer != NULL ? memory_size(a->pointer) / 4 : 0;
		uint32_t *values = (uint32_t *)(uintptr_t)a->pointer;
		for (size_t n = 0; n < 16 && words > 0; n++) values[n * 2654435761u % words] ^= 1u << 30; // of the exponent
	}
}

static cl_int launch(struct kernel *k, cl_command_queue queue, cl_kernel handle, cl_uint dimensions, const size_t *offset, const size_t *global,
	const size_t *local, cl_uint n, const cl_event *events, cl_event *event) {
	size_t l[3] = {1, 1, 1}, g[3] = {1, 1, 1};
	int d = 0;
	for (cl_uint i = 0; i < dimensions && local != NULL; i++) l[i] = local[i];
	if (local != NULL && l[0] == 1) d = dimensions > 1 && l[1] > 1 ? 1 : dimensions > 2 && l[2] > 1 ? 2 : 0;
	if (d == 0 || k == NULL || !k->sub_groups) return next->clEnqueueNDRangeKernel(queue, handle, dimensions, offset, global, local, n, events, event);
	cl_kernel variant = variant_of(k, d);
	if (variant == NULL) return CL_INVALID_KERNEL;
	cl_int error = replay(k, variant);
	if (error != CL_SUCCESS) return error;
	for (cl_uint i = 0; i < dimensions; i++) g[i] = global[i];
	size_t first = g[0];
	g[0] = g[d];
	g[d] = first;
	l[0] = l[d];
	l[d] = 1;
	return next->clEnqueueNDRangeKernel(queue, variant, dimensions, NULL, g, l, n, events, event);
}

static cl_int CL_API_CALL enqueue(cl_command_queue queue, cl_kernel handle, cl_uint dimensions, const size_t *offset, const size_t *global,
	const size_t *local, cl_uint n, const cl_event *events, cl_event *event) {
	struct kernel *k = kernel_of(handle);
	struct fault f = fault_at("clEnqueueNDRangeKernel", k != NULL ? k->name : NULL);
	if (f.kind == FAULT_ERROR) return f.code;
	cl_int error = launch(k, queue, handle, dimensions, offset, global, local, n, events, event);
	if (f.kind == FAULT_FLIP && error == CL_SUCCESS && k != NULL) spoil(k, queue);
	return error;
}

void kernel_hook(cl_icd_dispatch *table) {
	table->clCreateKernel = create;
	table->clCreateKernelsInProgram = create_all;
	table->clCloneKernel = clone;
	table->clRetainKernel = retain;
	table->clReleaseKernel = release;
	table->clSetKernelArg = set_argument;
	table->clGetKernelInfo = get_info;
	table->clEnqueueNDRangeKernel = enqueue;
}

void *kernel_extension(const char *name, void *function) {
	if (strcmp(name, "clSetKernelArgMemPointerINTEL") != 0) return NULL;
	*(void **)&set_usm_argument = function;
	return (void *)set_pointer;
}
