// Tests of the layer over the fake OpenCL. Each check that fails ends the program with its line.
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "account.h"
#include "fake.h"
#include "fault.h"
#include "layer.h"
#include "source.h"
#include "table.h"

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

// CALL is the layer's function of that name, as the loader calls it.
#define CALL(name) ((name##_fn *)layer.table[SLOT_##name])

static char scratch[] = "/tmp/vgpu_check.XXXXXX";

static const char *const settings[] = {"GENFN_VGPU_FAULTS", "GENFN_VGPU_FAULT_FILE", "GENFN_VGPU_MEMORY", "GENFN_VGPU_MAX_ALLOC",
                                       "GENFN_VGPU_COUNTERS", "GENFN_VGPU_CACHE", "GENFN_VGPU_DEVICES", "GENFN_VGPU_BUILD_OPTIONS"};

// start begins a test with one or two settings and nothing alive.
static void start(const char *name, const char *value, const char *name2, const char *value2) {
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) unsetenv(settings[i]);
    if (name) setenv(name, value, 1);
    if (name2) setenv(name2, value2, 1);
    memset(&fake, 0, sizeof fake);
    layer_start(fake_table());
    cl_uint n = 0;
    CALL(clGetDeviceIDs)(NULL, CL_DEVICE_TYPE_GPU, 0, NULL, &n);
}

// stop ends a test: everything below must be freed.
static void stop(void) {
    layer_stop();
    CHECK(fake.contexts + fake.mems + fake.usm + fake.programs + fake.kernels == 0);
}

static void check_table(void) {
    enum { N = 3000 };
    static char keys[N];
    bool in[N] = {false};
    struct table t = {0};
    uint32_t random = 1;
    size_t used = 0;
    for (int step = 0; step < 100000; step++) {
        random = random * 1664525 + 1013904223;
        size_t i = (random >> 8) % N;
        if (random & 0x80) {
            CHECK(table_put(&t, &keys[i], &keys[i]));
            used += !in[i];
            in[i] = true;
        } else {
            CHECK(table_remove(&t, &keys[i]) == (in[i] ? &keys[i] : NULL));
            used -= in[i];
            in[i] = false;
        }
        CHECK(t.used == used);
        if (step % 1000 == 0) {
            for (size_t k = 0; k < N; k++) CHECK(table_get(&t, &keys[k]) == (in[k] ? &keys[k] : NULL));
        }
    }
    table_free(&t);
}

