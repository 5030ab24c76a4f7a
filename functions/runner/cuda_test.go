package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/cuda/nvrtc"
	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/runner/protocol"
)

// openFake opens CUDA's engine on a machine with the fake.
func openFake(t *testing.T, m cudatest.Machine) *cudaEngine {
	t.Helper()
	o := cudatest.New(t, m)
	e, err := openCUDA(&protocol.Hello{Runtime: protocol.RuntimeCUDA, LibraryDir: o.LibraryDir, CacheDir: t.TempDir()}, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close(), "everything native is freed") })
	return e
}

func TestCUDADevices(t *testing.T) {
	e := openFake(t, cudatest.Machine{Devices: 2})
	list, err := e.Devices(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []protocol.Device{{Name: "cuda:0"}, {Name: "cuda:1"}}, list, "no device is touched")
	_, err = e.Devices(t.Context(), "cuda:2")
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	require.ErrorContains(t, err, "no device cuda:2")

	none := openFake(t, cudatest.Machine{Devices: 0})
	list, err = none.Devices(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, list)
}

// TestCUDAValidation: a well device passes every check, and is said to serve no model.
func TestCUDAValidation(t *testing.T) {
	e := openFake(t, cudatest.Machine{Devices: 1})
	list, err := e.Devices(t.Context(), "cuda:0")
	require.NoError(t, err)
	require.Len(t, list, 1)
	v := list[0].Validation
	require.Nil(t, v.Error, "%v", v.Error)
	require.Equal(t, events.DeviceGPU, v.Class)
	require.Equal(t, "Fake GPU", v.Name)
	require.Equal(t, "9.0", list[0].Properties["compute_capability"])
	require.Equal(t, "0000:1b:00.0", v.Driver.PCI)
	require.Equal(t, "13.5", v.Driver.CUDA)
	require.Len(t, v.Driver.UUID, 32)
	require.Equal(t, int64(4<<30), v.Memory.Total)
	require.Equal(t, v.Memory.Total, v.Memory.Free+v.Memory.Used)
	var names []string
	for _, c := range v.Checks {
		require.True(t, c.OK, c.Detail)
		names = append(names, c.Name)
	}
	require.Equal(t, []string{checkDriver, checkProperties, checkMemory, checkComputation, checkHardware}, names)
	require.Equal(t, "models", v.Tuning[0].Name)
	require.Contains(t, v.Tuning[0].Reason, "no model runs on CUDA yet")
	bytes, peak := e.Ledger()
	require.Zero(t, bytes)
	require.Positive(t, peak)
	model := protocol.Model{Name: "emoji", Dir: "/m"}
	require.ErrorContains(t, e.Load(t.Context(), model, nil), "no model runs on CUDA yet")
	_, err = e.Generate(t.Context(), Input{Model: model}, nil)
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
}

// TestSickCUDADevices: what is wrong is found by the check that it belongs to, and told with the classifier's words.
func TestSickCUDADevices(t *testing.T) {
	for name, c := range map[string]struct {
		machine cudatest.Machine
		check   string
		code    events.Code
		says    string
		driver  string
	}{
		"one wrong bit": {cudatest.Machine{Flags: []string{"-DWRONG"}}, checkComputation, events.CodeNumericalError, "wrong at value 6220 of 6221", ""},
		"a kernel fails": {
			cudatest.Machine{Flags: []string{"-DSTICKY=719"}}, checkComputation, events.CodeDeviceLost, "a kernel failed on cuda:0: its context is dead", "719",
		},
		"hardware": {
			cudatest.Machine{Flags: []string{"-DSTICKY=214"}}, checkComputation, events.CodeDeviceLost, "the hardware of cuda:0 reported an error", "214",
		},
		"full":        {cudatest.Machine{Flags: []string{"-DFREE=1048576"}}, checkMemory, events.CodeGPUOutOfMemory, "1 MiB of 4096 MiB are free", ""},
		"no compiler": {cudatest.Machine{NoCompiler: true}, checkComputation, events.CodeDeviceUnavailable, "libnvrtc not found", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.machine.Devices = 1
			list, err := openFake(t, c.machine).Devices(t.Context(), "cuda:0")
			require.NoError(t, err)
			v := list[0].Validation
			require.NotNil(t, v.Error)
			require.Equal(t, c.code, v.Error.Code)
			require.Contains(t, v.Error.Message, c.says)
			require.Equal(t, c.driver, v.Error.DriverCode)
			require.Equal(t, "cuda:0", v.Error.Device)
			require.Equal(t, "validate "+c.check, v.Error.Stage)
			require.NotEmpty(t, v.Error.Advice)
			for _, check := range v.Checks {
				require.Equal(t, check.Name != c.check, check.OK, "%s: %s", check.Name, check.Detail)
			}
		})
	}
}

func TestCUDAThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	_, err := openCUDA(&protocol.Hello{}, cuda.Options{LibraryDir: dir, DriverLibrary: dir + "/libcuda.so.1"})
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	require.ErrorContains(t, err, "install the NVIDIA driver")
	_, err = Open(t.Context(), &protocol.Hello{Runtime: protocol.RuntimeCUDA, Device: "cuda:0"}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "no model runs on CUDA yet")
	_, err = Open(t.Context(), &protocol.Hello{Runtime: "abacus"}, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, `the runtime "abacus"`)
}

// TestDeadContextsAreReplaced: what bindings/cuda takes for the death of a context is a fault that replaces the process,
// and whatever leaves the process alone leaves the context alive.
func TestDeadContextsAreReplaced(t *testing.T) {
	dead, spared := 0, []string{}
	for code := 1; code < 1100; code++ {
		known := &cuda.Error{Op: "x", Code: code, Text: "some words"}
		f := classify(fmt.Errorf("denoise: %w", known), "denoise", "cuda:0")
		if known.Dead() {
			dead++
			if !f.Replace {
				spared = append(spared, fmt.Sprint(code, " ", f.Rule))
			}
		}
	}
	require.Empty(t, spared)
	require.Greater(t, dead, 900, "the unknown counts as dead")
}

func TestClassifyCUDA(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		rule  string
		class fault.Class
		code  string
	}{
		"out of memory": {&cuda.Error{Op: "allocate", Code: 2, Text: "out of memory"}, "cuda_out_of_memory", fault.ClassMemory, "2"},
		"dead":          {errors.Join(&cuda.Error{Op: "copy", Code: 700, Text: "an illegal memory access was encountered"}, cuda.ErrDead), "cuda_illegal_address", fault.ClassFatal, "700"},
		"no function":   {&cuda.Error{Op: "find kernel x", Code: 500, Text: "named symbol not found"}, "cuda_symbol_not_found", fault.ClassHost, "500"},
		"compiler":      {&nvrtc.Error{Op: "compile", Code: 5, Text: "NVRTC_ERROR_INVALID_OPTION"}, "nvrtc_compilation", fault.ClassHost, "NVRTC_ERROR_INVALID_OPTION"},
	} {
		t.Run(name, func(t *testing.T) {
			f := classify(fmt.Errorf("validate: %w", c.err), "validate", "cuda:0")
			require.Equal(t, c.rule, f.Rule)
			require.Equal(t, c.class, f.Class)
			require.Equal(t, c.code, f.Err.DriverCode)
			require.NotEmpty(t, f.Err.DriverText)
		})
	}
}
