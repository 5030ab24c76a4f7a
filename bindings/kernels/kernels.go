// Package kernels holds the element-wise arithmetic of the diffusion loop and of images, the blending of tiles, masks and
// frames, resampling, the generators of noise, and the sums that tell whether arrays are what they should be, as a C
// library embedded in the binary and as a Go reference that gives the same values bit for bit. Most of them run on CUDA
// devices too (GPU), with the same results.
//
// The equality covers every result that is a number. Where a result is NaN both give a NaN, whose sign and
// payload are unspecified. Every product and sum is rounded to float32 on its own, never fused.
package kernels

import (
	"errors"
	"fmt"
	"math"
)

// MaxHistory is the largest number of earlier outputs that one Step can combine.
const MaxHistory = 8

// ErrNotBuilt says that this binary was built without the C library.
var ErrNotBuilt = errors.New("kernels: this binary was built without the C library: run `make native build` with a C compiler, or use the Go reference")

// Info says which implementation a Set uses.
type Info struct {
	Backend string // "native" or "go"
	Path    string // the unpacked library; empty for "go"
	SHA256  string // of the library, in hex; empty for "go"
	ISA     string // instruction set that the C library chose: "avx2" or "baseline"; empty for "go"
}

// Set is one implementation of the kernels. It has no state of its own and is safe for concurrent use, as long as
// concurrent calls do not write to memory that another call uses.
type Set struct {
	info   Info
	native *library // nil: the Go reference
}

// Reference returns the kernels in Go.
func Reference() *Set { return &Set{info: Info{Backend: "go"}} }

// Info says which implementation this is.
func (s *Set) Info() Info { return s.info }

// StepArgs describes one scheduler step over N values, N = len(Sample). Every slice that is not nil has N values.
//
//	e         = Uncond + Guidance*(Cond-Uncond)          without Uncond: Cond; without Cond: 0
//	m         = ConvSample*Sample + ConvOutput*e         clamped to [-Clip, Clip] where Clip > 0
//	Converted = m
//	Prev      = SampleCoef*Sample + OutputCoef*e + ConvertedCoef*m + HistoryCoef[0]*History[0] + ... + NoiseCoef*Noise
//
// e is classifier-free guidance (Ho and Salimans 2022, as in diffusers); with the right coefficients m is the
// model output converted to what the solver integrates (usually the denoised sample), and Prev the next sample.
//
// Sums run from left to right. A term whose coefficient is 0, or whose slice is nil, is left out: it is not read
// and a NaN in it does no harm. A sum whose first term is left out starts at +0. NaN passes the clamp.
//
// Converted and Prev may each be the very same slice as any input (all inputs of a position are read before its
// outputs are written), so Converted may replace an entry of History. Any other overlap is an error.
type StepArgs = StepArgsOf[[]float32]

// StepArgsOf is StepArgs for values in memory of one kind: slices, or views of a device's memory, whose zero View
// stands for nil.
type StepArgsOf[V any] struct {
	Sample, Cond, Uncond V
	Guidance             float32

	ConvSample, ConvOutput, Clip float32
	Converted                    V // out; nil: not wanted

	SampleCoef, OutputCoef, ConvertedCoef, NoiseCoef float32
	History                                          []V       // at most MaxHistory
	HistoryCoef                                      []float32 // one for each entry of History
	Noise                                            V
	Prev                                             V // out; nil: not wanted
}

// Step runs one scheduler step. It fails, before it writes anything, when a does not describe one.
func (s *Set) Step(a *StepArgs) error {
	if err := checkStep(a, memoryOf[float32]); err != nil {
		return err
	}
	if len(a.Sample) == 0 {
		return nil
	}
	if s.native != nil {
		nativeStep(s.native, s.native.table.Step, a)
		return nil
	}
	step(a)
	return nil
}

// Scale computes dst = src*mul + add with two roundings. dst may be src; any other overlap is an error.
func (s *Set) Scale(dst, src []float32, mul, add float32) error {
	if err := checkScale(memoryOf(dst), memoryOf(src)); err != nil {
		return err
	}
	if len(src) == 0 {
		return nil
	}
	if s.native != nil {
		nativeScale(s.native, s.native.table.Scale, dst, src, mul, add)
		return nil
	}
	scale(dst, src, mul, add)
	return nil
}

