package cuda

import (
	"fmt"
	"math"
	"unsafe"

	"genfn/bindings/cuda/internal/cudart"
)

// Kinds of memory in the ledger.
const (
	KindDeviceMemory = "device memory"
	KindPinnedMemory = "pinned memory"
)

// Buffer is memory of a device.
type Buffer struct {
	object
	owner   string
	address cudart.Address
	bytes   int64
}

// Malloc allocates memory of the device, whose content is not defined, recorded under owner. The caller closes the
// Buffer.
func (d *Device) Malloc(owner string, bytes int64) (*Buffer, error) {
	return d.malloc(owner, bytes, nil, (*cudart.API).Malloc, (*cudart.API).Free)
}

// malloc allocates with one function and frees with the other.
func (d *Device) malloc(owner string, bytes int64, parent *object,
	malloc func(*cudart.API, *cudart.Address, cudart.Size) cudart.Status, free func(*cudart.API, cudart.Address) cudart.Status) (*Buffer, error) {
	if err := d.use(); err != nil {
		return nil, err
	}
	defer d.done()
	if bytes <= 0 {
		return nil, fmt.Errorf("cuda: allocate %d bytes for %s: expected 1 or more", bytes, owner)
	}
	address := new(cudart.Address)
	if err := d.call(fmt.Sprintf("allocate %d bytes for %s", bytes, owner), func(a *cudart.API) cudart.Status {
		return malloc(a, address, cudart.Size(bytes))
	}); err != nil {
		return nil, err
	}
	b := &Buffer{owner: owner, address: *address, bytes: bytes}
	if parent == nil {
		parent = &d.object
	}
	b.init(d, KindDeviceMemory, owner, bytes, parent, func() {
		_ = d.check(failure(&d.runtime.api, "free "+owner, free(&d.runtime.api, b.address)))
	})
	return b, nil
}

// Close frees the memory after the work that may use it: it waits for the device, or for memory of MallocAsync for
// the stream.
func (b *Buffer) Close() error {
	if b != nil {
		b.close()
	}
	return nil
}

// Retain keeps the memory beyond Close until the matching Release, for another library that shares it, and returns its
// address on the device. It is ErrClosed after Close.
func (b *Buffer) Retain() (address uintptr, err error) {
	if err := b.use(); err != nil {
		return 0, err
	}
	return uintptr(b.address), nil
}

// Release ends a Retain.
func (b *Buffer) Release() { b.done() }

// Owner returns the name that the memory is recorded under.
func (b *Buffer) Owner() string { return b.owner }

// Device returns the number of the device whose memory it is.
func (b *Buffer) Device() int { return b.device.ordinal }

// Bytes returns the size.
func (b *Buffer) Bytes() int64 { return b.bytes }

// All returns the whole buffer.
func (b *Buffer) All() View { return View{&b.object, b.address, b.bytes} }

// HostBuffer is page-locked memory of the host, from and to which devices copy while the host goes on.
type HostBuffer struct {
	object
	memory []byte
}

// MallocHost allocates pinned memory, whose content is not defined, recorded under owner. The caller closes the
// HostBuffer.
func (d *Device) MallocHost(owner string, bytes int64) (*HostBuffer, error) {
	if err := d.use(); err != nil {
		return nil, err
	}
	defer d.done()
	if bytes <= 0 {
		return nil, fmt.Errorf("cuda: allocate %d bytes of pinned memory for %s: expected 1 or more", bytes, owner)
	}
	address := new(cudart.Address)
	if err := d.call(fmt.Sprintf("allocate %d bytes of pinned memory for %s", bytes, owner), func(a *cudart.API) cudart.Status {
		return a.HostAlloc(address, cudart.Size(bytes), cudart.HostAllocPortable)
	}); err != nil {
		return nil, err
	}
	h := &HostBuffer{memory: unsafe.Slice(*(**byte)(unsafe.Pointer(address)), bytes)}
	h.init(d, KindPinnedMemory, owner, bytes, &d.object, func() {
		a := &d.runtime.api
		_ = d.check(failure(a, "synchronize", a.DeviceSynchronize())) // copies may still be on their way
		_ = d.check(failure(a, "free "+owner, a.FreeHost(*address)))
	})
	return h, nil
}

