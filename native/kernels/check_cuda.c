/* The CUDA side of elementwise.h, run on the CPU: the words of CUDA C++ become plain C and a launch is two loops over
 * blocks and threads, one after the other, each its own warp. It checks the source and its arithmetic, not a device. */
#define __CUDACC_RTC__
#define __device__
#define __forceinline__ inline
#define GENFN_NO_PTX
#define GENFN_LANES 4
#define FIRST_OF_WARP 1

static struct { unsigned x; } blockIdx, threadIdx, blockDim = {32}, gridDim = {3};

static void atomicAdd(unsigned long long *total, unsigned long long x) { *total += x; }
static void atomicMax(unsigned *most, unsigned x) { *most = *most > x ? *most : x; }
#define __shfl_down_sync(mask, x, distance) ((x) * 0 * (distance))
#define __fsqrt_rn(x) __builtin_sqrtf(x)

#define GENFN_CUDA_KERNEL(name, args)                                                  \
	static void thread_##name(const struct args a);                                \
	void cuda_##name(const struct args *a);                                        \
	void cuda_##name(const struct args *a)                                         \
	{                                                                              \
		for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)             \
			for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) \
				thread_##name(*a);                                     \
	}                                                                              \
	static void thread_##name(const struct args a)

#include "elementwise.h"
