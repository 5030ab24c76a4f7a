/* The CUDA side of elementwise.h, run on the CPU: the words of CUDA C++ become plain C and a launch is two loops over
 * blocks and threads. It checks the source and its arithmetic, not a device. */
#define __CUDACC_RTC__
#define __device__
#define __forceinline__ inline
#define __grid_constant__
#define GENFN_CUDA_KERNEL
#define GENFN_LANES 4
#define genfn_step cuda_thread_step
#define genfn_scale cuda_thread_scale
#define genfn_image_to_u8 cuda_thread_image_to_u8
#define genfn_count_non_finite cuda_thread_count_non_finite

static struct { unsigned x; } blockIdx, threadIdx, blockDim = {32}, gridDim = {3};

static void atomicAdd(unsigned long long *total, unsigned long long x) { *total += x; }

#include "elementwise.h"

#define LAUNCH(name, args)                                                      \
	void cuda_##name(const struct args *a);                                 \
	void cuda_##name(const struct args *a)                                  \
	{                                                                       \
		for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)      \
			for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) \
				cuda_thread_##name(*a);                         \
	}

LAUNCH(step, genfn_step_args)
LAUNCH(scale, genfn_scale_args)
LAUNCH(image_to_u8, genfn_image_args)
LAUNCH(count_non_finite, genfn_count_args)
