//go:build !race

// The runner of this test is OpenVINO's own GPU plugin over a compiler; the race detector has nothing to see in it and
// would make it several times slower. `make unit` runs it.

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/device/virtualgpu/virtualgputest"
	"genfn/functions/stress"
)

// TestStressOfGPU: the memory of the device comes back to the last byte, whatever fails on it.
func TestStressOfGPU(t *testing.T) {
	up, faults := startVirtual(t)
	up.waitForGPU(t)
	s := stressed(t, up.URL, 30, "--seed", "3", "--model", "nano-sd", "--sizes", "32x32", "--devices", "gpu,cpu,auto", "--faults", "0.4",
		"--fault-file", faults, "--kinds", "gpu_lost,gpu_memory,gpu_transient,gpu_crash")
	for _, k := range []stress.Kind{stress.GPULost, stress.GPUMemory, stress.GPUTransient, stress.GPUCrash} {
		require.Positive(t, s.Injected[k], k)
	}
	require.Positive(t, s.FellBack)
	require.Contains(t, judged(s), "device memory")
}

// startVirtual runs `genfn up` with virtual GPUs, which read their faults from a file.
func startVirtual(t *testing.T, args ...string) (up *server, faults string) {
	t.Helper()
	faults = filepath.Join(t.TempDir(), "faults")
	t.Setenv(virtualgpu.DirEnv, virtualgputest.Installed(t).Dir)
	cache := filepath.Dir(virtualgputest.KernelCache(t))
	args = append([]string{"--cache-dir", cache, "--virtual-gpu", "--virtual-gpu-faults", "@" + faults}, args...)
	return startUp(t, checkout.Path(t, "functions", "instance", "testdata"), args...), faults
}

// waitForGPU returns when the GPU has made a picture.
func (s *server) waitForGPU(t *testing.T) {
	t.Helper()
	out, err := command(t, os.Args[0], "generate", "--nats", s.URL, "--model", "nano-sd", "--prompt", "an apple", "--steps", "1", "--device", "gpu", "--fallback", "never", "--out", "apple.png")
	require.NoError(t, err, out)
	require.Contains(t, out, " on GPU")
}
