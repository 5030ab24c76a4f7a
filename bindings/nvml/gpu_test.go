//go:build gpu

// These tests need an NVIDIA GPU. `make gpu-report` builds them for a machine that has one; `make not-run` lists them.

package nvml_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
	"genfn/bindings/nvml"
)

// TestGPUHardware asks a real driver of the device that CUDA calls the first: NVML finds it, counts what this process has on
// it, and tells of the rest what it can.
func TestGPUHardware(t *testing.T) {
	r, err := cuda.Open(cuda.Options{})
	require.NoError(t, err)
	defer r.Close()
	gpu, err := r.OpenDevice(0)
	require.NoError(t, err)
	defer gpu.Close()
	const size = 256 << 20
	b, err := gpu.Malloc("test", size)
	require.NoError(t, err)
	defer b.Close()
	busID, err := gpu.PCI()
	require.NoError(t, err)

	l, err := nvml.Open(nvml.Options{})
	require.NoError(t, err)
	defer l.Close()
	version, err := l.DriverVersion()
	require.NoError(t, err)
	d, err := l.DeviceByPCI(busID)
	require.NoError(t, err)
	id, err := r.Identify(0)
	require.NoError(t, err)
	uuid, err := d.UUID()
	require.NoError(t, err)
	require.Contains(t, strings.ReplaceAll(uuid, "-", ""), id.UUID, "the same device")
	memory, err := d.Memory()
	require.NoError(t, err)
	require.GreaterOrEqual(t, memory.Used, int64(size))
	temperature, err := d.Temperature()
	require.NoError(t, err)
	require.Positive(t, temperature)
	processes, err := d.Processes()
	require.NoError(t, err)
	t.Logf("driver %s, %s at %s, %d °C, memory %+v, processes %+v (this is %d)", version, uuid, busID, temperature, memory, processes, os.Getpid())
	if i := slices.IndexFunc(processes, func(p nvml.Process) bool { return p.PID == os.Getpid() }); i >= 0 && processes[i].Memory != nvml.Unknown {
		require.GreaterOrEqual(t, processes[i].Memory, int64(size))
	} else {
		t.Log("the driver does not tell what this process has: it may be in a container with process ids of its own")
	}

	var told, missing []string
	for what, ask := range map[string]func() error{
		"slowdown threshold": func() error { _, err := d.TemperatureThreshold(nvml.SlowdownThreshold); return err },
		"throttling":         func() error { _, err := d.Throttling(); return err },
		"utilization":        func() error { _, err := d.Utilization(); return err },
		"power":              func() error { _, err := d.Power(); return err },
		"power limit":        func() error { _, err := d.PowerLimit(); return err },
		"ECC mode":           func() error { _, err := d.ECCMode(); return err },
		"ECC errors":         func() error { _, err := d.ECCErrors(nvml.Uncorrected, nvml.Volatile); return err },
		"retired pages":      func() error { _, err := d.RetiredPages(); return err },
		"remapped rows":      func() error { _, err := d.RemappedRows(); return err },
		"Xids": func() error {
			x, err := d.Xids()
			return errors.Join(err, x.Close())
		},
	} {
		err := ask()
		if err != nil {
			require.ErrorIs(t, err, nvml.ErrNotSupported, what)
			missing = append(missing, what)
			continue
		}
		told = append(told, what)
	}
	slices.Sort(told)
	slices.Sort(missing)
	t.Logf("told: %s; not supported: %s", strings.Join(told, ", "), strings.Join(missing, ", "))
}
