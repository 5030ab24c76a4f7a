/* float16, IEEE 754's binary16, whose bits are in a uint16_t: to float32 exactly, and from it rounded half to even, as
 * F16C, NEON and CUDA do. Values from 65520 on become infinite; a NaN stays one, whose payload is unspecified. */
#ifndef GENFN_FLOAT16_H
#define GENFN_FLOAT16_H

#include "language.h"

#if defined(__CUDACC_RTC__) && !defined(GENFN_NO_PTX)

INLINE float from_half(uint16_t h)
{
	float x;
	asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
	return x;
}

INLINE uint16_t to_half(float x)
{
	uint16_t h;
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
	return h;
}

#elif defined(__ARM_FP16_FORMAT_IEEE)

INLINE float from_half(uint16_t h) { union { uint16_t b; __fp16 x; } u; u.b = h; return u.x; }
INLINE uint16_t to_half(float x) { union { uint16_t b; __fp16 x; } u; u.x = (__fp16)x; return u.b; }

#else

/* Without branches, so that compilers vectorize it. */
INLINE float from_half(uint16_t h)
{
	const uint32_t sign = (uint32_t)(h & 0x8000) << 16, shifted = (uint32_t)(h & 0x7fff) << 13;
	const uint32_t normal = shifted + 0x38000000; /* the exponent's bias is 127 instead of 15 */
	const uint32_t special = shifted + 0x70000000; /* infinite or NaN */
	const float subnormal = float32(shifted + 0x38800000) - 0x1p-14f;
	const uint32_t finite = shifted < 0x00800000 ? bits32(subnormal) : normal;
	return float32(sign | (shifted < 0x0f800000 ? finite : special));
}

INLINE uint16_t to_half(float x)
{
	const uint32_t bits = bits32(x), magnitude = bits & 0x7fffffff;
	const uint32_t normal = (magnitude + 0xc8000fff + (magnitude >> 13 & 1)) >> 13; /* may become infinite */
	const uint32_t subnormal = bits32(float32(magnitude) + 0.5f) - 0x3f000000; /* the sum rounds to steps of 2^-24 */
	const uint32_t special = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
	const uint32_t finite = magnitude < 0x38800000 ? subnormal : normal;
	return (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)(magnitude < 0x47800000 ? finite : special);
}

#endif

#ifdef __F16C__ /* gcc 12 does not vectorize what is written without its intrinsics */

#include <immintrin.h>

INLINE void from_halves(float *dst, const uint16_t *src, int n)
{
	int l = 0;
	for (; l + 8 <= n; l += 8)
		_mm256_storeu_ps(dst + l, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + l))));
	for (; l < n; l++)
		dst[l] = _cvtsh_ss(src[l]);
}

INLINE void to_halves(uint16_t *dst, const float *src, int n)
{
	int l = 0;
	for (; l + 8 <= n; l += 8)
		_mm_storeu_si128((__m128i *)(dst + l), _mm256_cvtps_ph(_mm256_loadu_ps(src + l), _MM_FROUND_TO_NEAREST_INT));
	for (; l < n; l++)
		dst[l] = _cvtss_sh(src[l], _MM_FROUND_TO_NEAREST_INT);
}

#elif !defined(__CUDACC_RTC__)

INLINE void from_halves(float *dst, const uint16_t *src, int n)
{
	for (int l = 0; l < n; l++)
		dst[l] = from_half(src[l]);
}

INLINE void to_halves(uint16_t *dst, const float *src, int n)
{
	for (int l = 0; l < n; l++)
		dst[l] = to_half(src[l]);
}

#endif

#endif
