/* Logarithm, sine and cosine as fixed sequences of operations, without calls into the C library's mathematics, so that
 * the results depend neither on its version nor on the machine. bindings/kernels/functions.go holds the same functions
 * with their sources; the two change together. */
#ifndef GENFN_FUNCTIONS_H
#define GENFN_FUNCTIONS_H

#include "language.h"

#ifndef FMA32
/* a*b + c. The product is exact and the sum is rounded twice, to double and to float, which for every one of the 2^24
 * arguments that the generators can have ends as if it was rounded once; check_functions.c compares them all. */
#define FMA32(a, b, c) ((float)((double)(a) * (double)(b) + (double)(c)))
#endif

/* Natural logarithm as in PyTorch's AVX2 code; x normal, > 0. */
INLINE float log32(float x)
{
	uint32_t bits = bits32(x);
	uint32_t mantissa = bits & 0x007fffff;
	uint32_t low = mantissa < 0x3504f3; /* below sqrt(1/2) */
	float e = (float)((int32_t)(bits >> 23) - 126 - (int32_t)low);
	bits = mantissa | 0x3f000000; /* [0.5, 1) */
	x = (float32(bits) - 1) + float32(bits & -low);
	float z = x * x;
	float y = 7.0376836292e-2f;
	y = FMA32(y, x, -1.1514610310e-1f);
	y = FMA32(y, x, 1.1676998740e-1f);
	y = FMA32(y, x, -1.2420140846e-1f);
	y = FMA32(y, x, 1.4249322787e-1f);
	y = FMA32(y, x, -1.6668057665e-1f);
	y = FMA32(y, x, 2.0000714765e-1f);
	y = FMA32(y, x, -2.4999993993e-1f);
	y = FMA32(y, x, 3.3333331174e-1f);
	y = y * x;
	y = FMA32(y, z, e * -2.12194440e-4f);
	y -= z * 0.5f;
	return (x + y) + e * 0.693359375f;
}

/* Sine and cosine as in PyTorch's AVX2 code; 0 <= x < 8192. */
INLINE void sincos32(float x, float *sin, float *cos)
{
	int32_t octant = ((int32_t)(x * 1.27323954473516f) + 1) & ~1;
	float y = (float)octant;
	x = FMA32(y, -0.78515625f, x);
	x = FMA32(y, -2.4187564849853515625e-4f, x);
	x = FMA32(y, -3.77489497744594108e-8f, x);
	float z = x * x;

	float c = FMA32(2.443315711809948e-5f, z, -1.388731625493765e-3f);
	c = FMA32(c, z, 4.166664568298827e-2f);
	c = c * z;
	c = FMA32(c, z, -(z * 0.5f)) + 1;

	float s = FMA32(-1.9515295891e-4f, z, 8.3321608736e-3f);
	s = FMA32(s, z, -1.6666654611e-1f);
	s = s * z;
	s = FMA32(s, x, x);

	float s1 = octant & 2 ? c : s, c1 = octant & 2 ? s : c;
	*sin = octant & 4 ? -s1 : s1;
	*cos = (octant + 2) & 4 ? -c1 : c1;
}

#ifndef __CUDACC_RTC__ /* devices draw in float32 */

INLINE uint64_t bits64(double x) { union { double x; uint64_t b; } u; u.x = x; return u.b; }
INLINE double float64(uint64_t b) { union { double x; uint64_t b; } u; u.b = b; return u.x; }

/* Natural logarithm; 0 < x <= 1, normal. */
INLINE double log64(double x)
{
	uint64_t bits = bits64(x) + (0x3ff0000000000000 - 0x3fe6a09e00000000);
	double k = (double)((int64_t)(bits >> 52) - 1023);
	double f = float64((bits & 0x000fffffffffffff) + 0x3fe6a09e00000000) - 1;
	double s = f / (2 + f);
	double z = s * s;
	double r = 1.479819860511658591e-01;
	r = r * z + 1.531383769920937332e-01;
	r = r * z + 1.818357216161805012e-01;
	r = r * z + 2.222219843214978396e-01;
	r = r * z + 2.857142874366239149e-01;
	r = r * z + 3.999999999940941908e-01;
	r = r * z + 6.666666666666735130e-01;
	r = r * z;
	double h = 0.5 * f * f;
	const double high = 6.93147180369123816490e-01, low = 1.90821492927058770002e-10;
	return k * high - ((h - (s * (h + r) + k * low)) - f);
}

