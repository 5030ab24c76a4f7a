/* What the kernels are made of: one source for the CPU and (through NVRTC) for CUDA, for float32 and float16 in memory.
 *
 * A body computes the values i, i+AT(1) to i+AT(lanes-1). On the CPU lanes is a block of neighbours, of a constant size
 * but for the last, so that each statement under EACH is a few vector instructions, and what one leaves to the next is in
 * registers or was just stored. On CUDA the values of a thread lie a
 * block of threads apart, so that neighbouring threads have neighbours, and EACH is unrolled into registers: with as
 * many reads under way as a thread has lanes, the memory of a large device is kept busy.
 * A body reads all its inputs before it writes an output: outputs may be the same memory as inputs.
 * Results are equal on both only without fused multiply-add: -ffp-contract=off, NVRTC --fmad=false.
 */
#ifndef GENFN_KERNEL_H
#define GENFN_KERNEL_H

#include "float16.h"
#include "genfn_kernels.h"
#include "language.h"

#ifdef __CUDACC_RTC__

#define LANES GENFN_LANES /* the compiler's option says how many */
#define AT(l) ((l) * (int64_t)blockDim.x)
#define EACH(l) for (int l = 0; l < lanes; l++)
#ifndef GENFN_CUDA_KERNEL /* check_cuda.c has its own */
#define GENFN_CUDA_KERNEL(name, args) extern "C" __global__ void name(const __grid_constant__ struct args a)
#define FIRST_OF_WARP ((threadIdx.x & 31) == 0)
#endif

/* A call for each whole set of lanes, and one for each value of what is left. */
#define FOR_ALL(n, whole, one)                                                                          \
	for (int64_t i = blockIdx.x * AT(LANES) + threadIdx.x; i < (n); i += gridDim.x * AT(LANES))     \
		if (i + AT(LANES - 1) < (n))                                                            \
			whole;                                                                          \
		else                                                                                    \
			for (int64_t j = i; j < (n); j += AT(1))                                        \
				one;

#define KERNEL(name, args, body)                                         \
	GENFN_CUDA_KERNEL(name, args)                                    \
	{                                                                \
		FOR_ALL(a.n, body(&a, i, LANES), body(&a, j, 1))         \
	}
/* For bodies whose arithmetic takes longer than memory: a thread computes a value at a time. */
#define SLOW_KERNEL(name, args, body)                                                                                    \
	GENFN_CUDA_KERNEL(name, args)                                                                                    \
	{                                                                                                                \
		for (int64_t i = blockIdx.x * AT(1) + threadIdx.x; i < a.n; i += gridDim.x * AT(1))                      \
			body(&a, i, 1);                                                                                  \
	}
#define REDUCTION(name, args, body, total, finish)                                       \
	GENFN_CUDA_KERNEL(name, args)                                                    \
	{                                                                                \
		total t = {0};                                                           \
		FOR_ALL(a.n, body(&a, i, LANES, &t), body(&a, j, 1, &t))                 \
		finish(&a, &t);                                                          \
	}

/* The sum, or the largest, of a warp's values, which all its threads reach: then few touch the same memory. */
INLINE uint64_t warp_sum(uint64_t x)
{
	for (int distance = 16; distance > 0; distance /= 2)
		x += __shfl_down_sync(0xffffffff, (unsigned long long)x, distance);
	return x;
}

INLINE uint32_t warp_max(uint32_t x)
{
	for (int distance = 16; distance > 0; distance /= 2) {
		const uint32_t other = __shfl_down_sync(0xffffffff, x, distance);
		x = x > other ? x : other;
	}
	return x;
}

INLINE void add_total(uint64_t *total, uint64_t x)
{
	x = warp_sum(x);
	if (FIRST_OF_WARP && x)
		atomicAdd((unsigned long long *)total, (unsigned long long)x);
}

INLINE void raise_to(uint32_t *most, uint32_t x)
{
	x = warp_max(x);
	if (FIRST_OF_WARP)
		atomicMax(most, x);
}

#else

#include "dispatch.h"

#define LANES 64
#define AT(l) (l)
#define EACH(l) _Pragma("GCC ivdep") for (int l = 0; l < lanes; l++)

#define KERNEL(name, args, body)                                                     \
	VARIANT(name, args)                                                          \
	{                                                                            \
		int64_t i = 0;                                                       \
		for (; i + LANES <= a->n; i += LANES)                                \
			body(a, i, LANES);                                           \
		if (i < a->n)                                                        \
			body(a, i, (int)(a->n - i));                                 \
	}
#define SLOW_KERNEL KERNEL
#define REDUCTION(name, args, body, total, finish)                                   \
	VARIANT(name, args)                                                          \
	{                                                                            \
		total t = {0};                                                       \
		int64_t i = 0;                                                       \
		for (; i + LANES <= a->n; i += LANES)                                \
			body(a, i, LANES, &t);                                       \
		if (i < a->n)                                                        \
			body(a, i, (int)(a->n - i), &t);                             \
		finish(a, &t);                                                       \
	}

INLINE void add_total(uint64_t *total, uint64_t x) { *total += x; }
INLINE void raise_to(uint32_t *most, uint32_t x) { *most = *most > x ? *most : x; }

#endif

/* The type of values in memory; a constant wherever it is used. Arithmetic is in float32. */
enum type { F32, F16 };

/* Where this block's values of x are, from value i on: in memory on the CPU if they are float32, else in held. */
INLINE const float *read(float *held, const void *x, int64_t i, int lanes, enum type type)
{
#ifdef __CUDACC_RTC__
	if (type == F16)
		EACH(l) held[l] = from_half(((const uint16_t *)x)[i + AT(l)]);
	else
		EACH(l) held[l] = ((const float *)x)[i + AT(l)];
	return held;
#else
	if (type == F32)
		return (const float *)x + i;
	from_halves(held, (const uint16_t *)x + i, lanes);
	return held;
#endif
}

/* Writes values, rounded once where they are stored as float16. */
INLINE void write(void *x, int64_t i, const float *values, int lanes, enum type type)
{
	if (type == F32) {
		float *out = (float *)x + i;
		EACH(l) out[AT(l)] = values[l];
		return;
	}
	uint16_t *out = (uint16_t *)x + i;
#ifdef __CUDACC_RTC__
	EACH(l) out[AT(l)] = to_half(values[l]);
#else
	to_halves(out, values, lanes);
#endif
}

#ifdef __F16C__
/* Eight values in a register, for what has to be faster than gcc 12 makes it through arrays. */
INLINE __m256 load8(const void *x, int64_t i, enum type type)
{
	if (type == F32)
		return _mm256_loadu_ps((const float *)x + i);
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)x + i)));
}

INLINE void store8(void *x, int64_t i, __m256 values, enum type type)
{
	if (type == F32)
		_mm256_storeu_ps((float *)x + i, values);
	else
		_mm_storeu_si128((__m128i *)((uint16_t *)x + i), _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
}
#endif

#endif
