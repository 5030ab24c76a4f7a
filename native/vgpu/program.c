// Programs. The layer keeps the source of each: to patch it, to compile variants of it, and to find it compiled on
// disk. Once an application has released a program the CPU runtime considers it gone although kernels of it live, so
// the layer holds it until the last kernel is released too.

#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct table programs;
static pthread_mutex_t building = PTHREAD_MUTEX_INITIALIZER; // of variants

struct program *program_of(cl_program handle) {
	pthread_mutex_lock(&lock);
	struct program *p = table_get(&programs, handle);
	pthread_mutex_unlock(&lock);
	return p;
}

void program_retain(struct program *p) { __atomic_add_fetch(&p->references, 1, __ATOMIC_SEQ_CST); }

void program_release(struct program *p) {
	if (__atomic_sub_fetch(&p->references, 1, __ATOMIC_SEQ_CST) > 0) return;
	pthread_mutex_lock(&lock);
	table_remove(&programs, p->handle);
	pthread_mutex_unlock(&lock);
	for (int d = 0; d < 3; d++)
		if (p->variant[d] != NULL) next->clReleaseProgram(p->variant[d]);
	if (p->built != p->handle) next->clReleaseProgram(p->built);
	next->clReleaseProgram(p->handle);
	free(p->source);
	free(p->options);
	free(p);
}

static struct program *adopt(cl_program handle, cl_context context, char *source) {
	struct program *p = calloc(1, sizeof *p);
	if (p == NULL) abort();
	*p = (struct program){.handle = handle, .built = handle, .context = context, .source = source, .options = strdup(""), .references = 1};
	pthread_mutex_lock(&lock);
	table_put(&programs, handle, p);
	pthread_mutex_unlock(&lock);
	return p;
}

// insert puts words before each place where a pattern stands.
static char *insert(char *s, const char *pattern, const char *words) {
	for (char *at = s; (at = strstr(at, pattern)) != NULL;) {
		size_t before = (size_t)(at - s), n = strlen(words);
		char *longer = malloc(strlen(s) + n + 1);
		if (longer == NULL) abort();
		memcpy(longer, s, before);
		memcpy(longer + before, words, n);
		strcpy(longer + before + n, at);
		free(s);
		s = longer;
		at = s + before + n + strlen(pattern);
	}
	return s;
}

// patch mends the sources that rely on the lockstep of a GPU's hardware thread: permute_f_y_axes exchanges values
// between lanes through local memory without a barrier, which a CPU needs.
static char *patch(char *s) {
	static const char barrier[] = "barrier(CLK_LOCAL_MEM_FENCE); ";
	if (strstr(s, "transpose_buf") == NULL) return s;
	s = insert(s, "const int f = (f_begin", barrier);
	return insert(s, "ACC_VEC_TYPE res = READ_VEC(0, &transpose_buf", barrier);
}

static char *join(cl_uint n, const char **parts, const size_t *lengths) {
	size_t total = 1, at = 0;
	for (cl_uint i = 0; i < n; i++) total += lengths != NULL && lengths[i] != 0 ? lengths[i] : strlen(parts[i]);
	char *s = malloc(total);
	if (s == NULL) abort();
	for (cl_uint i = 0; i < n; i++) {
		size_t length = lengths != NULL && lengths[i] != 0 ? lengths[i] : strlen(parts[i]);
		memcpy(s + at, parts[i], length);
		at += length;
	}
	s[at] = 0;
	return s;
}

static cl_program CL_API_CALL create_with_source(cl_context context, cl_uint n, const char **parts, const size_t *lengths, cl_int *error) {
	char *source = patch(join(n, parts, lengths));
	const char *one = source;
	cl_program handle = next->clCreateProgramWithSource(context, 1, &one, NULL, error);
	if (handle == NULL) free(source);
	else adopt(handle, context, source);
	return handle;
}

// all_options is what a program is compiled with.
static char *all_options(const char *options) {
	const char *more = settings.options != NULL ? settings.options : "";
	char *all = malloc(strlen(options) + strlen(more) + 2);
	if (all == NULL) abort();
	sprintf(all, "%s %s", options, more);
	return all;
}

