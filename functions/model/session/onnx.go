package session

import (
	"errors"
	"slices"
	"sync"

	"genfn/bindings/onnxruntime"
	"genfn/bindings/tensor"
	"genfn/functions/model"
)

// Networks on ONNX Runtime. One session of a network serves all shapes: what is made for shapes are the buffers and what
// binds them. Nothing is compiled, hence nothing cached, and shapes that do not fit are found by an inference only.

// environment is ONNX Runtime's, made when it is first needed. It is safe for concurrent use.
type environment struct {
	runtime *onnxruntime.Runtime

	mu     sync.Mutex
	closed bool
	native *onnxruntime.Env
}

func (e *environment) get() (*onnxruntime.Env, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	if e.native == nil {
		native, err := e.runtime.NewEnv()
		if err != nil {
			return nil, err
		}
		e.native = native
	}
	return e.native, nil
}

// close frees the environment once the networks are closed. It may be called twice.
func (e *environment) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	return e.native.Close()
}

// ChecksShapes reports whether Acquire finds shapes that a network cannot take. Otherwise its first inference does.
func (l *Loader) ChecksShapes() bool { return l.options.ONNX == nil }

// openONNX reads the ONNX form of a network.
func (l *Loader) openONNX(c model.Component) (*Network, error) {
	c, err := c.InONNX(l.options.Precision)
	if err != nil {
		return nil, err
	}
	n := &Network{loader: l, component: c}
	if err := n.readONNX(); err != nil {
		return nil, err
	}
	inputs, outputs := portsOf(n.onnx.Inputs()), portsOf(n.onnx.Outputs())
	n.half = slices.ContainsFunc(slices.Concat(inputs, outputs), func(p tensor.Port) bool { return p.DType == tensor.F16 })
	n.inputs, n.outputs = widened(inputs), widened(outputs)
	return n, nil
}

func portsOf(list []onnxruntime.Port) []tensor.Port {
	out := make([]tensor.Port, len(list))
	for i, p := range list {
		out[i] = p.Port
	}
	return out
}

// readONNX makes the session unless it is there. Its threads do not spin: the next inference comes after a step of the
// scheduler, or for another runner on the same cores.
func (n *Network) readONNX() error {
	if n.onnx != nil {
		return nil
	}
	env, err := n.loader.onnx.get()
	if err == nil {
		n.onnx, err = env.NewSession(n.component.Path, onnxruntime.SessionOptions{Threads: n.loader.options.Threads, NoSpinning: true})
	}
	if err != nil {
		return loadFailed(n.component, "read", err)
	}
	return nil
}

// useONNX makes the form for s.
func (n *Network) useONNX(s Shapes) (*Executable, error) {
	if err := n.evict(n.loader.options.MaxShapes - 1); err != nil {
		return nil, err
	}
	if err := n.readONNX(); err != nil {
		return nil, err
	}
	return n.bind(nil, nil, s.String(), s, "")
}

// requestONNX makes a binding of the session.
func (e *Executable) requestONNX() (request, error) {
	b, err := e.network.onnx.NewBinding()
	if err != nil {
		return request{}, err
	}
	e.closers = append(e.closers, b.Close)
	e.precision = "f32" // the file's, and ONNX Runtime computes in it
	if e.network.half {
		e.precision = precisionF16
	}
	h := &edge{}
	with := func(ports []onnxruntime.Port, set func(int, *onnxruntime.Tensor) error, pairs *[]pair) func(int, *tensor.Buffer) error {
		return func(i int, buffer *tensor.Buffer) error {
			buffer, err := e.narrowed(ports[i].DType, buffer, pairs)
			if err != nil {
				return err
			}
			t, err := e.network.loader.onnx.runtime.TensorOf(buffer)
			if err != nil {
				return err
			}
			return errors.Join(set(i, t), t.Close()) // the binding keeps it
		}
	}
	n := e.network.onnx
	return request{h.run(b.Run), with(n.Inputs(), b.SetInput, &h.inputs), with(n.Outputs(), b.SetOutput, &h.outputs)}, nil
}
