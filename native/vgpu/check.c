// Tests of the layer over a runtime of the functions below: tables, the specification of faults, memory, programs that
// outlive their release, variants with swapped dimensions, the cache.

#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

#define EXPECT(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			failures++; \
		} \
	} while (0)

// ---- a runtime that remembers what it was asked for

static int programs_alive, kernels_alive, built;
static char last_source[8192];
static size_t last_global[3], last_local[3];
static cl_kernel last_kernel;
static int last_argument;

static cl_program CL_API_CALL fake_create(cl_context c, cl_uint n, const char **s, const size_t *l, cl_int *e) {
	(void)c, (void)n, (void)l;
	snprintf(last_source, sizeof last_source, "%s", s[0]);
	programs_alive++;
	*e = CL_SUCCESS;
	return malloc(1);
}
static cl_program CL_API_CALL fake_binary(cl_context c, cl_uint n, const cl_device_id *d, const size_t *size, const unsigned char **b, cl_int *s, cl_int *e) {
	(void)c, (void)n, (void)d, (void)s;
	EXPECT(*size == 6 && memcmp(*b, "binary", 6) == 0);
	programs_alive++;
	*e = CL_SUCCESS;
	return malloc(1);
}
static cl_int CL_API_CALL fake_build(cl_program p, cl_uint n, const cl_device_id *d, const char *o, void(CL_CALLBACK *f)(cl_program, void *), void *u) {
	(void)p, (void)n, (void)d, (void)o, (void)f, (void)u;
	built++;
	return CL_SUCCESS;
}
static cl_int CL_API_CALL fake_release_program(cl_program p) {
	programs_alive--;
	free(p);
	return CL_SUCCESS;
}
static cl_int CL_API_CALL fake_program_info(cl_program p, cl_program_info what, size_t room, void *to, size_t *needed) {
	(void)p;
	size_t size = 6;
	if (what == CL_PROGRAM_BINARY_SIZES) return answer(&size, sizeof size, room, to, needed);
	memcpy(*(char **)to, "binary", 6);
	return CL_SUCCESS;
}
static cl_kernel CL_API_CALL fake_kernel(cl_program p, const char *name, cl_int *e) {
	(void)p, (void)name;
	kernels_alive++;
	*e = CL_SUCCESS;
	return malloc(1);
}
static cl_int CL_API_CALL fake_release_kernel(cl_kernel k) {
	kernels_alive--;
	free(k);
	return CL_SUCCESS;
}
static cl_int CL_API_CALL fake_kernel_info(cl_kernel k, cl_kernel_info what, size_t room, void *to, size_t *needed) {
	(void)k;
	cl_uint n = 2;
	if (what == CL_KERNEL_NUM_ARGS) return answer(&n, sizeof n, room, to, needed);
	return answer("kernel_one", 11, room, to, needed);
}
static cl_int CL_API_CALL fake_argument(cl_kernel k, cl_uint i, size_t size, const void *value) {
	(void)k, (void)i;
	if (size == sizeof(int) && value != NULL) memcpy(&last_argument, value, size);
	return CL_SUCCESS;
}
static cl_int CL_API_CALL fake_enqueue(cl_command_queue q, cl_kernel k, cl_uint d, const size_t *o, const size_t *g, const size_t *l, cl_uint n, const cl_event *es, cl_event *e) {
	(void)q, (void)o, (void)n, (void)es, (void)e;
	last_kernel = k;
	for (cl_uint i = 0; i < d; i++) last_global[i] = g[i], last_local[i] = l[i];
	return CL_SUCCESS;
}
static cl_int CL_API_CALL fake_context_info(cl_context c, cl_context_info what, size_t room, void *to, size_t *needed) {
	(void)c, (void)what;
	void *device = &failures;
	return answer(&device, sizeof device, room, to, needed);
}
static cl_int CL_API_CALL fake_platforms(cl_uint n, cl_platform_id *p, cl_uint *found) {
	(void)n, (void)found;
	*p = (cl_platform_id)&failures;
	return CL_SUCCESS;
}
static cl_int CL_API_CALL fake_devices(cl_platform_id p, cl_device_type t, cl_uint n, cl_device_id *d, cl_uint *found) {
	(void)p, (void)t, (void)n;
	if (d != NULL) *d = (cl_device_id)&failures;
	if (found != NULL) *found = 1;
	return CL_SUCCESS;
}
static cl_int CL_API_CALL fake_device_info(cl_device_id d, cl_device_info what, size_t room, void *to, size_t *needed) {
	(void)d, (void)what;
	return answer("1.0", 4, room, to, needed);
}
static cl_int CL_API_CALL fake_queue(cl_command_queue q) {
	(void)q;
	return CL_SUCCESS;
}
static void *CL_API_CALL fake_usm(cl_context c, const cl_ulong *p, size_t n, cl_uint a, cl_int *e) {
	(void)c, (void)p, (void)a;
	*e = CL_SUCCESS;
	return malloc(n);
}
static cl_int CL_API_CALL fake_usm_free(cl_context c, void *p) {
	(void)c;
	free(p);
	return CL_SUCCESS;
}
static cl_int CL_API_CALL fake_set_usm(cl_kernel k, cl_uint i, const void *p) {
	(void)k, (void)i, (void)p;
	return CL_SUCCESS;
}
static void *CL_API_CALL fake_extension(cl_platform_id p, const char *name) {
	(void)p;
	if (strcmp(name, "clHostMemAllocINTEL") == 0) return (void *)fake_usm;
	if (strcmp(name, "clMemFreeINTEL") == 0) return (void *)fake_usm_free;
	if (strcmp(name, "clSetKernelArgMemPointerINTEL") == 0) return (void *)fake_set_usm;
	return NULL;
}

