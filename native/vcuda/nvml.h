// The part of NVML, the NVIDIA Management Library, that the virtual device stands in for, with the ABI of lines 12 and 13.
#ifndef GENFN_VCUDA_NVML_H
#define GENFN_VCUDA_NVML_H

#include "cuda.h"

struct nvml_memory {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

struct nvml_utilization {
    unsigned gpu, memory;
};

struct nvml_process {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
};

struct nvml_event {
    void *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

enum { NVML_EVENT_XID = 8, NVML_MEMORY_VERSION = 2 << 24 | (int)sizeof(struct nvml_memory), NVML_NO_INSTANCE = -1 };

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlShutdown(void);
EXPORT const char *nvmlErrorString(int status);
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned room);
EXPORT int nvmlDeviceGetCount_v2(unsigned *count);
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **device);
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device);
EXPORT int nvmlDeviceGetName(void *device, char *text, unsigned room);
EXPORT int nvmlDeviceGetUUID(void *device, char *text, unsigned room);
EXPORT int nvmlDeviceGetMemoryInfo_v2(void *device, struct nvml_memory *out);
EXPORT int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius);
EXPORT int nvmlDeviceGetTemperatureThreshold(void *device, unsigned threshold, unsigned *celsius);
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons);
EXPORT int nvmlDeviceGetUtilizationRates(void *device, struct nvml_utilization *out);
EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
EXPORT int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts);
EXPORT int nvmlDeviceGetEccMode(void *device, unsigned *current, unsigned *pending);
EXPORT int nvmlDeviceGetTotalEccErrors(void *device, unsigned kind, unsigned counter, unsigned long long *count);
EXPORT int nvmlDeviceGetRetiredPages(void *device, unsigned cause, unsigned *count, unsigned long long *addresses);
EXPORT int nvmlDeviceGetRetiredPagesPendingStatus(void *device, unsigned *pending);
EXPORT int nvmlDeviceGetRemappedRows(void *device, unsigned *correctable, unsigned *uncorrectable, unsigned *pending, unsigned *failed);
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct nvml_process *out);
EXPORT int nvmlEventSetCreate(void **set);
EXPORT int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set);
EXPORT int nvmlEventSetWait_v2(void *set, struct nvml_event *out, unsigned timeout_ms);
EXPORT int nvmlEventSetFree(void *set);

#endif
