// Package nvml asks NVIDIA's driver how its devices are: memory and whose it is, temperature, throttling, ECC errors, and
// Xids as they happen. It loads NVML, the NVIDIA Management Library, at run time: no cgo, no link. It needs no context on
// a device and starts none, so it answers also for devices that CUDA cannot use any more.
//
// Open loads and starts the library; Close ends its use. Devices are handles that need no Close, event sets do. All methods
// are safe for concurrent use, and block for as long as the driver does: a driver that hangs holds them. Failures are
// *Error; what a device, or the driver, does not have is ErrNotSupported among them.
//
// These details have caused bugs:
//   - The indices are NVML's: CUDA numbers devices otherwise, and CUDA_VISIBLE_DEVICES hides none here. Devices are found
//     by UUID or PCI bus id.
//   - A UUID of CUDA is bytes, NVML's is text with "GPU-" before it, or "MIG-" of a part of a device, which has no
//     temperature of its own. The PCI bus id is that of the whole device.
//   - In a container that has process ids of its own the list of processes may have others, or be empty.
//   - Volatile counts of ECC errors begin at 0 when the driver is loaded, not when a process starts.
package nvml

import (
	"errors"
	"fmt"
	"sync"

	"genfn/bindings/dynlib"
	"genfn/bindings/nvml/internal/capi"
)

// names are where the library is looked for.
var names = []string{"libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"}

// Options say where NVML is.
type Options struct {
	Library string // path of libnvidia-ml; "" for the one that the system's loader finds
}

// Library is NVML, started.
type Library struct {
	api  capi.API
	path string

	mu     sync.RWMutex // read by every call, so that none is under way when the library is shut down
	closed bool
}

// Open loads NVML and starts it. A missing library is a *dynlib.NotFoundError, which says what to do. The library stays
// in the process after Close.
func Open(o Options) (*Library, error) {
	candidates := names
	if o.Library != "" {
		candidates = []string{o.Library}
	}
	loaded, err := dynlib.Open("the NVIDIA driver's library libnvidia-ml (NVML)", candidates)
	if notFound := (*dynlib.NotFoundError)(nil); errors.As(err, &notFound) {
		notFound.Remedy = "install the NVIDIA driver; in a container, start it with the NVIDIA container toolkit, which adds the library with the driver capability `utility`"
	}
	if err != nil {
		return nil, fmt.Errorf("nvml: %w", err)
	}
	l := &Library{path: loaded.Path()}
	if err := loaded.Bind(&l.api.Table); err != nil {
		return nil, errors.Join(fmt.Errorf("nvml: %w", err), loaded.Close())
	}
	if err := l.failure("start NVML", l.api.InitV2()); err != nil {
		return nil, err
	}
	return l, nil
}

// Path is where the library was found.
func (l *Library) Path() string { return l.path }

// Close ends the use of NVML: devices and event sets are closed with it. It waits for calls that are under way, and may
// be called twice.
func (l *Library) Close() error {
	if l == nil || l.path == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.failure("end the use of NVML", l.api.Shutdown())
}

// call makes a call of the library while it is open. has is the address of an optional symbol; of others it is 1.
func (l *Library) call(op string, has uintptr, f func(a *capi.API) capi.Status) error {
	if l == nil || l.path == "" {
		return closedError(op)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.closed:
		return closedError(op)
	case has == 0:
		return l.failure(op, capi.FunctionNotFound)
	}
	return l.failure(op, f(&l.api))
}

// always is the symbol of a call that every driver has.
const always = 1

// DriverVersion returns the version of the driver as people name it: "570.86.10".
func (l *Library) DriverVersion() (string, error) {
	return text(func(out *byte, room uint32) error {
		return l.call("get driver version", always, func(a *capi.API) capi.Status { return a.SystemGetDriverVersion(out, room) })
	})
}

// DeviceCount returns how many devices the driver has, also those that CUDA is kept from.
func (l *Library) DeviceCount() (int, error) {
	n := new(uint32)
	err := l.call("count devices", always, func(a *capi.API) capi.Status { return a.DeviceGetCountV2(n) })
	return int(*n), err
}

// maxText is more than any text of NVML has (NVML_DEVICE_UUID_V2_BUFFER_SIZE, NVML_DEVICE_NAME_V2_BUFFER_SIZE are 96).
const maxText = 128

// text has a call fill a buffer and returns the string in it.
func text(fill func(out *byte, room uint32) error) (string, error) {
	buffer := make([]byte, maxText)
	if err := fill(&buffer[0], maxText-1); err != nil {
		return "", err
	}
	return dynlib.GoString(&buffer[0]), nil
}
