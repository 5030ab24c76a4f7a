package cudadevice

import (
	"context"

	"genfn/bindings/cuda"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/tensor"
)

// NetworkOptions completes the options of a network's session. On a GPU the session works in the device's stream, with an
// arena that grows by what is asked for, up to what is free now.
func (d *Device) NetworkOptions(o onnxruntime.SessionOptions) (onnxruntime.SessionOptions, error) {
	if d.Virtual() {
		return o, nil
	}
	free, _, err := d.Memory()
	if err != nil {
		return o, err
	}
	o.CUDA = &onnxruntime.CUDAOptions{Device: d.device.Ordinal(), MemoryLimit: free, Stream: d.stream.Handle()}
	return o, nil
}

// Malloc allocates memory for a tensor of a network.
func (d *Device) Malloc(owner string, dtype tensor.DType, shape tensor.Shape) (*cuda.Buffer, error) {
	bytes, err := shape.Bytes(dtype)
	if err != nil {
		return nil, err
	}
	return d.device.Malloc(owner, max(1, bytes))
}

// TensorOf makes ONNX Runtime's handle on such memory, which the caller closes.
func (d *Device) TensorOf(r *onnxruntime.Runtime, b *cuda.Buffer, dtype tensor.DType, shape tensor.Shape) (*onnxruntime.Tensor, error) {
	return r.DeviceTensorOf(b, dtype, shape, d.Virtual())
}

// Run runs a network once, after the work that is in the stream. When it returns the network is done, on a GPU too: ONNX
// Runtime waits for its stream at the end.
func (d *Device) Run(ctx context.Context, b *onnxruntime.Binding) error {
	if d.Virtual() {
		if err := d.stream.Synchronize(); err != nil {
			return err
		}
	}
	return b.Run(ctx)
}
