package cuda

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"genfn/bindings/cuda/internal/cudart"
)

// Device is a GPU with a context in this process, and the OS thread that makes its calls.
type Device struct {
	object
	runtime *Runtime
	ordinal int
	thread  int // its number
	tasks   chan task
	ended   chan struct{}
	death   atomic.Pointer[Error]
}

// task is work for the device's thread.
type task struct {
	f    func()
	done chan any // what f panicked with, nil if it did not
}

var dones = sync.Pool{New: func() any { return make(chan any, 1) }}

// OpenDevice makes the device's context current on a thread of its own, which takes some hundred milliseconds and
// some hundred MiB of the device's memory the first time. The caller closes the Device.
func (r *Runtime) OpenDevice(ordinal int) (*Device, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	d := &Device{runtime: r, ordinal: ordinal, tasks: make(chan task), ended: make(chan struct{})}
	started := make(chan error)
	go d.serve(started)
	if err := <-started; err != nil {
		return nil, err
	}
	d.init(d, "device", fmt.Sprintf("cuda:%d", ordinal), 0, nil, nil)
	return d, nil
}

// serve runs the device's tasks. The thread ends with it.
func (d *Device) serve(started chan<- error) {
	runtime.LockOSThread() // never unlocked
	defer close(d.ended)
	d.thread = unix.Gettid()
	code := d.runtime.api.SetDevice(int32(d.ordinal)) //nolint:gosec // a small number, or refused
	if code == cudart.Success {
		code = d.runtime.api.Free(0) // makes the context
	}
	err := failure(&d.runtime.api, fmt.Sprintf("open device %d", d.ordinal), code)
	started <- err
	if err != nil {
		return
	}
	for t := range d.tasks {
		t.run()
	}
}

func (t task) run() {
	defer func() { t.done <- recover() }()
	t.f()
}

// end lets the thread go; the device's objects are gone.
func (d *Device) end() { close(d.tasks) }

// run runs f on the device's thread, at once if it is called there. The caller keeps the device in use.
func (d *Device) run(f func()) {
	if unix.Gettid() == d.thread {
		f()
		return
	}
	done, _ := dones.Get().(chan any)
	select {
	case d.tasks <- task{f, done}:
		if v := <-done; v != nil {
			panic(v)
		}
		dones.Put(done)
	case <-d.ended: // runtime.Goexit in a Do
		panic("cuda: the device's thread has ended")
	}
}

// call makes one call on the device's thread, unless the device is dead.
func (d *Device) call(op string, f func(a *cudart.API) cudart.Status) error {
	if err := d.Dead(); err != nil {
		return fmt.Errorf("cuda: %s: %w", op, err)
	}
	var code cudart.Status
	d.run(func() { code = f(&d.runtime.api) })
	return d.check(failure(&d.runtime.api, op, code))
}

// check closes the device after an error that kills its context.
func (d *Device) check(err error) error {
	if known := (*Error)(nil); errors.As(err, &known) && known.Dead() {
		d.death.CompareAndSwap(nil, known)
		return errors.Join(err, ErrDead)
	}
	return err
}

// Dead returns ErrDead with the error that killed the device's context, nil while it is alive.
func (d *Device) Dead() error {
	if known := d.death.Load(); known != nil {
		return fmt.Errorf("%w (%w)", ErrDead, known)
	}
	return nil
}

func (d *Device) use() error {
	if d == nil {
		return closedError("device")
	}
	return d.object.use()
}

// Do runs f on the device's thread. Calls of this device inside f are made without a switch of threads; others wait
// until f is over. f must not call runtime.Goexit.
func (d *Device) Do(f func() error) (err error) {
	if err := d.use(); err != nil {
		return err
	}
	defer d.done()
	d.run(func() { err = f() })
	return err
}

// Close gives the device up once everything made from it is closed. Its context stays until the process ends.
func (d *Device) Close() error {
	if d != nil {
		d.close()
	}
	return nil
}

// Ordinal returns the device's number.
func (d *Device) Ordinal() int { return d.ordinal }

// Synchronize waits until the device has done all that it was asked to, and returns the error of any of it.
func (d *Device) Synchronize() error {
	if err := d.use(); err != nil {
		return err
	}
	defer d.done()
	return d.call("synchronize", (*cudart.API).DeviceSynchronize)
}

// Attribute is one of enum cudaDeviceAttr.
type Attribute int

// The attributes that are asked for.
const (
	MultiProcessorCount  Attribute = 16  // cudaDevAttrMultiProcessorCount
	Integrated           Attribute = 18  // cudaDevAttrIntegrated
	ECCEnabled           Attribute = 32  // cudaDevAttrEccEnabled
	MemoryClockRate      Attribute = 36  // cudaDevAttrMemoryClockRate, kHz
	GlobalMemoryBusWidth Attribute = 37  // cudaDevAttrGlobalMemoryBusWidth, bits
	L2CacheSize          Attribute = 38  // cudaDevAttrL2CacheSize, bytes
	ComputeMajor         Attribute = 75  // cudaDevAttrComputeCapabilityMajor
	ComputeMinor         Attribute = 76  // cudaDevAttrComputeCapabilityMinor
	MemoryPoolsSupported Attribute = 115 // cudaDevAttrMemoryPoolsSupported
)

// Attribute asks for an attribute of the device.
func (d *Device) Attribute(a Attribute) (int, error) {
	if err := d.use(); err != nil {
		return 0, err
	}
	defer d.done()
	value := new(int32)
	err := d.call(fmt.Sprintf("get attribute %d", a), func(api *cudart.API) cudart.Status {
		return api.DeviceGetAttribute(value, cudart.DeviceAttr(a), int32(d.ordinal)) //nolint:gosec // a small number
	})
	if err != nil {
		return 0, err
	}
	return int(*value), nil
}

// Architecture returns the device's compute capability as NVRTC names it: "sm_90".
func (d *Device) Architecture() (string, error) {
	major, err := d.Attribute(ComputeMajor)
	if err != nil {
		return "", err
	}
	minor, err := d.Attribute(ComputeMinor)
	return fmt.Sprintf("sm_%d%d", major, minor), err
}

// PCI returns the device's address, "0000:1b:00.0".
func (d *Device) PCI() (string, error) {
	if err := d.use(); err != nil {
		return "", err
	}
	defer d.done()
	text := make([]byte, 32)
	err := d.call("get PCI address", func(a *cudart.API) cudart.Status {
		return a.DeviceGetPCIBusID(&text[0], int32(len(text)), int32(d.ordinal)) //nolint:gosec // a small number
	})
	address, _, _ := strings.Cut(string(text), "\x00")
	return strings.ToLower(address), err
}

// Memory returns the bytes of the device's memory that are free, of all processes, and its size.
func (d *Device) Memory() (free, total int64, err error) {
	if err := d.use(); err != nil {
		return 0, 0, err
	}
	defer d.done()
	sizes := new([2]cudart.Size)
	err = d.call("get memory info", func(a *cudart.API) cudart.Status { return a.MemGetInfo(&sizes[0], &sizes[1]) })
	if err != nil {
		return 0, 0, err
	}
	return int64(sizes[0]), int64(sizes[1]), nil
}
