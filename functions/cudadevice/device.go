// Package cudadevice is a CUDA device as generations use it: one stream in which all work goes in order, arrays in the
// device's memory with genfn's kernels on them, and networks that ONNX Runtime runs on that memory.
//
// On a GPU the networks run there, in the same stream. The virtual CUDA device runs none: its memory is the host's, and
// networks run on the CPU over the same addresses. network.go decides that, and nothing else knows.
package cudadevice

import (
	"errors"
	"path/filepath"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/nvrtc"
	"genfn/bindings/kernels"
	"genfn/events"
)

// Options say where things are.
type Options struct {
	LibraryDir string // of NVRTC, as of the runtime library; "": searched for
	CacheDir   string // keeps the kernels' code
}

// Device is a device with all that a generation needs of it. It is safe for concurrent use; what one generation does is
// in the order of its calls.
type Device struct {
	device   *cuda.Device
	stream   *cuda.Stream
	kernels  *kernels.GPU
	identity cuda.Identity
}

// Open makes a context on the device and loads the kernels. The caller closes the Device after everything that was made
// with it.
func Open(r *cuda.Runtime, ordinal int, o Options) (d *Device, err error) {
	d = &Device{}
	if d.identity, err = r.Identify(ordinal); err != nil {
		return nil, err
	}
	if d.device, err = r.OpenDevice(ordinal); err != nil {
		return nil, err
	}
	if d.kernels, err = OpenKernels(r, d.device, o); err == nil {
		d.stream, err = d.device.NewStream("generations")
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// OpenKernels compiles genfn's kernels for a device, unless the cache has them, and loads them. The caller closes them.
func OpenKernels(r *cuda.Runtime, d *cuda.Device, o Options) (*kernels.GPU, error) {
	architecture, err := d.Architecture()
	if err != nil {
		return nil, err
	}
	compiler, err := nvrtc.Open(nvrtc.Options{LibraryDir: o.LibraryDir, Newest: r.DriverVersion().Major()})
	if err != nil {
		return nil, events.Errorf(events.CodeDeviceUnavailable, "the kernels cannot be compiled for %s: %w", architecture, err)
	}
	code, err := kernels.Cubin(compiler, architecture, filepath.Join(o.CacheDir, "cuda"))
	if err != nil {
		return nil, err
	}
	return kernels.OpenGPU(d, code)
}

// Memory returns the bytes of the device's memory that are free, of all processes, and its size.
func (d *Device) Memory() (free, total int64, err error) { return d.device.Memory() }

// Close gives the device up. It may be called twice.
func (d *Device) Close() error {
	if d == nil {
		return nil
	}
	var errs []error
	if d.stream != nil {
		errs = append(errs, d.stream.Close())
	}
	if d.kernels != nil {
		errs = append(errs, d.kernels.Close())
	}
	return errors.Join(append(errs, d.device.Close())...)
}
