package openvino

import (
	"errors"

	"genfn/bindings/openvino/internal/capi"
	"genfn/bindings/tensor"
)

// elementTypes maps both ways between tensor.DType and the release's ov_element_type_e.
type elementTypes struct {
	toC  map[tensor.DType]capi.ElementType
	toGo map[capi.ElementType]tensor.DType
}

// offsets are the places of our types in ov_element_type_e of release 2026.4. In releases that still
// have UNDEFINED before DYNAMIC, as 2024.6, all are one higher.
var offsets = map[tensor.DType]capi.ElementType{
	tensor.Bool: 1, tensor.BF16: 2, tensor.F16: 3, tensor.F32: 4, tensor.F64: 5,
	tensor.I8: 7, tensor.I16: 8, tensor.I32: 9, tensor.I64: 10,
	tensor.U8: 16, tensor.U16: 17, tensor.U32: 18, tensor.U64: 19, tensor.String: 23,
}

// elementTypes finds the numbering of the loaded release: the one in which every type of fixed size
// makes a tensor of one element with that many bytes.
func (d *domain) elementTypes() (elementTypes, error) {
	for _, shift := range []capi.ElementType{0, 1} {
		e := elementTypes{toC: map[tensor.DType]capi.ElementType{}, toGo: map[capi.ElementType]tensor.DType{}}
		fits := true
		for dtype, offset := range offsets {
			e.toC[dtype], e.toGo[offset+shift] = offset+shift, dtype
			if dtype != tensor.String {
				fits = fits && d.elementSize(offset+shift) == dtype.Size()
			}
		}
		if fits {
			return e, nil
		}
	}
	return elementTypes{}, errors.New("its element types are numbered in a way this program does not know; use the pinned release: " + remedy)
}

// elementSize returns the bytes of a tensor of one element of type e, -1 if there is no such tensor.
func (d *domain) elementSize(e capi.ElementType) int {
	t, size, one := new(capi.Tensor), new(capi.Size), []int64{1}
	if d.api.TensorCreate(e, capi.ShapeOf(one), t) != capi.OK {
		return -1
	}
	defer d.api.TensorFree(*t)
	if d.api.TensorGetByteSize(*t, size) != capi.OK {
		return -1
	}
	return int(*size)
}
