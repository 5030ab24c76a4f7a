package openvino

import (
	"unsafe"

	"genfn/bindings/dynlib"
	"genfn/bindings/openvino/internal/capi"
	"genfn/bindings/tensor"
)

// portCalls are the calls that list the inputs or outputs of a model or compiled model.
type portCalls struct {
	op    string
	count func(*capi.API, *capi.Size) capi.Status
	get   func(*capi.API, capi.Size, *capi.ConstPort) capi.Status
}

func (r *Runtime) ports(calls portCalls) ([]tensor.Port, error) {
	d := r.domains.acquire()
	defer r.domains.release(d)
	count := new(capi.Size)
	if code := calls.count(&d.api, count); code != capi.OK {
		return nil, d.failure(calls.op, code)
	}
	ports := make([]tensor.Port, *count)
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

func (d *domain) readPort(handle capi.ConstPort, elements elementTypes, p *tensor.Port) capi.Status {
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
	p.Shape = tensor.PartialShape{}
	for _, dim := range unsafe.Slice(shape.Dims, shape.Rank.Min) {
		p.Shape = append(p.Shape, tensor.Dim(dim))
	}
	return capi.OK
}

// shapeToC returns a shape that has dimensions for C, which the garbage collector keeps as long as it is referenced.
func shapeToC(p tensor.PartialShape) capi.PartialShape {
	dims := make([]capi.Dimension, len(p))
	for i, d := range p {
		dims[i] = capi.Dimension(d)
	}
	rank := int64(len(p))
	return capi.PartialShape{Rank: capi.Dimension{Min: rank, Max: rank}, Dims: unsafe.SliceData(dims)}
}
