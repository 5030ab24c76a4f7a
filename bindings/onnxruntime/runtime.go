// Package onnxruntime runs ONNX networks on ONNX Runtime, loaded at run time: no cgo, no link.
//
// Open finds and loads the library; NewEnv, NewSession and NewBinding follow ONNX Runtime's own objects. Each object has
// one owner, who closes it; Close may be called twice, in any order and during calls: native memory goes when the last
// object made from it is closed. Every object is recorded in the ledger with its creation site until then. A use of a
// closed, nil or zero object is ErrClosed.
//
// All methods are safe for concurrent use. A Session may run for several Bindings at once; a Binding runs one inference
// at a time: others get ErrBusy. Failures inside ONNX Runtime are *Error, with its code and text.
//
// These details have caused bugs:
//   - A Binding takes tensors of any shape; what does not fit the network fails when it runs.
//   - On a GPU, an input in the host's memory is copied when it is bound, not when the network runs.
//   - A cancel is cooperative, between operations. A deadline that must hold needs the end of the process.
//   - What a session needs for its computation it allocates itself, from an arena that only grows; the ledger does not
//     see it. After memory ran out there, make the session anew.
//   - A crash inside the native code ends the process; nothing here can catch it.
package onnxruntime

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"genfn/bindings/dynlib"
	"genfn/bindings/onnxruntime/internal/capi"
	"genfn/bindings/tensor"
)

// Options say where ONNX Runtime is and who keeps the accounts.
type Options struct {
	LibraryDir string         // folder of an installation: a wheel's, an archive's, or that of the library; "" searches DefaultSearch()
	CUDA       bool           // search first for what `make onnxruntime-gpu` fills, which has the CUDA provider
	Ledger     *tensor.Ledger // nil for a private one
}

// Runtime is the loaded ONNX Runtime.
type Runtime struct {
	path    string
	version string
	ledger  *tensor.Ledger
	api     capi.API
	closed  atomic.Bool
}

// Open loads ONNX Runtime. A missing library is a *dynlib.NotFoundError, which says what to do; a release that is too
// old is an error with the one that is needed.
func Open(o Options) (*Runtime, error) {
	library, err := find(o.LibraryDir, o.CUDA)
	if err != nil {
		return nil, err
	}
	r := &Runtime{path: library.Path(), ledger: o.Ledger}
	if r.ledger == nil {
		r.ledger = tensor.NewLedger()
	}
	if r.version, err = r.api.Bind(library); err != nil {
		return nil, errors.Join(fmt.Errorf("onnxruntime: %w; %s", err, remedy), library.Close())
	}
	return r, nil // the library stays loaded: its threads may run its code
}

// Version returns the release, as "1.31.1".
func (r *Runtime) Version() string { return r.version }

// Library returns the path of the library in use.
func (r *Runtime) Library() string { return r.path }

// Ledger returns the ledger of the runtime's objects.
func (r *Runtime) Ledger() *tensor.Ledger { return r.ledger }

// Close lets no more objects be made; those there are stay good. The library stays in the process.
func (r *Runtime) Close() error {
	if r != nil {
		r.closed.Store(true)
	}
	return nil
}

func (r *Runtime) use() error {
	if r == nil || r.path == "" || r.closed.Load() {
		return closedError("runtime")
	}
	return nil
}

// Providers lists the execution providers that were built into the library, the preferred first. A provider in the list
// may lack its own libraries or its device.
func (r *Runtime) Providers() ([]string, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	list, n := new(**byte), new(int32)
	if err := r.check("list providers", r.api.GetAvailableProviders(list, n)); err != nil {
		return nil, err
	}
	names := make([]string, *n)
	for i, name := range unsafe.Slice(*list, *n) {
		names[i] = dynlib.GoString(name)
	}
	return names, r.check("free the list of providers", r.api.ReleaseAvailableProviders(*list, *n))
}

// Env is what the sessions of a process share: threads and logging.
type Env struct {
	object
	handle capi.Env
}

// NewEnv makes an Env. The caller closes it.
func (r *Runtime) NewEnv() (*Env, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	handle, name := new(capi.Env), []byte("genfn\x00")
	if err := r.check("create environment", r.api.CreateEnv(capi.LogFatal, &name[0], handle)); err != nil {
		return nil, err
	}
	e := &Env{handle: *handle}
	e.init(r, "environment", "onnxruntime", nil, func() { r.api.ReleaseEnv(e.handle) })
	return e, nil
}

func (e *Env) use() error {
	if e == nil {
		return closedError("environment")
	}
	return e.object.use()
}

// Close frees the environment once its sessions are closed.
func (e *Env) Close() error {
	if e != nil {
		e.close()
	}
	return nil
}
