package libc

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/require"

	"genfn/bindings/dynlib"
)

// TestTrimMalloc: blocks below the mapping threshold, freed under one that stays, remain resident until the trim.
func TestTrimMalloc(t *testing.T) {
	library, err := dynlib.Open("the C library", []string{"libc.so.6"})
	require.NoError(t, err)
	var c struct {
		Malloc uintptr `sym:"malloc"`
		Memset uintptr `sym:"memset"`
		Free   uintptr `sym:"free"`
	}
	require.NoError(t, library.Bind(&c))
	runtime.LockOSThread() // one arena
	defer runtime.UnlockOSThread()
	const size, count = 100 << 10, 500
	var blocks [count + 1]uintptr
	for i := range blocks {
		blocks[i], _, _ = purego.SyscallN(c.Malloc, size)
		require.NotZero(t, blocks[i])
		purego.SyscallN(c.Memset, blocks[i], 1, size) // what nobody has written to is not resident
	}
	for _, b := range blocks[:count] {
		purego.SyscallN(c.Free, b)
	}
	before := resident(t)
	require.True(t, TrimMalloc())
	require.Less(t, resident(t), before-size*count/2)
	purego.SyscallN(c.Free, blocks[count])
}

// resident is the resident set in bytes.
func resident(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	require.NoError(t, err)
	return pages * os.Getpagesize()
}
