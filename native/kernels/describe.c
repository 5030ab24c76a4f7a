#include "dispatch.h"
#include "genfn_kernels.h"

uint32_t genfn_kernels_abi(void) { return GENFN_KERNELS_ABI; }

void genfn_kernels_describe(struct genfn_description *d)
{
	*d = (struct genfn_description){
		.step = sizeof(struct genfn_step_args),
		.scale = sizeof(struct genfn_scale_args),
		.image = sizeof(struct genfn_image_args),
		.count = sizeof(struct genfn_count_args),
		.blend = sizeof(struct genfn_blend_args),
		.fill = sizeof(struct genfn_fill_args),
		.torch_normal = sizeof(struct genfn_torch_normal),
		.std_normal = sizeof(struct genfn_std_normal),
	};
#if GENFN_HAS_CLONES
	__builtin_cpu_init();
	d->isa = __builtin_cpu_supports("avx2") ? 1 : 0;
#endif
}
