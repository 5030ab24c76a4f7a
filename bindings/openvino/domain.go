package openvino

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"genfn/bindings/dynlib"
	"genfn/bindings/openvino/internal/capi"
)

// OpenVINO's C API keeps the text of the last error in one variable for the whole process, so that two
// calls failing at once read each other's text. No lock around the reading helps: the text may be
// overwritten between the failure and the return to Go. And a lock around every call would make
// inferences wait for each other.
//
// The variable belongs to libopenvino_c.so, a thin wrapper (400 KB) over libopenvino.so. So each call
// runs in a domain of its own: a copy of the wrapper with its own variable over the one shared runtime.
// Handles are plain pointers into that runtime and are good in every domain. There are as many domains
// as calls were ever in progress at once; the first is the library itself.

// domain is one copy of the C API. It serves one call at a time.
type domain struct {
	api     capi.API
	library *dynlib.Library
	image   *os.File // the copy; it stays open so that no later copy gets the same /proc/self/fd name
	signals signalStack
	results struct { // that C writes in hot calls
		shape capi.Shape
		size  capi.Size
		data  unsafe.Pointer
	}
}

// maxDomains bounds the copies; further calls wait for one to end.
const maxDomains = 64

// domains are the copies of one library file. They stay loaded until the process ends: OpenVINO's
// worker threads may be running its code at any time.
type domains struct {
	path string

	mu    sync.Mutex
	freed sync.Cond
	free  []*domain
	total int
	limit int
}

// loaded is what this process has loaded, a fact of the process: a second OpenVINO beside it would share
// TBB and C++'s unique symbols with the first, and crash.
var loaded struct {
	mu      sync.Mutex
	domains *domains
}

// load returns the domains of the library at path.
func load(path string) (*domains, error) {
	resolved, err := filepath.Abs(path)
	if err == nil {
		resolved, err = filepath.EvalSymlinks(resolved)
	}
	if err != nil {
		return nil, fmt.Errorf("openvino: %w", err)
	}
	loaded.mu.Lock()
	defer loaded.mu.Unlock()
	if loaded.domains != nil {
		if loaded.domains.path != resolved {
			return nil, fmt.Errorf("openvino: %s is loaded already, %s cannot be loaded beside it: use another process",
				loaded.domains.path, resolved)
		}
		return loaded.domains, nil
	}
	goActions() // as they are before the first library is loaded
	limitHeaps()
	p := &domains{path: resolved, limit: maxDomains, total: 1}
	p.freed.L = &p.mu
	first := &domain{}
	if err := first.bind(path); err != nil {
		return nil, err
	}
	p.free = append(p.free, first)
	loaded.domains = p
	return p, nil
}

func (d *domain) bind(path string) error {
	library, err := dynlib.Open("OpenVINO's C API", []string{path})
	if err != nil {
		return withRemedy(err)
	}
	if err := library.Bind(&d.api.Table); err != nil {
		return errors.Join(err, library.Close())
	}
	d.library = library
	return nil
}

// acquire returns a domain for calls of any kind and locks the goroutine to its thread until release.
func (p *domains) acquire() *domain {
	d := p.acquireHot()
	d.signals = saveSignalStack()
	return d
}

func (p *domains) release(d *domain) {
	d.signals.restore()
	restoreSignalActions()
	p.releaseHot(d)
}

// acquireHot is acquire, with releaseHot, for calls that load and unload no plugin.
func (p *domains) acquireHot() *domain {
	runtime.LockOSThread()
	p.mu.Lock()
	for {
		if n := len(p.free); n > 0 {
			d := p.free[n-1]
			p.free = p.free[:n-1]
			p.mu.Unlock()
			return d
		}
		if p.total >= p.limit {
			p.freed.Wait()
			continue
		}
		p.total++
		p.mu.Unlock()
		d, err := p.duplicate()
		if err == nil {
			return d
		}
		// Without memfd or /proc, calls take turns in the domains there are.
		p.mu.Lock()
		p.total--
		p.limit = p.total
	}
}

func (p *domains) releaseHot(d *domain) {
	p.mu.Lock()
	p.free = append(p.free, d)
	p.mu.Unlock()
	p.freed.Signal()
	runtime.UnlockOSThread()
}

// duplicate loads a private copy of the library. The loader takes two files for one library if they
// have the same name or inode; a memfd has its own.
func (p *domains) duplicate() (*domain, error) {
	original, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer original.Close()
	fd, err := unix.MemfdCreate(filepath.Base(p.path), unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	d := &domain{image: os.NewFile(uintptr(fd), "memfd:"+filepath.Base(p.path))}
	if _, err := io.Copy(d.image, original); err != nil {
		return nil, errors.Join(err, d.image.Close())
	}
	if err := d.bind(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		return nil, errors.Join(err, d.image.Close())
	}
	return d, nil
}
