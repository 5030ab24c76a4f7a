/* The arithmetic of the denoising loop, and everything that NVRTC compiles. */
#include "kernel.h"

/* Classifier-free guidance, if there is uncond. Returns where e is: in buffer, or the output itself. */
INLINE const float *guided(const struct genfn_step_args *a, int64_t i, int lanes, float *buffer, enum type type)
{
	float held[LANES];
	const float *cond = read(buffer, a->cond, i, lanes, type);
	if (!a->uncond)
		return cond;
	const float *uncond = read(held, a->uncond, i, lanes, type);
	const float guidance = a->guidance;
	EACH(l) buffer[l] = uncond[l] + guidance * (cond[l] - uncond[l]);
	return buffer;
}

/* sum = c*x, or 0 for a term that is left out. */
INLINE void first_term(float *sum, float c, const float *x, int lanes)
{
	if (c != 0)
		EACH(l) sum[l] = c * x[l];
	else
		EACH(l) sum[l] = 0;
}

/* sum += c*x, unless the term is left out. */
INLINE void add_term(float *sum, float c, const float *x, int lanes)
{
	if (c != 0)
		EACH(l) sum[l] += c * x[l];
}

/* The same of values that are not read yet. */
INLINE void read_term(float *sum, float c, const void *x, int64_t i, int lanes, enum type type)
{
	float held[LANES];
	if (c != 0)
		add_term(sum, c, read(held, x, i, lanes, type), lanes);
}

#ifdef __F16C__
/* Guidance and one step of Euler's, the commonest. */
INLINE int is_euler(const struct genfn_step_args *a)
{
	return a->uncond && a->prev && !a->converted && a->converted_coef == 0 && a->history_n == 0 && !(a->noise && a->noise_coef != 0) &&
	       a->sample_coef != 0 && a->output_coef != 0;
}

INLINE void euler_of(const struct genfn_step_args *a, int64_t i, enum type type)
{
	const __m256 guidance = _mm256_set1_ps(a->guidance), keep = _mm256_set1_ps(a->sample_coef), coef = _mm256_set1_ps(a->output_coef);
	for (int l = 0; l < LANES; l += 8) {
		const __m256 sample = load8(a->sample, i + l, type), cond = load8(a->cond, i + l, type), uncond = load8(a->uncond, i + l, type);
		const __m256 e = _mm256_add_ps(uncond, _mm256_mul_ps(guidance, _mm256_sub_ps(cond, uncond)));
		store8(a->prev, i + l, _mm256_add_ps(_mm256_mul_ps(keep, sample), _mm256_mul_ps(coef, e)), type);
	}
}
#endif

INLINE void step_of(const struct genfn_step_args *a, int64_t i, int lanes, enum type type)
{
#ifdef __F16C__
	if (lanes == LANES && is_euler(a)) {
		euler_of(a, i, type);
		return;
	}
#endif
	float held[LANES], buffer[LANES], m[LANES], prev[LANES];
	const float *sample = read(held, a->sample, i, lanes, type), *e = buffer;

	if (a->cond)
		e = guided(a, i, lanes, buffer, type);
	if (a->converted || a->converted_coef != 0) {
		first_term(m, a->conv_sample, sample, lanes);
		if (a->cond)
			add_term(m, a->conv_output, e, lanes);
		const float high = a->clip, low = -high;
		if (high > 0)
			EACH(l) m[l] = m[l] < low ? low : m[l] > high ? high : m[l];
	}
	if (a->prev) {
		first_term(prev, a->sample_coef, sample, lanes);
		if (a->cond)
			add_term(prev, a->output_coef, e, lanes);
		if (a->converted_coef != 0)
			add_term(prev, a->converted_coef, m, lanes);
		for (int64_t k = 0; k < a->history_n; k++)
			read_term(prev, a->history_coef[k], a->history[k], i, lanes, type);
		if (a->noise)
			read_term(prev, a->noise_coef, a->noise, i, lanes, type);
		write(a->prev, i, prev, lanes, type);
	}
	if (a->converted)
		write(a->converted, i, m, lanes, type);
}

INLINE void step_f32(const struct genfn_step_args *a, int64_t i, int lanes) { step_of(a, i, lanes, F32); }
INLINE void step_f16(const struct genfn_step_args *a, int64_t i, int lanes) { step_of(a, i, lanes, F16); }
KERNEL(genfn_step, genfn_step_args, step_f32)
KERNEL(genfn_step_f16, genfn_step_args, step_f16)

