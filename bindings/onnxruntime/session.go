package onnxruntime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"genfn/bindings/dynlib"
	"genfn/bindings/onnxruntime/internal/capi"
	"genfn/bindings/tensor"
)

// Optimization is how much a network is rewritten before it runs.
type Optimization int

// The levels. OptimizeAll fuses operations; the others are for finding out whether a fusion is to blame.
const (
	OptimizeAll Optimization = iota
	OptimizeExtended
	OptimizeBasic
	OptimizeNothing
)

var levels = [...]capi.GraphOptimizationLevel{capi.OptimizeAll, capi.OptimizeExtended, capi.OptimizeBasic, capi.OptimizeNothing}

// SessionOptions say how a network runs. The zero value is ONNX Runtime's own choice.
type SessionOptions struct {
	Threads      int // that share an operation on the CPU; 0: ONNX Runtime chooses
	Optimization Optimization
	// NoArena has the CPU's memory allocated and freed for each inference instead of kept for the next.
	NoArena bool
	// NoMemoryPattern does not plan the memory of an inference by the one before, which is only good for shapes that stay.
	NoMemoryPattern bool
	// NoSpinning lets the threads of an operation sleep while they wait for work, instead of using up their processors.
	NoSpinning bool
	CUDA       *CUDAOptions // nil: the CPU
}

// Session is a network, optimised and ready to run.
type Session struct {
	object
	handle          capi.Session
	name            string
	inputs, outputs []Port
	cInputs         []*byte // the names for C
	cOutputs        []*byte
}

