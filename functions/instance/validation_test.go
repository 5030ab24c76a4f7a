//go:build !race

package instance_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/device/virtualgpu/virtualgputest"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// validations has the look at the devices, which comes before any model, meet faults: the GPU is refused with the
// reason, and the CPU serves.
func validations(t *testing.T, table *table) {
	for _, c := range []struct {
		name    string
		options virtualgpu.Options
		rule    string
		code    events.Code // "": the device passes
		stage   string
		class   fault.Class
	}{
		{name: "validation, no fault"},
		{name: "validation, 1000 bits of the known computation", rule: "clEnqueueNDRangeKernel flip=1000", code: events.CodeNumericalError, stage: "validate computation", class: fault.ClassNumerical},
		{name: "validation, allocation -4", rule: "memory error=-4", code: events.CodeGPUOutOfMemory, stage: "validate computation", class: fault.ClassMemory},
		{name: "validation, no kernel compiles: -11", rule: "clBuildProgram error=-11", code: events.CodeModelLoadFailed, stage: "validate computation", class: fault.ClassRequest},
		{name: "validation, clFinish -5", rule: "queue error=-5", code: events.CodeDeviceLost, stage: "validate computation", class: fault.ClassFatal},
		{name: "validation, 1 MiB of memory", options: virtualgpu.Options{Memory: 1 << 20}, code: events.CodeGPUOutOfMemory, stage: "validate memory", class: fault.ClassMemory},
		{name: "validation, crash SIGSEGV", rule: "clBuildProgram crash=SIGSEGV", code: events.CodeDeviceUnavailable, class: fault.ClassHost},
	} {
		gpu, counters := discover(t, c.options, c.rule)
		o := outcome{device: "-", first: gpu.Error}
		held := []bool{
			assert.Equal(t, c.code, o.code(), "%s: %v", c.name, gpu.Error),
			assert.Equal(t, c.class, o.class(), c.name),
			assert.Equal(t, c.stage, o.stage(), c.name),
		}
		require.NoError(t, virtualgpu.SweepMemory(counters))
		left, err := os.ReadDir(counters)
		require.NoError(t, err)
		require.Empty(t, left, "the children have ended")
		table.add(c.name, o, "yes, to 0", held)
	}
}

// discover looks at the devices of a machine with a virtual GPU and returns what was found of that; the CPU must be well.
func discover(t *testing.T, o virtualgpu.Options, rule string) (gpu process.Found, counters string) {
	t.Helper()
	faults, err := virtualgpu.ParseFaults(rule)
	require.NoError(t, err)
	o.Faults, o.CacheDir, o.CountersDir = faults, virtualgputest.KernelCache(t), t.TempDir()
	env, err := virtualgputest.Installed(t).Env(o)
	require.NoError(t, err)
	found, err := process.Discover(t.Context(), process.Config{
		Command: []string{"/proc/self/exe"}, Env: append(env, envOpenVINO+"=1"), Stderr: t.Output(),
		Hello: protocol.Hello{
			RuntimeDir: t.TempDir(), Precision: "f32",
			LibraryDir: repositoryPath(t, "this test needs OpenVINO: run make runtime", ".runtime", "openvino"),
		},
	})
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, "CPU", found[0].Name)
	require.Nil(t, found[0].Error)
	require.Equal(t, "GPU", found[1].Name)
	return found[1], o.CountersDir
}