static cl_icd_dispatch runtime = {
	.clCreateProgramWithSource = fake_create, .clCreateProgramWithBinary = fake_binary, .clBuildProgram = fake_build,
	.clReleaseProgram = fake_release_program, .clGetProgramInfo = fake_program_info, .clCreateKernel = fake_kernel,
	.clReleaseKernel = fake_release_kernel, .clGetKernelInfo = fake_kernel_info, .clSetKernelArg = fake_argument,
	.clEnqueueNDRangeKernel = fake_enqueue, .clGetContextInfo = fake_context_info, .clGetPlatformIDs = fake_platforms,
	.clGetDeviceIDs = fake_devices, .clGetDeviceInfo = fake_device_info, .clFlush = fake_queue, .clFinish = fake_queue,
	.clGetExtensionFunctionAddressForPlatform = fake_extension,
};

cl_int CL_API_CALL clInitLayer(cl_uint, const cl_icd_dispatch *, cl_uint *, const cl_icd_dispatch **);

static const cl_icd_dispatch *layer(void) {
	const cl_icd_dispatch *ours = NULL;
	cl_uint n;
	EXPECT(clInitLayer(sizeof runtime / sizeof(void *), &runtime, &n, &ours) == CL_SUCCESS);
	return ours;
}

// ---- the tests

static void test_table(void) {
	struct table t = {0};
	static char keys[5000];
	for (size_t round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof keys; i++) table_put(&t, &keys[i], &keys[(i + round) % sizeof keys]);
		for (size_t i = 0; i < sizeof keys; i += 2) EXPECT(table_remove(&t, &keys[i]) == &keys[(i + round) % sizeof keys]);
		for (size_t i = 0; i < sizeof keys; i++) EXPECT(table_get(&t, &keys[i]) == (i % 2 ? &keys[(i + round) % sizeof keys] : NULL));
	}
	EXPECT(table_remove(&t, &t) == NULL && table_get(&t, NULL) == NULL);
	EXPECT(t.size < 64 * 1024); // removed entries do not make it grow without end
	free(t.keys);
	free(t.values);
}

static void test_bad_specifications(void) {
	static const char *const bad[] = {
		"clFlush", "clFlush:", "clFly:code=-5", "clFlush:code=5", "clFlush:code=CL_NO_SUCH", "clFlush:code=-5,after=x", "clFlush:code=-5,every=0",
		"clFlush:crash=TERM", "clFlush:probability=2,code=-5", "clFlush:code=-5,often", "clFlush:flip", "clFlush:after=3", "clFlush:hang=1", "clFlush:delay=-1",
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *problem = fault_parse(bad[i]);
		if (problem == NULL) fprintf(stderr, "taken: %s\n", bad[i]);
		EXPECT(problem != NULL && strstr(problem, "expected") != NULL);
	}
	EXPECT(fault_parse("") == NULL);
}

static int failing(const char *call, int n) {
	int hits = 0;
	for (int i = 0; i < n; i++) hits += fault_at(call, "gemm_tiled").kind == FAULT_ERROR;
	return hits;
}

