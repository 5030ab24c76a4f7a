/* Generators of normal noise. bindings/kernels/noise.go holds the same algorithms with their sources; the two change
 * together. */
#include "dispatch.h"
#include "functions.h"
#include "genfn_kernels.h"

enum { mt_size = 624, mt_shift = 397 };

INLINE uint32_t twist(uint32_t word, uint32_t following, uint32_t far)
{
	uint32_t y = (word & 0x80000000) | (following & 0x7fffffff);
	return far ^ y >> 1 ^ (0x9908b0df & -(y & 1));
}

static void refill(struct genfn_mt19937 *g)
{
	uint32_t *s = g->state;
	for (int i = 0; i < mt_size - mt_shift; i++)
		s[i] = twist(s[i], s[i + 1], s[i + mt_shift]);
	for (int i = mt_size - mt_shift; i < mt_size - 1; i++)
		s[i] = twist(s[i], s[i + 1], s[i + mt_shift - mt_size]);
	s[mt_size - 1] = twist(s[mt_size - 1], s[0], s[mt_shift - 1]);
	g->next = 0;
}

INLINE uint32_t draw(struct genfn_mt19937 *g)
{
	if (g->next >= mt_size)
		refill(g);
	uint32_t y = g->state[g->next++];
	y ^= y >> 11;
	y ^= y << 7 & 0x9d2c5680;
	y ^= y << 15 & 0xefc60000;
	return y ^ y >> 18;
}

/* Multiples of 2^-24 in [0, 1). */
static void uniform24(struct genfn_mt19937 *g, float *dst, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		dst[i] = (float)(int32_t)(draw(g) & 0xffffff) * 0x1p-24f;
}

/* A multiple of 2^-53 in [0, 1); the first word drawn is the high one. */
static double uniform53(struct genfn_mt19937 *g)
{
	uint64_t high = draw(g), low = draw(g);
	return (double)((high << 32 | low) & 0x1fffffffffffff) * 0x1p-53;
}

enum { block = 16 };

/* Turns uniform values into normal ones, in blocks of 16: value j and value j+8 make a pair. n is a multiple of 16. */
GENFN_CLONES static void box_muller(float *v, int64_t n)
{
	for (; n >= block; n -= block, v += block)
		for (int j = 0; j < block / 2; j++) {
			float u1 = 1 - v[j], sin, cos;
			float radius = __builtin_sqrtf(-2 * log32(u1));
			sincos32(6.28318530717958647692f * v[j + 8], &sin, &cos);
			v[j] = radius * cos + 0.0f; /* + 0: no negative zero */
			v[j + 8] = radius * sin + 0.0f;
		}
}

static float torch_scalar(struct genfn_torch_normal *g)
{
	if (g->has_saved) {
		g->has_saved = 0;
		return (float)g->saved;
	}
	double u1 = uniform53(&g->engine), u2 = uniform53(&g->engine), sin, cos;
	double radius = __builtin_sqrt(-2 * log64(1 - u2));
	sincos64(6.28318530717958647692 * u1, &sin, &cos);
	g->saved = radius * sin + 0.0;
	g->has_saved = 1;
	return (float)(radius * cos + 0.0);
}

void genfn_torch_normal(const struct genfn_fill_args *a)
{
	struct genfn_torch_normal *g = a->state;
	const int64_t whole = a->n / block * block;
	if (a->n < block) {
		for (int64_t i = 0; i < a->n; i++)
			a->dst[i] = torch_scalar(g);
		return;
	}
	uniform24(&g->engine, a->dst, a->n);
	box_muller(a->dst, whole);
	if (whole < a->n) { /* the last block is drawn again over what the blocks before it left there */
		uniform24(&g->engine, a->dst + a->n - block, block);
		box_muller(a->dst + a->n - block, block);
	}
}

/* std::generate_canonical<float, 24> of a 32-bit engine. */
static float canonical(struct genfn_mt19937 *g)
{
	float u = (float)draw(g) * 0x1p-32f;
	return u < 1 ? u : 0x1.fffffep-1f;
}

static float std_value(struct genfn_std_normal *g)
{
	if (g->has_saved) {
		g->has_saved = 0;
		return g->saved;
	}
	float x, y, r2;
	do {
		x = 2 * canonical(&g->engine) - 1;
		y = 2 * canonical(&g->engine) - 1;
		r2 = x * x + y * y;
	} while (r2 > 1 || r2 == 0);
	float mul = __builtin_sqrtf(-2 * glibc_logf(r2) / r2);
	g->saved = x * mul;
	g->has_saved = 1;
	return y * mul;
}

void genfn_std_normal(const struct genfn_fill_args *a)
{
	for (int64_t i = 0; i < a->n; i++)
		a->dst[i] = std_value(a->state);
}
