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

// edge is where the numbers of a request are converted: on the CUDA device, or if that is nil on the host.
type edge struct {
	device          *cudadevice.Device
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
	half := p.half.host.F16()
	for i, x := range p.wide.host.F32() {
		half[i] = uint16(kernels.ToFloat16(x))
	}
	return nil
}

func (h *edge) widen(p pair) error {
	if h.device != nil {
		return h.device.Widen(p.wide.device, p.half.device)
	}
	wide := p.wide.host.F32()
	for i, x := range p.half.host.F16() {
		wide[i] = kernels.Float16(x).Float32()
	}
	return nil
}