// Close waits for the device and frees the memory. Slices of it must not be touched afterwards.
func (h *HostBuffer) Close() error {
	if h != nil {
		h.close()
	}
	return nil
}

// Bytes returns the memory, nil after Close.
func (h *HostBuffer) Bytes() []byte {
	if h == nil || h.shares.Closed() {
		return nil
	}
	return h.memory
}

// All returns the whole buffer.
func (h *HostBuffer) All() View {
	return View{&h.object, cudart.Address(uintptr(unsafe.Pointer(unsafe.SliceData(h.memory)))), int64(len(h.memory))}
}

// View is a range of a Buffer or a HostBuffer. It keeps neither from being closed.
type View struct {
	object  *object
	address cudart.Address
	bytes   int64
}

// Bytes returns the size.
func (v View) Bytes() int64 { return v.bytes }

// Address returns the address for kernels, 0 of an empty View.
func (v View) Address() uintptr { return uintptr(v.address) }

// Slice returns bytes of the view from offset on.
func (v View) Slice(offset, bytes int64) (View, error) {
	if offset < 0 || bytes < 0 || offset > v.bytes || bytes > v.bytes-offset {
		return View{}, fmt.Errorf("cuda: %d bytes at %d of a view of %d", bytes, offset, v.bytes)
	}
	return View{v.object, v.address + cudart.Address(offset), bytes}, nil
}

// use keeps the memory until done; it must belong to the device.
func (v View) use(d *Device) error {
	if v.object == nil {
		return closedError("view")
	}
	if v.object.device != d {
		return fmt.Errorf("cuda: memory of device %d is used on device %d", v.object.device.ordinal, d.ordinal)
	}
	return v.object.use()
}

// Pool is the memory pool of a device, of which MallocAsync allocates. It is not owned.
type Pool struct {
	device *Device
	handle cudart.MemPool
}

// Pool returns the device's default memory pool. Devices without one are too old (compute capability under 6).
func (d *Device) Pool() (*Pool, error) {
	if err := d.use(); err != nil {
		return nil, err
	}
	defer d.done()
	handle := new(cudart.MemPool)
	err := d.call("get memory pool", func(a *cudart.API) cudart.Status {
		return a.DeviceGetDefaultMemPool(handle, int32(d.ordinal)) //nolint:gosec // a small number
	})
	if err != nil {
		return nil, err
	}
	return &Pool{d, *handle}, nil
}

// Trim gives memory that is not in use back to the device, all but keep bytes of it.
func (p *Pool) Trim(keep int64) error {
	if err := p.device.use(); err != nil {
		return err
	}
	defer p.device.done()
	return p.device.call("trim memory pool", func(a *cudart.API) cudart.Status {
		return a.MemPoolTrimTo(p.handle, cudart.Size(max(0, keep)))
	})
}

// KeepAll has the pool keep freed memory for the next allocation until it is trimmed. Otherwise it gives all of it
// back whenever a stream, an event or the device is waited for.
func (p *Pool) KeepAll() error {
	_, err := p.attribute("set release threshold", cudart.MemPoolAttrReleaseThreshold, math.MaxUint64, (*cudart.API).MemPoolSetAttribute)
	return err
}

// Memory returns the bytes that the pool holds and those of them that are allocated.
func (p *Pool) Memory() (reserved, used int64, err error) {
	if reserved, err = p.attribute("get reserved memory", cudart.MemPoolAttrReservedMemCurrent, 0, (*cudart.API).MemPoolGetAttribute); err != nil {
		return 0, 0, err
	}
	used, err = p.attribute("get used memory", cudart.MemPoolAttrUsedMemCurrent, 0, (*cudart.API).MemPoolGetAttribute)
	return reserved, used, err
}

func (p *Pool) attribute(op string, attr cudart.MemPoolAttr, value uint64,
	call func(*cudart.API, cudart.MemPool, cudart.MemPoolAttr, cudart.Address) cudart.Status) (int64, error) {
	if err := p.device.use(); err != nil {
		return 0, err
	}
	defer p.device.done()
	memory := &value
	pinned := pin(memory)
	defer pinned.Unpin()
	err := p.device.call(op+" of the pool", func(a *cudart.API) cudart.Status { return call(a, p.handle, attr, addressOf(memory)) })
	return int64(min(*memory, math.MaxInt64)), err //nolint:gosec // it fits
}
