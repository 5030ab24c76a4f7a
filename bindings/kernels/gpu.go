package kernels

import (
	"errors"
	"iter"
	"reflect"
	"unsafe"

	"genfn/bindings/cuda"
)

// GPU is the kernels that a CUDA device has: the same source as the C library's, with the same results. Blend is not
// among them: tiles are blended on the host. Its methods queue work in a stream, whose Synchronize tells of failures.
// They are safe for concurrent use.
type GPU struct {
	lanes   int // of the code
	library *cuda.Library
	kernels map[string]*cuda.Kernel // by the field of table
}

// OpenGPU loads the kernels' code for a device (see Compile and Cubin). The caller closes the GPU.
func OpenGPU(d *cuda.Device, code []byte) (*GPU, error) {
	library, err := d.LoadLibrary("kernels", code)
	if err != nil {
		return nil, err
	}
	g := &GPU{lanes: lanes, library: library, kernels: map[string]*cuda.Kernel{}}
	for field, symbol := range deviceSymbols() {
		if g.kernels[field], err = library.Kernel(symbol); err != nil {
			return nil, errors.Join(err, library.Close())
		}
	}
	return g, nil
}

// deviceSymbols are the names of the kernels on a device, which are those of the functions in C, by the field of table.
func deviceSymbols() iter.Seq2[string, string] {
	return func(yield func(field, symbol string) bool) {
		for _, f := range reflect.VisibleFields(reflect.TypeFor[table]()) {
			if f.Tag.Get("on") != "host" && !yield(f.Name, f.Tag.Get("sym")) {
				return
			}
		}
	}
}

// Close unloads the code.
func (g *GPU) Close() error { return g.library.Close() }

// block is how many threads make a block; a grid has as many blocks as take each value once, up to maxGrid: then threads
// come again.
const (
	block   = 256
	maxGrid = 1 << 20
)

// launch queues the kernel of a field of table over n values.
func launch[T any](g *GPU, kernel string, s *cuda.Stream, n int, args *T, memory ...cuda.View) error {
	if n == 0 {
		return nil
	}
	values := block * g.lanes
	grid := min((n+values-1)/values, maxGrid)
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(args)), unsafe.Sizeof(*args))
	return g.kernels[kernel].Launch(s, cuda.Dim3{X: uint32(grid)}, cuda.Dim3{X: block}, bytes, memory...)
}

// DeviceStepArgs are StepArgs for float32 values on a device.
type DeviceStepArgs = StepArgsOf[cuda.View]

// Step queues one scheduler step. It fails, before anything is queued, when a does not describe one.
func (g *GPU) Step(s *cuda.Stream, a *DeviceStepArgs) error { return g.stepOf(s, "Step", f32, a) }

// Scale queues dst = src*mul + add with two roundings. dst may be src; any other overlap is an error.
func (g *GPU) Scale(s *cuda.Stream, dst, src cuda.View, mul, add float32) error {
	return g.scaleOf(s, "Scale", f32, dst, src, mul, add)
}

// ImageToU8 queues what Set.ImageToU8 does.
func (g *GPU) ImageToU8(s *cuda.Stream, dst, src cuda.View, channels, height, width int) error {
	return g.imageOf(s, "ImageToU8", dst, src, u8, f32, channels, height, width)
}

// CountNonFinite queues setting count, one uint64, to how many values of src are NaN or infinite.
func (g *GPU) CountNonFinite(s *cuda.Stream, count, src cuda.View) error {
	return g.countOf(s, "CountNonFinite", f32, count, src)
}
