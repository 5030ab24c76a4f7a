package cuda

import (
	"fmt"
	"unsafe"

	"genfn/bindings/cuda/internal/cudart"
	"genfn/bindings/cuda/internal/driver"
)

// Library is compiled code on a device.
type Library struct {
	object
	handle cudart.Library
	module driver.Module // of runtime libraries before 12.8
}

// LoadLibrary loads code: a cubin for this device's architecture, or PTX, which the driver compiles. The caller closes
// the Library.
func (d *Device) LoadLibrary(owner string, code []byte) (*Library, error) {
	if err := d.use(); err != nil {
		return nil, err
	}
	defer d.done()
	if len(code) == 0 {
		return nil, fmt.Errorf("cuda: load %s: it is empty", owner)
	}
	code = append(code[:len(code):len(code)], 0) // PTX ends with a NUL
	pinned := pin(&code[0])
	defer pinned.Unpin()
	l := new(Library)
	op := "load " + owner
	if err := d.call(op, func(a *cudart.API) cudart.Status {
		if a.Table.LibraryLoadData == 0 {
			return cudart.Status(d.runtime.driver.ModuleLoadData(&l.module, driver.Address(addressOf(&code[0]))))
		}
		return a.LibraryLoadData(&l.handle, addressOf(&code[0]), nil, nil, 0, nil, nil, 0)
	}); err != nil {
		return nil, err
	}
	l.init(d, "library", owner, 0, &d.object, func() {
		if l.module != 0 {
			_ = d.check(d.runtime.driverFailure("unload "+owner, d.runtime.driver.ModuleUnload(l.module)))
			return
		}
		_ = d.check(failure(&d.runtime.api, "unload "+owner, d.runtime.api.LibraryUnload(l.handle)))
	})
	return l, nil
}

// Close unloads the code.
func (l *Library) Close() error {
	if l != nil {
		l.close()
	}
	return nil
}

// Kernel is a function of a Library. It is good as long as the library is open, and needs no Close.
type Kernel struct {
	library  *Library
	name     string
	handle   cudart.Kernel
	function driver.Function
}

// Kernel finds a kernel by its name in the code, which is extern "C".
func (l *Library) Kernel(name string) (*Kernel, error) {
	if l == nil {
		return nil, closedError("library")
	}
	if err := l.use(); err != nil {
		return nil, err
	}
	defer l.done()
	k := &Kernel{library: l, name: name}
	text := append([]byte(name), 0)
	return k, l.device.call("find kernel "+name, func(a *cudart.API) cudart.Status {
		if l.module != 0 {
			return cudart.Status(l.device.runtime.driver.ModuleGetFunction(&k.function, l.module, &text[0]))
		}
		return a.LibraryGetKernel(&k.handle, l.handle, &text[0])
	})
}

// Dim3 is the extent of a grid in blocks, or of a block in threads; 0 counts as 1.
type Dim3 struct{ X, Y, Z uint32 }

func (d Dim3) native() cudart.Dim3 {
	return cudart.Dim3{X: max(1, d.X), Y: max(1, d.Y), Z: max(1, d.Z)}
}

// Launch queues a kernel that has one parameter, a struct that is passed by value: param are its bytes, which are
// copied. memory is what the kernel reads and writes: it must be open now, and must stay so until the stream is done.
func (k *Kernel) Launch(s *Stream, grid, block Dim3, param []byte, memory ...View) error {
	if k == nil || k.library == nil {
		return closedError("kernel")
	}
	if err := k.library.use(); err != nil {
		return err
	}
	defer k.library.done()
	if len(param) == 0 {
		return fmt.Errorf("cuda: launch %s: no parameter", k.name)
	}
	pinned := pin(&param[0])
	defer pinned.Unpin()
	args := &[1]cudart.Address{addressOf(&param[0])}
	g, b := grid.native(), block.native()
	return s.with("launch "+k.name, memory, func(a *cudart.API, stream cudart.Stream) cudart.Status {
		if k.function != 0 {
			return cudart.Status(k.library.device.runtime.driver.LaunchKernel(k.function, g.X, g.Y, g.Z, b.X, b.Y, b.Z, 0,
				driver.Stream(stream), (*driver.Address)(unsafe.Pointer(&args[0])), nil))
		}
		config := &cudart.LaunchConfig{GridDim: g, BlockDim: b, Stream: stream}
		return a.LaunchKernelExC(config, cudart.Address(k.handle), &args[0])
	})
}
