package openvino

import (
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"genfn/bindings/dynlib"
	"genfn/bindings/openvino/internal/capi"
	"genfn/bindings/tensor"
)

// Port is an input or output of a model.
type Port struct {
	Name  string       // one of its tensor names; "" if it has none
	DType tensor.DType // 0 for an element type that tensors here cannot have
	Shape PartialShape
}

// Dim is the extent of a dimension, both limits inclusive. Max -1 is no upper limit.
type Dim struct{ Min, Max int64 }

// Dynamic is the Dim of any extent.
var Dynamic = Dim{Min: 0, Max: -1}

// Static reports whether the dimension has one extent.
func (d Dim) Static() bool { return d.Min == d.Max && d.Min >= 0 }

// String returns 64, ?, 1..8 or 2.. as the limits are.
func (d Dim) String() string {
	least := strconv.FormatInt(d.Min, 10)
	switch {
	case d.Static():
		return least
	case d.Max >= 0:
		return least + ".." + strconv.FormatInt(d.Max, 10)
	case d.Min > 0:
		return least + ".."
	default:
		return "?"
	}
}

// PartialShape is a shape whose dimensions may be open. nil is a shape of unknown rank; an empty one
// is a scalar's.
type PartialShape []Dim

// StaticShape returns the shape of exactly these extents.
func StaticShape(extents ...int64) PartialShape {
	p := make(PartialShape, len(extents))
	for i, n := range extents {
		p[i] = Dim{n, n}
	}
	return p
}

// Static returns the shape if all its dimensions are static.
func (p PartialShape) Static() (tensor.Shape, bool) {
	if p == nil {
		return nil, false
	}
	s := make(tensor.Shape, len(p))
	for i, d := range p {
		if !d.Static() {
			return nil, false
		}
		s[i] = d.Min
	}
	return s, true
}

// String returns the shape as [1,4,?,1..8], and "unknown rank" for nil.
func (p PartialShape) String() string {
	if p == nil {
		return "unknown rank"
	}
	words := make([]string, len(p))
	for i, d := range p {
		words[i] = d.String()
	}
	return "[" + strings.Join(words, ",") + "]"
}

// portCalls are the calls that list the inputs or outputs of a model or compiled model.
type portCalls struct {
	op    string
	count func(*capi.API, *capi.Size) capi.Status
	get   func(*capi.API, capi.Size, *capi.ConstPort) capi.Status
}

func (r *Runtime) ports(calls portCalls) ([]Port, error) {
	d := r.domains.acquire()
	defer r.domains.release(d)
	count := new(capi.Size)
	if code := calls.count(&d.api, count); code != capi.OK {
		return nil, d.failure(calls.op, code)
	}
	ports := make([]Port, *count)
	for i := range ports {
		handle := new(capi.ConstPort)
		if code := calls.get(&d.api, capi.Size(i), handle); code != capi.OK {
			return nil, d.failure(calls.op, code)
		}
		code := d.readPort(*handle, r.elements, &ports[i])
		if code != capi.OK {
			err := d.failure(calls.op, code)
			d.api.OutputConstPortFree(*handle)
			return nil, err
		}
		d.api.OutputConstPortFree(*handle)
	}
	return ports, nil
}

func (d *domain) readPort(handle capi.ConstPort, elements elementTypes, p *Port) capi.Status {
	name := new(*byte)
	if d.api.PortGetAnyName(handle, name) == capi.OK { // it fails if the port has no name
		p.Name = dynlib.GoString(*name)
		d.api.Free(*name)
	}
	element := new(capi.ElementType)
	if code := d.api.PortGetElementType(handle, element); code != capi.OK {
		return code
	}
	p.DType = elements.toGo[*element]
	shape := new(capi.PartialShape)
	if code := d.api.PortGetPartialShape(handle, shape); code != capi.OK {
		return code
	}
	defer d.api.PartialShapeFree(shape)
	if shape.Rank.Min != shape.Rank.Max {
		return capi.OK // unknown rank: nil
	}
	p.Shape = PartialShape{}
	for _, dim := range unsafe.Slice(shape.Dims, shape.Rank.Min) {
		p.Shape = append(p.Shape, Dim(dim))
	}
	return capi.OK
}

// toC returns a shape that has dimensions for C, which the garbage collector keeps as long as it is referenced.
func (p PartialShape) toC() capi.PartialShape {
	dims := make([]capi.Dimension, len(p))
	for i, d := range p {
		dims[i] = capi.Dimension(d)
	}
	rank := int64(len(p))
	return capi.PartialShape{Rank: capi.Dimension{Min: rank, Max: rank}, Dims: unsafe.SliceData(dims)}
}

// clonePorts copies ports so that their holder's stay as they are.
func clonePorts(ports []Port) []Port {
	out := slices.Clone(ports)
	for i := range out {
		out[i].Shape = slices.Clone(out[i].Shape)
	}
	return out
}
