package kernels

import (
	"errors"
	"fmt"
	"unsafe"
)

// Mix computes dst = a*(1-weight) + b*weight, each operation rounded: the cross-fade of two frames. dst may be a or b;
// any other overlap is an error.
func (s *Set) Mix(dst, a, b []float32, weight float32) error {
	if err := checkInPlace("Mix", memoryOf(dst), memoryOf(a), memoryOf(b)); err != nil || len(dst) == 0 {
		return err
	}
	if s.native != nil {
		nativeMix(s.native, s.native.table.Mix, dst, a, b, weight)
		return nil
	}
	mix(dst, a, b, weight)
	return nil
}

// MixF16 is Mix for values in float16; each result is rounded once more.
func (s *Set) MixF16(dst, a, b []Float16, weight float32) error {
	if err := checkInPlace("Mix", memoryOf(dst), memoryOf(a), memoryOf(b)); err != nil || len(dst) == 0 {
		return err
	}
	if s.native != nil {
		nativeMix(s.native, s.native.table.MixF16, dst, a, b, weight)
		return nil
	}
	inFloat32(dst, [][]Float16{a, b}, func(dst []float32, src [][]float32) { mix(dst, src[0], src[1], weight) })
	return nil
}

// Composite computes dst = mask*a + (1-mask)*b, each operation rounded, of channels one after the other with one mask
// for all: latents where a mask is 1 are a's, as diffusers' inpainting pipelines keep what is not to be painted. dst may
// be a or b; any other overlap is an error.
func (s *Set) Composite(dst, a, b, mask []float32, channels int) error {
	if err := checkComposite(channels, memoryOf(dst), memoryOf(a), memoryOf(b), memoryOf(mask)); err != nil || len(dst) == 0 {
		return err
	}
	if s.native != nil {
		nativeComposite(s.native, s.native.table.Composite, dst, a, b, mask, channels)
		return nil
	}
	composite(dst, a, b, mask)
	return nil
}

// CompositeF16 is Composite for values in float16; each result is rounded once more.
func (s *Set) CompositeF16(dst, a, b, mask []Float16, channels int) error {
	if err := checkComposite(channels, memoryOf(dst), memoryOf(a), memoryOf(b), memoryOf(mask)); err != nil || len(dst) == 0 {
		return err
	}
	if s.native != nil {
		nativeComposite(s.native, s.native.table.CompositeF16, dst, a, b, mask, channels)
		return nil
	}
	inFloat32(dst, [][]Float16{a, b, mask}, func(dst []float32, src [][]float32) { composite(dst, src[0], src[1], src[2]) })
	return nil
}

// CompositeU8 computes dst = (mask*a + (255-mask)*b)/255 rounded to the nearest (there are no ties), of pixels whose
// channels lie together with one mask value for each pixel, as Pillow's Image.composite does. dst may be a or b; any
// other overlap is an error.
func (s *Set) CompositeU8(dst, a, b, mask []uint8, channels int) error {
	if err := checkComposite(channels, memoryOf(dst), memoryOf(a), memoryOf(b), memoryOf(mask)); err != nil || len(dst) == 0 {
		return err
	}
	if s.native != nil {
		nativeComposite(s.native, s.native.table.CompositeU8, dst, a, b, mask, channels)
		return nil
	}
	compositeU8(dst, a, b, mask, channels)
	return nil
}

func checkComposite(channels int, dst, a, b, mask memory) error {
	if channels < 1 || dst.n%channels != 0 || mask.n != dst.n/channels {
		return fmt.Errorf("kernels: Composite: dst has %d values in %d channels and mask %d, expected whole channels of as many values as mask", dst.n, channels, mask.n)
	}
	if shareMemory(dst, mask) {
		return errors.New("kernels: Composite: dst shares memory with mask")
	}
	return checkInPlace("Composite", dst, a, b)
}

func nativeMix[T value](l *library, function uintptr, dst, a, b []T, weight float32) {
	with(&l.mixes, function, mixArgs[unsafe.Pointer]{dst: data(dst), a: data(a), b: data(b), weight: weight, n: int64(len(dst))})
}

func nativeComposite[T any](l *library, function uintptr, dst, a, b, mask []T, channels int) {
	with(&l.composites, function, compositeArgs[unsafe.Pointer]{
		dst: data(dst), a: data(a), b: data(b), mask: data(mask), channels: int64(channels), n: int64(len(mask)),
	})
}

func mix(dst, a, b []float32, weight float32) {
	keep := 1 - weight
	for i := range dst {
		dst[i] = float32(a[i]*keep) + float32(b[i]*weight)
	}
}

func composite(dst, a, b, mask []float32) {
	for i := range dst {
		m := mask[i%len(mask)]
		dst[i] = float32(m*a[i]) + float32((1-m)*b[i])
	}
}

func compositeU8(dst, a, b, mask []uint8, channels int) {
	for i := range dst {
		m := int(mask[i/channels])
		dst[i] = uint8((m*int(a[i]) + (255-m)*int(b[i]) + 127) / 255)
	}
}