// ImageToU8 turns one image of channels x height x width float32 values in [-1, 1] into height x width x channels
// bytes: clamp(x/2 + 0.5, 0, 1) * 255 rounded half to even, as diffusers' VaeImageProcessor does. NaN becomes 0.
// dst must not share memory with src.
func (s *Set) ImageToU8(dst []uint8, src []float32, channels, height, width int) error {
	n, err := checkImage(len(dst), len(src), channels, height, width)
	if err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	if s.native != nil {
		nativeImage(s.native, s.native.table.ImageToU8, dst, src, channels, height*width)
		return nil
	}
	imageToU8(dst, src, channels, height*width)
	return nil
}

// CountNonFinite returns how many values of src are NaN or infinite.
func (s *Set) CountNonFinite(src []float32) int {
	if len(src) == 0 {
		return 0
	}
	if s.native != nil {
		return int(nativeCount(s.native, s.native.table.CountNonFinite, src))
	}
	return countNonFinite(src)
}

// checkStep checks arguments whose values lie where of says.
func checkStep[V any](a *StepArgsOf[V], of func(V) memory) error {
	n := of(a.Sample).n
	if !of(a.Prev).given && !of(a.Converted).given {
		return errors.New("kernels: Step: neither Prev nor Converted is given, so there is nothing to compute")
	}
	if of(a.Uncond).given && !of(a.Cond).given {
		return errors.New("kernels: Step: Uncond without Cond, expected both for guidance")
	}
	if len(a.History) != len(a.HistoryCoef) || len(a.History) > MaxHistory {
		return fmt.Errorf("kernels: Step: %d entries in History and %d in HistoryCoef, expected as many of both and at most %d", len(a.History), len(a.HistoryCoef), MaxHistory)
	}
	if math.IsNaN(float64(a.Clip)) || a.Clip < 0 {
		return fmt.Errorf("kernels: Step: Clip is %v, expected 0 (no clamp) or more", a.Clip)
	}
	named := [...]struct {
		name   string
		values V
	}{{"Cond", a.Cond}, {"Uncond", a.Uncond}, {"Noise", a.Noise}, {"Converted", a.Converted}, {"Prev", a.Prev}}
	for _, s := range named {
		if m := of(s.values); m.given && m.n != n {
			return fmt.Errorf("kernels: Step: %s has %d values, expected %d as in Sample", s.name, m.n, n)
		}
	}
	for k, h := range a.History {
		if m := of(h); m.n != n {
			return fmt.Errorf("kernels: Step: History[%d] has %d values, expected %d as in Sample", k, m.n, n)
		}
	}
	return checkStepMemory(a, of)
}

func checkStepMemory[V any](a *StepArgsOf[V], of func(V) memory) error {
	if shareMemory(of(a.Prev), of(a.Converted)) {
		return errors.New("kernels: Step: Prev and Converted share memory")
	}
	for _, out := range [...]struct {
		name   string
		values V
	}{{"Converted", a.Converted}, {"Prev", a.Prev}} {
		for _, in := range [...]V{a.Sample, a.Cond, a.Uncond, a.Noise} {
			if overlaps(of(out.values), of(in)) {
				return fmt.Errorf("kernels: Step: %s overlaps an input without being the same slice", out.name)
			}
		}
		for k, h := range a.History {
			if overlaps(of(out.values), of(h)) {
				return fmt.Errorf("kernels: Step: %s overlaps History[%d] without being the same slice", out.name, k)
			}
		}
	}
	return nil
}

// checkScale checks where the values of Scale lie.
func checkScale(dst, src memory) error {
	if dst.n != src.n {
		return fmt.Errorf("kernels: Scale: dst has %d values, expected %d as in src", dst.n, src.n)
	}
	if overlaps(dst, src) {
		return errors.New("kernels: Scale: dst overlaps src without being the same slice")
	}
	return nil
}

// checkImage returns the number of values of an image.
func checkImage(dst, src, channels, height, width int) (int, error) {
	const limit = 1 << 20 // keeps the product of three within 63 bits
	for _, n := range [...]int{channels, height, width} {
		if n < 0 || n > limit {
			return 0, fmt.Errorf("kernels: image: %d channels of %d rows of %d pixels, expected 0 to %d each", channels, height, width, limit)
		}
	}
	n := channels * height * width
	if src != n || dst != n {
		return 0, fmt.Errorf("kernels: image: src has %d values and dst %d, expected %d for %d x %d x %d", src, dst, n, channels, height, width)
	}
	return n, nil
}
