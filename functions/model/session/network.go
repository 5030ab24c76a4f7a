package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"genfn/bindings/cuda"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/model"
)

// Shapes are the exact shapes of one use of a network. Outputs are those that are bound to buffers; others stay
// with OpenVINO.
type Shapes struct {
	Inputs, Outputs map[string]tensor.Shape
}

// String lists the inputs, sorted: it names a compiled form.
func (s Shapes) String() string {
	words := make([]string, 0, len(s.Inputs))
	for _, name := range slices.Sorted(maps.Keys(s.Inputs)) {
		words = append(words, name+s.Inputs[name].String())
	}
	return strings.Join(words, " ")
}

// Network is one network of a model with its compiled forms. It is safe for concurrent use.
type Network struct {
	loader    *Loader
	component model.Component
	inputs    []tensor.Port
	outputs   []tensor.Port

	mu      sync.Mutex
	read    *openvino.Model // as read, until the first compilation takes it; nil also if the cache knew the ports
	ready   []*Executable   // least recently used first
	dynamic *openvino.CompiledModel
	half    bool                 // on ONNX Runtime, with inputs or outputs in float16
	onnx    *onnxruntime.Session // for all shapes; nil: OpenVINO runs the network, or it is trimmed
	open    bool                 // some shape needed open dimensions, so all shapes run with them
	unkept  string               // key of the dynamic form in the cache while it is not there
	// failed holds the shapes that are not to be compiled statically again, and why.
	failed map[string]string
	closed bool
}

// openShapes names the form of a network whose dimensions are those of its file.
const openShapes = "open"

// ErrShapes is wrapped by the error of an Acquire whose shapes the network cannot take: reshaping finds that they
// do not fit together. They are not tried with open dimensions either: an inference of such a form can crash.
var ErrShapes = errors.New("the network cannot take these shapes")

// Open reads a network, unless the cache knows its inputs and outputs. Nothing is compiled before Acquire.
func (l *Loader) Open(c model.Component) (*Network, error) {
	if l.options.ONNX != nil {
		return l.openONNX(c)
	}
	n := &Network{loader: l, component: c, failed: map[string]string{}}
	known, ok := l.knownPorts(c)
	if !ok {
		m, err := l.read(c)
		if err != nil {
			return nil, err
		}
		n.read, known = m, ports{m.Inputs(), m.Outputs()}
		l.rememberPorts(c, known)
	}
	n.inputs, n.outputs = known.Inputs, known.Outputs
	return n, nil
}

// Name returns the name of the component, e.g. "unet".
func (n *Network) Name() string { return n.component.Name }

// Input returns the input of a name as the file declares it.
func (n *Network) Input(name string) (tensor.Port, bool) { return portNamed(n.inputs, name) }

// Output returns the output of a name, or the first one if none has it: exporters differ in the names they give
// to a single or main output.
func (n *Network) Output(name string) (tensor.Port, bool) {
	if p, ok := portNamed(n.outputs, name); ok {
		return p, true
	}
	if len(n.outputs) == 0 {
		return tensor.Port{}, false
	}
	return n.outputs[0], true
}

// Inputs returns the inputs as the file declares them.
func (n *Network) Inputs() []tensor.Port { return slices.Clone(n.inputs) }

func portNamed(ports []tensor.Port, name string) (tensor.Port, bool) {
	i := slices.IndexFunc(ports, func(p tensor.Port) bool { return p.Name == name })
	if i < 0 {
		return tensor.Port{}, false
	}
	return ports[i], true
}

// Acquire returns the network ready to run with these shapes, compiling it if it is not yet. The caller must
// Release it. While it is not released nobody else gets it: a second caller for the same shapes gets another.
func (n *Network) Acquire(ctx context.Context, s Shapes) (*Executable, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errClosed
	}
	key := s.String()
	for i, e := range n.ready {
		if e.key == key && !e.busy {
			n.ready = append(slices.Delete(n.ready, i, i+1), e)
			e.busy = true
			return e, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := n.compile(s)
	if err != nil {
		return nil, err
	}
	n.ready = append(n.ready, e)
	return e, nil
}

// Ready reports whether Acquire would not have to compile.
func (n *Network) Ready(s Shapes) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := s.String()
	return slices.ContainsFunc(n.ready, func(e *Executable) bool { return e.key == key && !e.busy })
}

// Kept reports whether Acquire would only have to fetch the form from the cache, if that can be used.
func (n *Network) Kept(s Shapes) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failed[s.String()] != "" || n.dynamic != nil || n.loader.options.ONNX != nil {
		return false
	}
	key := n.loader.compiledKey(n.loader.networks, n.component, s.String())
	return key != "" && n.loader.cache.has(key)
}

