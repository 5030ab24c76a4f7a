package onnxruntime

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"genfn/bindings/onnxruntime/internal/capi"
	"genfn/bindings/tensor"
)

// elementTypes are ONNX Runtime's numbers of the element types.
var elementTypes = map[tensor.DType]capi.ElementType{
	tensor.F32: capi.Float, tensor.F16: capi.Float16, tensor.BF16: capi.BFloat16, tensor.F64: capi.Double,
	tensor.I8: capi.Int8, tensor.I16: capi.Int16, tensor.I32: capi.Int32, tensor.I64: capi.Int64,
	tensor.U8: capi.Uint8, tensor.U16: capi.Uint16, tensor.U32: capi.Uint32, tensor.U64: capi.Uint64, tensor.Bool: capi.Bool,
}

// dtypeOf returns the type for a number, 0 for one that tensors here cannot have.
func dtypeOf(element capi.ElementType) tensor.DType {
	for dtype, number := range elementTypes {
		if number == element {
			return dtype
		}
	}
	return 0
}

// Tensor is ONNX Runtime's handle on a tensor in memory of this program.
type Tensor struct {
	object
	handle capi.Value
	port   string // type and shape, for messages
}

// TensorOf makes a Tensor that shares b's memory, type and shape, and keeps the memory even if b is closed. The caller
// closes the Tensor.
func (r *Runtime) TensorOf(b *tensor.Buffer) (*Tensor, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	if b == nil {
		return nil, errors.New("onnxruntime: no buffer to make a tensor of")
	}
	memory, err := b.Retain()
	if err != nil {
		return nil, err
	}
	handle, err := r.value(hostPlace, capi.Address(uintptr(memory)), b.DType(), b.Shape())
	if err != nil {
		return nil, errors.Join(err, b.Release())
	}
	t := &Tensor{handle: handle, port: b.DType().String() + b.Shape().String()}
	t.init(r, "tensor", b.Owner(), nil, func() {
		r.api.ReleaseValue(t.handle)
		_ = b.Release() // unmapping what was mapped does not fail
	})
	return t, nil
}

// place is a kind of memory as ONNX Runtime names it.
type place struct {
	name   string
	device int
}

var hostPlace = place{name: "Cpu"}

// value makes a native tensor over memory.
func (r *Runtime) value(p place, memory capi.Address, dtype tensor.DType, shape tensor.Shape) (capi.Value, error) {
	bytes, err := shape.Bytes(dtype)
	if err != nil {
		return 0, fmt.Errorf("onnxruntime: %w", err)
	}
	info, handle, name := new(capi.MemoryInfo), new(capi.Value), []byte(p.name+"\x00")
	if err := r.check("name the memory "+p.name, r.api.CreateMemoryInfo(&name[0], capi.DeviceAllocator, int32(p.device), capi.MemTypeDefault, info)); err != nil { //nolint:gosec // a small number
		return 0, err
	}
	defer r.api.ReleaseMemoryInfo(*info)
	dims := append(slices.Clone([]int64(shape)), 0) // with an address for a scalar too
	err = r.check(fmt.Sprintf("create tensor %s%s", dtype, shape),
		r.api.CreateTensorWithDataAsOrtValue(*info, memory, capi.Size(bytes), &dims[0], capi.Size(len(shape)), elementTypes[dtype], handle))
	return *handle, err
}

func (t *Tensor) use() error {
	if t == nil {
		return closedError("tensor")
	}
	return t.object.use()
}

// Close frees the handle once no binding holds it, and gives up its share of the memory.
func (t *Tensor) Close() error {
	if t != nil {
		t.close()
	}
	return nil
}

// addressOf is the address of memory that C has allocated.
func addressOf(p *byte) capi.Address { return capi.Address(uintptr(unsafe.Pointer(p))) }
