// Tests of the virtual device through CUDA's calls. Each check that fails ends the program with its line. With
// THREADS_ONLY, those that fork are left out: the sanitizer for threads does not survive it.
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "genfn_kernels.h"
#include "nvml.h"
#include "vcuda.h"

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)
#define OK(call) CHECK((call) == 0)

enum { KIB = 1 << 10, MIB = 1 << 20, MS = 1000000 };

static const char ptx[] = ".version 7.0\n.target sm_80\n.address_size 64\n"
                          ".visible .entry spin(.param .u64 a) { ret; }\n.visible .entry poke(.param .u64 a) { ret; }\n"
                          ".visible .entry genfn_scale(.param .align 8 .b8 a[32]) { ret; }\n.visible .entry strange(.param .u64 a) { ret; }\n";

static void *library, *spin, *poke, *scale, *stream;

// start begins a test on devices of 64 MiB, with a stream and the kernels.
static void start(const char *devices, const char *faults) {
    setenv("GENFN_VCUDA_MEMORY", "67108864", 1);
    setenv("GENFN_VCUDA_DEVICES", devices, 1);
    setenv("GENFN_VCUDA_FAULTS", faults, 1);
    OK(cudaSetDevice(0));
    OK(cudaLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
    OK(cudaLibraryGetKernel(&spin, library, "spin"));
    OK(cudaLibraryGetKernel(&poke, library, "poke"));
    OK(cudaLibraryGetKernel(&scale, library, "genfn_scale"));
    OK(cudaStreamCreateWithFlags(&stream, STREAM_NON_BLOCKING));
}

static void stop(void) {
    OK(cudaStreamDestroy(stream));
    OK(cudaLibraryUnload(library));
    world_stop();
}

// stop_dead ends a test whose context died. What cannot be closed with calls any more is freed here.
static void stop_dead(void) {
    lock();
    for (struct object *o = world.objects, *next; o; o = next) {
        next = o->next;
        if (o->kind == KIND_STREAM) ((struct stream *)o)->closing = true;
        if (o->kind == KIND_LIBRARY) free(*(char **)(o + 1));
        if (o->kind == KIND_LIBRARY || o->kind == KIND_EVENT) free(o);
    }
    pthread_cond_broadcast(&world.changed);
    unlock();
    world_stop();
}

static int launch(void *kernel, void *on, void *param) {
    struct launch_config c = {.grid = {1, 1, 1}, .block = {32, 1, 1}, .stream = on};
    return cudaLaunchKernelExC(&c, kernel, (void *[]){param});
}

static int spin_for(void *on, uint64_t ns) { return launch(spin, on, &ns); }

// hold has a stream wait at this point until let_go.
static bool held;

static int wait_held(struct work *w) {
    (void)w;
    lock();
    while (held) wait_change();
    unlock();
    return 0;
}

static void hold(void *on) {
    struct work *w = calloc(1, sizeof *w);
    CHECK(w);
    w->run = wait_held;
    lock();
    held = true;
    stream_push(on, w);
    unlock();
}

static void let_go(void) {
    lock();
    held = false;
    pthread_cond_broadcast(&world.changed);
    unlock();
}

static size_t free_memory(void) {
    size_t free_bytes, total;
    OK(cudaMemGetInfo(&free_bytes, &total));
    CHECK(total == 64 * MIB);
    return free_bytes;
}

static void check_memory(void) {
    start("1", "");
    size_t before = free_memory();
    CHECK(before == 62 * MIB); // the context has some
    void *a, *b, *c = NULL;
    OK(cudaMalloc(&a, 1));
    CHECK(free_memory() == before - 512);
    OK(cudaMalloc(&b, 40 * MIB));
    CHECK(cudaMalloc(&c, 23 * MIB) == cudaErrorMemoryAllocation && cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == 0);
    CHECK(cudaMalloc(&c, SIZE_MAX) == cudaErrorMemoryAllocation && !c);
    OK(cudaFree(b));
    OK(cudaMalloc(&b, 61 * MIB));
    CHECK(cudaFree((char *)b + 1) == cudaErrorInvalidValue);
    OK(cudaFree(b));
    CHECK(cudaFree(b) == cudaErrorInvalidValue);
    OK(cudaFree(a));
    OK(cudaFree(NULL));
    CHECK(free_memory() == before);
    stop();
}

static uint64_t pool_value(void *pool, int attribute) {
    uint64_t n;
    OK(cudaMemPoolGetAttribute(pool, attribute, &n));
    return n;
}

static void check_pool(void) {
    start("1", "");
    size_t before = free_memory();
    void *pool, *a, *b;
    OK(cudaDeviceGetDefaultMemPool(&pool, 0));
    OK(cudaMallocAsync(&a, 8 * MIB, stream));
    hold(stream);
    OK(cudaFreeAsync(a, stream));
    CHECK(pool_value(pool, POOL_USED) == 8 * MIB); // its turn has not come
    let_go();
    OK(cudaStreamSynchronize(stream));
    CHECK(pool_value(pool, POOL_USED) == 0 && pool_value(pool, POOL_RESERVED) == 0 && free_memory() == before);
    OK(cudaMemPoolSetAttribute(pool, POOL_RELEASE_THRESHOLD, &(uint64_t){UINT64_MAX}));
    OK(cudaMallocAsync(&a, 8 * MIB, stream));
    OK(cudaFreeAsync(a, stream));
    OK(cudaStreamSynchronize(stream));
    CHECK(pool_value(pool, POOL_RESERVED) == 8 * MIB && free_memory() == before - 8 * MIB);
    CHECK(cudaMalloc(&b, before - 4 * MIB) == cudaErrorMemoryAllocation); // the pool keeps what it has
    OK(cudaMallocAsync(&b, 60 * MIB, stream));                              // and uses it itself
    CHECK(cudaMallocAsync(&a, 8 * MIB, stream) == cudaErrorMemoryAllocation);
    OK(cudaFreeAsync(b, stream));
    OK(cudaDeviceSynchronize());
    OK(cudaMemPoolTrimTo(pool, 0));
    CHECK(free_memory() == before);
    stop();
}

// check_streams: work goes on by itself, in order within a stream, and another stream waits only for an event.
static void check_streams(void) {
    start("1", "");
    void *other, *reached, *untimed;
    OK(cudaStreamCreateWithFlags(&other, STREAM_NON_BLOCKING));
    OK(cudaEventCreateWithFlags(&reached, 0));
    OK(cudaEventCreateWithFlags(&untimed, EVENT_DISABLE_TIMING));
    OK(cudaEventQuery(reached)); // nothing was recorded
    OK(cudaEventRecord(reached, other));
    OK(cudaEventSynchronize(reached));
    hold(stream);
    OK(cudaEventRecord(reached, stream));
    CHECK(cudaStreamQuery(stream) == cudaErrorNotReady && cudaEventQuery(reached) == cudaErrorNotReady);
    OK(cudaStreamQuery(other));
    OK(cudaStreamWaitEvent(other, reached, 0));
    OK(cudaEventRecord(untimed, other));
    CHECK(cudaStreamQuery(other) == cudaErrorNotReady);
    let_go();
    OK(cudaStreamSynchronize(other));
    OK(cudaEventQuery(reached));
    float ms;
    CHECK(cudaEventElapsedTime(&ms, reached, untimed) == cudaErrorInvalidResourceHandle);
    OK(cudaEventElapsedTime(&ms, reached, reached));
    CHECK(ms == 0);
    OK(cudaStreamWaitEvent(other, reached, 0));
    OK(cudaEventDestroy(reached)); // though work refers to it
    OK(cudaEventDestroy(untimed));
    OK(spin_for(other, 5 * MS));
    OK(cudaStreamDestroy(other)); // its work is done nevertheless
    CHECK(cudaStreamDestroy(other) == cudaErrorInvalidResourceHandle && cudaStreamSynchronize(NULL) == cudaErrorNotSupported);
    stop();
}

static void check_copies(void) {
    start("1", "");
    enum { N = 64 * KIB };
    unsigned char *device, *pinned, *pageable = malloc(N);
    CHECK(pageable);
    OK(cudaMalloc((void **)&device, N));
    OK(cudaHostAlloc((void **)&pinned, N, 0));
    memset(pinned, 1, N);
    hold(stream);
    OK(cudaMemcpyAsync(device, pinned, N, MEMCPY_DEFAULT, stream));
    CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
    memset(pinned, 2, N); // too early: it is read later
    let_go();
    OK(cudaMemcpyAsync(pageable, device, N, MEMCPY_DEFAULT, stream));
    CHECK(pageable[0] == 2 && pageable[N - 1] == 2); // done when the call returns
    memset(pageable, 3, N);
    OK(cudaMemcpyAsync(device, pageable, N, MEMCPY_DEFAULT, stream));
    memset(pageable, 4, N); // that was read
    OK(cudaMemsetAsync(device, 5, 1, stream));
    OK(cudaMemcpyAsync(pinned, device, N, MEMCPY_DEFAULT, stream));
    OK(cudaStreamSynchronize(stream));
    CHECK(pinned[0] == 5 && pinned[1] == 3 && pinned[N - 1] == 3);
    CHECK(cudaMemcpyAsync(device + 1, pinned, N, MEMCPY_DEFAULT, stream) == cudaErrorInvalidValue);
    CHECK(cudaMemsetAsync(pageable, 0, N, stream) == cudaErrorInvalidValue);
    OK(cudaFreeHost(pinned));
    OK(cudaFree(device));
    CHECK(cudaMemcpyAsync(device, pageable, N, MEMCPY_DEFAULT, stream) == cudaErrorInvalidValue);
    free(pageable);
    stop();
}

static void *other_thread(void *unused) {
    (void)unused;
    int device;
    OK(cudaGetDevice(&device));
    CHECK(device == 0 && cudaPeekAtLastError() == 0);
    return NULL;
}

// check_threads: the device and the last error are the thread's, contexts die one by one.
static void check_threads(void) {
    start("2", "");
    CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice && cudaPeekAtLastError() == cudaErrorInvalidDevice);
    OK(cudaSetDevice(1));
    pthread_t id;
    OK(pthread_create(&id, NULL, other_thread, NULL));
    OK(pthread_join(id, NULL));
    void *there, *second;
    OK(cudaStreamCreateWithFlags(&second, STREAM_NON_BLOCKING));
    OK(cudaSetDevice(0));
    OK(cudaMalloc(&there, 4));
    OK(launch(poke, stream, &there));
    OK(cudaStreamSynchronize(stream));
    OK(launch(poke, second, &there)); // memory of the other device
    OK(cudaDeviceSynchronize());
    OK(cudaSetDevice(0));
    OK(cudaFree(there));
    lock();
    settle(&world.devices[1]);
    unlock();
    CHECK(cudaSetDevice(1) == cudaErrorIllegalAddress && cudaMalloc(&there, 4) == cudaErrorIllegalAddress);
    OK(cudaSetDevice(0));
    OK(cudaMalloc(&there, 4));
    OK(cudaFree(there));
    stop_dead();
}

