/* Sums over arrays, of whole numbers: they are the same in any order, on any device. */
#include "kernel.h"

struct total { uint64_t sum; };

INLINE void count_of(const struct genfn_count_args *a, int64_t i, int lanes, struct total *t, enum type type)
{
	float held[LANES];
	const float *src = read(held, a->src, i, lanes, type);
	int32_t count = 0;
	EACH(l) count += !(src[l] - src[l] == 0); /* NaN - NaN and Inf - Inf are NaN */
	t->sum += (uint32_t)count;
}

/* (w ^ a(i))*b(i), where b is odd: another w gives another product, and so does another place. */
INLINE uint64_t mixed(uint32_t w, uint32_t index)
{
	uint32_t h = index * 0x9e3779b1;
	h = (h ^ h >> 15) * 0x85ebca77;
	h ^= h >> 13;
	return (uint64_t)(w ^ h * 0xc2b2ae3d) * (h | 1);
}

INLINE void checksum_of(const struct genfn_count_args *a, int64_t i, int lanes, struct total *t, enum type type)
{
	uint64_t sum = 0;
	EACH(l) {
		const int64_t at = i + AT(l);
		const uint32_t w = type == F16 ? ((const uint16_t *)a->src)[at] : ((const uint32_t *)a->src)[at];
		sum += mixed(w, (uint32_t)at);
	}
	t->sum += sum;
}

INLINE void finish_count(const struct genfn_count_args *a, const struct total *t) { add_total(a->count, t->sum); }

INLINE void difference_of(const struct genfn_difference_args *args, int64_t i, int lanes, struct genfn_difference *t, enum type type)
{
	float held[2][LANES];
	const float *a = read(held[0], args->a, i, lanes, type), *b = read(held[1], args->b, i, lanes, type);
	uint32_t bits[LANES], inverted[LANES], most = t->most, least_inverted = t->least_inverted;
	int64_t whole = 0, fraction = 0;
	int32_t finite = 0;
	EACH(l) {
		const uint32_t b32 = bits32(a[l] - b[l]) & 0x7fffffff; /* ordered as the numbers are */
		const uint32_t mask = -(uint32_t)(b32 < 0x7f800000);
		bits[l] = b32 & mask;
		inverted[l] = ~b32 & mask;
		finite -= (int32_t)mask;
	}
	EACH(l) most = most > bits[l] ? most : bits[l];
	EACH(l) least_inverted = least_inverted > inverted[l] ? least_inverted : inverted[l];
	EACH(l) {
		const float d = float32(bits[l] < 0x4effffff ? bits[l] : 0x4effffff); /* 2147483520 */
		const int32_t part = (int32_t)d;
		whole += part;
		fraction += (int32_t)((d - (float)part) * 0x1p31f);
	}
	t->most = most, t->least_inverted = least_inverted;
	t->whole += (uint64_t)whole, t->fraction += (uint64_t)fraction, t->not_finite += (uint32_t)(lanes - finite);
}

INLINE void finish_difference(const struct genfn_difference_args *a, const struct genfn_difference *t)
{
	add_total(&a->result->whole, t->whole);
	add_total(&a->result->fraction, t->fraction);
	add_total(&a->result->not_finite, t->not_finite);
	raise_to(&a->result->most, t->most);
	raise_to(&a->result->least_inverted, t->least_inverted);
}

#define FOR_TYPES(name, args, body, total, finish)                                                                   \
	INLINE void body##_f32(const struct args *a, int64_t i, int lanes, total *t) { body##_of(a, i, lanes, t, F32); } \
	INLINE void body##_f16(const struct args *a, int64_t i, int lanes, total *t) { body##_of(a, i, lanes, t, F16); } \
	REDUCTION(name, args, body##_f32, total, finish)                                                             \
	REDUCTION(name##_f16, args, body##_f16, total, finish)
FOR_TYPES(genfn_count_non_finite, genfn_count_args, count, struct total, finish_count)
FOR_TYPES(genfn_checksum, genfn_count_args, checksum, struct total, finish_count)
FOR_TYPES(genfn_difference, genfn_difference_args, difference, struct genfn_difference, finish_difference)