// NewSession reads an ONNX network from a file. External data is looked for beside it. The caller closes the Session.
func (e *Env) NewSession(path string, o SessionOptions) (*Session, error) {
	if err := e.use(); err != nil {
		return nil, err
	}
	defer e.done()
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("onnxruntime: read network: %w", err)
	}
	file, err := cString(path)
	if err != nil {
		return nil, err
	}
	r, handle := e.runtime, new(capi.Session)
	options, err := r.newOptions(o)
	if err != nil {
		return nil, err
	}
	defer r.api.ReleaseSessionOptions(options)
	if err := r.check("read "+path, r.api.CreateSession(e.handle, file, options, handle)); err != nil {
		return nil, err
	}
	s := &Session{handle: *handle, name: filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path))}
	s.init(r, "session", s.name, &e.object, func() { r.api.ReleaseSession(s.handle) })
	if err := s.readPorts(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// newOptions makes native options, which the caller releases.
func (r *Runtime) newOptions(o SessionOptions) (capi.SessionOptions, error) {
	if o.Optimization < 0 || int(o.Optimization) >= len(levels) || o.Threads < 0 {
		return 0, fmt.Errorf("onnxruntime: optimization %d and %d threads, expected 0 to %d and 0 or more", o.Optimization, o.Threads, len(levels)-1)
	}
	handle := new(capi.SessionOptions)
	if err := r.check("create session options", r.api.CreateSessionOptions(handle)); err != nil {
		return 0, err
	}
	err := r.setOptions(*handle, o)
	if err != nil {
		r.api.ReleaseSessionOptions(*handle)
		return 0, err
	}
	return *handle, nil
}

func (r *Runtime) setOptions(handle capi.SessionOptions, o SessionOptions) error {
	errs := []error{
		r.check("set optimization", r.api.SetSessionGraphOptimizationLevel(handle, levels[o.Optimization])),
		r.check("set threads", r.api.SetIntraOpNumThreads(handle, int32(o.Threads))), //nolint:gosec // a small number
	}
	if o.NoArena {
		errs = append(errs, r.check("disable arena", r.api.DisableCPUMemArena(handle)))
	}
	if o.NoMemoryPattern {
		errs = append(errs, r.check("disable memory pattern", r.api.DisableMemPattern(handle)))
	}
	if o.NoSpinning {
		key, value := []byte("session.intra_op.allow_spinning\x00"), []byte("0\x00")
		errs = append(errs, r.check("disable spinning", r.api.AddSessionConfigEntry(handle, &key[0], &value[0])))
	}
	if err := errors.Join(errs...); err != nil || o.CUDA == nil {
		return err
	}
	return r.appendCUDA(handle, *o.CUDA)
}

func (s *Session) use() error {
	if s == nil {
		return closedError("session")
	}
	return s.object.use()
}

// Close frees the network once its bindings are closed.
func (s *Session) Close() error {
	if s != nil {
		s.close()
	}
	return nil
}

// Inputs describes the inputs, in the order of the file.
func (s *Session) Inputs() []Port {
	if s == nil {
		return nil
	}
	return slices.Clone(s.inputs)
}

// Outputs describes the outputs, in the order of the file.
func (s *Session) Outputs() []Port {
	if s == nil {
		return nil
	}
	return slices.Clone(s.outputs)
}

// Port is an input or output of a network.
type Port struct {
	tensor.Port
	Symbols []string // the names of open dimensions, such as "batch", one for each dimension; "" for none
}

// portCalls are the calls that list the inputs or the outputs of a session.
type portCalls struct {
	count func(capi.Session, *capi.Size) capi.Status
	name  func(capi.Session, capi.Size, capi.Allocator, **byte) capi.Status
	info  func(capi.Session, capi.Size, *capi.TypeInfo) capi.Status
}

func (s *Session) readPorts() (err error) {
	a := &s.runtime.api
	if s.inputs, s.cInputs, err = s.ports(portCalls{a.SessionGetInputCount, a.SessionGetInputName, a.SessionGetInputTypeInfo}); err != nil {
		return err
	}
	s.outputs, s.cOutputs, err = s.ports(portCalls{a.SessionGetOutputCount, a.SessionGetOutputName, a.SessionGetOutputTypeInfo})
	return err
}

func (s *Session) ports(calls portCalls) (ports []Port, names []*byte, err error) {
	r, allocator, count := s.runtime, new(capi.Allocator), new(capi.Size)
	if err := errors.Join(
		r.check("get allocator", r.api.GetAllocatorWithDefaultOptions(allocator)),
		r.check("count ports of "+s.name, calls.count(s.handle, count)),
	); err != nil {
		return nil, nil, err
	}
	for i := range *count {
		name := new(*byte)
		if err := r.check("name a port of "+s.name, calls.name(s.handle, i, *allocator, name)); err != nil {
			return nil, nil, err
		}
		p := Port{Port: tensor.Port{Name: dynlib.GoString(*name)}}
		if err := r.check("free a name", r.api.AllocatorFree(*allocator, addressOf(*name))); err != nil {
			return nil, nil, err
		}
		c, err := cString(p.Name)
		if err == nil {
			err = s.readType(&p, func(info *capi.TypeInfo) capi.Status { return calls.info(s.handle, i, info) })
		}
		if err != nil {
			return nil, nil, err
		}
		ports, names = append(ports, p), append(names, c)
	}
	return ports, names, nil
}

// readType fills in type and shape, which stay zero for what is not a tensor.
func (s *Session) readType(p *Port, get func(*capi.TypeInfo) capi.Status) error {
	r, op := s.runtime, fmt.Sprintf("describe %q of %s", p.Name, s.name)
	info, described := new(capi.TypeInfo), new(capi.TensorInfo)
	if err := r.check(op, get(info)); err != nil {
		return err
	}
	defer r.api.ReleaseTypeInfo(*info)
	if err := r.check(op, r.api.CastTypeInfoToTensorInfo(*info, described)); err != nil || *described == 0 {
		return err
	}
	element, rank := new(capi.ElementType), new(capi.Size)
	if err := errors.Join(
		r.check(op, r.api.GetTensorElementType(*described, element)),
		r.check(op, r.api.GetDimensionsCount(*described, rank)),
	); err != nil {
		return err
	}
	p.DType, p.Shape = dtypeOf(*element), make(tensor.PartialShape, *rank)
	if *rank == 0 {
		return nil
	}
	extents, symbols := make([]int64, *rank), make([]*byte, *rank)
	if err := errors.Join(
		r.check(op, r.api.GetDimensions(*described, &extents[0], *rank)),
		r.check(op, r.api.GetSymbolicDimensions(*described, &symbols[0], *rank)),
	); err != nil {
		return err
	}
	for i, n := range extents {
		p.Shape[i] = tensor.Dim{Min: n, Max: n}
		if n < 0 {
			p.Shape[i] = tensor.Dynamic
		}
		p.Symbols = append(p.Symbols, dynlib.GoString(symbols[i]))
	}
	runtime.KeepAlive(symbols)
	return nil
}