static cl_device_id device_of(cl_context context) {
	cl_device_id device = NULL;
	next->clGetContextInfo(context, CL_CONTEXT_DEVICES, sizeof device, &device, NULL);
	return device;
}

// from_cache returns a built program, or NULL.
static cl_program from_cache(cl_context context, const char *key, const char *options) {
	unsigned char *data;
	size_t size;
	if (!cache_load(key, &data, &size)) return NULL;
	cl_device_id device = device_of(context);
	const unsigned char *binary = data;
	cl_int status, error;
	cl_program p = next->clCreateProgramWithBinary(context, 1, &device, &size, &binary, &status, &error);
	free(data);
	if (p != NULL && next->clBuildProgram(p, 1, &device, options, NULL, NULL) != CL_SUCCESS) {
		next->clReleaseProgram(p);
		p = NULL;
	}
	return p;
}

static void to_cache(cl_program p, const char *key) {
	size_t size = 0;
	if (settings.cache == NULL || next->clGetProgramInfo(p, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) != CL_SUCCESS || size == 0) return;
	unsigned char *data = malloc(size);
	if (data != NULL && next->clGetProgramInfo(p, CL_PROGRAM_BINARIES, sizeof data, &data, NULL) == CL_SUCCESS) cache_store(key, data, size);
	free(data);
}

static cl_int CL_API_CALL build(cl_program handle, cl_uint n, const cl_device_id *devices, const char *options,
	void(CL_CALLBACK *notify)(cl_program, void *), void *data) {
	struct fault f = fault_at("clBuildProgram", NULL);
	if (f.kind == FAULT_ERROR) return f.code;
	struct program *p = program_of(handle);
	if (p == NULL) return next->clBuildProgram(handle, n, devices, options, notify, data);
	free(p->options);
	p->options = strdup(options != NULL ? options : "");
	char *all = all_options(p->options), *key = cache_key(p->source, all);
	cl_int error = CL_SUCCESS;
	cl_program cached = from_cache(p->context, key, all);
	if (cached != NULL) p->built = cached;
	else if ((error = next->clBuildProgram(handle, n, devices, all, NULL, NULL)) == CL_SUCCESS) to_cache(handle, key);
	free(key);
	free(all);
	if (notify != NULL) notify(handle, data);
	return error;
}

static cl_int CL_API_CALL compile(cl_program p, cl_uint n, const cl_device_id *devices, const char *options, cl_uint headers,
	const cl_program *header, const char **names, void(CL_CALLBACK *notify)(cl_program, void *), void *data) {
	struct fault f = fault_at("clCompileProgram", NULL);
	return f.kind == FAULT_ERROR ? f.code : next->clCompileProgram(p, n, devices, options, headers, header, names, notify, data);
}

static cl_program CL_API_CALL link_programs(cl_context context, cl_uint n, const cl_device_id *devices, const char *options, cl_uint inputs,
	const cl_program *input, void(CL_CALLBACK *notify)(cl_program, void *), void *data, cl_int *error) {
	struct fault f = fault_at("clLinkProgram", NULL);
	if (f.kind != FAULT_ERROR) return next->clLinkProgram(context, n, devices, options, inputs, input, notify, data, error);
	if (error != NULL) *error = f.code;
	return NULL;
}

// A program's binary, for the application, is its source behind these words: of a real binary no variants could be
// compiled, and its kernels would compute wrong numbers without an error.
static const char container[] = "genfn virtual GPU source\n";

static cl_program CL_API_CALL create_with_binary(cl_context context, cl_uint n, const cl_device_id *devices, const size_t *sizes,
	const unsigned char **binaries, cl_int *status, cl_int *error) {
	const size_t head = sizeof container - 1;
	if (n != 1 || sizes[0] <= head || memcmp(binaries[0], container, head) != 0)
		return next->clCreateProgramWithBinary(context, n, devices, sizes, binaries, status, error);
	if (status != NULL) *status = CL_SUCCESS;
	const char *source = (const char *)binaries[0] + head;
	size_t length = sizes[0] - head;
	return create_with_source(context, 1, &source, &length, error);
}

