// Settings, devices, what threads remember, and handles.
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vcuda.h"

struct world world = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
bool vcuda_verbose;

static bool started; // guarded by the lock

// thread is what CUDA keeps for each thread.
static _Thread_local struct {
    int device, last_error;
} thread;

enum { MIB = 1 << 20, CONTEXT_SHARE = 32 };

// setting reads a number from the environment; a bad one makes the device unavailable.
static uint64_t setting(const char *name, uint64_t least, uint64_t most, uint64_t otherwise) {
    const char *text = getenv(name);
    if (!text || !*text) return otherwise;
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && n >= least && n <= most) return n;
    COMPLAIN("%s=%s: expected a whole number, %" PRIu64 " to %" PRIu64 ": " FAULT_SUBJECT " is not available", name, text, least, most);
    fault_refuse();
    return otherwise;
}

void world_start(void) {
    lock();
    if (!started) {
        vcuda_verbose = getenv("GENFN_VCUDA_VERBOSE") != NULL;
        fault_start(getenv("GENFN_VCUDA_FAULTS"), getenv("GENFN_VCUDA_FAULT_FILE"));
        world.count = (int)setting("GENFN_VCUDA_DEVICES", 1, MAX_DEVICES, 1);
        uint64_t total = setting("GENFN_VCUDA_MEMORY", 16 * MIB, UINT64_C(1) << 40, UINT64_C(4) << 30);
        for (int i = 0; i < world.count; i++) world.devices[i] = (struct device){.total = total};
        started = true;
    }
    unlock();
}

void world_stop(void) {
    lock();
    while (world.streams) wait_change();
    for (int i = 0; i < world.count; i++) memory_free_all(&world.devices[i]);
    memset(world.devices, 0, sizeof world.devices);
    world.objects = NULL;
    started = false;
    fault_stop();
    unlock();
    thread.device = thread.last_error = 0;
}

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// kills reports whether an error leaves the context dead (driver_types.h says so of each).
static bool kills(int error) {
    static const int deadly[] = {214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 911, 999};
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
        if (deadly[i] == error) return true;
    }
    return false;
}

void kill_context(struct device *d, int error) {
    if (!d->dead) TRACE("the context of device %d is dead: %d", (int)(d - world.devices), error);
    if (!d->dead) d->dead = error;
    pthread_cond_broadcast(&world.changed);
}

int leave(int error) {
    if (error) thread.last_error = error;
    return error;
}

int enter_kernel(enum call call, const char *kernel) {
    world_start();
    int error = fault_before_kernel(call, kernel, NULL);
    lock();
    struct device *d = &world.devices[thread.device];
    if (error && kills(error)) kill_context(d, error);
    if (d->dead && call != CALL_cudaSetDevice && call != CALL_cudaGetDeviceCount && call != CALL_cuInit) error = d->dead;
    unlock();
    return leave(error);
}

int enter(enum call call) { return enter_kernel(call, ""); }

struct device *current(void) {
    struct device *d = &world.devices[thread.device];
    if (!d->context) d->used += d->total / CONTEXT_SHARE; // until the process ends
    d->context = true;
    return d;
}

void object_add(struct object *o, enum kind kind) {
    o->kind = kind;
    o->next = world.objects;
    world.objects = o;
}

void *object_find(const void *handle, enum kind kind) {
    for (struct object *o = world.objects; o; o = o->next) {
        if (o == handle && o->kind == kind) return o;
    }
    return NULL;
}

void object_remove(struct object *o) {
    struct object **at = &world.objects;
    while (*at != o) at = &(*at)->next;
    *at = o->next;
}

const char *cudaGetErrorName(int error) {
    switch (error) {
    case cudaSuccess: return "cudaSuccess";
#define CUDA_ERROR(name, number, text) case number: return #name;
    CUDA_ERRORS(CUDA_ERROR)
#undef CUDA_ERROR
    default: return "unrecognized error code";
    }
}

const char *cudaGetErrorString(int error) {
    switch (error) {
    case cudaSuccess: return "no error";
#define CUDA_ERROR(name, number, text) case number: return text;
    CUDA_ERRORS(CUDA_ERROR)
#undef CUDA_ERROR
    default: return "unrecognized error code";
    }
}

int cudaPeekAtLastError(void) { return thread.last_error; }

int cudaGetLastError(void) {
    int error = thread.last_error;
    thread.last_error = 0;
    return error;
}

int cudaRuntimeGetVersion(int *version) { return *version = VERSION, 0; }
int cudaDriverGetVersion(int *version) { return *version = VERSION, 0; }
int cuDriverGetVersion(int *version) { return *version = VERSION, 0; }

int cudaGetDeviceCount(int *count) {
    int error = enter(CALL_cudaGetDeviceCount);
    if (!error) *count = world.count;
    return error;
}

int cudaGetDevice(int *device) { return *device = thread.device, 0; }

static bool known(int device) { return device >= 0 && device < world.count; }

int cudaSetDevice(int device) {
    int error = enter(CALL_cudaSetDevice);
    if (error) return error;
    if (!known(device)) return leave(cudaErrorInvalidDevice);
    thread.device = device;
    lock();
    error = current()->dead;
    unlock();
    return leave(error);
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    static const struct {
        int attribute, value;
    } attributes[] = {
        {1, 1024} /* threads of a block */, {10, 32} /* warp */, {16, 4} /* multiprocessors */, {18, 0} /* integrated */, {32, 1} /* ECC */,
        {36, 1000000} /* kHz of the memory */, {37, 128} /* bits of its bus */, {38, MIB} /* bytes of the L2 cache */, {75, COMPUTE_MAJOR},
        {76, COMPUTE_MINOR}, {115, 1} /* memory pools */,
    };
    int error = enter(CALL_cudaDeviceGetAttribute);
    if (error) return error;
    if (!known(device)) return leave(cudaErrorInvalidDevice);
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
        if (attributes[i].attribute == attribute) return *value = attributes[i].value, 0;
    }
    return leave(cudaErrorInvalidValue);
}

int cudaDeviceGetPCIBusId(char *text, int room, int device) {
    int error = enter(CALL_cudaDeviceGetPCIBusId);
    if (error) return error;
    if (!known(device)) return leave(cudaErrorInvalidDevice);
    if (room < 13) return leave(cudaErrorInvalidValue);
    snprintf(text, (size_t)room, "0000:%02X:00.0", device + 1);
    return 0;
}

int cuInit(unsigned flags) {
    int error = enter(CALL_cuInit);
    return error ? error : leave(flags ? cudaErrorInvalidValue : 0);
}

int cuDeviceGetCount(int *count) { return cudaGetDeviceCount(count); }

int cuDeviceGet(int *device, int ordinal) {
    world_start();
    if (!known(ordinal)) return cudaErrorInvalidDevice;
    return *device = ordinal, 0;
}

int cuDeviceGetName(char *name, int room, int device) {
    world_start();
    if (!known(device) || room < 1) return cudaErrorInvalidDevice;
    snprintf(name, (size_t)room, "genfn virtual CUDA device");
    return 0;
}

int cuDeviceGetUuid_v2(unsigned char uuid[16], int device) {
    world_start();
    if (!known(device)) return cudaErrorInvalidDevice;
    memcpy(uuid, "genfn vcuda dev", 16);
    uuid[15] = (unsigned char)device;
    return 0;
}

// NVRTC asks for tables if it finds a driver along its path, and goes on without if there are none.
int cuGetExportTable(const void **table, const void *id) {
    (void)id;
    *table = NULL;
    return cudaErrorSymbolNotFound;
}