static void check_code(void) {
    start("1", "");
    void *l, *k;
    CHECK(cudaLibraryGetKernel(&k, library, "strange") == cudaErrorSymbolNotFound); // in the code, but with no CPU build
    CHECK(cudaLibraryGetKernel(&k, library, "genfn_step") == cudaErrorSymbolNotFound);
    CHECK(cuModuleLoadData(&l, "text") == cudaErrorInvalidKernelImage);
    CHECK(cuModuleLoadData(&l, ".version 9.0\n.target sm_120\n.visible .entry a() { ret; }") == cudaErrorInvalidPtx);
    CHECK(cuModuleLoadData(&l, ".version 9.0\n.target sm_80\n.visible .entry a() { return; }") == cudaErrorInvalidPtx);
    OK(cuModuleLoadData(&l, "// a comment; .entry no\n.version 9.0\n.target sm_80\n.visible .entry spin(.param .u64 a) {\n"
                            "a: @!%p bra a; ld.global.L2::128B.v2.f32 {%f1, %f2}, [%rd1]; /* ; */ ret;\n}"));
    OK(cuModuleGetFunction(&k, l, "spin"));
    CHECK(cuModuleGetFunction(&k, l, "no") == cudaErrorSymbolNotFound);
    uint64_t ns = 1;
    CHECK(cuLaunchKernel(k, 1, 1, 1, 2048, 1, 1, 0, stream, (void *[]){&ns}, NULL) == cudaErrorInvalidValue);
    OK(cuLaunchKernel(k, 1, 1, 1, 32, 1, 1, 0, stream, (void *[]){&ns}, NULL));
    OK(cudaStreamSynchronize(stream));
    OK(cuModuleUnload(l));
    CHECK(cuModuleUnload(l) == cudaErrorInvalidResourceHandle);
    stop();
}

