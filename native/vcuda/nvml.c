// NVML: what the driver tells of the virtual devices. What is not well about them is said by faults with value=.
#include "nvml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "vcuda.h"

enum { TEMPERATURE = 40, SHUTDOWN_AT = 97, SLOWDOWN_AT = 94, MAXIMUM = 90, POWER = 75000, POWER_LIMIT = 350000 };
enum { POLL_NS = 5000000, OTHER_PID = 1 };

static int users; // nvmlInit_v2 less nvmlShutdown; guarded by the lock

// event_set is what collects events, of one device.
struct event_set {
    void *device;
    unsigned long long types;
};

// translated is an error that NVML knows: one of CUDA's, such as that of a sticky=all, makes the device lost.
static int translated(int error) {
    return error <= 30 || error == NVML_ERROR_UNKNOWN ? error : NVML_ERROR_GPU_IS_LOST;
}

// told is a number that is told of a device: usual, or what a fault says.
static int told(enum call call, uint64_t usual, uint64_t *out) {
    *out = usual;
    return translated(fault_before_value(call, out));
}

static int started(void) {
    world_start();
    lock();
    int error = users > 0 ? 0 : NVML_ERROR_UNINITIALIZED;
    unlock();
    return error;
}

// about is to be called first by every call about a device, which it sets.
static int about(void *handle, struct device **device) {
    int error = started();
    if (!error) error = translated(fault_before(CALL_nvml, NULL));
    if (error) return error;
    for (int i = 0; i < world.count; i++) {
        if (handle == &world.devices[i]) return *device = handle, 0;
    }
    return NVML_ERROR_INVALID_ARGUMENT;
}

int nvmlInit_v2(void) {
    world_start();
    int error = translated(fault_before(CALL_nvmlInit_v2, NULL));
    lock();
    if (!error) users++;
    unlock();
    return error;
}

int nvmlShutdown(void) {
    int error = started();
    lock();
    if (!error) users--;
    unlock();
    return error;
}

const char *nvmlErrorString(int status) {
    switch (status) {
    case NVML_SUCCESS: return "Success";
#define NVML_ERROR(name, number, text) case number: return text;
    NVML_ERRORS(NVML_ERROR)
#undef NVML_ERROR
    default: return "Unknown Error";
    }
}

// say copies a text that must fit.
static int say(char *out, unsigned room, const char *text) {
    if (strlen(text) >= room) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return 0;
}

int nvmlSystemGetDriverVersion(char *text, unsigned room) {
    int error = started();
    return error ? error : say(text, room, "999.0.virtual");
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int error = started();
    if (!error) *count = (unsigned)world.count;
    return error;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    int error = started();
    if (error) return error;
    if (index >= (unsigned)world.count) return NVML_ERROR_INVALID_ARGUMENT;
    *device = &world.devices[index];
    return about(*device, &(struct device *){NULL});
}

// uuid_of writes the UUID that the driver has as bytes.
static void uuid_of(int index, char out[41]) {
    unsigned char bytes[16];
    cuDeviceGetUuid_v2(bytes, index);
    out += sprintf(out, "GPU");
    for (int i = 0; i < 16; i++) out += sprintf(out, "%s%02x", i == 0 || (i >= 4 && i <= 10 && i % 2 == 0) ? "-" : "", bytes[i]);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    int error = started();
    if (error) return error;
    for (int i = 0; i < world.count; i++) {
        char own[41];
        uuid_of(i, own);
        if (!strcasecmp(uuid, own)) return nvmlDeviceGetHandleByIndex_v2((unsigned)i, device);
    }
    return NVML_ERROR_NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device) {
    int error = started();
    if (error) return error;
    unsigned domain, bus, slot, function;
    if (sscanf(bus_id, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4) return NVML_ERROR_INVALID_ARGUMENT;
    if (domain || slot || function || bus < 1 || bus > (unsigned)world.count) return NVML_ERROR_NOT_FOUND;
    return nvmlDeviceGetHandleByIndex_v2(bus - 1, device);
}

int nvmlDeviceGetName(void *handle, char *text, unsigned room) {
    struct device *d;
    int error = about(handle, &d);
    if (error) return error;
    char name[64];
    cuDeviceGetName(name, sizeof name, 0);
    return say(text, room, name);
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned room) {
    struct device *d;
    int error = about(handle, &d);
    if (error) return error;
    char own[41];
    uuid_of((int)(d - world.devices), own);
    return say(text, room, own);
}

// held returns what this process has of the device's memory.
static uint64_t held(const struct device *d) {
    lock();
    uint64_t used = d->used;
    unlock();
    return used;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, struct nvml_memory *out) {
    struct device *d;
    uint64_t others;
    int error = about(handle, &d);
    if (!error) error = told(CALL_others, 0, &others);
    if (error) return error;
    if (out->version != NVML_MEMORY_VERSION) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    uint64_t used = held(d) + others;
    if (used > d->total) used = d->total;
    *out = (struct nvml_memory){out->version, d->total, 0, d->total - used, used};
    return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct nvml_process *out) {
    struct device *d;
    uint64_t others;
    int error = about(handle, &d);
    if (!error) error = told(CALL_others, 0, &others);
    if (error) return error;
    const struct nvml_process all[] = {
        {(unsigned)getpid(), held(d), (unsigned)NVML_NO_INSTANCE, (unsigned)NVML_NO_INSTANCE},
        {OTHER_PID, others, (unsigned)NVML_NO_INSTANCE, (unsigned)NVML_NO_INSTANCE},
    };
    unsigned room = *count;
    *count = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!all[i].memory) continue; // it has no context
        if (*count < room) out[*count] = all[i];
        ++*count;
    }
    return *count > room ? NVML_ERROR_INSUFFICIENT_SIZE : 0;
}

