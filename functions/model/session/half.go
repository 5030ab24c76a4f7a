package session

import (
	"context"
	"math"
	"slices"

	"genfn/bindings/tensor"
	"genfn/events"
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
type pair struct{ wide, half *tensor.Buffer }

// edge is where the numbers of a request are converted.
type edge struct{ inputs, outputs []pair }

// narrowed returns what to bind for a buffer to a port of the file of a type: the buffer, or if that is float16 another,
// which is noted.
func (e *Executable) narrowed(file tensor.DType, buffer *tensor.Buffer, pairs *[]pair) (*tensor.Buffer, error) {
	if file != tensor.F16 {
		return buffer, nil
	}
	half, err := tensor.New(e.network.loader.runtime.Ledger(), buffer.Owner()+" in f16", tensor.F16, buffer.Shape())
	if err != nil {
		return nil, events.Errorf(events.CodeHostOutOfMemory, "%s: %w", e.network.component.Name, err)
	}
	e.buffers[half.Owner()] = half
	e.closers = append(e.closers, half.Close)
	*pairs = append(*pairs, pair{buffer, half})
	return half, nil
}

// run is an inference with the conversions before and after it.
func (h *edge) run(infer func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, p := range h.inputs {
			half := p.half.F16()
			for i, x := range p.wide.F32() {
				half[i] = toFloat16(x)
			}
		}
		if err := infer(ctx); err != nil {
			return err
		}
		for _, p := range h.outputs {
			wide := p.wide.F32()
			for i, x := range p.half.F16() {
				wide[i] = toFloat32(x)
			}
		}
		return nil
	}
}

// toFloat16 rounds to the nearest float16, half to even (IEEE 754): infinite from 65520 on.
func toFloat16(x float32) uint16 {
	const (
		infinite = 0x7c00
		rebias   = (127 - 15) << 23
	)
	bits := math.Float32bits(x)
	sign, magnitude := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000: // NaN
		return sign | infinite | 0x200
	case magnitude >= 0x477ff000: // 65520
		return sign | infinite
	case magnitude >= 0x38800000: // normal: a carry out of the fraction is right in the exponent
		return sign | uint16((magnitude-rebias+0xfff+magnitude>>13&1)>>13)
	}
	// Below 2^-14 the float16 is a multiple of 2^-24, and so is the sum's last bit here: the addition rounds.
	return sign | uint16(math.Float32bits(math.Float32frombits(magnitude)+0.5)&0x7ff)
}

// toFloat32 is exact.
func toFloat32(h uint16) float32 {
	sign, exponent, fraction := uint32(h&0x8000)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0:
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}
