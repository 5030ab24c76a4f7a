package kernels

import (
	"fmt"
	"unsafe"
)

// memory is where values lie, on the host or on a device.
type memory struct {
	address uintptr
	n       int // values
	size    int // bytes of one
	given   bool
}

func memoryOf[T any](s []T) memory {
	var t T
	return memory{uintptr(unsafe.Pointer(unsafe.SliceData(s))), len(s), int(unsafe.Sizeof(t)), s != nil}
}

func (m memory) end() uintptr { return m.address + uintptr(m.n*m.size) }

// overlaps reports whether a and b share memory without starting at the same place.
// Both have the same length or one of them is empty.
func overlaps(a, b memory) bool { return a.address != b.address && shareMemory(a, b) }

// shareMemory reports whether a and b have memory in common.
func shareMemory(a, b memory) bool {
	return a.n > 0 && b.n > 0 && a.address < b.end() && b.address < a.end()
}

// checkApart makes sure that arrays have as many values as the first and share no memory with it.
func checkApart(kernel string, dst memory, src ...memory) error {
	for _, s := range src {
		if s.n != dst.n {
			return fmt.Errorf("kernels: %s: dst has %d values and a source %d, expected as many", kernel, dst.n, s.n)
		}
		if shareMemory(dst, s) {
			return fmt.Errorf("kernels: %s: dst shares memory with a source", kernel)
		}
	}
	return nil
}

// checkInPlace makes sure that arrays have as many values as dst, and are the very same memory or apart.
func checkInPlace(kernel string, dst memory, src ...memory) error {
	for _, s := range src {
		if s.n != dst.n {
			return fmt.Errorf("kernels: %s: dst has %d values and a source %d, expected as many", kernel, dst.n, s.n)
		}
		if overlaps(dst, s) {
			return fmt.Errorf("kernels: %s: dst overlaps a source without being the same slice", kernel)
		}
	}
	return nil
}