// number answers a call about a device with a number that faults can change.
static int number(void *handle, enum call call, uint64_t usual, uint64_t *out) {
    struct device *d;
    int error = about(handle, &d);
    return error ? error : told(call, usual, out);
}

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *celsius) {
    uint64_t n;
    int error = number(handle, CALL_temperature, TEMPERATURE, &n);
    if (error) return error;
    if (sensor) return NVML_ERROR_INVALID_ARGUMENT;
    return *celsius = (unsigned)n, 0;
}

int nvmlDeviceGetTemperatureThreshold(void *handle, unsigned threshold, unsigned *celsius) {
    static const unsigned thresholds[] = {SHUTDOWN_AT, SLOWDOWN_AT, 0, MAXIMUM};
    struct device *d;
    int error = about(handle, &d);
    if (error) return error;
    if (threshold >= sizeof thresholds / sizeof *thresholds || !thresholds[threshold]) return NVML_ERROR_NOT_SUPPORTED;
    return *celsius = thresholds[threshold], 0;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) {
    uint64_t n;
    int error = number(handle, CALL_throttling, 0, &n);
    if (!error) *reasons = n;
    return error;
}

int nvmlDeviceGetUtilizationRates(void *handle, struct nvml_utilization *out) {
    struct device *d;
    int error = about(handle, &d);
    if (error) return error;
    lock();
    *out = (struct nvml_utilization){d->running ? 100 : 0, 0};
    unlock();
    return 0;
}

static int constant(void *handle, unsigned value, unsigned *out) {
    struct device *d;
    int error = about(handle, &d);
    if (!error) *out = value;
    return error;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) { return constant(handle, POWER, milliwatts); }

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) { return constant(handle, POWER_LIMIT, milliwatts); }

int nvmlDeviceGetEccMode(void *handle, unsigned *current, unsigned *pending) {
    int error = constant(handle, 1, current);
    if (!error) *pending = 1;
    return error;
}

int nvmlDeviceGetTotalEccErrors(void *handle, unsigned kind, unsigned counter, unsigned long long *count) {
    if (kind > 1 || counter > 1) return NVML_ERROR_INVALID_ARGUMENT;
    uint64_t n;
    int error = number(handle, kind ? CALL_ecc : CALL_ecc_corrected, 0, &n);
    if (!error) *count = n;
    return error;
}

// From Ampere on rows are replaced and no pages are given up.
int nvmlDeviceGetRetiredPages(void *handle, unsigned cause, unsigned *count, unsigned long long *addresses) {
    (void)cause, (void)count, (void)addresses;
    struct device *d;
    int error = about(handle, &d);
    return error ? error : NVML_ERROR_NOT_SUPPORTED;
}

int nvmlDeviceGetRetiredPagesPendingStatus(void *handle, unsigned *pending) { return nvmlDeviceGetRetiredPages(handle, 0, pending, NULL); }

int nvmlDeviceGetRemappedRows(void *handle, unsigned *correctable, unsigned *uncorrectable, unsigned *pending, unsigned *failed) {
    uint64_t n[3];
    int error = number(handle, CALL_remapped, 0, &n[0]);
    if (!error) error = told(CALL_remap_pending, 0, &n[1]);
    if (!error) error = told(CALL_remap_failed, 0, &n[2]);
    if (error) return error;
    *correctable = 0, *uncorrectable = (unsigned)n[0], *pending = n[1] != 0, *failed = n[2] != 0;
    return 0;
}

int nvmlEventSetCreate(void **set) {
    int error = started();
    if (error) return error;
    *set = calloc(1, sizeof(struct event_set));
    return *set ? 0 : NVML_ERROR_UNKNOWN;
}

int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, void *set) {
    struct device *d;
    int error = about(handle, &d);
    if (error) return error;
    if (types & ~(unsigned long long)NVML_EVENT_XID) return NVML_ERROR_NOT_SUPPORTED;
    struct event_set *s = set;
    s->device = handle;
    s->types = types;
    return 0;
}

int nvmlEventSetWait_v2(void *set, struct nvml_event *out, unsigned timeout_ms) {
    const struct event_set *s = set;
    const uint64_t end = now_ns() + (uint64_t)timeout_ms * 1000000;
    for (;;) {
        uint64_t xid;
        int error = number(s->device, CALL_xid, 0, &xid);
        if (error) return error;
        if (xid && s->types & NVML_EVENT_XID) {
            *out = (struct nvml_event){s->device, NVML_EVENT_XID, xid, (unsigned)NVML_NO_INSTANCE, (unsigned)NVML_NO_INSTANCE};
            return 0;
        }
        if (now_ns() >= end) return NVML_ERROR_TIMEOUT;
        nanosleep(&(struct timespec){0, POLL_NS}, NULL);
    }
}

int nvmlEventSetFree(void *set) {
    free(set);
    return 0;
}