static void test_faults(void) {
	EXPECT(fault_parse("clFlush:code=CL_OUT_OF_RESOURCES,after=2,times=1; alloc:code=-4,every=3") == NULL);
	EXPECT(fault_at("clFlush", NULL).kind == FAULT_NONE && fault_at("clFlush", NULL).kind == FAULT_NONE);
	struct fault f = fault_at("clFlush", NULL);
	EXPECT(f.kind == FAULT_ERROR && f.code == -5);
	EXPECT(failing("clFlush", 10) == 0);
	EXPECT(failing("clHostMemAllocINTEL", 9) == 3);
	EXPECT(failing("clFinish", 5) == 0);

	EXPECT(fault_parse("clWaitForEvents:code=-14,sticky,after=1") == NULL);
	EXPECT(failing("clFinish", 3) == 0 && failing("clWaitForEvents", 1) == 0 && failing("clWaitForEvents", 1) == 1);
	EXPECT(failing("clFinish", 3) == 3 && failing("clCreateBuffer", 2) == 2); // the context is dead
	EXPECT(failing("clGetDeviceIDs", 1) == 0);

	EXPECT(fault_parse("clEnqueueNDRangeKernel:code=-54,kernel=gemm") == NULL);
	EXPECT(failing("clEnqueueNDRangeKernel", 2) == 2 && fault_at("clEnqueueNDRangeKernel", "softmax").kind == FAULT_NONE);
	int drawn[2];
	for (int i = 0; i < 2; i++) {
		EXPECT(fault_parse("clFlush:code=-5,probability=0.25,seed=7") == NULL);
		drawn[i] = failing("clFlush", 1000);
	}
	EXPECT(drawn[0] == drawn[1] && drawn[0] > 200 && drawn[0] < 300);
	char once[] = "/tmp/genfn-vgpu-once-XXXXXX", rule[128];
	int fd = mkstemp(once);
	EXPECT(fd >= 0 && close(fd) == 0 && unlink(once) == 0);
	snprintf(rule, sizeof rule, "clFlush:code=-5,once=%s", once);
	EXPECT(fault_parse(rule) == NULL && failing("clFlush", 3) == 1);
	EXPECT(fault_parse(rule) == NULL && failing("clFlush", 3) == 0); // as in another process
	unlink(once);
	EXPECT(fault_parse("clFlush:delay=1") == NULL && failing("clFlush", 1) == 0);

	EXPECT(fault_parse("clFlush:crash=ABRT") == NULL);
	pid_t child = fork();
	if (child == 0) {
		fault_at("clFlush", NULL);
		_exit(0);
	}
	int status;
	EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == 6);
	EXPECT(fault_parse("") == NULL);
}

static void test_fault_file(const char *folder) {
	char path[256];
	snprintf(path, sizeof path, "%s/faults", folder);
	settings.fault_file = path;
	EXPECT(failing("clFlush", 2) == 0); // there is none yet
	const struct { const char *text; int hits; } steps[] = {{"clFlush:code=-5", 2}, {"", 0}, {"nonsense", 2}, {"clFinish:code=-5", 0}};
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		char part[300];
		snprintf(part, sizeof part, "%s.new", path);
		FILE *f = fopen(part, "w");
		EXPECT(f != NULL && fputs(steps[i].text, f) >= 0 && fclose(f) == 0 && rename(part, path) == 0);
		EXPECT(failing("clFlush", 2) == steps[i].hits);
	}
	unlink(path);
	EXPECT(failing("clFinish", 1) == 0);
	settings.fault_file = NULL;
}

static void test_memory(const cl_icd_dispatch *t) {
	settings.memory = 1000;
	cl_int error;
	void *(CL_API_CALL *alloc)(cl_context, const cl_ulong *, size_t, cl_uint, cl_int *);
	cl_int(CL_API_CALL *release)(cl_context, void *);
	*(void **)&alloc = t->clGetExtensionFunctionAddressForPlatform(NULL, "clHostMemAllocINTEL");
	*(void **)&release = t->clGetExtensionFunctionAddressForPlatform(NULL, "clMemFreeINTEL");
	char *a = alloc(NULL, NULL, 600, 0, &error);
	EXPECT(a != NULL && a[0] == 0 && a[599] == 0 && memory_size(a) == 600);
	EXPECT(alloc(NULL, NULL, 500, 0, &error) == NULL && error == CL_MEM_OBJECT_ALLOCATION_FAILURE);
	EXPECT(release(NULL, a) == CL_SUCCESS && memory_size(a) == 0);
	a = alloc(NULL, NULL, 1000, 0, &error);
	EXPECT(a != NULL && release(NULL, a) == CL_SUCCESS);
	EXPECT(fault_parse("alloc:code=-6,times=1") == NULL);
	EXPECT(alloc(NULL, NULL, 10, 0, &error) == NULL && error == -6);
	a = alloc(NULL, NULL, 1000, 0, &error);
	EXPECT(a != NULL && release(NULL, a) == CL_SUCCESS);
	cl_ulong told = 0;
	EXPECT(t->clGetDeviceInfo(NULL, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof told, &told, NULL) == CL_SUCCESS && told == 1000);
	settings.memory = 0;
}

