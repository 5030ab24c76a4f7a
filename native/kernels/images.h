/* Images: channels of floats in [-1, 1] one after the other, and bytes with a pixel's channels together. */
#include "kernel.h"

INLINE uint8_t to_u8(float x)
{
	x = x * 0.5f + 0.5f;
	x = x > 0 ? x : 0; /* NaN too */
	x = (x < 1 ? x : 1) * 255.0f;
	/* From 2^23 on a float32 has no fraction, so that the sum rounds half to even; its last bits are the integer. */
	return (uint8_t)bits32(x + 8388608.0f);
}

/* 2*(x/255) - 1. The quotient is x/256 and the float32 nearest to x*(1/255 - 1/256), whose sum rounds to the quotient's
 * float32 for every x (check.c), in less time than a division takes. */
INLINE float from_u8(uint8_t x)
{
	const float v = (float)(int32_t)x;
	return 2 * (v * 0x1p-8f + v * 0x1.010102p-16f) - 1;
}

#ifdef __AVX2__ /* a third of the time that gcc 12's own vectors take */

#include <immintrin.h>

/* Eight values as 32-bit integers; the conversion rounds half to even, as to_u8 does. */
INLINE __m256i eight_bytes(const float *src)
{
	const __m256 half = _mm256_set1_ps(0.5f);
	__m256 x = _mm256_add_ps(_mm256_mul_ps(_mm256_loadu_ps(src), half), half);
	x = _mm256_min_ps(_mm256_max_ps(x, _mm256_setzero_ps()), _mm256_set1_ps(1)); /* the second of max if the first is NaN */
	return _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(255)));
}

INLINE void bytes_of(uint8_t *dst, const float *src, int lanes)
{
	const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packing works within halves */
	int l = 0;
	for (; l + 32 <= lanes; l += 32) {
		const __m256i low = _mm256_packs_epi32(eight_bytes(src + l), eight_bytes(src + l + 8));
		const __m256i high = _mm256_packs_epi32(eight_bytes(src + l + 16), eight_bytes(src + l + 24));
		_mm256_storeu_si256((__m256i *)(dst + l), _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order));
	}
	for (; l < lanes; l++)
		dst[l] = to_u8(src[l]);
}

/* One of the three vectors that 16 pixels make, with the places of their reds, greens and blues in it. */
INLINE __m128i shuffled(__m128i r, __m128i g, __m128i b, __m128i places_r, __m128i places_g, __m128i places_b)
{
	return _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(r, places_r), _mm_shuffle_epi8(g, places_g)), _mm_shuffle_epi8(b, places_b));
}

INLINE void interleave(uint8_t *dst, uint8_t planes[3][LANES], int lanes)
{
	/* Where the bytes of 16 reds, greens and blues go in each vector; -1 is none. */
	const __m128i r0 = _mm_setr_epi8(0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5);
	const __m128i g0 = _mm_setr_epi8(-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1);
	const __m128i b0 = _mm_setr_epi8(-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1);
	const __m128i r1 = _mm_setr_epi8(-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1);
	const __m128i g1 = _mm_setr_epi8(5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10);
	const __m128i b1 = _mm_setr_epi8(-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1);
	const __m128i r2 = _mm_setr_epi8(-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1);
	const __m128i g2 = _mm_setr_epi8(-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1);
	const __m128i b2 = _mm_setr_epi8(10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15);
	int l = 0;
	for (; l + 16 <= lanes; l += 16) {
		const __m128i r = _mm_loadu_si128((const __m128i *)(planes[0] + l)), g = _mm_loadu_si128((const __m128i *)(planes[1] + l)),
			      b = _mm_loadu_si128((const __m128i *)(planes[2] + l));
		__m128i *out = (__m128i *)(dst + 3 * l);
		_mm_storeu_si128(out, shuffled(r, g, b, r0, g0, b0));
		_mm_storeu_si128(out + 1, shuffled(r, g, b, r1, g1, b1));
		_mm_storeu_si128(out + 2, shuffled(r, g, b, r2, g2, b2));
	}
	for (; l < lanes; l++)
		for (int c = 0; c < 3; c++)
			dst[3 * l + c] = planes[c][l];
}

#elif !defined(__CUDACC_RTC__)

INLINE void bytes_of(uint8_t *dst, const float *src, int lanes)
{
	EACH(l) dst[l] = to_u8(src[l]);
}

INLINE void interleave(uint8_t *dst, uint8_t planes[3][LANES], int lanes)
{
	EACH(l) {
		dst[3 * l] = planes[0][l];
		dst[3 * l + 1] = planes[1][l];
		dst[3 * l + 2] = planes[2][l];
	}
}

