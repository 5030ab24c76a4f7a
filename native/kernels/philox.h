/* Normal noise that any thread can begin anywhere. bindings/kernels/philox.go has the same with its sources. */
#include "functions.h"
#include "kernel.h"

/* Philox 4x32-10: the block of four words under a counter and a key. */
INLINE void philox(uint32_t v[4], uint32_t key0, uint32_t key1)
{
	for (int round = 0; round < 10; round++) {
		const uint64_t p0 = (uint64_t)v[0] * 0xd2511f53, p1 = (uint64_t)v[2] * 0xcd9e8d57;
		v[0] = (uint32_t)(p1 >> 32) ^ v[1] ^ key0;
		v[1] = (uint32_t)p1;
		v[2] = (uint32_t)(p0 >> 32) ^ v[3] ^ key1;
		v[3] = (uint32_t)p0;
		key0 += 0x9e3779b9;
		key1 += 0xbb67ae85;
	}
}

/* Two normal values of two words. */
INLINE void normal_pair(uint32_t x, uint32_t y, float *first, float *second)
{
	const float u = (float)x * 0x1p-32f + 0x1p-33f;
	const float angle = FMA32((float)y, 1.46291807926715968e-09f, 1.46291807926715968e-09f / 2); /* 2*pi*2^-32 */
	const float radius = SQRT32(-2 * log32(u));
	float sin, cos;
	sincos32(angle, &sin, &cos);
	*first = radius * sin;
	*second = radius * cos;
}

/* The blocks of some threads with neighbouring numbers, in one round. */
INLINE void philox_round(const struct genfn_philox_args *a, int64_t round, int64_t thread, int lanes, enum type type)
{
	const uint64_t counter = a->offset / 4 + (uint64_t)round;
	float v[4][LANES];
	for (int l = 0; l < lanes; l++) {
		const uint64_t sequence = (uint64_t)(thread + l);
		uint32_t w[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)sequence, (uint32_t)(sequence >> 32)};
		philox(w, (uint32_t)a->seed, (uint32_t)(a->seed >> 32));
		normal_pair(w[0], w[1], &v[0][l], &v[1][l]);
		normal_pair(w[2], w[3], &v[2][l], &v[3][l]);
	}
	for (int k = 0; k < 4; k++) {
		const int64_t at = (4 * round + k) * a->threads + thread, left = a->values - at;
		if (left > 0)
			write(a->dst, at, v[k], left < lanes ? (int)left : lanes, type);
	}
}

/* On a device lanes is 1. */
INLINE void philox_of(const struct genfn_philox_args *a, int64_t i, int lanes, enum type type)
{
#ifdef __CUDACC_RTC__
	philox_round(a, i / a->threads, i % a->threads, lanes, type);
#else
	for (int done = 0, n; done < lanes; done += n) {
		const int64_t block = i + done, thread = block % a->threads;
		n = a->threads - thread < lanes - done ? (int)(a->threads - thread) : lanes - done;
		philox_round(a, block / a->threads, thread, n, type);
	}
#endif
}
INLINE void philox_f32(const struct genfn_philox_args *a, int64_t i, int lanes) { philox_of(a, i, lanes, F32); }
INLINE void philox_f16(const struct genfn_philox_args *a, int64_t i, int lanes) { philox_of(a, i, lanes, F16); }
SLOW_KERNEL(genfn_philox_normal, genfn_philox_args, philox_f32)
SLOW_KERNEL(genfn_philox_normal_f16, genfn_philox_args, philox_f16)