/* Sine and cosine; 0 <= x <= 2*pi. */
INLINE void sincos64(double x, double *sin, double *cos)
{
	int32_t quarter = (int32_t)(x * 6.36619772367581382433e-01 + 0.5);
	double k = quarter;
	x = (x - k * 1.57079632673412561417e+00) - k * 6.07710050650619224932e-11;
	double z = x * x;

	double s = 1.58969099521155010221e-10;
	s = s * z + -2.50507602534068634195e-08;
	s = s * z + 2.75573137070700676789e-06;
	s = s * z + -1.98412698298579493134e-04;
	s = s * z + 8.33333333332248946124e-03;
	s = s * z + -1.66666666666666324348e-01;
	s = x + x * (z * s);

	double c = -1.13596475577881948265e-11;
	c = c * z + 2.08757232129817482790e-09;
	c = c * z + -2.75573143513906633035e-07;
	c = c * z + 2.48015872894767294178e-05;
	c = c * z + -1.38888888888741095749e-03;
	c = c * z + 4.16666666666666019037e-02;
	c = 1 - (0.5 * z - z * z * c);

	double s1 = quarter & 1 ? c : s, c1 = quarter & 1 ? s : c;
	*sin = quarter & 2 ? -s1 : s1;
	*cos = (quarter + 1) & 2 ? -c1 : c1;
}

static const struct { double inverse, log; } log_table[16] = {
	{0x1.661ec79f8f3bep+0, -0x1.57bf7808caadep-2},
	{0x1.571ed4aaf883dp+0, -0x1.2bef0a7c06ddbp-2},
	{0x1.49539f0f010bp+0, -0x1.01eae7f513a67p-2},
	{0x1.3c995b0b80385p+0, -0x1.b31d8a68224e9p-3},
	{0x1.30d190c8864a5p+0, -0x1.6574f0ac07758p-3},
	{0x1.25e227b0b8eap+0, -0x1.1aa2bc79c81p-3},
	{0x1.1bb4a4a1a343fp+0, -0x1.a4e76ce8c0e5ep-4},
	{0x1.12358f08ae5bap+0, -0x1.1973c5a611cccp-4},
	{0x1.0953f419900a7p+0, -0x1.252f438e10c1ep-5},
	{0x1p+0, 0x0p+0},
	{0x1.e608cfd9a47acp-1, 0x1.aa5aa5df25984p-5},
	{0x1.ca4b31f026aap-1, 0x1.c5e53aa362eb4p-4},
	{0x1.b2036576afce6p-1, 0x1.526e57720db08p-3},
	{0x1.9c2d163a1aa2dp-1, 0x1.bc2860d22477p-3},
	{0x1.886e6037841edp-1, 0x1.1058bc8a07ee1p-2},
	{0x1.767dcf5534862p-1, 0x1.4043057b6ee09p-2},
};

/* logf as glibc computes it; x normal, > 0. */
INLINE float glibc_logf(float x)
{
	uint32_t bits = bits32(x), t = bits - 0x3f330000;
	if (bits == 0x3f800000)
		return 0;
	double k = (double)((int32_t)t >> 23);
	double z = float32(bits - (t & 0xff800000));
	double r = z * log_table[t >> 19 & 15].inverse - 1;
	double y0 = log_table[t >> 19 & 15].log + k * 0x1.62e42fefa39efp-1;
	double r2 = r * r;
	double y = 0x1.5575b0be00b6ap-2 * r + -0x1.ffffef20a4123p-2;
	y = -0x1.00ea348b88334p-2 * r2 + y;
	return (float)(y * r2 + (y0 + r));
}

#endif

#endif
