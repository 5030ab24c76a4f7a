package kernels

import "unsafe"

// overlaps reports whether a and b share memory without starting at the same place.
// Both have the same length or one of them is empty.
func overlaps(a, b []float32) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	pa, pb := uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	const size = unsafe.Sizeof(a[0])
	return pa != pb && pa < pb+uintptr(len(b))*size && pb < pa+uintptr(len(a))*size
}

// shareMemory reports whether a and b have memory in common.
func shareMemory(a, b []float32) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	pa, pb := uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	const size = unsafe.Sizeof(a[0])
	return pa < pb+uintptr(len(b))*size && pb < pa+uintptr(len(a))*size
}
