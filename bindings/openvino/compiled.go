package openvino

import (
	"genfn/bindings/openvino/internal/capi"
	"genfn/bindings/tensor"
)

// CompiledModel is a model compiled for a device.
type CompiledModel struct {
	object
	handle          capi.CompiledModel
	name, device    string
	inputs, outputs []tensor.Port
}

func (cm *CompiledModel) use() error {
	if cm == nil {
		return closedError("compiled model")
	}
	return cm.object.use()
}

// Close frees the compiled model once its requests are closed.
func (cm *CompiledModel) Close() error {
	if cm != nil {
		cm.close()
	}
	return nil
}

// Inputs describes the inputs, in the order of their indices.
func (cm *CompiledModel) Inputs() []tensor.Port {
	if cm == nil {
		return nil
	}
	return tensor.ClonePorts(cm.inputs)
}

// Outputs describes the outputs, in the order of their indices.
func (cm *CompiledModel) Outputs() []tensor.Port {
	if cm == nil {
		return nil
	}
	return tensor.ClonePorts(cm.outputs)
}

// Property reads a property of the compiled model.
func (cm *CompiledModel) Property(key string) (string, error) {
	if err := cm.use(); err != nil {
		return "", err
	}
	defer cm.done()
	name, err := cString(key)
	if err != nil {
		return "", err
	}
	return cm.runtime.text("get property "+key+" of "+cm.name, func(a *capi.API, value **byte) capi.Status {
		return a.CompiledModelGetProperty(cm.handle, name, value)
	})
}

// Export writes the compiled model to a file, for Core.Import. Not every device can; its requests may run meanwhile.
func (cm *CompiledModel) Export(path string) error {
	if err := cm.use(); err != nil {
		return err
	}
	defer cm.done()
	file, err := cString(path)
	if err != nil {
		return err
	}
	return cm.runtime.call("export "+cm.name+" to "+path, func(a *capi.API) capi.Status {
		return a.CompiledModelExportModel(cm.handle, file)
	})
}

// NewRequest makes a Request, with tensors of its own for all inputs and outputs of static shape. The
// caller closes it.
func (cm *CompiledModel) NewRequest() (*Request, error) {
	if err := cm.use(); err != nil {
		return nil, err
	}
	defer cm.done()
	handle := new(capi.InferRequest)
	if err := cm.runtime.call("create request of "+cm.name+" on "+cm.device, func(a *capi.API) capi.Status {
		return a.CompiledModelCreateInferRequest(cm.handle, handle)
	}); err != nil {
		return nil, err
	}
	q := &Request{
		handle: *handle, name: cm.name + " on " + cm.device,
		inputs: make([]*Tensor, len(cm.inputs)), outputs: make([]*Tensor, len(cm.outputs)),
	}
	q.init(cm.runtime, "request", cm.name, &cm.object, func(d *domain) { d.api.InferRequestFree(q.handle) })
	q.freed = q.letGo
	return q, nil
}

func (cm *CompiledModel) readPorts() (err error) {
	cm.inputs, err = cm.runtime.ports(portCalls{
		op:    "inputs of compiled " + cm.name,
		count: func(a *capi.API, n *capi.Size) capi.Status { return a.CompiledModelInputsSize(cm.handle, n) },
		get: func(a *capi.API, i capi.Size, p *capi.ConstPort) capi.Status {
			return a.CompiledModelInputByIndex(cm.handle, i, p)
		},
	})
	if err != nil {
		return err
	}
	cm.outputs, err = cm.runtime.ports(portCalls{
		op:    "outputs of compiled " + cm.name,
		count: func(a *capi.API, n *capi.Size) capi.Status { return a.CompiledModelOutputsSize(cm.handle, n) },
		get: func(a *capi.API, i capi.Size, p *capi.ConstPort) capi.Status {
			return a.CompiledModelOutputByIndex(cm.handle, i, p)
		},
	})
	return err
}