INLINE void scale_of(const struct genfn_scale_args *a, int64_t i, int lanes, enum type type)
{
	float held[LANES], scaled[LANES];
	const float *src = read(held, a->src, i, lanes, type);
	const float mul = a->mul, add = a->add;
	EACH(l) scaled[l] = src[l] * mul + add;
	write(a->dst, i, scaled, lanes, type);
}
INLINE void scale_f32(const struct genfn_scale_args *a, int64_t i, int lanes) { scale_of(a, i, lanes, F32); }
INLINE void scale_f16(const struct genfn_scale_args *a, int64_t i, int lanes) { scale_of(a, i, lanes, F16); }
KERNEL(genfn_scale, genfn_scale_args, scale_f32)
KERNEL(genfn_scale_f16, genfn_scale_args, scale_f16)

INLINE void mix_of(const struct genfn_mix_args *args, int64_t i, int lanes, enum type type)
{
	float held[2][LANES], mixed[LANES];
	const float *a = read(held[0], args->a, i, lanes, type), *b = read(held[1], args->b, i, lanes, type);
	const float give = args->weight, keep = 1 - give;
	EACH(l) mixed[l] = a[l] * keep + b[l] * give;
	write(args->dst, i, mixed, lanes, type);
}
INLINE void mix_f32(const struct genfn_mix_args *a, int64_t i, int lanes) { mix_of(a, i, lanes, F32); }
INLINE void mix_f16(const struct genfn_mix_args *a, int64_t i, int lanes) { mix_of(a, i, lanes, F16); }
KERNEL(genfn_mix, genfn_mix_args, mix_f32)
KERNEL(genfn_mix_f16, genfn_mix_args, mix_f16)

INLINE void composite_of(const struct genfn_composite_args *args, int64_t i, int lanes, enum type type)
{
	float held[3][LANES], out[LANES];
	const float *mask = read(held[2], args->mask, i, lanes, type);
	for (int64_t c = 0; c < args->channels; c++) {
		const int64_t at = c * args->n + i;
		const float *a = read(held[0], args->a, at, lanes, type), *b = read(held[1], args->b, at, lanes, type);
		EACH(l) out[l] = mask[l] * a[l] + (1 - mask[l]) * b[l];
		write(args->dst, at, out, lanes, type);
	}
}
INLINE void composite_f32(const struct genfn_composite_args *a, int64_t i, int lanes) { composite_of(a, i, lanes, F32); }
INLINE void composite_f16(const struct genfn_composite_args *a, int64_t i, int lanes) { composite_of(a, i, lanes, F16); }
KERNEL(genfn_composite, genfn_composite_args, composite_f32)
KERNEL(genfn_composite_f16, genfn_composite_args, composite_f16)

INLINE void f16_to_f32_block(const struct genfn_convert_args *a, int64_t i, int lanes)
{
#ifdef __CUDACC_RTC__
	float held[LANES];
	write(a->dst, i, read(held, a->src, i, lanes, F16), lanes, F32);
#else
	from_halves((float *)a->dst + i, (const uint16_t *)a->src + i, lanes);
#endif
}
KERNEL(genfn_f16_to_f32, genfn_convert_args, f16_to_f32_block)

INLINE void f32_to_f16_block(const struct genfn_convert_args *a, int64_t i, int lanes)
{
	float held[LANES];
	write(a->dst, i, read(held, a->src, i, lanes, F32), lanes, F16);
}
KERNEL(genfn_f32_to_f16, genfn_convert_args, f32_to_f16_block)

#ifndef __CUDACC_RTC__ /* tiles are decoded and blended on the host */
#define EACH_COLUMN(x, columns) _Pragma("GCC ivdep") for (int32_t x = 0; x < (columns); x++)

/* The values i to i+lanes-1 are rows here, of all planes. */
INLINE void blend_block(const struct genfn_blend_args *a, int64_t i, int lanes)
{
	const int32_t columns = (int32_t)a->columns;
	for (int64_t row = i; row < i + lanes; row++) {
		const int64_t plane = row / a->rows, y = row % a->rows;
		float *dst = a->dst + plane * a->dst_plane + y * a->dst_row;
		const float *src = a->src + plane * a->src_plane + y * a->src_row;
		if (a->down) {
			const double k = (double)y / (double)a->rows;
			const float give = (float)(1 - k), keep = (float)k;
			EACH_COLUMN(x, columns) dst[x] = src[x] * give + dst[x] * keep;
		} else {
			const double extent = columns;
			EACH_COLUMN(x, columns) {
				const double k = x / extent;
				dst[x] = src[x] * (float)(1 - k) + dst[x] * (float)k;
			}
		}
	}
}
KERNEL(genfn_blend, genfn_blend_args, blend_block)
#endif

#include "images.h"
#include "philox.h"
#include "reductions.h"
#include "resample.h"