// Close frees everything. It may be called twice; executables must be released before.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	var errs []error
	for _, e := range n.ready {
		errs = append(errs, e.close())
	}
	n.ready = nil
	if n.dynamic != nil {
		errs = append(errs, n.dynamic.Close())
	}
	if n.read != nil {
		errs = append(errs, n.read.Close())
	}
	return errors.Join(append(errs, n.onnx.Close())...)
}

// Keep writes the forms that were compiled since to the cache. It takes about a third of the time of the compilation.
func (n *Network) Keep() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.ready {
		if e.owned != nil && e.unkept != "" {
			n.loader.keep(e.unkept, n.component, e.owned)
			e.unkept = ""
		}
	}
	if n.dynamic != nil && n.unkept != "" {
		n.loader.keep(n.unkept, n.component, n.dynamic)
		n.unkept = ""
	}
}

// compile makes the form for s: static if that can be, otherwise dynamic.
func (n *Network) compile(s Shapes) (*Executable, error) {
	if n.loader.options.ONNX != nil {
		return n.useONNX(s)
	}
	kept := n.loader.compiledKey(n.loader.networks, n.component, s.String())
	if n.failed[s.String()] == "" && n.dynamic == nil {
		if compiled := n.loader.imported(n.loader.networks, n.component, s.String(), kept); compiled != nil {
			if err := n.evict(n.loader.options.MaxShapes - 1); err != nil {
				return nil, errors.Join(err, compiled.Close())
			}
			return n.bind(compiled, compiled, s.String(), s, "")
		}
	}
	m, err := n.reshaped(s)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := n.evict(n.loader.options.MaxShapes - 1); err != nil {
		return nil, err
	}
	key := s.String()
	if n.failed[key] == "" && !n.open {
		compiled, err := n.compileStatic(m, key)
		if err == nil {
			e, err := n.bind(compiled, compiled, key, s, "")
			if err == nil {
				e.unkept = kept
			}
			return e, err
		}
		if errors.Is(err, errClosed) {
			return nil, err
		}
		if !formAtFault(err, n.loader.options.Device) {
			return nil, loadFailed(n.component, "compile", err)
		}
		n.failed[key] = err.Error()
	}
	why := n.failed[key]
	if why == "" {
		why = "another shape needed it"
	}
	n.loader.options.Logger.Warn("compiling with open dimensions", "component", n.component.Name, "shapes", key, "cause", why)
	if err := n.compileDynamic(); err != nil {
		return nil, err
	}
	n.recordFailure(key)
	return n.bind(n.dynamic, nil, key, s, why)
}

// reshaped returns the network as read, with all its shapes worked out for s.
func (n *Network) reshaped(s Shapes) (*openvino.Model, error) {
	m := n.read
	n.read = nil
	if m == nil {
		var err error
		if m, err = n.loader.read(n.component); err != nil {
			return nil, err
		}
	}
	if sameShapes(m.Inputs(), s) {
		return m, nil
	}
	target := map[string]tensor.PartialShape{}
	for name, shape := range s.Inputs {
		target[name] = tensor.StaticShape(shape...)
	}
	if err := m.Reshape(target); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w: %w", n.component.Name, ErrShapes, err), m.Close())
	}
	return m, nil
}

func (n *Network) entry(shapes string) (e entry, key string) {
	e = entry{Component: n.component.Path, Shapes: shapes, Device: n.loader.options.Device, OpenVINO: n.loader.runtime.Version()}
	return e, e.key(stampOf(n.component.Path, n.component.Weights))
}

// compileStatic compiles a reshaped network. Unless that is known to come back, it happens with a marker
// in the journal in case the process does not survive it, and alone if a process did not.
func (n *Network) compileStatic(m *openvino.Model, shapes string) (*openvino.CompiledModel, error) {
	l, j := n.loader, n.loader.journal
	compile := func() (*openvino.CompiledModel, error) {
		if hook := l.options.OnCompile; hook != nil {
			hook(n.component.Name, shapes, true)
		}
		return l.compile(m, l.options.Device)
	}
	e, key := n.entry(shapes)
	if j == nil || j.good(key) {
		l.compiling.RLock()
		defer l.compiling.RUnlock()
		return compile()
	}
	why, suspected := j.bad(key)
	if suspected {
		l.compiling.Lock()
		defer l.compiling.Unlock()
		why, _ = j.bad(key) // those tried before may have left it with the blame
	} else {
		l.compiling.RLock()
		defer l.compiling.RUnlock()
	}
	if why != "" {
		return nil, errors.New(why)
	}
	mark, err := j.begin(key, e, l.options.Device != "CPU")
	if err != nil {
		l.options.Logger.Warn("the compile journal cannot be written", "error", err)
		return compile()
	}
	compiled, err := compile()
	j.acquit(key)
	journalErr := mark.end()
	if err == nil {
		journalErr = errors.Join(journalErr, j.record(key, e, nil))
	}
	if journalErr != nil { // costs speed, not correctness
		l.options.Logger.Warn("the compile journal cannot be written", "error", journalErr)
	}
	return compiled, err
}

