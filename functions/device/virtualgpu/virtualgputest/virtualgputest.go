// Package virtualgputest is what the tests over the virtual GPU share: its installation, the cache of its compiled
// kernels, and faults that change while a process runs.
package virtualgputest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/functions/device/virtualgpu"
)

// Installed returns what `make vgpu` made: in the folder of GENFN_VGPU_DIR, else in the repository's .runtime.
func Installed(t testing.TB) *virtualgpu.Installation {
	t.Helper()
	dir := os.Getenv(virtualgpu.DirEnv)
	if dir == "" {
		dir = checkout.Path(t, ".runtime", "vgpu")
	}
	in, err := virtualgpu.Find(dir)
	require.NoError(t, err, "this test needs the virtual GPU")
	return in
}

// KernelCache is the folder of compiled kernels that all tests share and keep from run to run: a cold run takes
// minutes longer.
func KernelCache(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("GENFN_CACHE_DIR")
	if cache == "" {
		cache = checkout.Path(t, ".cache", "genfn")
	}
	return filepath.Join(cache, "vgpu")
}