static cl_int CL_API_CALL get_info(cl_program handle, cl_program_info what, size_t room, void *to, size_t *needed) {
	struct program *p = program_of(handle);
	if (p == NULL) return next->clGetProgramInfo(handle, what, room, to, needed);
	size_t head = sizeof container - 1, size = head + strlen(p->source);
	switch (what) {
	case CL_PROGRAM_BINARY_SIZES: return answer(&size, sizeof size, room, to, needed);
	case CL_PROGRAM_BINARIES:
		if (needed != NULL) *needed = sizeof(void *);
		if (to == NULL) return CL_SUCCESS;
		if (room < sizeof(void *)) return CL_INVALID_VALUE;
		unsigned char *room_for_it = *(unsigned char **)to;
		if (room_for_it == NULL) return CL_SUCCESS;
		memcpy(room_for_it, container, head);
		memcpy(room_for_it + head, p->source, size - head);
		return CL_SUCCESS;
	}
	return next->clGetProgramInfo(p->built, what, room, to, needed);
}

static cl_int CL_API_CALL get_build_info(cl_program handle, cl_device_id device, cl_program_build_info what, size_t room, void *to, size_t *needed) {
	struct program *p = program_of(handle);
	return next->clGetProgramBuildInfo(p != NULL ? p->built : handle, device, what, room, to, needed);
}

static cl_int CL_API_CALL retain(cl_program handle) {
	struct program *p = program_of(handle);
	if (p == NULL) return next->clRetainProgram(handle);
	program_retain(p);
	return CL_SUCCESS;
}

static cl_int CL_API_CALL release(cl_program handle) {
	struct program *p = program_of(handle);
	if (p == NULL) return next->clReleaseProgram(handle);
	program_release(p);
	return CL_SUCCESS;
}

// swapped is the source of a variant: dimension 0 and d have changed places.
static char *swapped(const char *source, int d) {
	static const char *const functions[] = {
		"get_global_id", "get_local_id", "get_group_id", "get_local_size", "get_global_size", "get_num_groups", "get_global_offset", "get_enqueued_local_size",
	};
	char head[2048];
	size_t at = 0;
	for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
		at += (size_t)snprintf(head + at, sizeof head - at, "#define %s(d) %s(((d)==0?%d:(d)==%d?0:(d)))\n", functions[i], functions[i], d, d);
	snprintf(head + at, sizeof head - at, "#define reqd_work_group_size(a,b,c) reqd_work_group_size(%s)\n", d == 1 ? "b,a,c" : "c,b,a");
	const char *parts[] = {head, source};
	return join(2, parts, NULL);
}

cl_program program_variant(struct program *p, int d) {
	pthread_mutex_lock(&building);
	if (p->variant[d] == NULL && !p->failed[d]) {
		char *source = swapped(p->source, d), *all = all_options(p->options), *key = cache_key(source, all);
		cl_program v = from_cache(p->context, key, all);
		if (v == NULL) {
			const char *one = source;
			cl_int error;
			v = next->clCreateProgramWithSource(p->context, 1, &one, NULL, &error);
			if (v != NULL && (error = next->clBuildProgram(v, 0, NULL, all, NULL, NULL)) != CL_SUCCESS) {
				say("a variant for dimension %d does not build: error %d; its kernels would compute wrong numbers and are refused", d, error);
				next->clReleaseProgram(v);
				v = NULL;
			}
			if (v != NULL) to_cache(v, key);
		}
		p->variant[d] = v;
		p->failed[d] = v == NULL;
		free(source);
		free(all);
		free(key);
	}
	cl_program v = p->variant[d];
	pthread_mutex_unlock(&building);
	return v;
}

void program_hook(cl_icd_dispatch *table) {
	table->clCreateProgramWithSource = create_with_source;
	table->clCreateProgramWithBinary = create_with_binary;
	table->clBuildProgram = build;
	table->clCompileProgram = compile;
	table->clLinkProgram = link_programs;
	table->clGetProgramInfo = get_info;
	table->clGetProgramBuildInfo = get_build_info;
	table->clRetainProgram = retain;
	table->clReleaseProgram = release;
}
