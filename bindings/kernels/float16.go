package kernels

import (
	"math"
	"unsafe"
)

// Float16 is a number of IEEE 754's binary16, by its bits.
type Float16 uint16

// value is what arrays hold; arithmetic is in float32.
type value interface{ float32 | Float16 }

// ToFloat16 rounds half to even, as F16C, NEON and CUDA do: from 65520 on numbers become infinite, below 2^-25 zero.
func ToFloat16(x float32) Float16 {
	bits := math.Float32bits(x)
	sign, magnitude := Float16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000:
		return sign | 0x7e00
	case magnitude >= 0x47800000: // 65536
		return sign | 0x7c00
	case magnitude < 0x38800000: // 2^-14: the sum rounds to steps of 2^-24
		return sign | Float16(math.Float32bits(math.Float32frombits(magnitude)+0.5)-math.Float32bits(0.5))
	}
	const bias = (127 - 15) << 23
	return sign | Float16((magnitude-bias+0xfff+magnitude>>13&1)>>13)
}

// Float32 is exact.
func (h Float16) Float32() float32 {
	sign, exponent, mantissa := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&0x3ff)
	switch exponent {
	case 0:
		return math.Float32frombits(sign | math.Float32bits(float32(mantissa)*(1.0/(1<<24))))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | mantissa<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | mantissa<<13)
}

// F16ToF32 converts exactly. dst and src are as long and must not share memory.
func (s *Set) F16ToF32(dst []float32, src []Float16) error {
	if err := checkApart("F16ToF32", memoryOf(dst), memoryOf(src)); err != nil || len(src) == 0 {
		return err
	}
	if s.native != nil {
		nativeConvert(s.native, s.native.table.F16ToF32, dst, src)
		return nil
	}
	widen(dst, src)
	return nil
}

// F32ToF16 rounds as ToFloat16 does. dst and src are as long and must not share memory.
func (s *Set) F32ToF16(dst []Float16, src []float32) error {
	if err := checkApart("F32ToF16", memoryOf(dst), memoryOf(src)); err != nil || len(src) == 0 {
		return err
	}
	if s.native != nil {
		nativeConvert(s.native, s.native.table.F32ToF16, dst, src)
		return nil
	}
	narrow(dst, src)
	return nil
}

// StepF16 is Step for values in float16. The arithmetic between them is Step's, in float32, and each result is rounded
// once more; Prev is made of the converted output before that.
func (s *Set) StepF16(a *StepArgsOf[[]Float16]) error {
	if err := checkStep(a, memoryOf[Float16]); err != nil || len(a.Sample) == 0 {
		return err
	}
	if s.native != nil {
		nativeStep(s.native, s.native.table.StepF16, a)
		return nil
	}
	stepF16(a)
	return nil
}

// ScaleF16 is Scale for values in float16; each result is rounded once more.
func (s *Set) ScaleF16(dst, src []Float16, mul, add float32) error {
	if err := checkScale(memoryOf(dst), memoryOf(src)); err != nil || len(src) == 0 {
		return err
	}
	if s.native != nil {
		nativeScale(s.native, s.native.table.ScaleF16, dst, src, mul, add)
		return nil
	}
	inFloat32(dst, [][]Float16{src}, func(dst []float32, src [][]float32) { scale(dst, src[0], mul, add) })
	return nil
}

// ImageF16ToU8 is ImageToU8 for values in float16.
func (s *Set) ImageF16ToU8(dst []uint8, src []Float16, channels, height, width int) error {
	n, err := checkImage(len(dst), len(src), channels, height, width)
	if err != nil || n == 0 {
		return err
	}
	if s.native != nil {
		nativeImage(s.native, s.native.table.ImageF16ToU8, dst, src, channels, height*width)
		return nil
	}
	imageToU8(dst, widened(src), channels, height*width)
	return nil
}

// CountNonFiniteF16 returns how many values of src are NaN or infinite.
func (s *Set) CountNonFiniteF16(src []Float16) int {
	if len(src) == 0 {
		return 0
	}
	if s.native != nil {
		return int(nativeCount(s.native, s.native.table.CountNonFiniteF16, src))
	}
	return countNonFinite(widened(src))
}

func nativeConvert[D, S any](l *library, function uintptr, dst []D, src []S) {
	with(&l.converts, function, convertArgs[unsafe.Pointer]{dst: data(dst), src: data(src), n: int64(len(src))})
}

func widen(dst []float32, src []Float16) {
	for i, x := range src {
		dst[i] = x.Float32()
	}
}

func narrow(dst []Float16, src []float32) {
	for i, x := range src {
		dst[i] = ToFloat16(x)
	}
}

// widened returns nil for nil.
func widened(src []Float16) []float32 {
	if src == nil {
		return nil
	}
	dst := make([]float32, len(src))
	widen(dst, src)
	return dst
}

// inFloat32 is how the references compute in float16: they convert, compute, and round the results.
func inFloat32(dst []Float16, src [][]Float16, compute func(dst []float32, src [][]float32)) {
	wide := make([][]float32, len(src))
	for i, s := range src {
		wide[i] = widened(s)
	}
	out := make([]float32, len(dst))
	compute(out, wide)
	narrow(dst, out)
}

func stepF16(a *StepArgsOf[[]Float16]) {
	b := StepArgs{
		Sample: widened(a.Sample), Cond: widened(a.Cond), Uncond: widened(a.Uncond), Noise: widened(a.Noise),
		Guidance: a.Guidance, ConvSample: a.ConvSample, ConvOutput: a.ConvOutput, Clip: a.Clip,
		SampleCoef: a.SampleCoef, OutputCoef: a.OutputCoef, ConvertedCoef: a.ConvertedCoef, NoiseCoef: a.NoiseCoef,
		HistoryCoef: a.HistoryCoef, Converted: widened(a.Converted), Prev: widened(a.Prev),
	}
	for _, h := range a.History {
		b.History = append(b.History, widened(h))
	}
	step(&b)
	narrow(a.Converted, b.Converted)
	narrow(a.Prev, b.Prev)
}
