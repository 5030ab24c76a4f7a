package session

import (
	"context"
	"slices"

	"genfn/bindings/kernels"
	"genfn/bindings/tensor"
	"genfn/functions/cudadevice"
)

// Networks that take and give float16 have float32 outside: they are converted at their edge, so that latents and schedulers
// stay in float32 whatever the networks compute in.

// precisionF16 is the precision of such a network.
const precisionF16 = "f16"

// widened are the ports as users see them.
func widened(ports []tensor.Port) []tensor.Port {
	ports = slices.Clone(ports)
	for i := range ports {
		if ports[i].DType == tensor.F16 {
			ports[i].DType = tensor.F32
		}
	}
	return ports
}

// pair is an input or output, in the memory that users see and in what is bound to the network.
type pair struct{ wide, half memory }

// half16 are the numbers that are bound, on the host.
func (p pair) half16() []kernels.Float16 { return tensor.View[kernels.Float16](p.half.host.Bytes()) }

// edge is where the numbers of a request are converted: on the CUDA device, or if that is nil on the host.
type edge struct {
	device          *cudadevice.Device
	kernels         *kernels.Set
	inputs, outputs []pair
}

// run is an inference with the conversions before and after it.
func (h *edge) run(infer func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, p := range h.inputs {
			if err := h.narrow(p); err != nil {
				return err
			}
		}
		if err := infer(ctx); err != nil {
			return err
		}
		for _, p := range h.outputs {
			if err := h.widen(p); err != nil {
				return err
			}
		}
		return nil
	}
}

func (h *edge) narrow(p pair) error {
	if h.device != nil {
		return h.device.Narrow(p.half.device, p.wide.device)
	}
	return h.kernels.F32ToF16(p.half16(), p.wide.host.F32())
}

func (h *edge) widen(p pair) error {
	if h.device != nil {
		return h.device.Widen(p.wide.device, p.half.device)
	}
	return h.kernels.F16ToF32(p.wide.host.F32(), p.half16())
}