static void test_programs(const cl_icd_dispatch *t, const char *folder) {
	static const char *const source = "#pragma sub_group\nkernel transpose_buf const int f = (f_begin + 1);";
	const char *parts[] = {source};
	size_t global[3] = {4, 5, 32}, local[3] = {1, 1, 16};
	cl_int error;
	for (int warm = 0; warm < 2; warm++) { // the second time everything is in the cache
		settings.cache = folder;
		built = 0;
		cl_program p = t->clCreateProgramWithSource(NULL, 1, parts, NULL, &error);
		EXPECT(strstr(last_source, "barrier(CLK_LOCAL_MEM_FENCE); const int f") != NULL);
		EXPECT(t->clBuildProgram(p, 0, NULL, "-O", NULL, NULL) == CL_SUCCESS);
		cl_kernel k = t->clCreateKernel(p, "kernel_one", &error);
		EXPECT(t->clReleaseProgram(p) == CL_SUCCESS && programs_alive == 1 + warm); // for the kernel's sake
		cl_program known = NULL;
		EXPECT(t->clGetKernelInfo(k, CL_KERNEL_PROGRAM, sizeof known, &known, NULL) == CL_SUCCESS && known == p);

		int argument = 42;
		EXPECT(t->clSetKernelArg(k, 0, sizeof argument, &argument) == CL_SUCCESS);
		last_argument = 0;
		EXPECT(t->clEnqueueNDRangeKernel(NULL, k, 3, NULL, global, local, 0, NULL, NULL) == CL_SUCCESS);
		EXPECT(last_kernel != k && last_argument == 42);
		EXPECT(last_global[0] == 32 && last_global[2] == 4 && last_local[0] == 16 && last_local[2] == 1);
		if (!warm) EXPECT(strstr(last_source, "#define reqd_work_group_size(a,b,c) reqd_work_group_size(c,b,a)") != NULL);
		size_t plain[3] = {16, 1, 1};
		EXPECT(t->clEnqueueNDRangeKernel(NULL, k, 3, NULL, global, plain, 0, NULL, NULL) == CL_SUCCESS && last_kernel == k);
		EXPECT(t->clReleaseKernel(k) == CL_SUCCESS);
		EXPECT(programs_alive == 0 && kernels_alive == 0);
		EXPECT(built == 2);
	}
	cl_program p = t->clCreateProgramWithSource(NULL, 1, parts, NULL, &error);
	size_t size = 0;
	EXPECT(t->clGetProgramInfo(p, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) == CL_SUCCESS && size > strlen(source));
	unsigned char *binary = malloc(size);
	EXPECT(t->clGetProgramInfo(p, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == CL_SUCCESS);
	t->clReleaseProgram(p);
	cl_device_id device = NULL;
	const unsigned char *one = binary;
	last_source[0] = 0;
	p = t->clCreateProgramWithBinary(NULL, 1, &device, &size, &one, NULL, &error);
	EXPECT(p != NULL && strstr(last_source, "sub_group") != NULL); // a binary carries its source
	t->clReleaseProgram(p);
	free(binary);
	EXPECT(programs_alive == 0);
	settings.cache = NULL;
}

int main(void) {
	char folder[] = "/tmp/genfn-vgpu-check-XXXXXX", command[128];
	if (mkdtemp(folder) == NULL) return 1;
	test_table();
	test_bad_specifications();
	test_faults();
	test_fault_file(folder);
	const cl_icd_dispatch *t = layer();
	test_memory(t);
	test_programs(t, folder);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	if (system(command) != 0) failures++;
	printf("vgpu: %d failures\n", failures);
	return failures != 0;
}
