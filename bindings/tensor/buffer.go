package tensor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrClosed is returned for a use of a Buffer after Close.
var ErrClosed = errors.New("tensor: buffer is closed")

// Buffer is a dense tensor in page-aligned memory outside the Go heap, zeroed at first. Native code may
// keep pointers into it. Its accessors are safe for concurrent use; the elements are guarded by
// nothing.
//
// Slices of a Buffer must not be touched after Close: the memory is unmapped then, unless a native
// tensor still shares it.
type Buffer struct {
	owner string
	dtype DType
	shape Shape

	mu     sync.Mutex
	memory []byte // whole pages, nil when unmapped
	length int    // bytes of the tensor, at most len(memory)
	refs   int    // the owner until Close, and each Retain
	closed bool
	record *Record
}

// New maps memory for a tensor and records it, in whole pages, in the ledger under owner. The caller
// owns the Buffer and closes it.
func New(ledger *Ledger, owner string, dtype DType, shape Shape) (*Buffer, error) {
	if ledger == nil {
		return nil, errors.New("tensor: a buffer needs a ledger")
	}
	length, err := shape.Bytes(dtype)
	if err != nil {
		return nil, fmt.Errorf("%w (buffer %q)", err, owner)
	}
	page := int64(os.Getpagesize())
	mapped := max((length+page-1)/page*page, page)
	if mapped < length {
		return nil, fmt.Errorf("tensor: shape %s is too large (buffer %q)", shape, owner)
	}
	memory, err := unix.Mmap(-1, 0, int(mapped), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("tensor: out of host memory: %d bytes for buffer %q %s%s: %w", mapped, owner, dtype, shape, err)
	}
	return &Buffer{
		owner: owner, dtype: dtype, shape: slices.Clone(shape),
		memory: memory, length: int(length), refs: 1,
		record: ledger.Add("buffer", owner, mapped),
	}, nil
}

// Owner returns the name the buffer is recorded under.
func (b *Buffer) Owner() string { return b.owner }

// DType returns the element type.
func (b *Buffer) DType() DType { return b.dtype }

// Shape returns the shape; the caller must not change it.
func (b *Buffer) Shape() Shape { return b.shape }

// Mapped returns the bytes that the ledger has for the buffer: whole pages, 0 once they are unmapped.
func (b *Buffer) Mapped() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.memory))
}

// Retain keeps the memory mapped beyond Close until the matching Release, for native code that shares
// it, and returns its address. The address is valid and page-aligned for an empty tensor too. It is
// ErrClosed after Close.
func (b *Buffer) Retain() (unsafe.Pointer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.refs++
	return unsafe.Pointer(unsafe.SliceData(b.memory)), nil
}

// Release ends a Retain.
func (b *Buffer) Release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.release()
}

func (b *Buffer) release() error {
	if b.refs == 0 {
		return errors.New("tensor: Release without Retain")
	}
	b.refs--
	if b.refs > 0 {
		return nil
	}
	memory := b.memory
	b.memory = nil
	b.record.Release()
	if err := unix.Munmap(memory); err != nil {
		return fmt.Errorf("tensor: unmap buffer %q: %w", b.owner, err)
	}
	return nil
}

// Close unmaps the memory, or leaves that to the last Release. It may be called twice.
func (b *Buffer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return b.release()
}

// Bytes returns the memory of the tensor, nil after Close.
func (b *Buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	return b.memory[:b.length:b.length]
}

// F32 returns the elements of an F32 buffer; nil if it is of another type or closed. So do the others.
func (b *Buffer) F32() []float32 { return view[float32](b, F32) }

// I32 returns the elements of an I32 buffer.
func (b *Buffer) I32() []int32 { return view[int32](b, I32) }

// I64 returns the elements of an I64 buffer.
func (b *Buffer) I64() []int64 { return view[int64](b, I64) }

// U8 returns the elements of a U8 buffer.
func (b *Buffer) U8() []uint8 { return view[uint8](b, U8) }

func view[T float32 | int32 | int64 | uint8](b *Buffer, dtype DType) []T {
	if b.dtype != dtype {
		return nil
	}
	return View[T](b.Bytes())
}

// View reinterprets bytes as elements of T in the machine's byte order, nil for nil. The bytes must be
// aligned for T, as those of a Buffer and of native tensors are; those that do not fill an element are
// left out.
func View[T float32 | float64 | int8 | int16 | int32 | int64 | uint8 | ~uint16 | uint32 | uint64](bytes []byte) []T {
	if bytes == nil {
		return nil
	}
	var t T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(bytes))), len(bytes)/int(unsafe.Sizeof(t)))
}
