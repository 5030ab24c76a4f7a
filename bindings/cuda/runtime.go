// Package cuda uses NVIDIA GPUs through CUDA's runtime library, loaded at run time: no cgo, no link.
//
// Open finds and loads the libraries of line 13 or 12, whichever the driver supports; OpenDevice starts the one locked
// OS thread that makes all calls of a device. Buffers, pinned memory, streams, events and libraries of kernels belong
// to a device. Each has one owner, who closes it; Close may be called twice and in any order, a device's too: native
// memory goes when the last object made from it is closed. Every object is recorded in the ledger with its creation
// site until then. A use of a closed, nil or zero object is ErrClosed.
//
// All methods are safe for concurrent use; each costs two switches of threads, unless it is called inside Device.Do.
// Failures are *Error. One that kills the device's context closes the device: all that follows is ErrDead, without a
// call. What is not known to leave the context alive counts as such an error. The driver frees a dead context's memory
// when the process ends, so Close of its objects only strikes them out.
//
// These details have caused bugs:
//   - The current device and the last error belong to the OS thread: goroutines that are not locked to one read those
//     of others. So there is one thread a device, and only return codes count.
//   - A kernel that fails is reported by a later call, often by Synchronize. Memory that a kernel still uses must stay:
//     closing a Buffer waits for the device.
//   - Without a driver every call gives 35 (insufficient driver), and counts that were asked for are left untouched.
//   - A context takes some hundred MiB of the device's memory until the process ends, also when the device is closed.
//   - CUDA does not survive a fork; starting another program is no fork in this sense.
package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"genfn/bindings/cuda/internal/cudart"
	"genfn/bindings/cuda/internal/driver"
	"genfn/bindings/cuda/internal/search"
	"genfn/bindings/dynlib"
	"genfn/bindings/tensor"
)

// Options say where CUDA is and who keeps the accounts.
type Options struct {
	LibraryDir    string         // folder of an installation, or of the libraries; "" searches GENFN_CUDA_DIR, what `make cuda` fills, CUDA_HOME, CUDA_PATH and /usr/local/cuda*
	DriverLibrary string         // path of the driver's libcuda; "" for the one that the system's loader finds
	Ledger        *tensor.Ledger // nil for a private one
}

// Runtime is the loaded CUDA.
type Runtime struct {
	path          string
	ledger        *tensor.Ledger
	api           cudart.API
	driver        driver.API
	version       Version
	driverVersion Version
	closed        atomic.Bool
}

// Version is a version as CUDA numbers it: 13050 is 13.5.
type Version int

// Major returns the line: 13.
func (v Version) Major() int { return int(v) / 1000 }

func (v Version) String() string { return fmt.Sprintf("%d.%d", int(v)/1000, int(v)%1000/10) }

// Open loads the driver's library and the newest runtime library that the driver supports. A missing library is a
// *dynlib.NotFoundError, which says what to do.
func Open(o Options) (*Runtime, error) {
	r := &Runtime{ledger: o.Ledger}
	if r.ledger == nil {
		r.ledger = tensor.NewLedger()
	}
	if err := r.openDriver(o.DriverLibrary); err != nil {
		return nil, err
	}
	if err := r.openRuntime(o.LibraryDir); err != nil {
		return nil, err
	}
	return r, nil
}

// openRuntime loads the runtime library.
func (r *Runtime) openRuntime(dir string) error {
	library, err := search.Open("libcudart", dir, r.driverVersion.Major())
	if err != nil {
		return fmt.Errorf("cuda: %w", err)
	}
	if err := library.Bind(&r.api.Table); err != nil {
		return errors.Join(fmt.Errorf("cuda: %w", err), library.Close())
	}
	r.path = library.Path()
	r.version, err = r.ask("get runtime version", r.api.RuntimeGetVersion)
	return err // the library stays loaded: the driver's threads may run its code
}

// ask makes a call that fills in a number and depends on no device.
func (r *Runtime) ask(op string, call func(*int32) cudart.Status) (Version, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	value := new(int32)
	if err := failure(&r.api, op, call(value)); err != nil {
		return 0, err
	}
	return Version(*value), nil
}

// Version returns the version of the runtime library.
func (r *Runtime) Version() Version { return r.version }

// DriverVersion returns the newest version of CUDA that the driver supports.
func (r *Runtime) DriverVersion() Version { return r.driverVersion }

// Library returns the path of the runtime library in use.
func (r *Runtime) Library() string { return r.path }

// Ledger returns the ledger of the runtime's objects.
func (r *Runtime) Ledger() *tensor.Ledger { return r.ledger }

// Close lets no more devices be opened; those that are open stay good. The libraries stay in the process.
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

// DeviceCount returns how many devices CUDA sees: those that CUDA_VISIBLE_DEVICES leaves, if it is set. No device is
// no error.
func (r *Runtime) DeviceCount() (int, error) {
	if err := r.use(); err != nil {
		return 0, err
	}
	const noDevice = 100
	n, err := r.ask("count devices", r.api.GetDeviceCount)
	if known := (*Error)(nil); errors.As(err, &known) && known.Code == noDevice {
		return 0, nil
	}
	return int(n), err
}

// withRemedy says what to do about a missing driver.
func withRemedy(err error) error {
	if notFound := (*dynlib.NotFoundError)(nil); errors.As(err, &notFound) {
		notFound.Remedy = "install the NVIDIA driver; in a container, start it with the NVIDIA container toolkit (--gpus)"
	}
	return err
}