// check_faults: what is refused leaves the context alive, what fails in a stream is told by a later call and kills it.
static void check_faults(void) {
    void *p;
    start("1", "cudaMalloc error=cudaErrorMemoryAllocation after=1 times=1");
    OK(cudaMalloc(&p, 4));
    OK(cudaFree(p));
    CHECK(cudaMalloc(&p, 4) == 2);
    OK(cudaMalloc(&p, 4));
    OK(cudaFree(p));
    stop();
    static const int codes[] = {214, 700, 719, 999};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        char text[64];
        snprintf(text, sizeof text, "kernel error=%d after=1 kernel=spin", codes[i]);
        start("1", text);
        OK(spin_for(stream, 1));
        OK(cudaStreamSynchronize(stream));
        OK(spin_for(stream, 1));
        CHECK(cudaStreamSynchronize(stream) == codes[i] && cudaMalloc(&p, 4) == codes[i] && cudaSetDevice(0) == codes[i]);
        CHECK(cudaDeviceSynchronize() == codes[i] && cudaStreamQuery(stream) == codes[i] && cudaFree(NULL) == codes[i]);
        stop_dead();
    }
    start("1", "cudaStreamSynchronize error=719 times=1"); // dead by its number, without sticky=
    CHECK(cudaStreamSynchronize(stream) == 719 && cudaMalloc(&p, 4) == 719);
    stop_dead();
}

