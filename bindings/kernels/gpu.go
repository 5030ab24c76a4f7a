package kernels

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"genfn/bindings/cuda"
)

// GPU is the kernels that a CUDA device has: the same source as the C library's, with the same results. Blend is not
// among them: tiles are blended on the host. Its methods queue work in a stream, whose Synchronize tells of failures.
// They are safe for concurrent use.
type GPU struct {
	lanes                                  int // of the code
	library                                *cuda.Library
	step, scale, imageToU8, countNonFinite *cuda.Kernel
}

// OpenGPU loads the kernels' code for a device (see Compile and Cubin). The caller closes the GPU.
func OpenGPU(d *cuda.Device, code []byte) (*GPU, error) {
	library, err := d.LoadLibrary("kernels", code)
	if err != nil {
		return nil, err
	}
	g := &GPU{lanes: lanes, library: library}
	for field, kernel := range map[string]**cuda.Kernel{
		"Step": &g.step, "Scale": &g.scale, "ImageToU8": &g.imageToU8, "CountNonFinite": &g.countNonFinite,
	} {
		if *kernel, err = library.Kernel(symbolOf(field)); err != nil {
			return nil, errors.Join(err, library.Close())
		}
	}
	return g, nil
}

// symbolOf is the name of a function in C, which the kernel on a device has too.
func symbolOf(field string) string {
	f, _ := reflect.TypeFor[table]().FieldByName(field)
	return f.Tag.Get("sym")
}

// Close unloads the code.
func (g *GPU) Close() error { return g.library.Close() }

// block is how many threads make a block; a grid has as many blocks as take each value once, up to maxGrid: then threads
// come again.
const (
	block   = 256
	maxGrid = 1 << 20
)

// launch queues a kernel over n values.
func launch[T any](g *GPU, k *cuda.Kernel, s *cuda.Stream, n int, args *T, memory ...cuda.View) error {
	if n == 0 {
		return nil
	}
	values := block * g.lanes
	grid := min((n+values-1)/values, maxGrid)
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(args)), unsafe.Sizeof(*args))
	return k.Launch(s, cuda.Dim3{X: uint32(grid)}, cuda.Dim3{X: block}, bytes, memory...)
}

// DeviceStepArgs are StepArgs for float32 values on a device.
type DeviceStepArgs = StepArgsOf[cuda.View]

func deviceMemory(v cuda.View) memory {
	return memory{v.Address(), int(v.Bytes()) / floatBytes, v.Address() != 0}
}

const floatBytes = 4

// checkFloats makes sure that views hold whole float32 values.
func checkFloats(kernel string, views ...cuda.View) error {
	for _, v := range views {
		if v.Bytes()%floatBytes != 0 || v.Address()%floatBytes != 0 {
			return fmt.Errorf("kernels: %s: a view of %d bytes at %#x, expected whole float32 values", kernel, v.Bytes(), v.Address())
		}
	}
	return nil
}

// Step queues one scheduler step. It fails, before anything is queued, when a does not describe one.
func (g *GPU) Step(s *cuda.Stream, a *DeviceStepArgs) error {
	var used []cuda.View
	for _, v := range append([]cuda.View{a.Sample, a.Cond, a.Uncond, a.Noise, a.Converted, a.Prev}, a.History...) {
		if v.Address() != 0 {
			used = append(used, v)
		}
	}
	if err := errors.Join(checkStep(a, deviceMemory), checkFloats("Step", used...)); err != nil {
		return err
	}
	n := deviceMemory(a.Sample).n
	args := newStepArgs(a, n, cuda.View.Address)
	return launch(g, g.step, s, n, &args, used...)
}

// Scale queues dst = src*mul + add with two roundings. dst may be src; any other overlap is an error.
func (g *GPU) Scale(s *cuda.Stream, dst, src cuda.View, mul, add float32) error {
	if err := errors.Join(checkScale(deviceMemory(dst), deviceMemory(src)), checkFloats("Scale", dst, src)); err != nil {
		return err
	}
	n := deviceMemory(src).n
	args := scaleArgs[uintptr]{dst: dst.Address(), src: src.Address(), mul: mul, add: add, n: int64(n)}
	return launch(g, g.scale, s, n, &args, dst, src)
}

// ImageToU8 queues what Set.ImageToU8 does.
func (g *GPU) ImageToU8(s *cuda.Stream, dst, src cuda.View, channels, height, width int) error {
	n, err := checkImage(int(dst.Bytes()), deviceMemory(src).n, channels, height, width)
	if err = errors.Join(err, checkFloats("ImageToU8", src)); err != nil || n == 0 {
		return err
	}
	args := imageArgs[uintptr]{dst: dst.Address(), src: src.Address(), channels: int64(channels), n: int64(height * width)}
	return launch(g, g.imageToU8, s, height*width, &args, dst, src)
}

// CountNonFinite queues setting count, one uint64, to how many values of src are NaN or infinite.
func (g *GPU) CountNonFinite(s *cuda.Stream, count, src cuda.View) error {
	if err := checkFloats("CountNonFinite", src); err != nil {
		return err
	}
	if count.Bytes() != 8 || count.Address()%8 != 0 {
		return fmt.Errorf("kernels: CountNonFinite: count has %d bytes at %#x, expected one uint64", count.Bytes(), count.Address())
	}
	if err := s.Fill(count, 0); err != nil {
		return err
	}
	n := deviceMemory(src).n
	args := countArgs[uintptr]{src: src.Address(), n: int64(n), count: count.Address()}
	return launch(g, g.countNonFinite, s, n, &args, count, src)
}
