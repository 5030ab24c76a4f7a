package pipeline

import (
	"encoding/binary"
	"math"

	"genfn/bindings/cuda"
	"genfn/bindings/kernels"
	"genfn/bindings/tensor"
	"genfn/functions/cudadevice"
	"genfn/functions/diffusion"
	"genfn/functions/model/session"
)

// arrays are those of one generation, in the memory where its networks have their inputs and outputs, with what is done
// to them. Work on a device is queued; what gives values to the host waits for it.
type arrays[V any] interface {
	diffusion.Arrays[V]
	// Slice is n values of an array, from one on.
	Slice(v V, from, n int) V
	// Scale computes dst = src*mul + add.
	Scale(dst, src V, mul, add float32) error
	// Write copies values of the host to dst.
	Write(dst V, src []float32) error
	// Fetch gives the values to the host: of an array of the host its own memory.
	Fetch(v V) ([]float32, error)
	// Count has the values counted that are NaN or infinite. Counted returns how many they are; without wait only where
	// that takes no waiting.
	Count(v V) error
	Counted(wait bool) (n int, known bool, err error)
	// Image gives an image of 3 x height x width values to the host, as bytes of height x width x 3.
	Image(src V, height, width int) ([]byte, error)
	// Of is an input or output of a network. Elements of other types are there as their bytes, in values of 4.
	Of(e *session.Executable, name string) V
	// Do runs f. What f does with arrays of a device costs one switch of threads in all, not two each.
	Do(f func() error) error
	// Close frees them.
	Close() error
}

// hostArrays are slices.
type hostArrays struct {
	diffusion.Arrays[[]float32]
	kernels *kernels.Set
	counted int
}

var _ arrays[[]float32] = (*hostArrays)(nil)

func newHostArrays(k *kernels.Set) *hostArrays {
	return &hostArrays{Arrays: diffusion.Host(k), kernels: k}
}

func (h *hostArrays) Slice(v []float32, from, n int) []float32 { return v[from : from+n : from+n] }

func (h *hostArrays) Scale(dst, src []float32, mul, add float32) error {
	return h.kernels.Scale(dst, src, mul, add)
}

func (h *hostArrays) Write(dst, src []float32) error { return h.Copy(dst, src) }

func (h *hostArrays) Fetch(v []float32) ([]float32, error) { return v, nil }

func (h *hostArrays) Count(v []float32) error {
	h.counted = h.kernels.CountNonFinite(v)
	return nil
}

func (h *hostArrays) Counted(bool) (int, bool, error) { return h.counted, true, nil }

func (h *hostArrays) Image(src []float32, height, width int) ([]byte, error) {
	pixels := make([]byte, 3*height*width)
	return pixels, h.kernels.ImageToU8(pixels, src, 3, height, width)
}

func (h *hostArrays) Of(e *session.Executable, name string) []float32 {
	return tensor.View[float32](e.Buffer(name).Bytes())
}

func (h *hostArrays) Do(f func() error) error { return f() }

func (h *hostArrays) Close() error { return nil }

// deviceArrays are in a CUDA device's memory.
type deviceArrays struct{ *cudadevice.Arrays }

var _ arrays[cuda.View] = deviceArrays{}

func (d deviceArrays) Of(e *session.Executable, name string) cuda.View {
	return e.DeviceBuffer(name).All()
}

// wholes are whole numbers as elements of a type, I64 or I32, for Write.
func wholes(dtype tensor.DType, numbers []int64) []float32 {
	bytes := make([]byte, 0, dtype.Size()*len(numbers))
	for _, n := range numbers {
		if dtype == tensor.I64 {
			bytes = binary.NativeEndian.AppendUint64(bytes, uint64(n)) //nolint:gosec // the same bits
		} else {
			bytes = binary.NativeEndian.AppendUint32(bytes, uint32(n)) //nolint:gosec // token ids and timesteps are small
		}
	}
	return tensor.View[float32](bytes)
}

// encodeTimesteps are timesteps as elements of a type, for Write. Most exported UNets take whole numbers; some schedules
// have fractions.
func encodeTimesteps(dtype tensor.DType, timesteps []float64) []float32 {
	if dtype == tensor.F32 {
		values := make([]float32, len(timesteps))
		for i, t := range timesteps {
			values[i] = float32(t)
		}
		return values
	}
	numbers := make([]int64, len(timesteps))
	for i, t := range timesteps {
		numbers[i] = int64(math.RoundToEven(t))
	}
	return wholes(dtype, numbers)
}