func sameShapes(ports []tensor.Port, s Shapes) bool {
	for name, shape := range s.Inputs {
		p, ok := portNamed(ports, name)
		if !ok {
			return false
		}
		if static, ok := p.Shape.Static(); !ok || !static.Equal(shape) {
			return false
		}
	}
	return true
}

// compileDynamic compiles with the dimensions that the file leaves open, once for all shapes.
func (n *Network) compileDynamic() error {
	if n.dynamic != nil {
		return nil
	}
	n.open = true
	kept := n.loader.compiledKey(n.loader.networks, n.component, openShapes)
	if n.dynamic = n.loader.imported(n.loader.networks, n.component, openShapes, kept); n.dynamic != nil {
		return nil
	}
	m, err := n.loader.read(n.component)
	if err != nil {
		return err
	}
	defer m.Close()
	if hook := n.loader.options.OnCompile; hook != nil {
		hook(n.component.Name, openShapes, false)
	}
	compiled, err := n.loader.compile(m, n.loader.options.Device)
	if err != nil {
		return loadFailed(n.component, "compile", err)
	}
	n.dynamic, n.unkept = compiled, kept
	return nil
}

// recordFailure writes a refusal to the journal now that the dynamic form is known to compile, so that it is
// the static form that is at fault.
func (n *Network) recordFailure(shapes string) {
	j := n.loader.journal
	if j == nil || n.failed[shapes] == "" { // not tried statically
		return
	}
	e, key := n.entry(shapes)
	if why, _ := j.bad(key); why != "" {
		return
	}
	if err := j.record(key, e, errors.New(n.failed[shapes])); err != nil {
		n.loader.options.Logger.Warn("the compile journal cannot be written", "error", err)
	}
}

