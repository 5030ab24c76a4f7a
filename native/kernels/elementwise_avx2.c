/* The kernels for processors with AVX2 and F16C. */
#define GENFN_AVX2_VARIANT
#include "dispatch.h"

#if GENFN_HAS_AVX2
#pragma GCC target("avx2,f16c")
#include "elementwise.h"
#endif
