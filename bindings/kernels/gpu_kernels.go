package kernels

import (
	"errors"
	"fmt"
	"unsafe"

	"genfn/bindings/cuda"
)

// element is the type of the values that a view holds.
type element struct {
	name string
	size int // bytes
}

var (
	f32 = element{"float32", 4}
	f16 = element{"float16", 2}
	u8  = element{"uint8", 1}
)

func (e element) memory(v cuda.View) memory {
	return memory{v.Address(), int(v.Bytes()) / e.size, e.size, v.Address() != 0}
}

// check makes sure that views hold whole values.
func (e element) check(kernel string, views ...cuda.View) error {
	for _, v := range views {
		if v.Bytes()%int64(e.size) != 0 || v.Address()%uintptr(e.size) != 0 {
			return fmt.Errorf("kernels: %s: a view of %d bytes at %#x, expected whole %s values", kernel, v.Bytes(), v.Address(), e.name)
		}
	}
	return nil
}

// Checksum queues setting sum, one uint64, to what Set.Checksum returns.
func (g *GPU) Checksum(s *cuda.Stream, sum, src cuda.View) error {
	return g.countOf(s, "Checksum", f32, sum, src)
}

// DifferenceBytes is the size of the memory that Difference writes.
const DifferenceBytes = 32

// Difference queues comparing a and b as Set.Difference does, into DifferenceBytes of memory that ReadDifference reads.
func (g *GPU) Difference(s *cuda.Stream, result, a, b cuda.View) error {
	return g.differenceOf(s, "Difference", f32, result, a, b)
}

// ReadDifference waits for the result of Difference of n values.
func (g *GPU) ReadDifference(s *cuda.Stream, result cuda.View, n int) (Difference, error) {
	d := new(difference)
	if err := s.Read(unsafe.Slice((*byte)(unsafe.Pointer(d)), unsafe.Sizeof(*d)), result); err != nil {
		return Difference{}, err
	}
	return d.of(n), nil
}

// Mix queues what Set.Mix does.
func (g *GPU) Mix(s *cuda.Stream, dst, a, b cuda.View, weight float32) error {
	return g.mixOf(s, "Mix", f32, dst, a, b, weight)
}

// Composite queues what Set.Composite does.
func (g *GPU) Composite(s *cuda.Stream, dst, a, b, mask cuda.View, channels int) error {
	return g.compositeOf(s, "Composite", f32, dst, a, b, mask, channels)
}

// CompositeU8 queues what Set.CompositeU8 does.
func (g *GPU) CompositeU8(s *cuda.Stream, dst, a, b, mask cuda.View, channels int) error {
	return g.compositeOf(s, "CompositeU8", u8, dst, a, b, mask, channels)
}

// U8ToImage queues what Set.U8ToImage does.
func (g *GPU) U8ToImage(s *cuda.Stream, dst, src cuda.View, channels, height, width int) error {
	return g.imageOf(s, "U8ToImage", dst, src, f32, u8, channels, height, width)
}

// TorchCUDANormal queues filling dst with what PyTorch draws on a device d under a seed when its generator has come to an
// offset, at first 0 (see Set.TorchCUDANormal), and returns the offset of what is drawn next. d need not be this device.
func (g *GPU) TorchCUDANormal(s *cuda.Stream, dst cuda.View, seed, offset uint64, d CUDADevice) (next uint64, err error) {
	return g.philoxOf(s, "PhiloxNormal", f32, dst, seed, offset, d)
}

func (g *GPU) stepOf(s *cuda.Stream, kernel string, e element, a *DeviceStepArgs) error {
	var used []cuda.View
	for _, v := range append([]cuda.View{a.Sample, a.Cond, a.Uncond, a.Noise, a.Converted, a.Prev}, a.History...) {
		if v.Address() != 0 {
			used = append(used, v)
		}
	}
	if err := errors.Join(checkStep(a, e.memory), e.check("Step", used...)); err != nil {
		return err
	}
	n := e.memory(a.Sample).n
	args := newStepArgs(a, n, cuda.View.Address)
	return launch(g, kernel, s, n, &args, used...)
}

func (g *GPU) scaleOf(s *cuda.Stream, kernel string, e element, dst, src cuda.View, mul, add float32) error {
	if err := errors.Join(checkScale(e.memory(dst), e.memory(src)), e.check("Scale", dst, src)); err != nil {
		return err
	}
	n := e.memory(src).n
	args := scaleArgs[uintptr]{dst: dst.Address(), src: src.Address(), mul: mul, add: add, n: int64(n)}
	return launch(g, kernel, s, n, &args, dst, src)
}

