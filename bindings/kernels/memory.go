package kernels

import "unsafe"

// memory is where float32 values lie, on the host or on a device.
type memory struct {
	address uintptr
	n       int // values
	given   bool
}

func memoryOf(s []float32) memory {
	return memory{uintptr(unsafe.Pointer(unsafe.SliceData(s))), len(s), s != nil}
}

func (m memory) end() uintptr { return m.address + uintptr(m.n)*unsafe.Sizeof(float32(0)) }

// overlaps reports whether a and b share memory without starting at the same place.
// Both have the same length or one of them is empty.
func overlaps(a, b memory) bool { return a.address != b.address && shareMemory(a, b) }

// shareMemory reports whether a and b have memory in common.
func shareMemory(a, b memory) bool {
	return a.n > 0 && b.n > 0 && a.address < b.end() && b.address < a.end()
}
