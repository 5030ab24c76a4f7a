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
		.convert = sizeof(struct genfn_convert_args),
		.mix = sizeof(struct genfn_mix_args),
		.composite = sizeof(struct genfn_composite_args),
		.resample = sizeof(struct genfn_resample_args),
		.difference = sizeof(struct genfn_difference_args),
		.difference_result = sizeof(struct genfn_difference),
		.philox = sizeof(struct genfn_philox_args),
	};
#if GENFN_HAS_AVX2
	d->isa = GENFN_USES_AVX2() ? 1 : 0;
#endif
}
