package openvino

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"genfn/bindings/openvino/internal/capi"
)

func openForTest(t *testing.T) *Runtime {
	t.Helper()
	dir := os.Getenv("GENFN_TEST_OPENVINO")
	if dir == "" {
		dir = filepath.Join("..", "..", ".runtime", "openvino")
	}
	r, err := Open(Options{LibraryDir: dir})
	require.NoError(t, err, "run `make runtime`")
	t.Cleanup(func() { assert.NoError(t, r.Close()) })
	return r
}

func TestSignalStackOfTheThreadIsKept(t *testing.T) {
	r := openForTest(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := saveSignalStack()
	require.NotZero(t, before.size)

	// What OpenVINO does by itself, for the log.
	d := r.domains.acquireHot()
	handle := new(capi.Core)
	require.Equal(t, capi.OK, d.api.CoreCreate(handle))
	device, key := []byte("CPU\x00"), []byte("SUPPORTED_PROPERTIES\x00")
	value := new(*byte)
	require.Equal(t, capi.OK, d.api.CoreGetProperty(*handle, &device[0], &key[0], value)) // loads the plugin
	d.api.Free(*value)
	replaced := saveSignalStack()
	d.api.CoreFree(*handle)
	before.restore()
	r.domains.releaseHot(d)
	t.Logf("OpenVINO itself replaces the signal stack: %t", before != replaced)

	c, err := r.NewCore()
	require.NoError(t, err)
	_, err = c.Property("CPU", "SUPPORTED_PROPERTIES")
	require.NoError(t, err)
	assert.Equal(t, before, saveSignalStack(), "after the plugin was loaded")
	require.NoError(t, c.Close())
	assert.Equal(t, before, saveSignalStack(), "after it was unloaded")
}

// TestSignalsAreGivenBack puts a handler of nobody's in place, as a driver's library does with its own.
func TestSignalsAreGivenBack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := goActions()
	for _, signal := range []unix.Signal{unix.SIGBUS, unix.SIGUSR2} { // neither comes during the test
		require.Greater(t, before[signal].handler, uintptr(sigIgnore), "Go handles %s", signal)
		for _, handler := range []uintptr{sigIgnore, 4096} {
			taken := signalAction{handler: handler, flags: before[signal].flags, restorer: before[signal].restorer}
			_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(&taken)), 0, sizeOfMask, 0, 0)
			require.Zero(t, errno)
			restoreSignalActions()
			now := signalActionOf(int(signal))
			if handler == sigIgnore {
				assert.Equal(t, handler, now.handler, "a signal that is ignored on purpose stays so")
			} else {
				assert.Equal(t, before[signal], now)
			}
		}
	}
}
