// Package dynlib opens shared libraries with the system's loader and resolves tables of symbols.
//
// It says precisely what is missing: the file with every place that was searched and the loader's own
// words, or all missing symbols at once. Calling the resolved functions is the business of the
// importing package, with purego.SyscallN.
//
// These details have caused bugs:
//   - A Go pointer becomes a uintptr inside the call expression of SyscallN itself, never in another function
//     or a variable before: the goroutine's stack may move in between and C then writes to the old one.
//   - A C int is an int32: a result is read as int32(r1), because the upper half of the register is
//     undefined.
//   - dlerror is per OS thread: the goroutine is locked to its thread around dlopen and dlerror.
package dynlib

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/ebitengine/purego"
)

// ErrClosed is returned by Bind on a library that has been closed.
var ErrClosed = errors.New("dynlib: library is closed")

// NotFoundError says that no candidate of a library could be loaded.
type NotFoundError struct {
	Name     string   // what was wanted, for people: "OpenVINO C API"
	Searched []string // the candidates in the order they were tried
	Remedy   string   // what to do; empty unless the caller of Open fills it in
	Loader   error    // the loader's words for the first candidate that exists but would not load; nil when none exists
}

func (e *NotFoundError) Error() string {
	var b strings.Builder
	if e.Loader == nil {
		fmt.Fprintf(&b, "%s not found; searched %s", e.Name, strings.Join(e.Searched, ", "))
	} else {
		fmt.Fprintf(&b, "%s cannot be loaded: %v; searched %s", e.Name, e.Loader, strings.Join(e.Searched, ", "))
	}
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// Unwrap returns the loader's error, if any.
func (e *NotFoundError) Unwrap() error { return e.Loader }

// MissingSymbolsError lists every symbol of a table that a library does not have.
type MissingSymbolsError struct {
	Library string // path of the library
	Symbols []string
}

func (e *MissingSymbolsError) Error() string {
	return fmt.Sprintf("%s lacks %s: is it of another version?", e.Library, strings.Join(e.Symbols, ", "))
}

// Library is an open shared library, safe for concurrent use. Its owner closes it when nothing calls
// into it any more.
type Library struct {
	path string

	mu     sync.Mutex
	handle uintptr // 0 after Close
}

// Open loads the first candidate that exists and loads. A candidate is a path, a glob pattern (its
// matches are tried newest name first, so that libx.so.2641 wins over libx.so.2460), or a plain file
// name without a slash, which the system's loader looks up along its own path. name says in errors
// what was wanted. The error is a *NotFoundError.
func Open(name string, candidates []string) (*Library, error) {
	notFound := &NotFoundError{Name: name, Searched: candidates}
	for _, candidate := range candidates {
		for _, path := range expand(candidate) {
			handle, err := open(path)
			if err == nil {
				return &Library{path: path, handle: handle}, nil
			}
			// A plain name that the loader does not find is an absence, not a defect.
			if notFound.Loader == nil && strings.ContainsRune(path, filepath.Separator) {
				notFound.Loader = err
			}
		}
	}
	return nil, notFound
}

func expand(candidate string) []string {
	if !strings.ContainsRune(candidate, filepath.Separator) {
		return []string{candidate}
	}
	if !strings.ContainsAny(candidate, "*?[") {
		if _, err := os.Stat(candidate); err != nil {
			return nil
		}
		return []string{candidate}
	}
	matches, err := filepath.Glob(candidate)
	if err != nil {
		return nil // a malformed pattern matches nothing; it is listed in Searched
	}
	slices.SortFunc(matches, func(a, b string) int { return strings.Compare(b, a) })
	return matches
}

func open(path string) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

// Path returns the path or name the library was loaded under.
func (l *Library) Path() string { return l.path }

// Bind resolves symbols into table, a pointer to a struct whose fields of type uintptr carry a tag
// `sym:"name"`; structs in it are filled likewise. With `sym:"name,optional"` a missing symbol leaves the
// field 0. All other missing ones are reported together, in a *MissingSymbolsError; the table is then
// to be thrown away.
func (l *Library) Bind(table any) error {
	v := reflect.ValueOf(table)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("dynlib: Bind wants a pointer to a struct, got %T", table)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == 0 {
		return ErrClosed
	}
	missing, err := l.bind(v.Elem())
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return &MissingSymbolsError{Library: l.path, Symbols: missing}
	}
	return nil
}

func (l *Library) bind(s reflect.Value) (missing []string, err error) {
	for i := range s.NumField() {
		field, value := s.Type().Field(i), s.Field(i)
		if value.Kind() == reflect.Struct {
			inner, err := l.bind(value)
			if err != nil {
				return nil, err
			}
			missing = append(missing, inner...)
			continue
		}
		tag, ok := field.Tag.Lookup("sym")
		if !ok {
			continue
		}
		if value.Kind() != reflect.Uintptr || !value.CanSet() {
			return nil, fmt.Errorf("dynlib: field %s.%s is tagged sym, so it must be exported and of type uintptr", s.Type(), field.Name)
		}
		symbol, option, _ := strings.Cut(tag, ",")
		if option != "" && option != "optional" {
			return nil, fmt.Errorf("dynlib: field %s.%s: unknown option %q in its sym tag", s.Type(), field.Name, option)
		}
		address, err := purego.Dlsym(l.handle, symbol)
		if err != nil && option != "optional" {
			missing = append(missing, symbol)
		}
		value.SetUint(uint64(address))
	}
	return missing, nil
}

// Close gives the library back to the loader; addresses bound from it are then invalid. It may be
// called twice.
func (l *Library) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handle == 0 {
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle := l.handle
	l.handle = 0
	return purego.Dlclose(handle)
}
