package kernels

import "genfn/bindings/cuda"

// StepF16 queues what Set.StepF16 does.
func (g *GPU) StepF16(s *cuda.Stream, a *DeviceStepArgs) error { return g.stepOf(s, "StepF16", f16, a) }

// ScaleF16 queues what Set.ScaleF16 does.
func (g *GPU) ScaleF16(s *cuda.Stream, dst, src cuda.View, mul, add float32) error {
	return g.scaleOf(s, "ScaleF16", f16, dst, src, mul, add)
}

// ImageF16ToU8 queues what Set.ImageF16ToU8 does.
func (g *GPU) ImageF16ToU8(s *cuda.Stream, dst, src cuda.View, channels, height, width int) error {
	return g.imageOf(s, "ImageF16ToU8", dst, src, u8, f16, channels, height, width)
}

// U8ToImageF16 queues what Set.U8ToImageF16 does.
func (g *GPU) U8ToImageF16(s *cuda.Stream, dst, src cuda.View, channels, height, width int) error {
	return g.imageOf(s, "U8ToImageF16", dst, src, f16, u8, channels, height, width)
}

// CountNonFiniteF16 queues setting count, one uint64, to how many values of src are NaN or infinite.
func (g *GPU) CountNonFiniteF16(s *cuda.Stream, count, src cuda.View) error {
	return g.countOf(s, "CountNonFiniteF16", f16, count, src)
}

// ChecksumF16 queues setting sum, one uint64, to what Set.ChecksumF16 returns.
func (g *GPU) ChecksumF16(s *cuda.Stream, sum, src cuda.View) error {
	return g.countOf(s, "ChecksumF16", f16, sum, src)
}

// DifferenceF16 queues what Set.DifferenceF16 does.
func (g *GPU) DifferenceF16(s *cuda.Stream, result, a, b cuda.View) error {
	return g.differenceOf(s, "DifferenceF16", f16, result, a, b)
}

// MixF16 queues what Set.MixF16 does.
func (g *GPU) MixF16(s *cuda.Stream, dst, a, b cuda.View, weight float32) error {
	return g.mixOf(s, "MixF16", f16, dst, a, b, weight)
}

// CompositeF16 queues what Set.CompositeF16 does.
func (g *GPU) CompositeF16(s *cuda.Stream, dst, a, b, mask cuda.View, channels int) error {
	return g.compositeOf(s, "CompositeF16", f16, dst, a, b, mask, channels)
}

// F16ToF32 queues what Set.F16ToF32 does.
func (g *GPU) F16ToF32(s *cuda.Stream, dst, src cuda.View) error {
	return g.convertOf(s, "F16ToF32", dst, src, f32, f16)
}

// F32ToF16 queues what Set.F32ToF16 does.
func (g *GPU) F32ToF16(s *cuda.Stream, dst, src cuda.View) error {
	return g.convertOf(s, "F32ToF16", dst, src, f16, f32)
}

// TorchCUDANormalF16 is TorchCUDANormal in float16, as torch.randn makes it with dtype=torch.float16.
func (g *GPU) TorchCUDANormalF16(s *cuda.Stream, dst cuda.View, seed, offset uint64, d CUDADevice) (next uint64, err error) {
	return g.philoxOf(s, "PhiloxNormalF16", f16, dst, seed, offset, d)
}
