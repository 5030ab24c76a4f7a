package session

import (
	"context"
	"errors"
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
	c, err := c.InONNX()
	if err != nil {
		return nil, err
	}
	n := &Network{loader: l, component: c}
	if err := n.readONNX(); err != nil {
		return nil, err
	}
	n.inputs, n.outputs = portsOf(n.onnx.Inputs()), portsOf(n.onnx.Outputs())
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
	o := onnxruntime.SessionOptions{Threads: n.loader.options.Threads, NoSpinning: true}
	if d := n.loader.options.CUDA; d != nil && err == nil {
		o, err = d.NetworkOptions(o)
	}
	if err == nil {
		n.onnx, err = env.NewSession(n.component.Path, o)
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
	e.precision = "f32" // the memory's type is the file's, and ONNX Runtime computes in it
	with := func(set func(int, *onnxruntime.Tensor) error) func(int, tensor.Port, tensor.Shape) error {
		return func(i int, p tensor.Port, shape tensor.Shape) error {
			t, err := e.tensorONNX(p, shape)
			if err != nil {
				return err
			}
			return errors.Join(set(i, t), t.Close()) // the binding keeps it
		}
	}
	infer := b.Run
	if d := e.network.loader.options.CUDA; d != nil {
		infer = func(ctx context.Context) error { return d.Run(ctx, b) }
	}
	return request{infer, with(b.SetInput), with(b.SetOutput)}, nil
}

// tensorONNX makes the memory of an input or output, with ONNX Runtime's handle on it.
func (e *Executable) tensorONNX(p tensor.Port, shape tensor.Shape) (*onnxruntime.Tensor, error) {
	runtime, d := e.network.loader.onnx.runtime, e.network.loader.options.CUDA
	if d == nil {
		b, err := e.hostMemory(p, shape)
		if err != nil {
			return nil, err
		}
		return runtime.TensorOf(b)
	}
	b, err := e.deviceMemory(p, shape)
	if err != nil {
		return nil, err
	}
	return d.TensorOf(runtime, b, p.DType, shape)
}
