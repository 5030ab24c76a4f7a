/* The float32 functions of functions.h with a true fused multiply-add, for check.c to compare. */
#include <math.h>

#define FMA32(a, b, c) fmaf(a, b, c)
#include "functions.h"

void fused_functions(float u, float result[3]);

void fused_functions(float u, float result[3])
{
	result[0] = log32(1 - u);
	sincos32(6.28318530717958647692f * u, result + 1, result + 2);
}
