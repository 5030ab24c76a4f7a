package session

import (
	"context"
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
	n := e.network.onnx
	b, err := n.NewBinding()
	if err != nil {
		return request{}, err
	}
	e.closers = append(e.closers, b.Close)
	e.precision = "f32" // the file's, and ONNX Runtime computes in it
	if e.network.half {
		e.precision = precisionF16
	}
	h := &edge{device: e.network.loader.options.CUDA, kernels: e.network.loader.options.Kernels}
	with := func(ports []onnxruntime.Port, set func(int, *onnxruntime.Tensor) error, pairs *[]pair) func(int, tensor.Port, tensor.Shape) error {
		return func(i int, p tensor.Port, shape tensor.Shape) error {
			t, err := e.tensorONNX(p, ports[i].DType, shape, pairs)
			if err != nil {
				return err
			}
			return errors.Join(set(i, t), t.Close()) // the binding keeps it
		}
	}
	infer := b.Run
	if h.device != nil {
		infer = func(ctx context.Context) error { return h.device.Run(ctx, b) }
	}
	return request{h.run(infer), with(n.Inputs(), b.SetInput, &h.inputs), with(n.Outputs(), b.SetOutput, &h.outputs)}, nil
}

// tensorONNX makes the memory of an input or output, and ONNX Runtime's handle on it; if the file has another type than
// users see, on memory beside it, which is noted.
func (e *Executable) tensorONNX(p tensor.Port, file tensor.DType, shape tensor.Shape, pairs *[]pair) (*onnxruntime.Tensor, error) {
	bound, err := e.memoryONNX(p, shape)
	if err == nil && file != p.DType {
		wide := bound
		if bound, err = e.memoryONNX(tensor.Port{Name: p.Name + " in f16", DType: file}, shape); err == nil {
			*pairs = append(*pairs, pair{wide, bound})
		}
	}
	if err != nil {
		return nil, err
	}
	runtime := e.network.loader.onnx.runtime
	if bound.device != nil {
		return e.network.loader.options.CUDA.TensorOf(runtime, bound.device, file, shape)
	}
	return runtime.TensorOf(bound.host)
}

// memoryONNX makes memory where the networks run.
func (e *Executable) memoryONNX(p tensor.Port, shape tensor.Shape) (m memory, err error) {
	if e.network.loader.options.CUDA != nil {
		m.device, err = e.deviceMemory(p, shape)
	} else {
		m.host, err = e.hostMemory(p, shape)
	}
	return m, err
}
