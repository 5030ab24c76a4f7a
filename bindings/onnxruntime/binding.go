package onnxruntime

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"genfn/bindings/onnxruntime/internal/capi"
)

// Binding runs inferences of a session, one at a time, on tensors that are bound to its inputs and outputs. The session
// reads and writes their memory directly.
type Binding struct {
	object
	session *Session
	handle  capi.IoBinding

	mu              sync.Mutex // held during an inference
	inputs, outputs []*Tensor  // bound by the caller, kept from being freed; nil where none is
}

// NewBinding makes a Binding, to which nothing is bound. The caller closes it.
func (s *Session) NewBinding() (*Binding, error) {
	if err := s.use(); err != nil {
		return nil, err
	}
	defer s.done()
	r, handle := s.runtime, new(capi.IoBinding)
	if err := r.check("create binding of "+s.name, r.api.CreateIoBinding(s.handle, handle)); err != nil {
		return nil, err
	}
	b := &Binding{session: s, handle: *handle, inputs: make([]*Tensor, len(s.inputs)), outputs: make([]*Tensor, len(s.outputs))}
	b.init(r, "binding", s.name, &s.object, func() {
		r.api.ReleaseIoBinding(b.handle)
		for _, t := range slices.Concat(b.inputs, b.outputs) {
			if t != nil {
				t.done()
			}
		}
	})
	return b, nil
}

func (b *Binding) use() error {
	if b == nil {
		return closedError("binding")
	}
	return b.object.use()
}

// Close frees the binding, after the inference in progress if there is one.
func (b *Binding) Close() error {
	if b != nil {
		b.close()
	}
	return nil
}

// SetInput makes t the i-th input of the following inferences. The binding shares t's memory and keeps it until another
// tensor takes its place or the binding is closed, even if t is closed before.
func (b *Binding) SetInput(i int, t *Tensor) error {
	if err := b.use(); err != nil {
		return err
	}
	defer b.done()
	return b.set("input", i, t, b.inputs, b.session.cInputs, b.runtime.api.BindInput)
}

// SetOutput makes t the i-th output: the following inferences write into it. It is kept as an input is.
func (b *Binding) SetOutput(i int, t *Tensor) error {
	if err := b.use(); err != nil {
		return err
	}
	defer b.done()
	return b.set("output", i, t, b.outputs, b.session.cOutputs, b.runtime.api.BindOutput)
}

func (b *Binding) set(what string, i int, t *Tensor, slots []*Tensor, names []*byte, bind func(capi.IoBinding, *byte, capi.Value) capi.Status) error {
	name := b.session.name
	if !b.mu.TryLock() {
		return fmt.Errorf("onnxruntime: bind %s %d of %s: %w", what, i, name, ErrBusy)
	}
	defer b.mu.Unlock()
	if i < 0 || i >= len(slots) {
		return fmt.Errorf("onnxruntime: %s has no %s %d: it has %d", name, what, i, len(slots))
	}
	if err := t.use(); err != nil {
		return err
	}
	op := fmt.Sprintf("bind %s to %s %d of %s", t.port, what, i, name)
	if err := b.runtime.check(op, bind(b.handle, names[i], t.handle)); err != nil {
		t.done()
		return err
	}
	previous := slots[i]
	slots[i] = t // its use passes to the slot
	if previous != nil {
		previous.done()
	}
	return nil
}

// Run runs the network once. When ctx ends first, it is asked to stop and the error wraps ctx's; that happens between
// two operations. Run always returns after the inference has ended.
func (b *Binding) Run(ctx context.Context) error {
	if err := b.use(); err != nil {
		return err
	}
	defer b.done()
	if !b.mu.TryLock() {
		return fmt.Errorf("onnxruntime: run %s: %w", b.session.name, ErrBusy)
	}
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("onnxruntime: run %s: %w", b.session.name, err)
	}
	status, err := b.run(ctx)
	if err != nil || status == 0 {
		return err
	}
	failed := b.runtime.failure("run "+b.session.name, status)
	failed.cause = ctx.Err()
	return failed
}

// run returns the status of an inference, or an error if there was none.
func (b *Binding) run(ctx context.Context) (capi.Status, error) {
	a := &b.runtime.api
	if ctx.Done() == nil {
		return a.RunWithBinding(b.session.handle, 0, b.handle), nil
	}
	options := new(capi.RunOptions)
	if err := b.runtime.check("create run options", a.CreateRunOptions(options)); err != nil {
		return 0, err
	}
	defer a.ReleaseRunOptions(*options)
	asked := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(asked)
		_ = b.runtime.check("stop", a.RunOptionsSetTerminate(*options)) // it sets a flag
	})
	status := a.RunWithBinding(b.session.handle, *options, b.handle)
	if !stop() {
		<-asked // the options are in use until then
	}
	return status, nil
}
