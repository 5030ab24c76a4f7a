package kernels

import (
	"errors"
	"unsafe"

	"genfn/bindings/cuda"
)

// DeviceResampling is a Resampling in a device's memory.
type DeviceResampling struct {
	*Resampling
	memory                       *cuda.Buffer
	starts, counts, exact, fixed cuda.View
}

// NewDeviceResampling copies weights to the device of s. The caller closes it.
func NewDeviceResampling(d *cuda.Device, s *cuda.Stream, r *Resampling) (_ *DeviceResampling, err error) {
	parts := [...][]byte{byteView(r.weights), byteView(r.first), byteView(r.count), byteView(r.fixed)} // by their alignment
	total := int64(0)
	for _, p := range parts {
		total += int64(len(p))
	}
	out := &DeviceResampling{Resampling: r}
	if out.memory, err = d.Malloc("resampling", total); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Close())
		}
	}()
	offset := int64(0)
	for i, view := range [...]*cuda.View{&out.exact, &out.starts, &out.counts, &out.fixed} {
		n := int64(len(parts[i]))
		if *view, err = out.memory.All().Slice(offset, n); err != nil {
			return nil, err
		}
		if err = s.Write(*view, parts[i]); err != nil {
			return nil, err
		}
		offset += n
	}
	return out, nil
}

func byteView[T any](v []T) []byte {
	var t T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(t)))
}

// Close frees the device's memory.
func (r *DeviceResampling) Close() error { return r.memory.Close() }

// Resample queues what Set.Resample does.
func (g *GPU) Resample(s *cuda.Stream, dst, src cuda.View, r *DeviceResampling, inner int) error {
	return g.resampleOf(s, "Resample", f32, dst, src, r, r.exact, inner)
}

// ResampleU8 queues what Set.ResampleU8 does.
func (g *GPU) ResampleU8(s *cuda.Stream, dst, src cuda.View, r *DeviceResampling, inner int) error {
	return g.resampleOf(s, "ResampleU8", u8, dst, src, r, r.fixed, inner)
}

func (g *GPU) resampleOf(s *cuda.Stream, kernel string, e element, dst, src cuda.View, r *DeviceResampling, weights cuda.View, inner int) error {
	if err := errors.Join(r.check(e.memory(dst), e.memory(src), inner), e.check(kernel, dst, src)); err != nil {
		return err
	}
	n := e.memory(dst).n
	args := resampleArgs[uintptr]{
		dst: dst.Address(), src: src.Address(), first: r.starts.Address(), count: r.counts.Address(), weights: weights.Address(),
		in: int64(r.in), out: int64(r.out), inner: int64(inner), taps: int64(r.taps), n: int64(n),
	}
	return launch(g, kernel, s, n, &args, dst, src, r.starts, r.counts, weights)
}
