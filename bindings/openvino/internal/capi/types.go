package capi

import "unsafe"

// The handles are pointers into native memory; 0 is null.
type (
	// Core is ov_core_t*.
	Core uintptr
	// Model is ov_model_t*.
	Model uintptr
	// ConstPort is ov_output_const_port_t*.
	ConstPort uintptr
	// CompiledModel is ov_compiled_model_t*.
	CompiledModel uintptr
	// InferRequest is ov_infer_request_t*.
	InferRequest uintptr
	// Tensor is ov_tensor_t*.
	Tensor uintptr
)

// Size is size_t.
type Size uintptr

// Status is ov_status_e.
type Status int32

// Statuses that the safe layer tells apart.
const (
	OK             Status = 0
	ResultNotReady Status = -9
)

// ElementType is ov_element_type_e, whose numbering depends on the release.
type ElementType uint32

// Version is ov_version_t.
type Version struct {
	BuildNumber, Description *byte
}

// AvailableDevices is ov_available_devices_t.
type AvailableDevices struct {
	Devices **byte
	Size    Size
}

// Shape is ov_shape_t.
type Shape struct {
	Rank int64
	Dims *int64
}

// ShapeOf makes a Shape over dims, which must not change while it is in use.
func ShapeOf(dims []int64) Shape { return Shape{Rank: int64(len(dims)), Dims: unsafe.SliceData(dims)} }

// Slice copies the dimensions out.
func (s Shape) Slice() []int64 {
	return append([]int64{}, unsafe.Slice(s.Dims, s.Rank)...)
}

// Dimension is ov_dimension_t: both limits inclusive, Max -1 without upper limit.
type Dimension struct {
	Min, Max int64
}

// PartialShape is ov_partial_shape_t. The rank is unknown where Rank.Min and Rank.Max differ.
type PartialShape struct {
	Rank Dimension
	Dims *Dimension
}
