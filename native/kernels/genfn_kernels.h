/* The interface of libgenfn_kernels: functions that take one pointer to a struct of pointers and numbers.
 *
 * Every function reads and writes only the memory its struct names, during the call, and is safe to call from any
 * thread. Arguments are not checked here: the caller (bindings/kernels) has done so. Any change of a struct or of
 * a meaning changes GENFN_KERNELS_ABI. The file also compiles under NVRTC, which has no C library headers.
 */
#ifndef GENFN_KERNELS_H
#define GENFN_KERNELS_H

#ifdef __CUDACC_RTC__
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif

#define GENFN_KERNELS_ABI 2
#define GENFN_MAX_HISTORY 8

/* One scheduler step over n values; each pointer but sample may be null (not given, or not wanted).
 *   e         = uncond + guidance*(cond - uncond)      without uncond: cond; without cond: 0
 *   m         = conv_sample*sample + conv_output*e     clamped to [-clip, clip] where clip > 0
 *   converted = m
 *   prev      = sample_coef*sample + output_coef*e + converted_coef*m + sum history_coef[k]*history[k] + noise_coef*noise
 * Left to right, each product and sum rounded; a term whose coefficient is 0 or whose pointer is null is not read.
 * converted and prev may each equal an input pointer; otherwise nothing overlaps them. */
struct genfn_step_args {
	const float *sample, *cond, *uncond, *noise;
	float *converted, *prev;
	const float *history[GENFN_MAX_HISTORY];
	float history_coef[GENFN_MAX_HISTORY];
	float guidance, conv_sample, conv_output, clip;
	float sample_coef, output_coef, converted_coef, noise_coef;
	int64_t n, history_n;
};

/* dst = src*mul + add over n values, two roundings; dst may equal src. */
struct genfn_scale_args {
	float *dst;
	const float *src;
	float mul, add;
	int64_t n;
};

/* One image, src[channels][n] in [-1, 1], n = height*width, to dst[n][channels]:
 * clamp(x/2 + 0.5, 0, 1)*255 rounded half to even; NaN becomes 0. */
struct genfn_image_args {
	uint8_t *dst;
	const float *src;
	int64_t channels, n;
};

/* Adds to *count how many of n values are NaN or infinite. */
struct genfn_count_args {
	const float *src;
	int64_t n;
	uint64_t *count;
};

/* Linear blend of two regions of planes x rows x columns, strides in values, n = planes*rows:
 * dst = src*(1 - k/extent) + dst*(k/extent), where k is the row and extent the rows if down is not 0, otherwise k is
 * the column and extent the columns. Both weights are rounded from double to float, then two products and a sum are.
 * The regions do not overlap. */
struct genfn_blend_args {
	float *dst;
	const float *src;
	int64_t dst_plane, dst_row, src_plane, src_row;
	int64_t rows, columns, n, down;
};

/* Mersenne Twister; next is the index of the next word, 624 when none is left. */
struct genfn_mt19937 {
	uint32_t state[624];
	uint32_t next;
};

struct genfn_torch_normal {
	struct genfn_mt19937 engine;
	uint32_t has_saved;
	double saved;
};

struct genfn_std_normal {
	struct genfn_mt19937 engine;
	uint32_t has_saved;
	float saved;
};

/* Fills dst with n normal values and advances the state, a genfn_torch_normal or a genfn_std_normal. */
struct genfn_fill_args {
	void *state;
	float *dst;
	int64_t n;
};

/* What the caller compares with its own idea of the structs: their sizes in bytes. */
struct genfn_description {
	uint32_t step, scale, image, count, blend, fill, torch_normal, std_normal;
	uint32_t isa; /* 0 baseline, 1 AVX2 */
};

#ifndef __CUDACC_RTC__
#define GENFN_EXPORT __attribute__((visibility("default")))

GENFN_EXPORT uint32_t genfn_kernels_abi(void);
GENFN_EXPORT void genfn_kernels_describe(struct genfn_description *);
GENFN_EXPORT void genfn_step(const struct genfn_step_args *);
GENFN_EXPORT void genfn_scale(const struct genfn_scale_args *);
GENFN_EXPORT void genfn_image_to_u8(const struct genfn_image_args *);
GENFN_EXPORT void genfn_count_non_finite(const struct genfn_count_args *);
GENFN_EXPORT void genfn_blend(const struct genfn_blend_args *);
GENFN_EXPORT void genfn_torch_normal(const struct genfn_fill_args *);
GENFN_EXPORT void genfn_std_normal(const struct genfn_fill_args *);
#endif

#endif