static void check_grammar(void) {
    static struct fault_spec s;
    char problem[512];
    CHECK(fault_parse("clFlush error=CL_OUT_OF_RESOURCES after=3 times=1 # why\n\n memory error=-4 every=5 probability=0.5 seed=7;"
                      "clFinish delay=250ms; queue error=-14 sticky=all; clEnqueueNDRangeKernel flip=64 ;clWaitForEvents\thang", &s, problem, sizeof problem));
    CHECK(s.count == 6);
    CHECK(s.faults[0].call == CALL_clFlush && s.faults[0].error == -5 && s.faults[0].after == 3 && s.faults[0].times == 1);
    CHECK(s.faults[1].call == -1 && s.faults[1].group == GROUP_MEMORY && s.faults[1].every == 5 && s.faults[1].probability == 0.5);
    CHECK(s.faults[2].delay_us == 250000 && s.faults[3].sticky == GROUP_ALL && s.faults[4].flip == 64 && s.faults[5].hang);
    CHECK(fault_parse("clEnqueueNDRangeKernel error=-5 kernel=gemm once=/tmp/a=b", &s, problem, sizeof problem) && s.count == 1);
    CHECK(!strcmp(s.faults[0].kernel, "gemm") && !strcmp(s.faults[0].once, "/tmp/a=b"));
    CHECK(fault_parse("", &s, problem, sizeof problem) && s.count == 0);
    // Each bad word is named.
    static const char *const bad[][2] = {
        {"clFlus error=-5", "clFlus"}, {"clFlush", "found 0"}, {"clFlush error=-5 hang", "found 2"}, {"clFlush error=5", "error=5"},
        {"clFlush error=CL_NO", "CL_NO"}, {"clFlush error=-5 after=x", "after=x"}, {"clFlush error=-5 every=0", "every=0"},
        {"clFlush error=-5 probability=1.5", "probability=1.5"}, {"clFlush error=-5 probability=0x1p-1", "0x1p-1"},
        {"clFlush error=-5 error=-5", "twice"}, {"clFlush crash=SIGKILL", "SIGKILL"}, {"clFlush flip=1", "flip="},
        {"clFlush delay=2h", "delay=2h"}, {"clFlush delay=9999999999s", "delay="}, {"clFlush delay=1s sticky=queue", "sticky= needs"},
        {"clFlush error=-5 sticky=x", "sticky=x"}, {"clFlush error=-5 often", "often"}, {"clFlush error=-5 after=-1", "after=-1"},
        {"clFlush error=-5 seed=99999999999999999999", "seed="}, {"clFlush hang=1", "hang=1"}, {"clFlush error=-99999", "error="},
        {"clFlush error=-5 kernel=gemm", "kernel= is for"}, {"clEnqueueNDRangeKernel hang kernel=", "kernel="},
        {"clFlush value=1", "flip=, after="}, {"clFlush error=-5 once=here", "once=here"}, {"clFlush error=-5 once=", "absolute path"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(!fault_parse(bad[i][0], &s, problem, sizeof problem));
        CHECK(strstr(problem, bad[i][1]));
    }
}

// flush calls clFlush n times and returns the errors as a string of digits, "." for none.
static const char *flush(int n) {
    static char out[64];
    for (int i = 0; i < n; i++) {
        cl_int e = CALL(clFlush)(NULL);
        out[i] = e ? (char)('0' - e) : '.';
    }
    out[n] = 0;
    return out;
}

static void check_counts(void) {
    start("GENFN_VGPU_FAULTS", "clFlush error=-5 after=2 times=1", NULL, NULL);
    CHECK(!strcmp(flush(6), "..5..."));
    CHECK(fake.flushes == 5); // the failed one did nothing
    stop();
    start("GENFN_VGPU_FAULTS", "clFlush error=-5 after=1 every=3 times=2", NULL, NULL);
    CHECK(!strcmp(flush(10), ".5..5....."));
    stop();
    start("GENFN_VGPU_FAULTS", "clFlush error=-5 times=1; queue error=-4 times=1", NULL, NULL);
    CHECK(!strcmp(flush(4), "54.."));
    stop();
    // A dead context: all of the group, not the others, whatever the file says later.
    start("GENFN_VGPU_FAULTS", "clFinish error=-5 sticky=queue", NULL, NULL);
    CHECK(!strcmp(flush(2), "..") && CALL(clFinish)(NULL) == -5 && !strcmp(flush(2), "55"));
    cl_uint n;
    CHECK(CALL(clGetDeviceIDs)(NULL, CL_DEVICE_TYPE_GPU, 0, NULL, &n) == 0 && n == 1);
    stop();
    // The same seed gives the same calls, about as many as asked for.
    char first[64];
    for (int round = 0; round < 2; round++) {
        start("GENFN_VGPU_FAULTS", "clFlush error=-5 probability=0.3 seed=42", NULL, NULL);
        const char *now = flush(60);
        int failed = 0;
        for (const char *p = now; *p; p++) failed += *p == '5';
        CHECK(failed > 8 && failed < 30);
        if (round) CHECK(!strcmp(first, now));
        strcpy(first, now);
        stop();
    }
    start("GENFN_VGPU_FAULTS", "clFlush delay=30ms times=1", NULL, NULL);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    CHECK(!strcmp(flush(2), ".."));
    clock_gettime(CLOCK_MONOTONIC, &b);
    CHECK((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= 30);
    stop();
}

static void write_file(const char *path, const char *text) {
    char temporary[300];
    snprintf(temporary, sizeof temporary, "%s.new", path);
    FILE *f = fopen(temporary, "w");
    CHECK(f && fputs(text, f) >= 0 && !fclose(f) && !rename(temporary, path));
}

static void check_file(void) {
    char path[256];
    snprintf(path, sizeof path, "%s/faults", scratch);
    start("GENFN_VGPU_FAULT_FILE", path, NULL, NULL);
    CHECK(!strcmp(flush(2), ".."));
    write_file(path, "clFlush error=-5 times=2\n");
    CHECK(!strcmp(flush(3), "55."));
    write_file(path, "clFlush error=-4 times=1");
    CHECK(!strcmp(flush(3), "4.."));
    write_file(path, "clFlush eror=-4"); // the device is away until it is corrected
    CHECK(!strcmp(flush(2), "22"));
    cl_uint n;
    CHECK(CALL(clGetDeviceIDs)(NULL, CL_DEVICE_TYPE_GPU, 0, NULL, &n) == CL_DEVICE_NOT_FOUND);
    write_file(path, "");
    CHECK(!strcmp(flush(2), ".."));
    write_file(path, "clFlush error=-5");
    CHECK(!strcmp(flush(1), "5") && !unlink(path) && !strcmp(flush(1), "."));
    stop();
    // A bad setting of the environment makes the device unavailable for ever.
    static const char *const bad[][2] = {{"GENFN_VGPU_FAULTS", "clFlush error"}, {"GENFN_VGPU_MEMORY", "2G"}, {"GENFN_VGPU_DEVICES", "9"},
                                         {"GENFN_VGPU_COUNTERS", "/nonexistent/folder"}, {"GENFN_VGPU_FAULT_FILE", "/dev/null/x"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        start(bad[i][0], bad[i][1], NULL, NULL);
        CHECK(!strcmp(flush(1), "2") && CALL(clGetDeviceIDs)(NULL, CL_DEVICE_TYPE_GPU, 0, NULL, &n) == CL_DEVICE_NOT_FOUND);
        stop();
    }
}

// check_once: the file is the permission, for all processes and for as long as it is there.
static void check_once(void) {
    char once[256], faults[300];
    snprintf(once, sizeof once, "%s/once", scratch);
    snprintf(faults, sizeof faults, "clFlush error=-5 after=1 once=%s", once);
    start("GENFN_VGPU_FAULTS", faults, NULL, NULL);
    CHECK(!strcmp(flush(1), ".") && access(once, F_OK) && !strcmp(flush(3), "5.."));
    stop();
    start("GENFN_VGPU_FAULTS", faults, NULL, NULL);
    CHECK(!strcmp(flush(3), "...") && !unlink(once) && !strcmp(flush(2), "5."));
    stop();
    CHECK(!unlink(once));
    start("GENFN_VGPU_FAULTS", "clFlush error=-5 once=/nonexistent/once", NULL, NULL);
    flush(1);
    CHECK(!strcmp(flush(2), "22")); // a file that cannot be made is told, and no fault that never comes
    stop();
}

// ends_with runs clFlush in a child and returns the signal that ends it; a hang is ended by SIGALRM.
static int ends_with(const char *faults) {
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        signal(SIGSEGV, SIG_DFL); // the sanitizer's would exit
        signal(SIGABRT, SIG_DFL);
        start("GENFN_VGPU_FAULTS", faults, NULL, NULL);
        alarm(1);
        flush(1);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void check_ends(void) {
    CHECK(ends_with("clFlush crash=SIGSEGV") == SIGSEGV);
    CHECK(ends_with("clFlush crash=SIGABRT") == SIGABRT);
    CHECK(ends_with("clFlush hang") == SIGALRM);
    CHECK(ends_with("clFinish hang") == 0);
}

static struct counter read_counter(const char *folder) {
    char path[300];
    uint64_t head[4];
    struct counter c;
    snprintf(path, sizeof path, "%s/%d", folder, (int)getpid());
    FILE *f = fopen(path, "r");
    CHECK(f && fread(head, sizeof head, 1, f) == 1 && fread(&c, sizeof c, 1, f) == 1);
    fclose(f);
    CHECK(head[0] == COUNTER_MAGIC && head[1] == (uint64_t)getpid() && head[2] == 1);
    return c;
}

static void check_memory(void) {
    start("GENFN_VGPU_MEMORY", "2097152", "GENFN_VGPU_COUNTERS", scratch);
    cl_ulong most = 0;
    CHECK(!CALL(clGetDeviceInfo)(NULL, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof most, &most, NULL) && most == 2097152);
    cl_context c = fake_context();
    cl_int err;
    cl_mem a = CALL(clCreateBuffer)(c, 0, 1 << 20, NULL, &err);
    CHECK(a && !err);
    cl_mem sub = CALL(clCreateSubBuffer)(a, 0, 0, (size_t[]){0, 4096}, &err);
    cl_mem b = CALL(clCreateBuffer)(c, 0, (1 << 20) + 1, NULL, &err);
    CHECK(!b && err == CL_MEM_OBJECT_ALLOCATION_FAILURE);
    b = CALL(clCreateBuffer)(c, 0, 3 << 20, NULL, &err);
    CHECK(!b && err == CL_INVALID_BUFFER_SIZE);
    clHostMemAllocINTEL_fn *alloc = CALL(clGetExtensionFunctionAddressForPlatform)(NULL, "clHostMemAllocINTEL");
    clMemFreeINTEL_fn *release = CALL(clGetExtensionFunctionAddressForPlatform)(NULL, "clMemFreeINTEL");
    unsigned char *p = alloc(c, NULL, 1 << 20, 0, &err);
    CHECK(p && !err && !p[0] && !p[(1 << 20) - 1]); // zeroed
    CHECK(!alloc(c, NULL, 1, 0, &err) && err == CL_MEM_OBJECT_ALLOCATION_FAILURE);
    struct counter now = read_counter(scratch);
    CHECK(now.current == 2 << 20 && now.peak == 2 << 20 && now.limit == 2 << 20 && now.allocations == 2 && now.refused == 2);
    CHECK(!release(c, p));
    CHECK(!CALL(clRetainMemObject)(a) && !CALL(clReleaseMemObject)(a) && !CALL(clReleaseMemObject)(a));
    CHECK(read_counter(scratch).current == 1 << 20); // the sub-buffer holds it
    CHECK(!CALL(clReleaseMemObject)(sub));
    now = read_counter(scratch);
    CHECK(now.current == 0 && now.allocations == 0 && now.peak == 2 << 20);
    CALL(clReleaseContext)(c);
    stop();
}

static void *churn(void *context) {
    for (int i = 0; i < 2000; i++) {
        cl_int err;
        cl_mem m = CALL(clCreateBuffer)(context, 0, 64, NULL, &err);
        CHECK(m && !CALL(clFlush)(NULL) && !CALL(clReleaseMemObject)(m));
    }
    return NULL;
}

static void check_threads(void) {
    start("GENFN_VGPU_COUNTERS", scratch, NULL, NULL);
    cl_context c = fake_context();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, churn, c));
    for (int i = 0; i < 4; i++) CHECK(!pthread_join(threads[i], NULL));
    CHECK(fake.flushes == 4 * 2000);
    CHECK(read_counter(scratch).current == 0);
    CALL(clReleaseContext)(c);
    stop();
}

// batch is a program in the plugin's form: a plain kernel, one whose attribute needs rewriting, one that needs it for
// some local sizes only, and one that needs none.
static const char batch[] =
    "#define HEADER 1\n"
    "// Kernel template: plain \n// Kernel name: plain_1\n__kernel void plain_1(int a) { get_global_id(1); }\n"
    "// Kernel template: fixed \n// Kernel name: fixed_1\n#define SG (16)\n# define SG SIXTEEN\n#define SIXTEEN 16\n"
    "__attribute__((reqd_work_group_size(1, 1, SG))) __attribute__((intel_reqd_sub_group_size(16)))\n__kernel void fixed_1(int a) {}\n"
    "// Kernel template: free \n// Kernel name: free_1\n__kernel void free_1(int a) { sub_group_broadcast(a, 0); }\n"
    "// Kernel template: zero \n// Kernel name: zero_1\n"
    "__attribute__((reqd_work_group_size(16, 1, 1))) __kernel void zero_1(int a) { sub_group_broadcast(a, 0); }\n";

static cl_program build(cl_context c, const char *text, cl_int want) {
    cl_int err;
    cl_program p = CALL(clCreateProgramWithSource)(c, 1, &text, NULL, &err);
    CHECK(p && !err && CALL(clBuildProgram)(p, 0, NULL, "-x", NULL, NULL) == want);
    return p;
}

static void enqueue(cl_kernel k, size_t g0, size_t g1, size_t g2, size_t l0, size_t l1, size_t l2) {
    CHECK(!CALL(clEnqueueNDRangeKernel)(NULL, k, 3, NULL, (size_t[]){g0, g1, g2}, (size_t[]){l0, l1, l2}, 0, NULL, NULL));
}

static bool is(const size_t *a, size_t x, size_t y, size_t z) { return a[0] == x && a[1] == y && a[2] == z; }

static void check_sub_groups(void) {
    start(NULL, NULL, NULL, NULL);
    cl_context c = fake_context();
    cl_int err;
    cl_program p = build(c, batch, CL_SUCCESS);
    CHECK(fake.builds == 1 && strstr(fake.options, "-x") && strstr(fake.options, "-cl-opt-disable"));
    CHECK(strstr(fake.source, "#define intel_sub_group_block_write_us16(p, v) intel_sub_group_block_write_us16(VGPU_FIRST_LANE(p), v)"));
    // Only fixed_1 is rewritten.
    const char *rewriting = "#define reqd_work_group_size(a, b, c) reqd_work_group_size(16, 1, 1)";
    char *at = strstr(fake.source, rewriting);
    CHECK(at && at > strstr(fake.source, "plain_1") && at < strstr(fake.source, "__kernel void fixed_1") && !strstr(at + 1, rewriting));
    CHECK(strstr(at, "#undef get_global_id") < strstr(fake.source, "__kernel void free_1"));
    cl_kernel k[4];
    cl_uint n;
    CHECK(!CALL(clCreateKernelsInProgram)(p, 4, k, &n) && n == 4);
    CHECK(CALL(clBuildProgram)(p, 0, NULL, "", NULL, NULL) == CL_INVALID_OPERATION);
    CHECK(!CALL(clReleaseProgram)(p)); // kernels keep it
    cl_program again;
    CHECK(!CALL(clGetKernelInfo)(k[0], CL_KERNEL_PROGRAM, sizeof again, &again, NULL) && again == p);
    enqueue(k[0], 4, 32, 1, 1, 16, 1);
    CHECK(is(fake.global, 4, 32, 1) && is(fake.local, 1, 16, 1));
    enqueue(k[1], 5, 3, 64, 1, 1, 16);
    CHECK(is(fake.global, 80, 3, 4) && is(fake.local, 16, 1, 1) && fake.builds == 1);
    enqueue(k[3], 32, 2, 1, 16, 1, 1);
    CHECK(is(fake.global, 32, 2, 1) && is(fake.local, 16, 1, 1) && fake.builds == 1);
    // free_1 is right as it is for a whole sub-group along dimension 0, and compiled again for other sizes, once each.
    CHECK(!CALL(clSetKernelArg)(k[2], 3, 4, &(uint32_t){77}));
    clSetKernelArgMemPointerINTEL_fn *set = CALL(clGetExtensionFunctionAddressForPlatform)(NULL, "clSetKernelArgMemPointerINTEL");
    CHECK(!set(k[2], 2, batch) && set(k[2], 9, batch) == CL_INVALID_ARG_INDEX);
    enqueue(k[2], 32, 2, 1, 16, 2, 1);
    CHECK(is(fake.local, 16, 2, 1) && fake.builds == 1);
    for (int round = 0; round < 2; round++) {
        enqueue(k[2], 4, 32, 2, 2, 8, 1);
        CHECK(is(fake.global, 32, 4, 2) && is(fake.local, 16, 1, 1) && fake.builds == 2);
        CHECK(fake.arg_value[3] == 77 && fake.arg_pointer[2] == batch && !strcmp(fake.kernel_name, "free_1"));
    }
    CHECK(strstr(fake.source, "#define HEADER 1") && !strstr(fake.source, "plain_1") && strstr(fake.source, "% 2"));
    cl_kernel clone = CALL(clCloneKernel)(k[2], &err);
    CHECK(clone && !CALL(clSetKernelArg)(k[2], 3, 4, &(uint32_t){1}));
    enqueue(clone, 4, 32, 2, 2, 8, 1);
    CHECK(fake.arg_value[3] == 77 && fake.builds == 2);
    CHECK(CALL(clEnqueueNDRangeKernel)(NULL, k[2], 3, NULL, (size_t[]){4, 33, 2}, (size_t[]){2, 8, 1}, 0, NULL, NULL) ==
          CL_INVALID_WORK_GROUP_SIZE);
    CHECK(!CALL(clReleaseKernel)(clone));
    for (int i = 0; i < 4; i++) CHECK(!CALL(clReleaseKernel)(k[i]));
    CHECK(fake.programs == 0 && CALL(clReleaseKernel)(NULL) == CL_INVALID_KERNEL);
    CALL(clReleaseContext)(c);
    stop();
}

// check_kernel_names: kernel= picks kernels, and the others are not counted.
static void check_kernel_names(void) {
    start("GENFN_VGPU_FAULTS", "clEnqueueNDRangeKernel error=-54 kernel=ixed after=1", NULL, NULL);
    cl_context c = fake_context();
    cl_program p = build(c, batch, CL_SUCCESS);
    cl_int err;
    cl_kernel plain = CALL(clCreateKernel)(p, "plain_1", &err), fixed = CALL(clCreateKernel)(p, "fixed_1", &err);
    for (int round = 0; round < 3; round++) {
        enqueue(plain, 4, 32, 1, 1, 16, 1);
        cl_int got = CALL(clEnqueueNDRangeKernel)(NULL, fixed, 3, NULL, (size_t[]){5, 3, 64}, (size_t[]){1, 1, 16}, 0, NULL, NULL);
        CHECK(got == (round ? CL_INVALID_WORK_GROUP_SIZE : CL_SUCCESS));
    }
    CHECK(!CALL(clReleaseKernel)(plain) && !CALL(clReleaseKernel)(fixed) && !CALL(clReleaseProgram)(p));
    CALL(clReleaseContext)(c);
    stop();
}

static void check_patches(void) {
    start(NULL, NULL, NULL, NULL);
    cl_context c = fake_context();
    cl_program p = build(c, "// Kernel template: permute_f_y_axes \n// Kernel name: p_1\n__kernel void p_1(int a) { transpose_buf; "
                            "const int f = (f_begin + 1); ACC_VEC_TYPE res = READ_VEC(0, &transpose_buf[0]); }", CL_SUCCESS);
    CHECK(strstr(fake.source, "barrier(CLK_LOCAL_MEM_FENCE); const int f = (f_begin"));
    CHECK(strstr(fake.source, "barrier(CLK_LOCAL_MEM_FENCE); ACC_VEC_TYPE res"));
    CHECK(!CALL(clReleaseProgram)(p));
    // A changed template must not run without its barriers.
    p = build(c, "// Kernel template: permute_f_y_axes \n// Kernel name: p_1\n__kernel void p_1(int a) { transpose_buf; }", CL_BUILD_PROGRAM_FAILURE);
    char log[256];
    CHECK(!CALL(clGetProgramBuildInfo)(p, NULL, CL_PROGRAM_BUILD_LOG, sizeof log, log, NULL) && strstr(log, "permute_f_y_axes"));
    CHECK(!CALL(clReleaseProgram)(p));
    p = build(c, "#error no\n__kernel void x(int a) {}", CL_BUILD_PROGRAM_FAILURE);
    CHECK(!CALL(clGetProgramBuildInfo)(p, NULL, CL_PROGRAM_BUILD_LOG, sizeof log, log, NULL) && !strcmp(log, "log below"));
    CHECK(!CALL(clCreateKernel)(p, "nothing", &(cl_int){0}));
    CHECK(!CALL(clReleaseProgram)(p));
    CALL(clReleaseContext)(c);
    stop();
}

static void check_binaries(void) {
    start(NULL, NULL, NULL, NULL);
    cl_context c = fake_context();
    cl_program p = build(c, batch, CL_SUCCESS);
    size_t size = 0;
    CHECK(!CALL(clGetProgramInfo)(p, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) && size > strlen(batch));
    unsigned char *binary = malloc(size);
    CHECK(binary && !CALL(clGetProgramInfo)(p, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) && !CALL(clReleaseProgram)(p));
    cl_device_id device = NULL;
    cl_int status, err;
    memset(fake.source, 0, sizeof fake.source);
    p = CALL(clCreateProgramWithBinary)(c, 1, &device, &size, (const unsigned char **)&binary, &status, &err);
    CHECK(p && !err && !status && !CALL(clBuildProgram)(p, 0, NULL, "", NULL, NULL));
    CHECK(strstr(fake.source, "fixed_1") && strstr(fake.options, "-x ")); // compiled again from source
    CHECK(!CALL(clReleaseProgram)(p));
    size--;
    p = CALL(clCreateProgramWithBinary)(c, 1, &device, &size, (const unsigned char **)&binary, &status, &err);
    CHECK(!p && err == CL_INVALID_BINARY && status == CL_INVALID_BINARY);
    free(binary);
    CALL(clReleaseContext)(c);
    stop();
}

// damage flips a byte of the only file in the folder.
static void damage(const char *folder) {
    DIR *d = opendir(folder);
    CHECK(d);
    int files = 0;
    for (const struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char path[600];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        FILE *f = fopen(path, "r+");
        CHECK(f && !fseek(f, -3, SEEK_END));
        int byte = fgetc(f);
        CHECK(!fseek(f, -3, SEEK_END) && fputc(byte ^ 1, f) != EOF && !fclose(f));
        files++;
    }
    closedir(d);
    CHECK(files == 1);
}

static void check_cache(void) {
    char folder[256];
    snprintf(folder, sizeof folder, "%s/cache", scratch);
    CHECK(!mkdir(folder, 0700));
    const struct {
        bool damage, refuse;
        unsigned builds, loads;
    } rounds[] = {{.builds = 1}, {.loads = 1}, {.damage = true, .builds = 1}, {.loads = 1}, {.refuse = true, .builds = 1, .loads = 1}};
    for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++) {
        if (rounds[i].damage) damage(folder);
        start("GENFN_VGPU_CACHE", folder, NULL, NULL);
        fake.refuse_binaries = rounds[i].refuse;
        cl_context c = fake_context();
        cl_program p = build(c, batch, CL_SUCCESS);
        CHECK(fake.builds == rounds[i].builds && fake.binary_loads == rounds[i].loads);
        cl_kernel k = CALL(clCreateKernel)(p, "fixed_1", NULL);
        CHECK(k && !CALL(clReleaseKernel)(k) && !CALL(clReleaseProgram)(p));
        CALL(clReleaseContext)(c);
        stop();
    }
}

static void check_flip(void) {
    start("GENFN_VGPU_FAULTS", "clEnqueueReadBuffer flip=3 seed=5 times=1; clEnqueueNDRangeKernel flip=2 after=1", NULL, NULL);
    cl_context c = fake_context();
    cl_int err;
    cl_mem m = CALL(clCreateBuffer)(c, 0, 64, NULL, &err);
    unsigned char out[64];
    for (int round = 0; round < 2; round++) {
        CHECK(!CALL(clEnqueueReadBuffer)(NULL, m, 1, 0, 64, out, 0, NULL, NULL));
        int bits = 0;
        for (int i = 0; i < 64; i++) bits += __builtin_popcount(out[i]);
        CHECK(bits == (round ? 0 : 3)); // seed 5 hits three different bits
    }
    clHostMemAllocINTEL_fn *alloc = CALL(clGetExtensionFunctionAddressForPlatform)(NULL, "clHostMemAllocINTEL");
    clMemFreeINTEL_fn *release = CALL(clGetExtensionFunctionAddressForPlatform)(NULL, "clMemFreeINTEL");
    clSetKernelArgMemPointerINTEL_fn *set = CALL(clGetExtensionFunctionAddressForPlatform)(NULL, "clSetKernelArgMemPointerINTEL");
    unsigned char *in = alloc(c, NULL, 64, 0, &err), *made = alloc(c, NULL, 64, 0, &err);
    cl_program p = build(c, batch, CL_SUCCESS);
    cl_kernel k = CALL(clCreateKernel)(p, "plain_1", &err);
    CHECK(!set(k, 0, in) && !set(k, 2, made + 32));
    for (int round = 0; round < 2; round++) {
        enqueue(k, 1, 1, 1, 1, 1, 1);
        int bits = 0;
        for (int i = 0; i < 64; i++) {
            CHECK(!in[i] && (i >= 32 || !made[i])); // inputs, and what lies before the output, stay
            bits += __builtin_popcount(made[i]);
        }
        CHECK(bits == (round ? 2 : 0));
    }
    CHECK(!CALL(clReleaseKernel)(k) && !CALL(clReleaseProgram)(p) && !release(c, in) && !release(c, made) && !CALL(clReleaseMemObject)(m));
    CALL(clReleaseContext)(c);
    stop();
}

int main(void) {
    CHECK(mkdtemp(scratch));
    check_table();
    check_grammar();
    check_counts();
    check_file();
    check_once();
    check_ends();
    check_memory();
    check_threads();
    check_sub_groups();
    check_kernel_names();
    check_patches();
    check_binaries();
    check_cache();
    check_flip();
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    CHECK(!system(command));
    puts("vgpu: all checks passed");
    return 0;
}
