package onnxruntime

import (
	"errors"
	"fmt"

	"genfn/bindings/cuda"
	"genfn/bindings/onnxruntime/internal/capi"
	"genfn/bindings/tensor"
)

// DeviceTensorOf makes a Tensor that shares memory of a CUDA device, which has at least the bytes of the shape, and keeps
// it even if b is closed. With hostReads the memory is given out as the host's: that of the virtual CUDA device is, and
// sessions on the CPU take it. The caller closes the Tensor.
func (r *Runtime) DeviceTensorOf(b *cuda.Buffer, dtype tensor.DType, shape tensor.Shape, hostReads bool) (*Tensor, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	if b == nil {
		return nil, errors.New("onnxruntime: no buffer to make a tensor of")
	}
	if bytes, err := shape.Bytes(dtype); err != nil || bytes > b.Bytes() {
		return nil, errors.Join(err, fmt.Errorf("onnxruntime: tensor %s%s over %d bytes of device memory, which are too few", dtype, shape, b.Bytes()))
	}
	address, err := b.Retain()
	if err != nil {
		return nil, err
	}
	p := place{"Cuda", b.Device()}
	if hostReads {
		p = hostPlace
	}
	handle, err := r.value(p, capi.Address(address), dtype, shape)
	if err != nil {
		b.Release()
		return nil, err
	}
	t := &Tensor{handle: handle, port: dtype.String() + shape.String()}
	t.init(r, "tensor", b.Owner(), nil, func() {
		r.api.ReleaseValue(t.handle)
		b.Release()
	})
	return t, nil
}
