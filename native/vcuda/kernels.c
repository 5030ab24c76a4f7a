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

#define RUN(name, args) static void run_##name(const void *param) { genfn_##name(param); }
GENFN_DEVICE_KERNELS(RUN)

static size_t step_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_step_args *a = param;
    size_t n = add(out, 0, a->sample, a->n, size, false);
    n = add(out, n, a->cond, a->n, size, false);
    n = add(out, n, a->uncond, a->n, size, false);
    n = add(out, n, a->noise, a->n, size, false);
    n = add(out, n, a->converted, a->n, size, true);
    n = add(out, n, a->prev, a->n, size, true);
    for (int64_t k = 0; k < a->history_n && k < GENFN_MAX_HISTORY; k++) n = add(out, n, a->history[k], a->n, size, false);
    return n;
}

static size_t scale_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_scale_args *a = param;
    return add(out, add(out, 0, a->src, a->n, size, false), a->dst, a->n, size, true);
}

static size_t mix_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_mix_args *a = param;
    return add(out, add(out, add(out, 0, a->a, a->n, size, false), a->b, a->n, size, false), a->dst, a->n, size, true);
}

static size_t composite_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_composite_args *a = param;
    int64_t values = a->n * a->channels;
    size_t n = add(out, add(out, 0, a->a, values, size, false), a->b, values, size, false);
    return add(out, add(out, n, a->mask, a->n, size, false), a->dst, values, size, true);
}

// Of a conversion, size is that of the narrow side.
static size_t f16_to_f32_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_convert_args *a = param;
    return add(out, add(out, 0, a->src, a->n, size, false), a->dst, a->n, sizeof(float), true);
}

static size_t f32_to_f16_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_convert_args *a = param;
    return add(out, add(out, 0, a->src, a->n, sizeof(float), false), a->dst, a->n, size, true);
}

static size_t to_u8_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_image_args *a = param;
    return add(out, add(out, 0, a->src, a->n * a->channels, size, false), a->dst, a->n * a->channels, 1, true);
}

static size_t from_u8_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_image_args *a = param;
    return add(out, add(out, 0, a->src, a->n * a->channels, 1, false), a->dst, a->n * a->channels, size, true);
}

// Weights are double, those of bytes int32_t.
static size_t resample_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_resample_args *a = param;
    size_t n = add(out, 0, a->src, a->n / a->out * a->in, size, false);
    n = add(out, add(out, n, a->first, a->out, 4, false), a->count, a->out, 4, false);
    n = add(out, n, a->weights, a->out * a->taps, size == 1 ? sizeof(int32_t) : sizeof(double), false);
    return add(out, n, a->dst, a->n, size, true);
}

static size_t count_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_count_args *a = param;
    return add(out, add(out, 0, a->src, a->n, size, false), a->count, 1, sizeof *a->count, true);
}

static size_t difference_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_difference_args *a = param;
    size_t n = add(out, add(out, 0, a->a, a->n, size, false), a->b, a->n, size, false);
    return add(out, n, a->result, 1, sizeof *a->result, true);
}

static size_t philox_ranges(const void *param, size_t size, struct range *out) {
    const struct genfn_philox_args *a = param;
    return add(out, 0, a->dst, a->values, size, true);
}

static void run_spin(const void *param) {
    uint64_t ns = *(const uint64_t *)param, begin = now_ns();
    while (now_ns() - begin < ns) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static size_t no_ranges(const void *param, size_t size, struct range *out) { return (void)param, (void)size, (void)out, (size_t)0; }

static void run_poke(const void *param) { memcpy(*(void *const *)param, &(uint32_t){1}, 4); }

static size_t poke_ranges(const void *param, size_t size, struct range *out) { return add(out, 0, *(void *const *)param, 1, size, true); }

#define GENFN(name, args, size, ranges) {"genfn_" #name, sizeof(struct genfn_##args##_args), size, run_##name, ranges}

static const struct kernel kernels[] = {
    GENFN(step, step, 4, step_ranges),
    GENFN(step_f16, step, 2, step_ranges),
    GENFN(scale, scale, 4, scale_ranges),
    GENFN(scale_f16, scale, 2, scale_ranges),
    GENFN(mix, mix, 4, mix_ranges),
    GENFN(mix_f16, mix, 2, mix_ranges),
    GENFN(composite, composite, 4, composite_ranges),
    GENFN(composite_f16, composite, 2, composite_ranges),
    GENFN(composite_u8, composite, 1, composite_ranges),
    GENFN(f16_to_f32, convert, 2, f16_to_f32_ranges),
    GENFN(f32_to_f16, convert, 2, f32_to_f16_ranges),
    GENFN(image_to_u8, image, 4, to_u8_ranges),
    GENFN(image_to_u8_f16, image, 2, to_u8_ranges),
    GENFN(u8_to_image, image, 4, from_u8_ranges),
    GENFN(u8_to_image_f16, image, 2, from_u8_ranges),
    GENFN(resample, resample, 4, resample_ranges),
    GENFN(resample_u8, resample, 1, resample_ranges),
    GENFN(count_non_finite, count, 4, count_ranges),
    GENFN(count_non_finite_f16, count, 2, count_ranges),
    GENFN(checksum, count, 4, count_ranges),
    GENFN(checksum_f16, count, 2, count_ranges),
    GENFN(difference, difference, 4, difference_ranges),
    GENFN(difference_f16, difference, 2, difference_ranges),
    GENFN(philox_normal, philox, 4, philox_ranges),
    GENFN(philox_normal_f16, philox, 2, philox_ranges),
    {"spin", sizeof(uint64_t), 0, run_spin, no_ranges}, // runs for so many nanoseconds
    {"poke", sizeof(void *), 4, run_poke, poke_ranges}, // writes a 1 of 32 bits to an address
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