#endif

INLINE void image_to_u8_of(const struct genfn_image_args *a, int64_t i, int lanes, enum type type)
{
	const int64_t channels = a->channels;
	uint8_t *dst = (uint8_t *)a->dst + i * channels;
	float held[LANES];
#ifndef __CUDACC_RTC__
	if (channels == 3) {
		uint8_t planes[3][LANES];
		for (int c = 0; c < 3; c++)
			bytes_of(planes[c], read(held, a->src, c * a->n + i, lanes, type), lanes);
		interleave(dst, planes, lanes);
		return;
	}
#endif
	uint8_t plane[LANES];
	for (int64_t c = 0; c < channels; c++) {
		const float *src = read(held, a->src, c * a->n + i, lanes, type);
		EACH(l) plane[l] = to_u8(src[l]);
		EACH(l) dst[AT(l) * channels + c] = plane[l];
	}
}
INLINE void image_to_u8_f32(const struct genfn_image_args *a, int64_t i, int lanes) { image_to_u8_of(a, i, lanes, F32); }
INLINE void image_to_u8_f16(const struct genfn_image_args *a, int64_t i, int lanes) { image_to_u8_of(a, i, lanes, F16); }
KERNEL(genfn_image_to_u8, genfn_image_args, image_to_u8_f32)
KERNEL(genfn_image_to_u8_f16, genfn_image_args, image_to_u8_f16)

INLINE void plane_from_u8(const struct genfn_image_args *a, int64_t at, const uint8_t *plane, int lanes, enum type type)
{
	float values[LANES];
	EACH(l) values[l] = from_u8(plane[l]);
	write(a->dst, at, values, lanes, type);
}

INLINE void u8_to_image_of(const struct genfn_image_args *a, int64_t i, int lanes, enum type type)
{
	const int64_t channels = a->channels;
	const uint8_t *src = (const uint8_t *)a->src + i * channels;
#ifndef __CUDACC_RTC__
	if (channels == 3) {
		uint8_t planes[3][LANES];
		EACH(l) {
			planes[0][l] = src[3 * l];
			planes[1][l] = src[3 * l + 1];
			planes[2][l] = src[3 * l + 2];
		}
		for (int c = 0; c < 3; c++)
			plane_from_u8(a, c * a->n + i, planes[c], lanes, type);
		return;
	}
#endif
	uint8_t plane[LANES];
	for (int64_t c = 0; c < channels; c++) {
		EACH(l) plane[l] = src[AT(l) * channels + c];
		plane_from_u8(a, c * a->n + i, plane, lanes, type);
	}
}
INLINE void u8_to_image_f32(const struct genfn_image_args *a, int64_t i, int lanes) { u8_to_image_of(a, i, lanes, F32); }
INLINE void u8_to_image_f16(const struct genfn_image_args *a, int64_t i, int lanes) { u8_to_image_of(a, i, lanes, F16); }
KERNEL(genfn_u8_to_image, genfn_image_args, u8_to_image_f32)
KERNEL(genfn_u8_to_image_f16, genfn_image_args, u8_to_image_f16)

/* x/255 rounded to the nearest; 0 <= x <= 255*255. */
INLINE uint8_t over_255(uint32_t x)
{
	x += 128;
	return (uint8_t)((x + (x >> 8)) >> 8);
}

INLINE void composite_u8_block(const struct genfn_composite_args *args, int64_t i, int lanes)
{
	const int64_t channels = args->channels;
	const uint8_t *a = (const uint8_t *)args->a + i * channels, *b = (const uint8_t *)args->b + i * channels;
	const uint8_t *mask = (const uint8_t *)args->mask + i;
	uint8_t *dst = (uint8_t *)args->dst + i * channels;
#ifndef __CUDACC_RTC__
	if (channels == 3) { /* a mask for each byte, and all bytes in a row */
		uint8_t wide[3 * LANES];
		EACH(l) {
			wide[3 * l] = mask[l];
			wide[3 * l + 1] = mask[l];
			wide[3 * l + 2] = mask[l];
		}
		lanes *= 3;
		EACH(l) dst[l] = over_255((uint32_t)wide[l] * a[l] + (255u - wide[l]) * b[l]);
		return;
	}
#endif
	for (int64_t c = 0; c < channels; c++)
		EACH(l) {
			const int64_t at = AT(l) * channels + c;
			const uint32_t m = mask[AT(l)];
			dst[at] = over_255(m * a[at] + (255 - m) * b[at]);
		}
}
KERNEL(genfn_composite_u8, genfn_composite_args, composite_u8_block)
