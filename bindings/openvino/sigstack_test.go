package openvino

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
