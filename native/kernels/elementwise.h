/* The bodies of the element-wise kernels, one source for the CPU and (through NVRTC) for CUDA.
 *
 * A body computes the values i, i+AT(1) to i+AT(lanes-1). On the CPU lanes is a block of neighbours, so that each
 * statement under EACH is one vectorized loop over data in the first-level cache. On CUDA the values of a thread lie a
 * block of threads apart, so that neighbouring threads have neighbours, and EACH is unrolled into registers: with as
 * many reads under way as a thread has lanes, the memory of a large device is kept busy.
 * A body reads all its inputs before it writes an output: outputs may be the same memory as inputs.
 * Results are equal on both only without fused multiply-add: -ffp-contract=off, NVRTC --fmad=false.
 */
#include "genfn_kernels.h"

#ifdef __CUDACC_RTC__
#define INLINE static __device__ __forceinline__
#define LANES GENFN_LANES /* the compiler's option says how many */
#define AT(l) ((l) * (int64_t)blockDim.x)
#define EACH(l) for (int l = 0; l < lanes; l++)
#define ADD(total, x) atomicAdd((unsigned long long *)(total), (unsigned long long)(x))
#ifndef GENFN_CUDA_KERNEL /* check_cuda.c has its own */
#define GENFN_CUDA_KERNEL extern "C" __global__
#endif
#define KERNEL(name, args, body)                                                                 \
	GENFN_CUDA_KERNEL void name(const __grid_constant__ struct args a)                       \
	{                                                                                        \
		for (int64_t i = blockIdx.x * AT(LANES) + threadIdx.x; i < a.n; i += gridDim.x * AT(LANES)) \
			if (i + AT(LANES - 1) < a.n)                                             \
				body(&a, i, LANES);                                              \
			else                                                                     \
				for (int64_t j = i; j < a.n; j += AT(1))                         \
					body(&a, j, 1);                                          \
	}
#else
#include "dispatch.h"
#define INLINE static inline __attribute__((always_inline))
#define LANES 512
#define AT(l) (l)
#define EACH(l) _Pragma("GCC ivdep") for (int l = 0; l < lanes; l++)
#define EACH_COLUMN(x, columns) _Pragma("GCC ivdep") for (int32_t x = 0; x < (columns); x++)
#define ADD(total, x) (*(total) += (x))
#define KERNEL(name, args, body)                                                                 \
	GENFN_CLONES void name(const struct args *a)                                             \
	{                                                                                        \
		int64_t i = 0;                                                                   \
		for (; i + LANES <= a->n; i += LANES)                                            \
			body(a, i, LANES);                                                       \
		if (i < a->n)                                                                    \
			body(a, i, (int)(a->n - i));                                             \
	}
#endif

/* Where this block's values of x are: in memory on the CPU; a thread of CUDA reads its own into held. */
INLINE const float *read(float *held, const float *x, int lanes)
{
#ifdef __CUDACC_RTC__
	EACH(l) held[l] = x[AT(l)];
	return held;
#else
	(void)held, (void)lanes;
	return x;
#endif
}

/* Classifier-free guidance, if there is uncond. Returns where e is: in buffer, or the output itself. */
INLINE const float *guided(const struct genfn_step_args *a, int64_t i, int lanes, float *buffer)
{
	float held[LANES];
	const float *cond = read(buffer, a->cond + i, lanes);
	if (!a->uncond)
		return cond;
	const float *uncond = read(held, a->uncond + i, lanes);
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
INLINE void read_term(float *sum, float c, const float *x, int lanes)
{
	float held[LANES];
	if (c != 0)
		add_term(sum, c, read(held, x, lanes), lanes);
}

INLINE void step_block(const struct genfn_step_args *a, int64_t i, int lanes)
{
	float held[LANES], buffer[LANES], m[LANES], prev[LANES];
	const float *sample = read(held, a->sample + i, lanes), *e = buffer;

	if (a->cond)
		e = guided(a, i, lanes, buffer);
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
			read_term(prev, a->history_coef[k], a->history[k] + i, lanes);
		if (a->noise)
			read_term(prev, a->noise_coef, a->noise + i, lanes);
		float *out = a->prev + i;
		EACH(l) out[AT(l)] = prev[l];
	}
	if (a->converted) {
		float *out = a->converted + i;
		EACH(l) out[AT(l)] = m[l];
	}
}
KERNEL(genfn_step, genfn_step_args, step_block)

INLINE void scale_block(const struct genfn_scale_args *a, int64_t i, int lanes)
{
	float held[LANES], *dst = a->dst + i;
	const float *src = read(held, a->src + i, lanes);
	const float mul = a->mul, add = a->add;
	EACH(l) dst[AT(l)] = src[l] * mul + add;
}
KERNEL(genfn_scale, genfn_scale_args, scale_block)

INLINE uint8_t to_u8(float x)
{
	x = x * 0.5f + 0.5f;
	x = x > 0 ? x : 0; /* NaN too */
	x = (x < 1 ? x : 1) * 255.0f;
	const float integers = 8388608.0f; /* 2^23: from here on a float32 has no fraction, so that the sum rounds half to even */
	return (uint8_t)(int32_t)((x + integers) - integers);
}

INLINE void image_block(const struct genfn_image_args *a, int64_t i, int lanes)
{
	const int64_t channels = a->channels;
	uint8_t *dst = a->dst + i * channels, values[LANES];
	float held[LANES];
	for (int64_t c = 0; c < channels; c++) {
		const float *src = read(held, a->src + c * a->n + i, lanes);
		EACH(l) values[l] = to_u8(src[l]);
		EACH(l) dst[AT(l) * channels + c] = values[l];
	}
}
KERNEL(genfn_image_to_u8, genfn_image_args, image_block)

INLINE void count_block(const struct genfn_count_args *a, int64_t i, int lanes)
{
	float held[LANES];
	const float *src = read(held, a->src + i, lanes);
	int32_t count = 0;
	EACH(l) count += !(src[l] - src[l] == 0); /* NaN - NaN and Inf - Inf are NaN */
	if (count)
		ADD(a->count, (uint64_t)count);
}
KERNEL(genfn_count_non_finite, genfn_count_args, count_block)

#ifndef __CUDACC_RTC__ /* tiles are decoded and blended on the host */
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
