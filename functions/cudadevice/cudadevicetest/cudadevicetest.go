// Package cudadevicetest opens the virtual CUDA device for tests.
package cudadevicetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/tensor"
	"genfn/functions/cudadevice"
)

// Open opens the virtual device, healthy, until the end of t.
func Open(t testing.TB, ledger *tensor.Ledger) *cudadevice.Device {
	t.Helper()
	o := cudatest.Virtual(t)
	o.Ledger = ledger
	r, err := cuda.Open(o)
	require.NoError(t, err)
	d, err := cudadevice.Open(r, 0, cudadevice.Options{LibraryDir: o.LibraryDir, CacheDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}
