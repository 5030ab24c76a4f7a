package nvml_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/dynlib"
	"genfn/bindings/nvml"
)

// askEnv makes a copy of the test binary ask a virtual device, whose faults it takes from its environment; its value is
// the library.
const askEnv = "GENFN_TEST_NVML_ASK"

func TestMain(m *testing.M) {
	if library := os.Getenv(askEnv); library != "" {
		ask(library, os.Stdout)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ask tells everything of the first device, a line each.
func ask(path string, out io.Writer) {
	l, err := nvml.Open(nvml.Options{Library: path})
	if err != nil {
		fmt.Fprintln(out, "open:", err)
		return
	}
	d, err := l.DeviceByPCI("0000:01:00.0")
	if err != nil {
		fmt.Fprintln(out, "device:", err)
		return
	}
	say := func(what string, value any, err error) {
		if err != nil {
			fmt.Fprintf(out, "%s: lost %t, reset %t, not supported %t: %v\n", what,
				errors.Is(err, nvml.ErrLost), errors.Is(err, nvml.ErrResetRequired), errors.Is(err, nvml.ErrNotSupported), err)
			return
		}
		fmt.Fprintf(out, "%s: %+v\n", what, value)
	}
	memory, err := d.Memory()
	say("memory", memory, err)
	processes, err := d.Processes()
	say("processes", processes, err)
	temperature, err := d.Temperature()
	say("temperature", temperature, err)
	slowdown, err := d.TemperatureThreshold(nvml.SlowdownThreshold)
	say("slowdown", slowdown, err)
	throttling, err := d.Throttling()
	say("throttling", throttling, err)
	utilization, err := d.Utilization()
	say("utilization", utilization, err)
	power, err := d.Power()
	say("power", power, err)
	limit, err := d.PowerLimit()
	say("power limit", limit, err)
	mode, err := d.ECCMode()
	say("ECC mode", mode, err)
	corrected, err := d.ECCErrors(nvml.Corrected, nvml.Aggregate)
	say("corrected", corrected, err)
	uncorrected, err := d.ECCErrors(nvml.Uncorrected, nvml.Volatile)
	say("uncorrected", uncorrected, err)
	pages, err := d.RetiredPages()
	say("pages", pages, err)
	rows, err := d.RemappedRows()
	say("rows", rows, err)
	x, err := d.Xids()
	if err != nil {
		say("Xids", nil, err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer cancel()
	number, err := x.Wait(ctx)
	say("Xid", number, err)
	say("closed", errors.Join(x.Close(), x.Close(), l.Close(), l.Close()) == nil, nil)
	_, err = d.Temperature()
	say("after", nil, err)
}

func library(t *testing.T) string {
	t.Helper()
	return filepath.Join(cudatest.Virtual(t).LibraryDir, "libnvidia-ml.so.1")
}

// TestVirtualDevice: what is asked of a device, and every way in which it can be unwell.
func TestVirtualDevice(t *testing.T) {
	for _, c := range []struct {
		faults string
		says   []string
	}{
		{"", []string{
			"memory: {Total:4294967296 Reserved:0 Used:0 Free:4294967296}", "processes: []", "temperature: 40\n", "slowdown: 94\n", "throttling: 0\n",
			"utilization: {GPU:0 Memory:0}", "power: 75000\n", "power limit: 350000\n", "ECC mode: {Current:true Pending:true}", "corrected: 0\n", "uncorrected: 0\n",
			"pages: lost false, reset false, not supported true: nvml: count retired pages: Not Supported (3)",
			"rows: {Correctable:0 Uncorrectable:0 Pending:false Failed:false}", "Xid: lost false, reset false, not supported false: context deadline exceeded",
			"closed: true", "after: lost false, reset false, not supported false: nvml: get temperature: object is closed",
		}},
		{
			"temperature value=97; throttling value=72; ecc value=2; ecc_corrected value=11; remapped value=3; remap_pending value=1; remap_failed value=1; others value=1073741824; xid value=119",
			[]string{
				"temperature: 97\n", "throttling: 72\n", "uncorrected: 2\n", "corrected: 11\n", "rows: {Correctable:0 Uncorrectable:3 Pending:true Failed:true}",
				"Used:1073741824 Free:3221225472}", "processes: [{PID:1 Memory:1073741824}]", "Xid: 119\n",
			},
		},
		{"nvml error=NVML_ERROR_GPU_IS_LOST after=1", []string{"temperature: lost true, reset false, not supported false: nvml: get temperature: GPU is lost (15)", "Xids: lost true"}},
		{"xid error=16", []string{"temperature: 40", "Xid: lost false, reset true"}},
		{"nvmlInit_v2 error=NVML_ERROR_DRIVER_NOT_LOADED", []string{"open: nvml: start NVML: Driver Not Loaded (9)"}},
		{"nvml error=15", []string{"device: nvml: find device at 0000:01:00.0: GPU is lost (15)"}},
	} {
		t.Run(c.faults, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), askEnv+"="+library(t), "GENFN_VCUDA_FAULTS="+c.faults, "GORACE=atexit_sleep_ms=0")
			said, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", said)
			for _, words := range c.says {
				require.Contains(t, string(said), words)
			}
		})
	}
}

// TestFindDevices: by index, UUID and PCI bus id it is the same device, and what is not there is told.
func TestFindDevices(t *testing.T) {
	l, err := nvml.Open(nvml.Options{Library: library(t)})
	require.NoError(t, err)
	defer l.Close()
	n, err := l.DeviceCount()
	require.NoError(t, err)
	require.Equal(t, 1, n)
	version, err := l.DriverVersion()
	require.NoError(t, err)
	require.Equal(t, "999.0.virtual", version)
	d, err := l.DeviceByIndex(0)
	require.NoError(t, err)
	name, err := d.Name()
	require.NoError(t, err)
	require.Equal(t, "genfn virtual CUDA device", name)
	uuid, err := d.UUID()
	require.NoError(t, err)
	for what, find := range map[string]func() (*nvml.Device, error){
		uuid: func() (*nvml.Device, error) { return l.DeviceByUUID(uuid) }, "PCI": func() (*nvml.Device, error) { return l.DeviceByPCI("0000:01:00.0") },
	} {
		same, err := find()
		require.NoError(t, err, what)
		own, err := same.UUID()
		require.NoError(t, err, what)
		require.Equal(t, uuid, own, what)
	}
	_, err = l.DeviceByUUID("GPU-" + strings.Repeat("0", 32))
	require.ErrorIs(t, err, nvml.ErrNotFound)
	_, err = l.DeviceByPCI("0000:7f:00.0")
	require.ErrorIs(t, err, nvml.ErrNotFound)
	_, err = l.DeviceByIndex(1)
	require.ErrorContains(t, err, "find device 1: Invalid Argument (2)")
	_, err = l.DeviceByIndex(-1)
	require.ErrorContains(t, err, "expected 0 or more")
}

// TestManyGoroutines ask, and wait for Xids, while the library is closed: none is left inside it.
func TestManyGoroutines(t *testing.T) {
	l, err := nvml.Open(nvml.Options{Library: library(t)})
	require.NoError(t, err)
	d, err := l.DeviceByIndex(0)
	require.NoError(t, err)
	x, err := d.Xids()
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				if _, err := d.Temperature(); err != nil {
					require.ErrorIs(t, err, nvml.ErrClosed)
					return
				}
			}
		})
	}
	wg.Go(func() {
		_, err := x.Wait(context.Background())
		require.ErrorIs(t, err, nvml.ErrClosed)
	})
	require.NoError(t, l.Close())
	wg.Wait()
	require.NoError(t, x.Close())
}

func TestNoLibrary(t *testing.T) {
	_, err := nvml.Open(nvml.Options{Library: filepath.Join(t.TempDir(), "libnvidia-ml.so.1")})
	notFound := (*dynlib.NotFoundError)(nil)
	require.ErrorAs(t, err, &notFound)
	require.ErrorContains(t, err, "install the NVIDIA driver")
	var d *nvml.Device
	_, err = d.Temperature()
	require.ErrorIs(t, err, nvml.ErrClosed)
	require.NoError(t, (*nvml.Library)(nil).Close())
	require.NoError(t, (*nvml.Xids)(nil).Close())
}
