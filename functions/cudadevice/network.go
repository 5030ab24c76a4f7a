package cudadevice

import (
	"context"
	"strings"

	"genfn/bindings/cuda"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/tensor"
)

// virtual reports whether a device of that name is the virtual one (native/vcuda), whose memory is the host's.
func virtual(name string) bool { return strings.Contains(name, "virtual CUDA device") }

// NetworkOptions completes the options of a network's session. On a GPU the session works in the device's stream, with an
// arena that grows by what is asked for, up to what is free now.
func (d *Device) NetworkOptions(o onnxruntime.SessionOptions) (onnxruntime.SessionOptions, error) {
	if virtual(d.identity.Name) {
		return o, nil
	}
	free, _, err := d.Memory()
	if err != nil {
		return o, err
	}
	o.CUDA = &onnxruntime.CUDAOptions{Device: d.device.Ordinal(), MemoryLimit: free, Stream: d.stream.Handle()}
	return o, nil
}

// CheckRuntime returns an error if networks cannot run with this ONNX Runtime on a device of that name, with what is
// missing.
func CheckRuntime(r *onnxruntime.Runtime, name string) error {
	if virtual(name) {
		return nil
	}
	return r.CheckCUDA()
}

// RunsOn says in words what runs the networks of a device of that name.
func RunsOn(name string) (what, why string) {
	if virtual(name) {
		return "CPU", "the virtual device runs no networks: ONNX Runtime does on the CPU, over the device's memory"
	}
	return "CUDA", "ONNX Runtime's CUDA provider, in the stream of genfn's own kernels"
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
	return r.DeviceTensorOf(b, dtype, shape, virtual(d.identity.Name))
}

// Run runs a network once, after the work that is in the stream. When it returns the network is done, on a GPU too: ONNX
// Runtime waits for its stream at the end.
func (d *Device) Run(ctx context.Context, b *onnxruntime.Binding) error {
	if virtual(d.identity.Name) {
		if err := d.stream.Synchronize(); err != nil {
			return err
		}
	}
	return b.Run(ctx)
}

// Narrow queues the conversion of float32 values to float16.
func (d *Device) Narrow(dst, src *cuda.Buffer) error {
	return d.kernels.F32ToF16(d.stream, dst.All(), src.All())
}

// Widen queues the conversion of float16 values to float32.
func (d *Device) Widen(dst, src *cuda.Buffer) error {
	return d.kernels.F16ToF32(d.stream, dst.All(), src.All())
}