// bind makes a request with its tensors on our buffers. It owns closing compiled if anything fails; owned is what
// the executable closes in the end, nil for the shared dynamic form.
func (n *Network) bind(compiled, owned *openvino.CompiledModel, key string, s Shapes, dynamic string) (*Executable, error) {
	e := &Executable{network: n, key: key, shapes: s, dynamic: dynamic, busy: true, compiled: compiled, owned: owned}
	if err := e.bind(); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// Executable is a compiled network with its inputs and outputs bound to buffers. It is for one user at a time.
type Executable struct {
	network  *Network
	key      string
	shapes   Shapes
	dynamic  string
	compiled *openvino.CompiledModel
	owned    *openvino.CompiledModel // compiled, unless that is shared: closed in the end
	// precision is the compiled model's INFERENCE_PRECISION_HINT.
	precision string
	busy      bool   // guarded by network.mu
	unkept    string // its key in the cache while it is not there; guarded by network.mu
	infer     func(context.Context) error
	buffers   map[string]memory
	closers   []func() error // of the request and what is bound to it
}

// memory is that of an input or output: the host's or a CUDA device's.
type memory struct {
	host   *tensor.Buffer
	device *cuda.Buffer
}

// bytes are those that the ledger has.
func (m memory) bytes() int64 {
	if m.device != nil {
		return m.device.Bytes()
	}
	return m.host.Mapped()
}

// request is a runtime's own object for inferences of a network, with what it takes to run it on our memory.
type request struct {
	infer               func(context.Context) error
	setInput, setOutput func(i int, p tensor.Port, shape tensor.Shape) error
}

// bind makes the request and binds buffers to it.
func (e *Executable) bind() error {
	e.buffers = map[string]memory{}
	open := e.requestOpenVINO
	if e.network.onnx != nil {
		open = e.requestONNX
	}
	q, err := open()
	if err != nil {
		return loadFailed(e.network.component, "make a request of", err)
	}
	e.infer = q.infer
	// Compilation keeps the order of inputs and outputs, and may give them other names.
	for i, p := range e.network.inputs {
		if err := e.attach(i, p, e.shapes.Inputs, q.setInput); err != nil {
			return err
		}
	}
	for i, p := range e.network.outputs {
		if _, wanted := e.shapes.Outputs[p.Name]; !wanted {
			continue
		}
		if err := e.attach(i, p, e.shapes.Outputs, q.setOutput); err != nil {
			return err
		}
	}
	return nil
}

// requestOpenVINO makes an infer request.
func (e *Executable) requestOpenVINO() (request, error) {
	q, err := e.compiled.NewRequest()
	if err != nil {
		return request{}, err
	}
	e.closers = append(e.closers, q.Close)
	// A device without the property has nothing to say about it.
	e.precision, _ = e.compiled.Property("INFERENCE_PRECISION_HINT")
	with := func(set func(int, *openvino.Tensor) error) func(int, tensor.Port, tensor.Shape) error {
		return func(i int, p tensor.Port, shape tensor.Shape) error {
			b, err := e.hostMemory(p, shape)
			if err != nil {
				return err
			}
			t, err := e.network.loader.runtime.TensorOf(b)
			if err != nil {
				return err
			}
			e.closers = append(e.closers, t.Close)
			return set(i, t)
		}
	}
	return request{q.Infer, with(q.SetInput), with(q.SetOutput)}, nil
}

// attach gives the i-th input or output memory of the shape it has in shapes.
func (e *Executable) attach(i int, p tensor.Port, shapes map[string]tensor.Shape, set func(int, tensor.Port, tensor.Shape) error) error {
	c := e.network.component
	shape, ok := shapes[p.Name]
	if !ok {
		return loadFailed(c, "run", fmt.Errorf("nothing is known of the input %q", p.Name))
	}
	err := set(i, p, shape)
	if said := (*events.Error)(nil); err == nil || errors.As(err, &said) {
		return err
	}
	return loadFailed(c, "bind a tensor to", err)
}

// owner names the memory of an input or output in the ledger.
func (e *Executable) owner(p tensor.Port) string { return e.network.component.Name + "/" + p.Name }

// hostMemory makes the memory of an input or output on the host.
func (e *Executable) hostMemory(p tensor.Port, shape tensor.Shape) (*tensor.Buffer, error) {
	b, err := tensor.New(e.network.loader.runtime.Ledger(), e.owner(p), p.DType, shape)
	if err != nil {
		return nil, events.Errorf(events.CodeHostOutOfMemory, "%s: %w", e.network.component.Name, err)
	}
	e.buffers[p.Name] = memory{host: b}
	e.closers = append(e.closers, b.Close)
	return b, nil
}

// deviceMemory makes it on a CUDA device.
func (e *Executable) deviceMemory(p tensor.Port, shape tensor.Shape) (*cuda.Buffer, error) {
	b, err := e.network.loader.options.CUDA.Malloc(e.owner(p), p.DType, shape)
	if err != nil {
		return nil, err
	}
	e.buffers[p.Name] = memory{device: b}
	e.closers = append(e.closers, b.Close)
	return b, nil
}

// Buffer returns the memory of an input or bound output; nil for a name that is neither, and for memory of a device. It
// is the executable's.
func (e *Executable) Buffer(name string) *tensor.Buffer { return e.buffers[name].host }

// DeviceBuffer returns what Buffer does for memory of a CUDA device.
func (e *Executable) DeviceBuffer(name string) *cuda.Buffer { return e.buffers[name].device }

// Shape returns the shape of an input or bound output.
func (e *Executable) Shape(name string) tensor.Shape {
	if s, ok := e.shapes.Inputs[name]; ok {
		return s
	}
	return e.shapes.Outputs[name]
}

// Dynamic says why the network was compiled with open dimensions, "" if it is static.
func (e *Executable) Dynamic() string { return e.dynamic }

// Precision returns OpenVINO's name of the inference precision, "" if the device does not tell. A network on ONNX Runtime
// has that of its file.
func (e *Executable) Precision() string { return e.precision }

// Infer runs the network once on what the input buffers hold. An error wraps ctx's when that ended it.
func (e *Executable) Infer(ctx context.Context) error {
	err := e.infer(ctx)
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	failed := events.Errorf(events.CodeInternal, "%s: the inference failed", e.network.component.Name)
	failed.Detail, failed.Cause = err.Error(), err
	return failed
}

// Release hands the executable back; it stays compiled.
func (e *Executable) Release() {
	e.network.mu.Lock()
	defer e.network.mu.Unlock()
	e.busy = false
}
