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

INLINE void image_to_u8_of(const struct genfn_image_args *a, int64_t i, int lanes, enum type type)
{
	const int64_t channels = a->channels;
	uint8_t *dst = (uint8_t *)a->dst + i * channels;
	float held[LANES];
#ifndef __CUDACC_RTC__
	if (channels == 3) { /* vectors of pixels */
		uint8_t planes[3][LANES];
		for (int c = 0; c < 3; c++) {
			const float *src = read(held, a->src, c * a->n + i, lanes, type);
			EACH(l) planes[c][l] = to_u8(src[l]);
		}
		EACH(l) {
			dst[3 * l] = planes[0][l];
			dst[3 * l + 1] = planes[1][l];
			dst[3 * l + 2] = planes[2][l];
		}
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
	for (int64_t c = 0; c < channels; c++)
		EACH(l) {
			const int64_t at = AT(l) * channels + c;
			const uint32_t m = mask[AT(l)];
			dst[at] = over_255(m * a[at] + (255 - m) * b[at]);
		}
}
KERNEL(genfn_composite_u8, genfn_composite_args, composite_u8_block)
