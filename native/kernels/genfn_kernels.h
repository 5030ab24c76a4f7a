/* The interface of libgenfn_kernels: functions that take one pointer to a struct of pointers and numbers.
 *
 * Values are float32 unless a struct says otherwise; of a function whose name ends in _f16 they are float16, and the
 * arithmetic between them is still in float32: each result is rounded once more, when it is stored.
 *
 * Every function reads and writes only the memory its struct names, during the call, and is safe to call from any
 * thread. Arguments are not checked here: the caller (bindings/kernels) has done so. Any change of a struct or of
 * a meaning changes GENFN_KERNELS_ABI. The file also compiles under NVRTC.
 */
#ifndef GENFN_KERNELS_H
#define GENFN_KERNELS_H

#include "language.h"

#define GENFN_KERNELS_ABI 3
#define GENFN_MAX_HISTORY 8

/* One scheduler step over n values; each pointer but sample may be null (not given, or not wanted).
 *   e         = uncond + guidance*(cond - uncond)      without uncond: cond; without cond: 0
 *   m         = conv_sample*sample + conv_output*e     clamped to [-clip, clip] where clip > 0
 *   converted = m
 *   prev      = sample_coef*sample + output_coef*e + converted_coef*m + sum history_coef[k]*history[k] + noise_coef*noise
 * Left to right, each product and sum rounded; a term whose coefficient is 0 or whose pointer is null is not read.
 * converted and prev may each equal an input pointer; otherwise nothing overlaps them. */
struct genfn_step_args {
	const void *sample, *cond, *uncond, *noise;
	void *converted, *prev;
	const void *history[GENFN_MAX_HISTORY];
	float history_coef[GENFN_MAX_HISTORY];
	float guidance, conv_sample, conv_output, clip;
	float sample_coef, output_coef, converted_coef, noise_coef;
	int64_t n, history_n;
};

/* dst = src*mul + add over n values, two roundings; dst may equal src. */
struct genfn_scale_args {
	void *dst;
	const void *src;
	float mul, add;
	int64_t n;
};

/* genfn_f16_to_f32 and genfn_f32_to_f16, which rounds half to even: n values, in memory apart. */
struct genfn_convert_args {
	void *dst;
	const void *src;
	int64_t n;
};

/* One image of n = height*width pixels. genfn_image_to_u8: src[channels][n] in [-1, 1] to bytes dst[n][channels],
 * clamp(x/2 + 0.5, 0, 1)*255 rounded half to even; NaN becomes 0. genfn_u8_to_image: bytes src[n][channels] to
 * dst[channels][n], 2*(x/255) - 1. */
struct genfn_image_args {
	void *dst;
	const void *src;
	int64_t channels, n;
};

/* dst = a*(1 - weight) + b*weight over n values, each operation rounded; dst may equal a or b. */
struct genfn_mix_args {
	void *dst;
	const void *a, *b;
	float weight;
	int64_t n;
};

/* dst = mask*a + (1 - mask)*b, each operation rounded; dst may equal a or b. a, b and dst are [channels][n], the mask,
 * which is one for all channels, [n]. genfn_composite_u8: bytes, a, b and dst [n][channels],
 * (mask*a + (255 - mask)*b)/255 rounded to the nearest; there are no ties. */
struct genfn_composite_args {
	void *dst;
	const void *a, *b, *mask;
	int64_t channels, n;
};

/* One axis of src[outer][in][inner] resampled to dst[outer][out][inner], n = outer*out*inner. Output o is the sum of
 * count[o] values from first[o] on, in order, each times one of the weights from o*taps on: in float64 and rounded once,
 * or, genfn_resample_u8, bytes times weights that are multiples of 2^-22, rounded half up and clamped to 0 to 255. */
struct genfn_resample_args {
	void *dst;
	const void *src;
	const int32_t *first, *count;
	const void *weights; /* double, or int32_t for bytes */
	int64_t in, out, inner, taps, n;
};

/* Adds to *count, of genfn_count_non_finite, how many of n values are NaN or infinite; of genfn_checksum, the sum of
 * (w ^ a(i))*b(i) modulo 2^64 of the bits w of each value, where a and b are a hash of the index. */
struct genfn_count_args {
	const void *src;
	int64_t n;
	uint64_t *count;
};

/* Differences |a - b| of two arrays, all fields 0 at first. Those that are not finite are counted apart; the others are
 * summed in whole numbers, so that the order does not matter: each, at most 2147483520, as its integer part and what is
 * left in steps of 2^-31, rounded down. The least is kept as its bits inverted. */
struct genfn_difference {
	uint64_t whole, fraction, not_finite;
	uint32_t most, least_inverted;
};

struct genfn_difference_args {
	const void *a, *b;
	struct genfn_difference *result;
	int64_t n;
};

/* Normal noise of Philox 4x32-10 as PyTorch draws it on CUDA devices: values numbers, in n = threads*rounds blocks of
 * four, where threads*4*rounds >= values. bindings/kernels/philox.go has the layout. offset is a multiple of 4. */
struct genfn_philox_args {
	void *dst;
	uint64_t seed, offset;
	int64_t threads, values, n;
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
	uint32_t convert, mix, composite, resample, difference, difference_result, philox;
	uint32_t isa; /* 0 baseline, 1 AVX2 and F16C */
};

/* The kernels that a CUDA device has too: K(name, struct). */
#define GENFN_DEVICE_KERNELS(K) \
	K(step, step) K(step_f16, step) \
	K(scale, scale) K(scale_f16, scale) \
	K(mix, mix) K(mix_f16, mix) \
	K(composite, composite) K(composite_f16, composite) \
	K(composite_u8, composite) \
	K(f16_to_f32, convert) \
	K(f32_to_f16, convert) \
	K(image_to_u8, image) K(image_to_u8_f16, image) \
	K(u8_to_image, image) K(u8_to_image_f16, image) \
	K(resample, resample) \
	K(resample_u8, resample) \
	K(count_non_finite, count) K(count_non_finite_f16, count) \
	K(checksum, count) K(checksum_f16, count) \
	K(difference, difference) K(difference_f16, difference) \
	K(philox_normal, philox) K(philox_normal_f16, philox)

#ifndef __CUDACC_RTC__
#define GENFN_EXPORT __attribute__((visibility("default")))

GENFN_EXPORT uint32_t genfn_kernels_abi(void);
GENFN_EXPORT void genfn_kernels_describe(struct genfn_description *);
#define GENFN_DECLARE(name, args) GENFN_EXPORT void genfn_##name(const struct genfn_##args##_args *);
GENFN_DEVICE_KERNELS(GENFN_DECLARE)
GENFN_EXPORT void genfn_blend(const struct genfn_blend_args *);
GENFN_EXPORT void genfn_torch_normal(const struct genfn_fill_args *);
GENFN_EXPORT void genfn_std_normal(const struct genfn_fill_args *);
#endif

#endif