func (g *GPU) imageOf(s *cuda.Stream, kernel string, dst, src cuda.View, to, from element, channels, height, width int) error {
	n, err := checkImage(to.memory(dst).n, from.memory(src).n, channels, height, width)
	if err = errors.Join(err, to.check(kernel, dst), from.check(kernel, src)); err != nil || n == 0 {
		return err
	}
	args := imageArgs[uintptr]{dst: dst.Address(), src: src.Address(), channels: int64(channels), n: int64(height * width)}
	return launch(g, kernel, s, height*width, &args, dst, src)
}

func (g *GPU) countOf(s *cuda.Stream, kernel string, e element, count, src cuda.View) error {
	if err := e.check(kernel, src); err != nil {
		return err
	}
	if count.Bytes() != 8 || count.Address()%8 != 0 {
		return fmt.Errorf("kernels: %s: the result has %d bytes at %#x, expected one uint64", kernel, count.Bytes(), count.Address())
	}
	if err := s.Fill(count, 0); err != nil {
		return err
	}
	n := e.memory(src).n
	args := countArgs[uintptr]{src: src.Address(), n: int64(n), count: count.Address()}
	return launch(g, kernel, s, n, &args, count, src)
}

func (g *GPU) differenceOf(s *cuda.Stream, kernel string, e element, result, a, b cuda.View) error {
	n := e.memory(a).n
	if err := errors.Join(checkDifference(n, e.memory(b).n), e.check(kernel, a, b)); err != nil {
		return err
	}
	if result.Bytes() != DifferenceBytes || result.Address()%8 != 0 {
		return fmt.Errorf("kernels: %s: the result has %d bytes at %#x, expected %d", kernel, result.Bytes(), result.Address(), DifferenceBytes)
	}
	if err := s.Fill(result, 0); err != nil {
		return err
	}
	args := differenceArgs[uintptr]{a: a.Address(), b: b.Address(), result: result.Address(), n: int64(n)}
	return launch(g, kernel, s, n, &args, result, a, b)
}

func (g *GPU) mixOf(s *cuda.Stream, kernel string, e element, dst, a, b cuda.View, weight float32) error {
	if err := errors.Join(checkInPlace(kernel, e.memory(dst), e.memory(a), e.memory(b)), e.check(kernel, dst, a, b)); err != nil {
		return err
	}
	n := e.memory(dst).n
	args := mixArgs[uintptr]{dst: dst.Address(), a: a.Address(), b: b.Address(), weight: weight, n: int64(n)}
	return launch(g, kernel, s, n, &args, dst, a, b)
}

func (g *GPU) compositeOf(s *cuda.Stream, kernel string, e element, dst, a, b, mask cuda.View, channels int) error {
	if err := errors.Join(checkComposite(channels, e.memory(dst), e.memory(a), e.memory(b), e.memory(mask)), e.check(kernel, dst, a, b, mask)); err != nil {
		return err
	}
	n := e.memory(mask).n
	args := compositeArgs[uintptr]{
		dst: dst.Address(), a: a.Address(), b: b.Address(), mask: mask.Address(), channels: int64(channels), n: int64(n),
	}
	return launch(g, kernel, s, n, &args, dst, a, b, mask)
}

func (g *GPU) convertOf(s *cuda.Stream, kernel string, dst, src cuda.View, to, from element) error {
	if err := errors.Join(checkApart(kernel, to.memory(dst), from.memory(src)), to.check(kernel, dst), from.check(kernel, src)); err != nil {
		return err
	}
	n := from.memory(src).n
	args := convertArgs[uintptr]{dst: dst.Address(), src: src.Address(), n: int64(n)}
	return launch(g, kernel, s, n, &args, dst, src)
}

func (g *GPU) philoxOf(s *cuda.Stream, kernel string, e element, dst cuda.View, seed, offset uint64, d CUDADevice) (next uint64, err error) {
	if err := e.check(kernel, dst); err != nil {
		return offset, err
	}
	if offset%philoxWords != 0 {
		return offset, fmt.Errorf("kernels: %s: offset %d, expected a multiple of %d", kernel, offset, philoxWords)
	}
	n := e.memory(dst).n
	if n == 0 {
		return offset, nil
	}
	args := newPhiloxArgs(dst.Address(), n, seed, offset, d)
	return offset + philoxWords*uint64(args.n/args.threads), launch(g, kernel, s, int(args.n), &args, dst)
}
