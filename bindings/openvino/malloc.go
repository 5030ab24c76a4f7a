package openvino

import (
	"github.com/ebitengine/purego"

	"genfn/bindings/dynlib"
)

// OpenVINO makes and frees millions of small objects while it compiles, on many threads. glibc gives every thread but
// the first a heap that grows one page a system call, under a lock that page faults take too: importing three
// networks took 12,000 calls and, on two cores, a tenth more CPU time than with one heap for all threads.

const mArenaMax = -8 // M_ARENA_MAX of malloc.h

// limitHeaps keeps malloc to one heap from now on. Without glibc it does nothing.
func limitHeaps() {
	libc, err := dynlib.Open("the C library", []string{"libc.so.6"})
	if err != nil {
		return
	}
	var table struct {
		// int mallopt(int param, int value);
		Mallopt uintptr `sym:"mallopt,optional"`
	}
	if libc.Bind(&table) == nil && table.Mallopt != 0 {
		param := int32(mArenaMax)
		purego.SyscallN(table.Mallopt, uintptr(uint32(param)), 1)
	}
}
