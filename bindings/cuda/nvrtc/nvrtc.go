// Package nvrtc compiles CUDA C++ on the host with NVRTC, loaded at run time. It needs no GPU and no driver.
package nvrtc

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"genfn/bindings/cuda/internal/nvrtc"
	"genfn/bindings/cuda/internal/search"
	"genfn/bindings/dynlib"
)

// Options say where NVRTC is.
type Options struct {
	LibraryDir string // folder of an installation, or of the libraries; "" searches as package cuda does
	// Newest is the newest line that is wanted, 0 for any: a driver does not load cubins of a line that is newer than
	// the one it supports.
	Newest int
}

// Compiler is the loaded NVRTC. It is safe for concurrent use and needs no Close: the library stays in the process.
type Compiler struct {
	api          nvrtc.API
	path         string
	major, minor int32
}

// Error is a failure that NVRTC reported.
type Error struct {
	Op   string
	Code int    // nvrtcResult
	Text string // NVRTC's name of it: "NVRTC_ERROR_COMPILATION"
	Log  string // of the compilation; may be empty
}

func (e *Error) Error() string {
	text := fmt.Sprintf("nvrtc: %s: %s (%d)", e.Op, e.Text, e.Code)
	if e.Log != "" {
		text += ": " + strings.TrimSpace(e.Log)
	}
	return text
}

// Open loads NVRTC. A missing library is a *dynlib.NotFoundError, which says what to do.
func Open(o Options) (*Compiler, error) {
	library, err := search.Open("libnvrtc", o.LibraryDir, o.Newest)
	if err != nil {
		return nil, fmt.Errorf("nvrtc: %w", err)
	}
	c := &Compiler{path: library.Path()}
	if err := library.Bind(&c.api.Table); err != nil {
		return nil, errors.Join(fmt.Errorf("nvrtc: %w", err), library.Close())
	}
	return c, c.check("get version", c.api.Version(&c.major, &c.minor))
}

func (c *Compiler) check(op string, code nvrtc.Status) error {
	if code == 0 {
		return nil
	}
	return &Error{Op: op, Code: int(code), Text: dynlib.GoString(c.api.GetErrorString(code))}
}

// Version returns NVRTC's version: "13.5".
func (c *Compiler) Version() string { return fmt.Sprintf("%d.%d", c.major, c.minor) }

// Library returns the path of the library in use.
func (c *Compiler) Library() string { return c.path }

// Architectures returns the compute capabilities that NVRTC compiles for, ascending: 75, 80, 90.
func (c *Compiler) Architectures() ([]int, error) {
	count := new(int32)
	if err := c.check("count architectures", c.api.GetNumSupportedArchs(count)); err != nil || *count < 1 {
		return nil, err
	}
	list := make([]int32, *count)
	if err := c.check("list architectures", c.api.GetSupportedArchs(&list[0])); err != nil {
		return nil, err
	}
	out := make([]int, len(list))
	for i, a := range list {
		out[i] = int(a)
	}
	slices.Sort(out)
	return out, nil
}

// Source is a file with those it includes.
type Source struct {
	Name    string // for messages
	Text    string
	Headers map[string]string // text by the name in #include
}

// Code is what a compilation gives.
type Code struct {
	PTX   []byte // text, without its NUL
	Cubin []byte // nil for a virtual architecture
	Log   string // warnings
}

// Compile compiles for an architecture: sm_90 gives a cubin and PTX, compute_90 PTX alone. options are NVRTC's, such
// as "--fmad=false". A source that does not compile is an *Error with the log.
func (c *Compiler) Compile(source Source, architecture string, options ...string) (*Code, error) {
	op := fmt.Sprintf("compile %s for %s", source.Name, architecture)
	program, err := c.create(op, source)
	if err != nil {
		return nil, err
	}
	defer c.api.DestroyProgram(program)
	var pinner runtime.Pinner
	defer pinner.Unpin()
	list := cStrings(&pinner, append([]string{"--gpu-architecture=" + architecture}, options...))
	code := c.api.CompileProgram(*program, int32(len(list)), &list[0]) //nolint:gosec // few
	out := new(Code)
	log, logErr := c.read("read the log", *program, c.api.GetProgramLogSize, c.api.GetProgramLog)
	out.Log = text(log)
	if err := c.check(op, code); err != nil {
		known := (*Error)(nil)
		errors.As(err, &known)
		known.Log = out.Log
		return nil, known
	}
	var ptxErr, cubinErr error
	if out.PTX, ptxErr = c.read("read PTX", *program, c.api.GetPTXSize, c.api.GetPTX); len(out.PTX) > 0 {
		out.PTX = []byte(text(out.PTX))
	}
	if strings.HasPrefix(architecture, "sm_") {
		out.Cubin, cubinErr = c.read("read the cubin", *program, c.api.GetCUBINSize, c.api.GetCUBIN)
	}
	return out, errors.Join(logErr, ptxErr, cubinErr)
}

// create makes a program of a source; the caller destroys it.
func (c *Compiler) create(op string, source Source) (*nvrtc.Program, error) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	var names, texts []string
	for name, text := range source.Headers {
		names, texts = append(names, name), append(texts, text)
	}
	main := cStrings(&pinner, []string{source.Text, source.Name})
	headers, includes := cStrings(&pinner, texts), cStrings(&pinner, names)
	program := new(nvrtc.Program)
	return program, c.check(op, c.api.CreateProgram(program, main[0], main[1], int32(len(names)), //nolint:gosec // few
		unsafe.SliceData(headers), unsafe.SliceData(includes)))
}

// read reads bytes whose size is asked first.
func (c *Compiler) read(op string, program nvrtc.Program, size func(nvrtc.Program, *nvrtc.Size) nvrtc.Status,
	content func(nvrtc.Program, *byte) nvrtc.Status) ([]byte, error) {
	n := new(nvrtc.Size)
	if err := c.check(op, size(program, n)); err != nil || *n == 0 {
		return nil, err
	}
	out := make([]byte, *n)
	return out, c.check(op, content(program, &out[0]))
}

// cStrings are the strings for C, kept where they are by pinner.
func cStrings(pinner *runtime.Pinner, in []string) []*byte {
	out := make([]*byte, len(in))
	for i, s := range in {
		out[i] = &append([]byte(s), 0)[0]
		pinner.Pin(out[i])
	}
	return out
}

// text is a C string in bytes.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