static void check_flips(void) {
    start("1", "kernel flip=1 kernel=scale times=1; copy flip=3 after=3 times=1");
    float *a, *b, got[256];
    OK(cudaMalloc((void **)&a, sizeof got));
    OK(cudaMalloc((void **)&b, sizeof got));
    OK(cudaMemsetAsync(a, 0, sizeof got, stream));
    struct genfn_scale_args args = {.dst = b, .src = a, .mul = 1, .n = 256};
    for (int round = 0, wrong[] = {1, 0, 3, 0}; round < 4; round++) {
        OK(launch(scale, stream, &args));
        OK(cudaMemcpyAsync(got, b, sizeof got, MEMCPY_DEFAULT, stream));
        int bits = 0;
        for (size_t i = 0; i < sizeof got; i++) bits += __builtin_popcount(((unsigned char *)got)[i]);
        CHECK(bits == wrong[round]);
    }
    args.n = 257; // past the end
    OK(launch(scale, stream, &args));
    CHECK(cudaStreamSynchronize(stream) == cudaErrorIllegalAddress);
    stop_dead();
}

// check_nvml: what is told of a device is what its process holds of it, and what faults say.
static void check_nvml(void) {
    void *d, *same;
    unsigned n;
    char text[96];
    start("2", "");
    CHECK(nvmlDeviceGetCount_v2(&n) == NVML_ERROR_UNINITIALIZED);
    OK(nvmlInit_v2());
    OK(nvmlDeviceGetCount_v2(&n));
    CHECK(n == 2 && nvmlDeviceGetHandleByIndex_v2(2, &d) == NVML_ERROR_INVALID_ARGUMENT);
    OK(nvmlDeviceGetHandleByPciBusId_v2("0000:02:00.0", &d));
    OK(nvmlDeviceGetUUID(d, text, sizeof text));
    CHECK(!strcmp(text, "GPU-67656e66-6e20-7663-7564-612064657601") && nvmlDeviceGetUUID(d, text, 40) == NVML_ERROR_INSUFFICIENT_SIZE);
    OK(nvmlDeviceGetHandleByUUID(text, &same));
    CHECK(same == d && nvmlDeviceGetHandleByUUID("GPU-0", &same) == NVML_ERROR_NOT_FOUND);
    CHECK(nvmlDeviceGetHandleByPciBusId_v2("0000:03:00.0", &same) == NVML_ERROR_NOT_FOUND);
    struct nvml_process list[2];
    n = 2;
    OK(nvmlDeviceGetComputeRunningProcesses_v3(d, &n, list));
    CHECK(n == 0); // the second device has no context
    OK(nvmlDeviceGetHandleByIndex_v2(0, &d));
    void *p;
    OK(cudaMalloc(&p, MIB));
    n = 2;
    OK(nvmlDeviceGetComputeRunningProcesses_v3(d, &n, list));
    CHECK(n == 1 && list[0].pid == (unsigned)getpid() && list[0].memory == 3 * MIB);
    struct nvml_memory m = {.version = NVML_MEMORY_VERSION};
    OK(nvmlDeviceGetMemoryInfo_v2(d, &m));
    CHECK(m.total == 64 * MIB && m.used == 3 * MIB && m.free == 61 * MIB);
    m.version = 1;
    CHECK(nvmlDeviceGetMemoryInfo_v2(d, &m) == NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    OK(cudaFree(p));
    OK(nvmlDeviceGetTemperature(d, 0, &n));
    CHECK(n == 40);
    void *set;
    struct nvml_event e;
    OK(nvmlEventSetCreate(&set));
    OK(nvmlDeviceRegisterEvents(d, NVML_EVENT_XID, set));
    CHECK(nvmlEventSetWait_v2(set, &e, 1) == NVML_ERROR_TIMEOUT);
    OK(nvmlEventSetFree(set));
    OK(nvmlShutdown());
    CHECK(nvmlShutdown() == NVML_ERROR_UNINITIALIZED);
    stop();

    // Groups do not mean NVML's calls, so who asks does not change what goes wrong elsewhere.
    start("1", "temperature value=97; throttling value=64; ecc value=2; remap_pending value=1; others value=1048576; xid value=119 after=1 times=1; all error=2 after=9999");
    OK(nvmlInit_v2());
    OK(nvmlDeviceGetHandleByIndex_v2(0, &d));
    OK(nvmlDeviceGetTemperature(d, 0, &n));
    unsigned long long count;
    CHECK(n == 97 && nvmlDeviceGetCurrentClocksThrottleReasons(d, &count) == 0 && count == 64);
    CHECK(nvmlDeviceGetTotalEccErrors(d, 1, 0, &count) == 0 && count == 2 && nvmlDeviceGetTotalEccErrors(d, 0, 0, &count) == 0 && count == 0);
    unsigned rows[4];
    OK(nvmlDeviceGetRemappedRows(d, &rows[0], &rows[1], &rows[2], &rows[3]));
    CHECK(rows[1] == 0 && rows[2] == 1 && rows[3] == 0);
    n = 1;
    CHECK(nvmlDeviceGetComputeRunningProcesses_v3(d, &n, list) == NVML_ERROR_INSUFFICIENT_SIZE && n == 2);
    OK(nvmlDeviceGetComputeRunningProcesses_v3(d, &n, list));
    CHECK(n == 2 && list[1].memory == MIB && list[1].pid == 1);
    OK(nvmlEventSetCreate(&set));
    OK(nvmlDeviceRegisterEvents(d, NVML_EVENT_XID, set));
    OK(nvmlEventSetWait_v2(set, &e, 10000));
    CHECK(e.data == 119 && e.device == d);
    CHECK(nvmlEventSetWait_v2(set, &e, 1) == NVML_ERROR_TIMEOUT);
    OK(nvmlEventSetFree(set));
    OK(nvmlShutdown());
    stop();

    start("1", "nvml error=NVML_ERROR_RESET_REQUIRED after=1 times=1; cudaStreamQuery error=719 sticky=all");
    OK(nvmlInit_v2());
    OK(nvmlDeviceGetHandleByIndex_v2(0, &d));
    CHECK(nvmlDeviceGetTemperature(d, 0, &n) == NVML_ERROR_RESET_REQUIRED && nvmlDeviceGetTemperature(d, 0, &n) == 0);
    CHECK(cudaStreamQuery(stream) == 719 && nvmlDeviceGetTemperature(d, 0, &n) == NVML_ERROR_GPU_IS_LOST); // the device is lost for all
    OK(nvmlShutdown());
    stop_dead();

    static struct fault_spec s;
    char problem[1024];
    static const char *const bad[][2] = {
        {"temperature value=-1", "value=-1"}, {"temperature value=1 error=2", "found 2"}, {"cudaMalloc value=1", "value= is for xid"},
        {"nvml value=1", "value= is for"}, {"temperature flip=1", "flip="}, {"temperature", "flip= and value=, found 0"}, {"xid vale=1", " value=,"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(!fault_parse(bad[i][0], &s, problem, sizeof problem));
        CHECK(strstr(problem, bad[i][1]));
    }
    CHECK(fault_parse("ecc value=0", &s, problem, sizeof problem) && s.faults[0].valued);
}

#ifndef THREADS_ONLY
// ends runs one synchronization with a fault in a process of its own, and returns its end as waitpid tells it; one that
// does not end within so many seconds is ended by SIGALRM.
static int ends(const char *faults, unsigned seconds) {
    pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_DFL); // not the sanitizer's
        signal(SIGABRT, SIG_DFL);
        alarm(seconds);
        start("1", faults);
        OK(spin_for(stream, 1));
        _exit(cudaStreamSynchronize(stream) ? 1 : 0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static void check_ends(void) {
    CHECK(ends("kernel delay=20ms", 60) == 0);
    CHECK(WTERMSIG(ends("kernel hang", 1)) == SIGALRM);
    CHECK(WTERMSIG(ends("cudaLaunchKernelExC crash=SIGSEGV", 60)) == SIGSEGV);
    CHECK(WTERMSIG(ends("kernel crash=SIGABRT", 60)) == SIGABRT);
}

// check_settings: what is wrong is told, and nothing works.
static void check_settings(void) {
    static const char *const bad[][2] = {{"GENFN_VCUDA_MEMORY", "4G"}, {"GENFN_VCUDA_DEVICES", "9"}, {"GENFN_VCUDA_FAULTS", "cudaMalloc error=-5"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pid_t child = fork();
        if (!child) {
            for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) unsetenv(bad[k][0]);
            setenv(bad[i][0], bad[i][1], 1);
            int n;
            _exit(cudaGetDeviceCount(&n) == cudaErrorDevicesUnavailable && cudaSetDevice(0) == cudaErrorDevicesUnavailable ? 0 : 1);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
}
#endif

int main(void) {
    check_memory();
    check_pool();
    check_streams();
    check_copies();
    check_threads();
    check_code();
    check_faults();
    check_nvml();
    check_flips();
#ifndef THREADS_ONLY
    check_ends();
    check_settings();
#endif
    fprintf(stderr, "vcuda: all checks passed\n");
    return 0;
}
