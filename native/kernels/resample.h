/* One axis of an image resampled: weighted sums of neighbouring values. bindings/kernels/resample.go makes the weights. */
#include "kernel.h"

/* The sums of output o for neighbouring columns, from value at of dst on; src is the first value of the first sum. */
INLINE void sums_f32(const struct genfn_resample_args *a, int64_t at, int64_t src_at, int64_t o, int lanes)
{
	const float *src = (const float *)a->src + src_at;
	const double *weights = (const double *)a->weights + o * a->taps;
	float *dst = (float *)a->dst + at;
	double sum[LANES];
	EACH(l) sum[l] = 0;
	for (int32_t k = 0; k < a->count[o]; k++, src += a->inner) {
		const double weight = weights[k];
		EACH(l) sum[l] += (double)src[l] * weight;
	}
	EACH(l) dst[l] = (float)sum[l];
}

INLINE void sums_u8(const struct genfn_resample_args *a, int64_t at, int64_t src_at, int64_t o, int lanes)
{
	const uint8_t *src = (const uint8_t *)a->src + src_at;
	const int32_t *weights = (const int32_t *)a->weights + o * a->taps;
	uint8_t *dst = (uint8_t *)a->dst + at;
	int32_t sum[LANES];
	EACH(l) sum[l] = 1 << 21; /* a half */
	for (int32_t k = 0; k < a->count[o]; k++, src += a->inner) {
		const int32_t weight = weights[k];
		EACH(l) sum[l] += src[l] * weight;
	}
	EACH(l) {
		const int32_t x = sum[l] >> 22;
		dst[l] = (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
	}
}

enum elements { FLOATS, BYTES };

INLINE void sums(const struct genfn_resample_args *a, int64_t at, int64_t src_at, int64_t o, int lanes, enum elements elements)
{
	if (elements == BYTES)
		sums_u8(a, at, src_at, o, lanes);
	else
		sums_f32(a, at, src_at, o, lanes);
}

/* On a device lanes is 1. */
INLINE void resample_of(const struct genfn_resample_args *a, int64_t i, int lanes, enum elements elements)
{
#ifdef __CUDACC_RTC__
	const int64_t row = i / a->inner, o = row % a->out;
	sums(a, i, (row / a->out * a->in + a->first[o]) * a->inner + i % a->inner, o, lanes, elements);
#else
	int64_t row = i / a->inner, column = i % a->inner;
	for (int left = lanes, n; left > 0; left -= n, i += n, row++, column = 0) {
		n = a->inner - column < left ? (int)(a->inner - column) : left;
		const int64_t o = row % a->out, src_at = (row / a->out * a->in + a->first[o]) * a->inner + column;
		if (a->inner >= 8)
			sums(a, i, src_at, o, n, elements);
		else
			for (int l = 0; l < n; l++)
				sums(a, i + l, src_at + l, o, 1, elements);
	}
#endif
}
INLINE void resample_f32(const struct genfn_resample_args *a, int64_t i, int lanes) { resample_of(a, i, lanes, FLOATS); }
INLINE void resample_u8(const struct genfn_resample_args *a, int64_t i, int lanes) { resample_of(a, i, lanes, BYTES); }
SLOW_KERNEL(genfn_resample, genfn_resample_args, resample_f32)
SLOW_KERNEL(genfn_resample_u8, genfn_resample_args, resample_u8)
