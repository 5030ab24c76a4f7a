package kernels

import (
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// Filter says how a Resampling weighs the values around a place.
type Filter int

// The filters, as Pillow has them: Bicubic is Keys' with a = -0.5, Lanczos a sinc of three lobes.
const (
	Bicubic Filter = iota
	Lanczos
)

var filters = [...]struct {
	name    string
	support float64 // how far from its centre it is not 0
	weight  func(float64) float64
}{{"bicubic", 2, bicubic}, {"lanczos", 3, lanczos}}

func (f Filter) String() string {
	if f < 0 || int(f) >= len(filters) {
		return fmt.Sprintf("Filter(%d)", int(f))
	}
	return filters[f].name
}

func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return (((x-5)*x+8)*x - 4) * a
	}
	return 0
}

func lanczos(x float64) float64 {
	sinc := func(x float64) float64 {
		if x == 0 {
			return 1
		}
		x *= math.Pi
		return math.Sin(x) / x
	}
	if x < -3 || x >= 3 {
		return 0
	}
	return sinc(x) * sinc(x/3)
}

// Resampling takes an axis from a number of values to another: each output is a weighted sum of neighbouring inputs.
// When an image becomes smaller the filter becomes as much wider (antialiasing), as in Pillow's Image.resize.
type Resampling struct {
	in, out, taps int
	first, count  []int32   // of the inputs of each output
	weights       []float64 // taps for each output, of which count are used
	fixed         []int32   // the same in steps of 2^-22
}

// maxAxis keeps the sums of bytes times rounded weights within 32 bits, and products of sizes within 63.
const maxAxis = 1 << 16

// NewResampling makes the weights for an axis.
func NewResampling(f Filter, in, out int) (*Resampling, error) {
	if f < 0 || int(f) >= len(filters) {
		return nil, fmt.Errorf("kernels: unknown filter %d, expected Bicubic or Lanczos", int(f))
	}
	if in < 1 || out < 1 || in > maxAxis || out > maxAxis {
		return nil, fmt.Errorf("kernels: resampling of %d values to %d, expected 1 to %d", in, out, maxAxis)
	}
	scale := float64(in) / float64(out)
	wider := max(1, scale)
	support := filters[f].support * wider
	r := &Resampling{in: in, out: out, taps: int(math.Ceil(support))*2 + 1, first: make([]int32, out), count: make([]int32, out)}
	r.weights, r.fixed = make([]float64, out*r.taps), make([]int32, out*r.taps)
	for o := range out {
		center := (float64(o) + 0.5) * scale
		first := int(max(0, center-support+0.5))
		last := min(in, int(center+support+0.5))
		r.first[o], r.count[o] = int32(first), int32(last-first)
		weights, sum := r.weights[o*r.taps:][:last-first], 0.0
		for k := range weights {
			weights[k] = filters[f].weight((float64(k+first) - center + 0.5) * (1 / wider))
			sum += weights[k]
		}
		for k := range weights {
			if sum != 0 {
				weights[k] /= sum
			}
			r.fixed[o*r.taps+k] = int32(math.Round(weights[k] * (1 << 22)))
		}
	}
	return r, nil
}

// Resample computes dst[outer][out][inner] from src[outer][in][inner]: each output a sum in float64, rounded once. The
// memory must be apart.
func (s *Set) Resample(dst, src []float32, r *Resampling, inner int) error {
	if err := r.check(memoryOf(dst), memoryOf(src), inner); err != nil || len(dst) == 0 {
		return err
	}
	if s.native != nil {
		nativeResample(s.native, s.native.table.Resample, dst, src, r, r.weights, inner)
		return nil
	}
	r.each(len(dst), inner, func(at, src0, o int) {
		sum := 0.0
		for k, w := range r.weights[o*r.taps:][:r.count[o]] {
			sum += float64(float64(src[src0+k*inner]) * w)
		}
		dst[at] = float32(sum)
	})
	return nil
}

