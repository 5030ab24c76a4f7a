package openvino

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"genfn/bindings/openvino/internal/capi"
	"genfn/bindings/tensor"
)

// Tensor is OpenVINO's handle on a tensor. Its memory belongs to a tensor.Buffer, to a Request, or, for
// strings, to OpenVINO. The elements are guarded by nothing, and slices of them must not be touched
// after Close.
type Tensor struct {
	object
	handle capi.Tensor
	dtype  tensor.DType
}

func (t *Tensor) use() error {
	if t == nil {
		return closedError("tensor")
	}
	return t.object.use()
}

// Close frees the handle once no request holds it, and gives up its share of the memory.
func (t *Tensor) Close() error {
	if t != nil {
		t.close()
	}
	return nil
}

// TensorOf makes a Tensor that shares b's memory, type and shape, and keeps the memory even if b is
// closed. The caller closes the Tensor.
func (r *Runtime) TensorOf(b *tensor.Buffer) (*Tensor, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	if b == nil {
		return nil, errors.New("openvino: no buffer to make a tensor of")
	}
	memory, err := b.Retain()
	if err != nil {
		return nil, err
	}
	shape, handle := []int64(b.Shape()), new(capi.Tensor)
	err = r.call(fmt.Sprintf("create tensor %q %s%s", b.Owner(), b.DType(), b.Shape()), func(a *capi.API) capi.Status {
		return a.TensorCreateFromHostPtr(r.elements.toC[b.DType()], capi.ShapeOf(shape), memory, handle)
	})
	if err != nil {
		return nil, errors.Join(err, b.Release())
	}
	return r.newTensor(*handle, b.Owner(), nil, b)
}

// NewTensor makes a zeroed Tensor in memory of its own, recorded under owner. The caller closes it.
func (r *Runtime) NewTensor(owner string, dtype tensor.DType, shape tensor.Shape) (*Tensor, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	b, err := tensor.New(r.ledger, owner, dtype, shape)
	if err != nil {
		return nil, err
	}
	t, err := r.TensorOf(b)
	return t, errors.Join(err, b.Close()) // t keeps the memory
}

// StringTensor makes a one-dimensional Tensor of strings, which it copies. The strings must not
// contain NUL. Releases before 2025 cannot make one. The caller closes it.
func (r *Runtime) StringTensor(values []string) (*Tensor, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	if !r.makesStrings {
		return nil, fmt.Errorf("openvino: release %s cannot make string tensors; %s", r.version, remedy)
	}
	if len(values) == 0 {
		return nil, errors.New("openvino: a string tensor needs at least one string")
	}
	array, err := cStrings(values...)
	if err != nil {
		return nil, err
	}
	shape, handle := []int64{int64(len(values))}, new(capi.Tensor)
	err = r.call("create string tensor", func(a *capi.API) capi.Status {
		return a.TensorCreateFromStringArray(&array[0], capi.Size(len(array)), capi.ShapeOf(shape), handle)
	})
	runtime.KeepAlive(array)
	if err != nil {
		return nil, err
	}
	return r.newTensor(*handle, "strings", nil, nil)
}

// newTensor takes over handle and the Retain of buffer.
func (r *Runtime) newTensor(handle capi.Tensor, owner string, parent *object, buffer *tensor.Buffer) (*Tensor, error) {
	t := &Tensor{handle: handle}
	t.init(r, "tensor", owner, parent, func(d *domain) { d.api.TensorFree(t.handle) })
	if buffer != nil {
		t.freed = func() { _ = buffer.Release() } // unmapping what was mapped does not fail
	}
	element := new(capi.ElementType)
	if err := r.call("get element type", func(a *capi.API) capi.Status {
		return a.TensorGetElementType(handle, element)
	}); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.dtype = r.elements.toGo[*element]
	return t, nil
}

// DType returns the element type, 0 for one that tensors here cannot have.
func (t *Tensor) DType() tensor.DType {
	if t == nil {
		return 0
	}
	return t.dtype
}

// Shape returns the shape; an inference may change it where the model's is open. It is nil after
// Close.
func (t *Tensor) Shape() tensor.Shape {
	if t.use() != nil {
		return nil
	}
	defer t.done()
	d := t.runtime.domains.acquireHot()
	defer t.runtime.domains.releaseHot(d)
	switch d.api.TensorGetShape(t.handle, &d.results.shape) {
	case capi.OK:
		defer d.api.ShapeFree(&d.results.shape)
		return d.results.shape.Slice()
	case invalidParameter: // what release 2026.4 says for a scalar
		return tensor.Shape{}
	default:
		return nil
	}
}

// Bytes returns the memory of the elements; nil after Close and for strings.
func (t *Tensor) Bytes() []byte {
	if t == nil || t.dtype == tensor.String || t.use() != nil {
		return nil
	}
	defer t.done()
	d := t.runtime.domains.acquireHot()
	defer t.runtime.domains.releaseHot(d)
	results := &d.results
	if d.api.TensorGetByteSize(t.handle, &results.size) != capi.OK || d.api.TensorData(t.handle, &results.data) != capi.OK {
		return nil
	}
	if results.size == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(results.data), results.size)
}

// F32 returns the elements of an F32 tensor; nil if it is of another type or closed. So do the others.
func (t *Tensor) F32() []float32 { return elements[float32](t, tensor.F32) }

// I32 returns the elements of an I32 tensor.
func (t *Tensor) I32() []int32 { return elements[int32](t, tensor.I32) }

// I64 returns the elements of an I64 tensor.
func (t *Tensor) I64() []int64 { return elements[int64](t, tensor.I64) }

// U8 returns the elements of a U8 tensor.
func (t *Tensor) U8() []uint8 { return elements[uint8](t, tensor.U8) }

func elements[T float32 | int32 | int64 | uint8](t *Tensor, dtype tensor.DType) []T {
	if t == nil || t.dtype != dtype {
		return nil
	}
	return tensor.View[T](t.Bytes())
}
