/* What C and CUDA's C++ call differently. NVRTC has no C library headers. */
#ifndef GENFN_LANGUAGE_H
#define GENFN_LANGUAGE_H

#ifdef __CUDACC_RTC__
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define INLINE static __device__ __forceinline__
#define SQRT32(x) __fsqrt_rn(x)
#else
#include <stdint.h>
#define INLINE static inline __attribute__((always_inline))
#define SQRT32(x) __builtin_sqrtf(x)
#endif

INLINE uint32_t bits32(float x) { union { float x; uint32_t b; } u; u.x = x; return u.b; }
INLINE float float32(uint32_t b) { union { float x; uint32_t b; } u; u.b = b; return u.x; }

#endif