// ResampleU8 is Resample for bytes, with weights in steps of 2^-22, as Pillow computes: each output is rounded half up and
// clamped.
func (s *Set) ResampleU8(dst, src []uint8, r *Resampling, inner int) error {
	if err := r.check(memoryOf(dst), memoryOf(src), inner); err != nil || len(dst) == 0 {
		return err
	}
	if s.native != nil {
		nativeResample(s.native, s.native.table.ResampleU8, dst, src, r, r.fixed, inner)
		return nil
	}
	r.each(len(dst), inner, func(at, src0, o int) {
		sum := int32(1 << 21)
		for k, w := range r.fixed[o*r.taps:][:r.count[o]] {
			sum += int32(src[src0+k*inner]) * w
		}
		dst[at] = uint8(min(max(sum>>22, 0), 255))
	})
	return nil
}

// check makes sure that memory is outer x out x inner and outer x in x inner values.
func (r *Resampling) check(dst, src memory, inner int) error {
	if inner < 1 || dst.n%(r.out*inner) != 0 || src.n%(r.in*inner) != 0 || dst.n/(r.out*inner) != src.n/(r.in*inner) {
		return fmt.Errorf("kernels: Resample: %d values to %d, expected as many times %d x %d and %d x %d", src.n, dst.n, r.in, inner, r.out, inner)
	}
	if shareMemory(dst, src) {
		return errors.New("kernels: Resample: dst and src share memory")
	}
	return nil
}

// each calls f for each value at of the result, with the place of its first input and its place on the axis.
func (r *Resampling) each(n, inner int, f func(at, src, o int)) {
	for at := range n {
		row, o := at/inner, at/inner%r.out
		f(at, (row/r.out*r.in+int(r.first[o]))*inner+at%inner, o)
	}
}

func nativeResample[T, W any](l *library, function uintptr, dst, src []T, r *Resampling, weights []W, inner int) {
	with(&l.resamples, function, resampleArgs[unsafe.Pointer]{
		dst: data(dst), src: data(src), first: data(r.first), count: data(r.count), weights: data(weights),
		in: int64(r.in), out: int64(r.out), inner: int64(inner), taps: int64(r.taps), n: int64(len(dst)),
	})
}

// Resize makes an image of another size, across and then down, as Pillow's Image.resize does, of float32 channels one
// after the other (each as an image of mode F). It returns new memory.
func (s *Set) Resize(src []float32, channels, height, width, toHeight, toWidth int, f Filter) ([]float32, error) {
	across, down, err := resamplings(len(src), channels, height, width, toHeight, toWidth, f)
	if err != nil {
		return nil, err
	}
	if across != nil {
		wide := make([]float32, channels*height*toWidth)
		if err := s.Resample(wide, src, across, 1); err != nil {
			return nil, err
		}
		src = wide
	}
	dst := make([]float32, channels*toHeight*toWidth)
	if down == nil {
		copy(dst, src)
		return dst, nil
	}
	return dst, s.Resample(dst, src, down, toWidth)
}

// ResizeU8 is Resize for bytes, with a pixel's channels together (as an image of mode L or RGB; Pillow multiplies those
// with alpha before).
func (s *Set) ResizeU8(src []uint8, channels, height, width, toHeight, toWidth int, f Filter) ([]uint8, error) {
	across, down, err := resamplings(len(src), channels, height, width, toHeight, toWidth, f)
	if err != nil {
		return nil, err
	}
	if across != nil {
		wide := make([]uint8, channels*height*toWidth)
		if err := s.ResampleU8(wide, src, across, channels); err != nil {
			return nil, err
		}
		src = wide
	}
	dst := make([]uint8, channels*toHeight*toWidth)
	if down == nil {
		copy(dst, src)
		return dst, nil
	}
	return dst, s.ResampleU8(dst, src, down, toWidth*channels)
}

// resamplings are those of both axes; nil: the axis stays.
func resamplings(n, channels, height, width, toHeight, toWidth int, f Filter) (across, down *Resampling, err error) {
	if channels < 1 || channels > maxAxis || height < 1 || height > maxAxis || width < 1 || width > maxAxis || n != channels*height*width {
		return nil, nil, fmt.Errorf("kernels: Resize: %d values, expected %d channels of %d rows of %d", n, channels, height, width)
	}
	if toWidth != width {
		if across, err = NewResampling(f, width, toWidth); err != nil {
			return nil, nil, err
		}
	}
	if toHeight != height {
		down, err = NewResampling(f, height, toHeight)
	}
	return across, down, err
}
