// The layer's start, its settings, and its entry points for the OpenCL loader.
#include "layer.h"

#include <errno.h>
#include <stdlib.h>

#include "account.h"
#include "alloc.h"
#include "device.h"
#include "fault.h"

struct layer layer;

// setting returns the value of an environment variable, NULL if it is unset or empty.
static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

// read_number reads a whole number, least to most; without a value it leaves out alone.
static bool read_number(const char *name, uint64_t least, uint64_t most, uint64_t *out) {
    const char *value = setting(name);
    if (!value) return true;
    errno = 0;
    char *end;
    unsigned long long n = strtoull(value, &end, 10);
    if (!errno && !*end && *value >= '0' && *value <= '9' && n >= least && n <= most) {
        *out = n;
        return true;
    }
    COMPLAIN("%s=%s: expected a whole number, %llu to %llu: the virtual GPU is not available", name, value, (unsigned long long)least,
             (unsigned long long)most);
    return false;
}

static bool read_settings(void) {
    uint64_t devices = 1;
    bool ok = read_number("GENFN_VGPU_MEMORY", 1 << 16, INT64_MAX, &layer.memory);
    ok &= read_number("GENFN_VGPU_MAX_ALLOC", 1 << 16, INT64_MAX, &layer.max_alloc);
    ok &= read_number("GENFN_VGPU_DEVICES", 1, MAX_DEVICES, &devices);
    layer.devices = (unsigned)devices;
    // Compiled without optimisation a kernel is ten times slower, and compiled in a tenth of the time.
    const char *options = setting("GENFN_VGPU_BUILD_OPTIONS");
    layer.options = options ? options : "-cl-opt-disable";
    layer.cache = setting("GENFN_VGPU_CACHE");
    layer.verbose = setting("GENFN_VGPU_VERBOSE") != NULL;
    return account_start(setting("GENFN_VGPU_COUNTERS"), layer.devices) && ok;
}

static void *vgpu_clGetExtensionFunctionAddressForPlatform(cl_platform_id platform, const char *name) {
    void *below = NEXT(clGetExtensionFunctionAddressForPlatform)(platform, name);
    if (!below) return NULL;
    void *ours = alloc_extension(name, below);
    if (!ours) ours = queue_extension(name, below);
    if (!ours) ours = kernel_extension(name, below);
    return ours ? ours : below;
}

void layer_start(void *const *next) {
    layer = (struct layer){.next = next};
    memcpy(layer.table, next, sizeof layer.table);
    device_install();
    alloc_install();
    program_install();
    kernel_install();
    queue_install();
    REPLACE(clGetExtensionFunctionAddressForPlatform);
    fault_start(setting("GENFN_VGPU_FAULTS"), setting("GENFN_VGPU_FAULT_FILE"));
    if (!read_settings()) fault_refuse();
}

void layer_stop(void) {
    alloc_stop();
    account_stop();
    fault_stop();
    device_forget();
}

// The interface of layers: OpenCL-ICD-Loader and OpenCL-Docs, cl_loader_layers. The loader calls
// clInitLayerWithProperties if there is one, and says so in its trace if not.
#define EXPORT __attribute__((visibility("default")))

EXPORT cl_int clGetLayerInfo(cl_uint name, size_t room, void *out, size_t *size);
EXPORT cl_int clInitLayer(cl_uint entries, void *const *next, cl_uint *entries_out, void *const **table_out);
EXPORT cl_int clInitLayerWithProperties(cl_uint entries, void *const *next, cl_uint *entries_out, void *const **table_out,
                                        const void *properties);
EXPORT cl_int clDeinitLayer(void);

cl_int clGetLayerInfo(cl_uint name, size_t room, void *out, size_t *size) {
    static const char text[] = "genfn virtual Intel GPU";
    switch (name) {
    case CL_LAYER_API_VERSION: return answer(&(cl_uint){CL_LAYER_API_VERSION_100}, sizeof(cl_uint), room, out, size);
    case CL_LAYER_NAME: return answer(text, sizeof text, room, out, size);
    }
    return CL_INVALID_VALUE;
}

cl_int clInitLayer(cl_uint entries, void *const *next, cl_uint *entries_out, void *const **table_out) {
    if (!next || !entries_out || !table_out || entries < SLOT_COUNT) return CL_INVALID_VALUE;
    layer_start(next);
    *entries_out = SLOT_COUNT;
    *table_out = layer.table;
    return CL_SUCCESS;
}

cl_int clInitLayerWithProperties(cl_uint entries, void *const *next, cl_uint *entries_out, void *const **table_out, const void *properties) {
    (void)properties;
    return clInitLayer(entries, next, entries_out, table_out);
}

// Objects may still live when the loader is unloaded at the end of the process: nothing is taken from under them.
cl_int clDeinitLayer(void) { return CL_SUCCESS; }
