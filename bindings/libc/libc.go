// Package libc calls the C library of this process.
package libc

import (
	"runtime"
	"sync"

	"github.com/ebitengine/purego"

	"genfn/bindings/dynlib"
)

// table holds what is used of glibc.
type table struct {
	// int malloc_trim(size_t pad);
	MallocTrim uintptr `sym:"malloc_trim"`
}

// load resolves the table once; nil where the C library is not glibc.
var load = sync.OnceValue(func() *table {
	library, err := dynlib.Open("the C library", []string{"libc.so.6"})
	if err != nil {
		return nil
	}
	t := new(table)
	if library.Bind(t) != nil {
		return nil
	}
	return t // the library stays loaded: it is the process's own
})

// TrimMalloc gives memory that native code has freed back to the system, as malloc_trim(3) of glibc does with a pad
// of 0: without it freed memory may stay resident. It reports whether any was; on another C library it does nothing.
// It is safe for concurrent use and takes milliseconds for a heap of gigabytes.
func TrimMalloc() (released bool) {
	t := load()
	if t == nil {
		return false
	}
	r, _, _ := purego.SyscallN(t.MallocTrim, 0)
	runtime.KeepAlive(t)
	return int32(r) == 1
}
