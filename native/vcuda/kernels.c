// The kernels that the device has: those of native/kernels, built for the CPU, and two for tests of streams and faults.
// Each says which memory it uses, so that an address that is not the device's is an error, as on a GPU.
#include <string.h>
#include <time.h>

#include "genfn_kernels.h"
#include "vcuda.h"

static size_t add(struct range *out, size_t n, const void *address, int64_t values, size_t size, bool written) {
    if (!address || values <= 0) return n;
    out[n] = (struct range){(void *)(uintptr_t)address, (size_t)values * size, written};
    return n + 1;
}

static void run_step(const void *param) { genfn_step(param); }

static size_t step_ranges(const void *param, struct range *out) {
    const struct genfn_step_args *a = param;
    size_t n = add(out, 0, a->sample, a->n, sizeof(float), false);
    n = add(out, n, a->cond, a->n, sizeof(float), false);
    n = add(out, n, a->uncond, a->n, sizeof(float), false);
    n = add(out, n, a->noise, a->n, sizeof(float), false);
    n = add(out, n, a->converted, a->n, sizeof(float), true);
    n = add(out, n, a->prev, a->n, sizeof(float), true);
    for (int64_t k = 0; k < a->history_n && k < GENFN_MAX_HISTORY; k++) n = add(out, n, a->history[k], a->n, sizeof(float), false);
    return n;
}

static void run_scale(const void *param) { genfn_scale(param); }

static size_t scale_ranges(const void *param, struct range *out) {
    const struct genfn_scale_args *a = param;
    return add(out, add(out, 0, a->src, a->n, sizeof(float), false), a->dst, a->n, sizeof(float), true);
}

static void run_image(const void *param) { genfn_image_to_u8(param); }

static size_t image_ranges(const void *param, struct range *out) {
    const struct genfn_image_args *a = param;
    return add(out, add(out, 0, a->src, a->n * a->channels, sizeof(float), false), a->dst, a->n * a->channels, 1, true);
}

static void run_count(const void *param) { genfn_count_non_finite(param); }

static size_t count_ranges(const void *param, struct range *out) {
    const struct genfn_count_args *a = param;
    return add(out, add(out, 0, a->src, a->n, sizeof(float), false), a->count, 1, sizeof *a->count, true);
}

static void run_spin(const void *param) {
    uint64_t ns = *(const uint64_t *)param, begin = now_ns();
    while (now_ns() - begin < ns) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static size_t no_ranges(const void *param, struct range *out) { return (void)param, (void)out, (size_t)0; }

static void run_poke(const void *param) { memcpy(*(void *const *)param, &(uint32_t){1}, 4); }

static size_t poke_ranges(const void *param, struct range *out) { return add(out, 0, *(void *const *)param, 1, 4, true); }

static const struct kernel kernels[] = {
    {"genfn_step", sizeof(struct genfn_step_args), run_step, step_ranges},
    {"genfn_scale", sizeof(struct genfn_scale_args), run_scale, scale_ranges},
    {"genfn_image_to_u8", sizeof(struct genfn_image_args), run_image, image_ranges},
    {"genfn_count_non_finite", sizeof(struct genfn_count_args), run_count, count_ranges},
    {"spin", sizeof(uint64_t), run_spin, no_ranges}, // runs for so many nanoseconds
    {"poke", sizeof(void *), run_poke, poke_ranges}, // writes a 1 of 32 bits to an address
};

const struct kernel *kernel_named(const char *name) {
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        if (!strcmp(kernels[i].name, name)) return &kernels[i];
    }
    return NULL;
}

const struct kernel *kernel_of(const void *handle) {
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        if (handle == &kernels[i]) return handle;
    }
    return NULL;
}
