// Package openvino runs models on the OpenVINO runtime, loaded at run time: no cgo, no link.
//
// Open finds and loads the libraries; NewCore, ReadModel, Compile and NewRequest follow OpenVINO's own
// objects. Each object has one owner, who closes it; Close may be called twice, in any order and during
// calls: native memory goes when the last object made from it is closed. Every object is recorded in
// the ledger with its creation site until then. A use of a closed, nil or zero object is ErrClosed.
//
// All methods are safe for concurrent use. A Request runs one inference at a time: others get ErrBusy.
// Failures inside OpenVINO are *Error, with OpenVINO's text for that very call.
//
// These details have caused bugs:
//   - OpenVINO's last-error text is one variable for the process: see domain.go.
//   - The element types are numbered differently from release to release: found out at load.
//   - The elements of an output belong to the request and change with its next inference.
//   - A cancel is cooperative, between operations, and on some devices has no effect. A deadline that
//     must hold needs the end of the process.
//   - A crash inside the native code ends the process; nothing here can catch it.
package openvino

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"

	"genfn/bindings/dynlib"
	"genfn/bindings/openvino/internal/capi"
	"genfn/bindings/tensor"
)

// Options say where OpenVINO is and who keeps the accounts.
type Options struct {
	LibraryDir        string         // folder of an installation: a wheel's, an archive's, or that of the libraries; "" searches DefaultSearch()
	TokenizersLibrary string         // path of libopenvino_tokenizers.so; "" for the one beside the wheel's libraries
	Ledger            *tensor.Ledger // nil for a private one
}

// Runtime is the loaded OpenVINO. One process can load one OpenVINO; opening it again gives another
// Runtime, with its own ledger, over the same libraries.
type Runtime struct {
	path       string // of the C API library
	tokenizers string // Options.TokenizersLibrary
	ledger     *tensor.Ledger
	domains    *domains
	elements   elementTypes
	version    string
	closed     atomic.Bool

	// The releases before 2025 lack these two.
	makesStrings   bool // ov_tensor_create_from_string_array
	takesExtension bool // ov_core_add_extension
}

// Open loads OpenVINO and checks that it is complete and understood. Missing files are a
// *dynlib.NotFoundError, which says what to do.
func Open(o Options) (*Runtime, error) {
	roots := []string{o.LibraryDir}
	if o.LibraryDir == "" {
		roots = DefaultSearch()
	}
	path, err := find(roots)
	if err != nil {
		return nil, err
	}
	domains, err := load(path)
	if err != nil {
		return nil, err
	}
	r := &Runtime{path: path, tokenizers: o.TokenizersLibrary, ledger: o.Ledger, domains: domains}
	if r.ledger == nil {
		r.ledger = tensor.NewLedger()
	}
	d := domains.acquire()
	defer domains.release(d)
	r.makesStrings = d.api.Table.TensorCreateFromStringArray != 0
	r.takesExtension = d.api.Table.CoreAddExtension != 0
	if r.version, err = d.version(); err != nil {
		return nil, err
	}
	if r.elements, err = d.elementTypes(); err != nil {
		return nil, fmt.Errorf("openvino: %s (%s): %w", path, r.version, err)
	}
	return r, nil
}

func (d *domain) version() (string, error) {
	v := new(capi.Version)
	if code := d.api.GetOpenVINOVersion(v); code != capi.OK {
		return "", d.failure("get version", code)
	}
	defer d.api.VersionFree(v)
	return dynlib.GoString(v.BuildNumber), nil
}

// Version returns OpenVINO's build number, as "2026.4.1-22982-...".
func (r *Runtime) Version() string { return r.version }

// Library returns the path of the C API library in use.
func (r *Runtime) Library() string { return r.path }

// Ledger returns the ledger of the runtime's objects.
func (r *Runtime) Ledger() *tensor.Ledger { return r.ledger }

// TokenizersLibrary returns the path of the extension to add to a Core for tokenizer models, or a
// *dynlib.NotFoundError.
func (r *Runtime) TokenizersLibrary() (string, error) {
	if r == nil {
		return "", closedError("runtime")
	}
	return findTokenizers(r.tokenizers, filepath.Dir(r.path))
}

// Close lets no more objects be made; those there are stay good. The libraries stay in the process,
// because OpenVINO's worker threads may be running their code at any time.
func (r *Runtime) Close() error {
	if r != nil {
		r.closed.Store(true)
	}
	return nil
}

func (r *Runtime) use() error {
	if r == nil || r.domains == nil || r.closed.Load() {
		return closedError("runtime")
	}
	return nil
}

// call runs one native call in a domain of its own.
func (r *Runtime) call(op string, f func(a *capi.API) capi.Status) error {
	d := r.domains.acquire()
	defer r.domains.release(d)
	if code := f(&d.api); code != capi.OK {
		return d.failure(op, code)
	}
	return nil
}

// cString returns s for C. A NUL inside would cut it off silently, so it is an error.
func cString(s string) (*byte, error) {
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("openvino: %q contains a NUL byte", s)
	}
	return &append([]byte(s), 0)[0], nil
}

// cStrings is cString for several.
func cStrings(in ...string) ([]*byte, error) {
	out := make([]*byte, len(in))
	var errs []error
	for i, s := range in {
		var err error
		out[i], err = cString(s)
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}
