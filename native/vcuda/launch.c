// Libraries of compiled code, of which only the names of the kernels are used, and launches.
#include <stdlib.h>
#include <string.h>

#include "vcuda.h"

struct library {
    struct object object;
    char *entries; // as of code_entries
};

static int load(void **out, const void *image) {
    int error = 0;
    char *entries = image ? code_entries(image, &error) : (error = cudaErrorInvalidValue, NULL);
    if (!entries) return error;
    struct library *l = malloc(sizeof *l);
    if (!l) {
        free(entries);
        return cudaErrorMemoryAllocation;
    }
    *l = (struct library){.entries = entries};
    lock();
    current();
    object_add(&l->object, KIND_LIBRARY);
    unlock();
    *out = l;
    return 0;
}

static int find(const void **kernel, void *library, const char *name) {
    char line[256];
    snprintf(line, sizeof line, "\n%s\n", name);
    lock();
    struct library *l = object_find(library, KIND_LIBRARY);
    bool in = l && strstr(l->entries, line);
    unlock();
    if (!l) return cudaErrorInvalidResourceHandle;
    if (!in) return cudaErrorSymbolNotFound;
    *kernel = kernel_named(name);
    if (!*kernel) COMPLAIN("there is no CPU build of the kernel %s", name);
    return *kernel ? 0 : cudaErrorSymbolNotFound;
}

static int unload(void *library) {
    lock();
    struct library *l = object_find(library, KIND_LIBRARY);
    if (l) object_remove(&l->object);
    unlock();
    if (!l) return cudaErrorInvalidResourceHandle;
    free(l->entries);
    free(l);
    return 0;
}

int cudaLibraryLoadData(void **library, const void *code, void *jit, void *jit_values, unsigned jit_n, void *options,
                        void *option_values, unsigned options_n) {
    int error = enter(CALL_cudaLibraryLoadData);
    if (error) return error;
    if (jit || jit_values || jit_n || options || option_values || options_n) return leave(cudaErrorNotSupported);
    return leave(load(library, code));
}

int cudaLibraryGetKernel(void **kernel, void *library, const char *name) {
    int error = enter(CALL_cudaLibraryGetKernel);
    return error ? error : leave(find((const void **)kernel, library, name));
}

int cudaLibraryUnload(void *library) {
    int error = enter(CALL_cudaLibraryUnload);
    return error ? error : leave(unload(library));
}

int cuModuleLoadData(void **module, const void *image) {
    int error = enter(CALL_cuModuleLoadData);
    return error ? error : leave(load(module, image));
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    int error = enter(CALL_cuModuleGetFunction);
    return error ? error : leave(find((const void **)function, module, name));
}

int cuModuleUnload(void *module) {
    int error = enter(CALL_cuModuleUnload);
    return error ? error : leave(unload(module));
}

struct launch {
    struct work work;
    const struct kernel *kernel;
    _Alignas(16) unsigned char param[];
};

// legal makes sure that the kernel touches memory of its device and pinned memory only.
static bool legal(const struct device *device, const struct range *ranges, size_t n) {
    bool ok = true;
    lock();
    for (size_t i = 0; i < n && ok; i++) {
        const struct device *owner = device;
        enum place place = memory_find(ranges[i].address, ranges[i].bytes, &owner);
        ok = place == PLACE_PINNED || (place == PLACE_DEVICE && owner == device);
    }
    unlock();
    return ok;
}

static int run_launch(struct work *w) {
    struct launch *l = (struct launch *)w;
    struct flip flip = {0};
    int error = fault_before_kernel(CALL_kernel, l->kernel->name, &flip);
    if (error) return error;
    struct range ranges[MAX_RANGES];
    size_t n = l->kernel->ranges(l->param, l->kernel->size, ranges);
    if (!legal(w->device, ranges, n)) return cudaErrorIllegalAddress;
    l->kernel->run(l->param);
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].written) fault_flip(&flip, ranges[i].address, ranges[i].bytes);
    }
    return 0;
}

// possible tells whether a device of this capability can have such a launch.
static bool possible(const struct dim3 *grid, const struct dim3 *block) {
    return grid->x && grid->y && grid->z && grid->x <= INT32_MAX && grid->y <= 65535 && grid->z <= 65535 && block->x && block->y &&
           block->z && block->x <= 1024 && block->y <= 1024 && block->z <= 64 && (uint64_t)block->x * block->y * block->z <= 1024;
}

// launch queues the kernel once for the whole grid: its CPU build computes all values.
static int launch(const struct kernel *k, const struct launch_config *c, void **args) {
    if (!args || c->shared > 48 << 10) return cudaErrorInvalidValue;
    if (c->attrs || c->attrs_n) return cudaErrorNotSupported;
    struct launch *l = malloc(sizeof *l + k->param_bytes);
    if (!l) return cudaErrorMemoryAllocation;
    *l = (struct launch){.work = {.run = run_launch}, .kernel = k};
    memcpy(l->param, args[0], k->param_bytes);
    int error = 0;
    lock();
    struct stream *s = stream_of(c->stream, &error);
    if (s) stream_push(s, &l->work);
    unlock();
    if (!s) free(l);
    return error;
}

int cudaLaunchKernelExC(const struct launch_config *config, const void *kernel, void **args) {
    const struct kernel *k = kernel_of(kernel);
    int error = enter_kernel(CALL_cudaLaunchKernelExC, k ? k->name : "");
    if (error) return error;
    if (!k) return leave(cudaErrorInvalidDeviceFunction);
    return leave(possible(&config->grid, &config->block) ? launch(k, config, args) : cudaErrorInvalidConfiguration);
}

int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared, void *stream, void **params, void **extra) {
    const struct kernel *k = kernel_of(function);
    int error = enter_kernel(CALL_cuLaunchKernel, k ? k->name : "");
    if (error) return error;
    if (!k) return leave(cudaErrorInvalidResourceHandle);
    const struct launch_config config = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, stream, extra, 0};
    return leave(possible(&config.grid, &config.block) ? launch(k, &config, params) : cudaErrorInvalidValue); // as the driver says it
}
