package openvino

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"genfn/bindings/openvino/internal/capi"
	"genfn/bindings/tensor"
)

// Model is a network as read from files, not yet for a device.
type Model struct {
	object
	handle capi.Model
	name   string

	mu              sync.RWMutex // written by Reshape
	inputs, outputs []tensor.Port
}

func (m *Model) use() error {
	if m == nil {
		return closedError("model")
	}
	return m.object.use()
}

// Close frees the model. What was compiled from it stays.
func (m *Model) Close() error {
	if m != nil {
		m.close()
	}
	return nil
}

// Inputs describes the inputs, in the order of their indices.
func (m *Model) Inputs() []tensor.Port {
	if m == nil {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return tensor.ClonePorts(m.inputs)
}

// Outputs describes the outputs, in the order of their indices.
func (m *Model) Outputs() []tensor.Port {
	if m == nil {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return tensor.ClonePorts(m.outputs)
}

// IsDynamic reports whether any operation has an open dimension. It is false for a closed model.
func (m *Model) IsDynamic() bool {
	if m.use() != nil {
		return false
	}
	defer m.done()
	m.mu.RLock()
	defer m.mu.RUnlock()
	d := m.runtime.domains.acquire()
	defer m.runtime.domains.release(d)
	return d.api.ModelIsDynamic(m.handle)
}

// Reshape sets the shapes of inputs, by name, and works out all others anew. The shapes must have
// dimensions: OpenVINO's C API takes rank 0 for one open dimension. If that fails, the model
// is as it was, or of no more use: read it again.
func (m *Model) Reshape(shapes map[string]tensor.PartialShape) error {
	if err := m.use(); err != nil {
		return err
	}
	defer m.done()
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(shapes))
	for name := range shapes {
		if !slices.ContainsFunc(m.inputs, func(p tensor.Port) bool { return p.Name == name }) {
			return fmt.Errorf("openvino: reshape %s: no input %q; it has %s", m.name, name, portList(m.inputs))
		}
		if len(shapes[name]) == 0 {
			return fmt.Errorf("openvino: reshape %s: input %q needs a shape with dimensions", m.name, name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return nil
	}
	cNames, err := cStrings(names...)
	if err != nil {
		return err
	}
	cShapes := make([]capi.PartialShape, len(names))
	for i, name := range names {
		cShapes[i] = shapeToC(shapes[name])
	}
	err = m.runtime.call("reshape "+m.name, func(a *capi.API) capi.Status {
		return a.ModelReshape(m.handle, &cNames[0], &cShapes[0], capi.Size(len(names)))
	})
	runtime.KeepAlive(cNames)
	runtime.KeepAlive(cShapes)
	if err != nil {
		return err
	}
	return m.readPorts()
}

// portList names ports with their shapes, for errors.
func portList(ports []tensor.Port) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = fmt.Sprintf("%q %s%s", p.Name, p.DType, p.Shape)
	}
	return strings.Join(words, ", ")
}

// readPorts needs m.mu, unless the model is not shared yet.
func (m *Model) readPorts() error {
	inputs, err := m.runtime.ports(portCalls{
		op:    "inputs of " + m.name,
		count: func(a *capi.API, n *capi.Size) capi.Status { return a.ModelInputsSize(m.handle, n) },
		get: func(a *capi.API, i capi.Size, p *capi.ConstPort) capi.Status {
			return a.ModelConstInputByIndex(m.handle, i, p)
		},
	})
	if err != nil {
		return err
	}
	outputs, err := m.runtime.ports(portCalls{
		op:    "outputs of " + m.name,
		count: func(a *capi.API, n *capi.Size) capi.Status { return a.ModelOutputsSize(m.handle, n) },
		get: func(a *capi.API, i capi.Size, p *capi.ConstPort) capi.Status {
			return a.ModelConstOutputByIndex(m.handle, i, p)
		},
	})
	if err != nil {
		return err
	}
	m.inputs, m.outputs = inputs, outputs
	return nil
}
