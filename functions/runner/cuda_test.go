package runner

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/cuda"
	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/cuda/nvrtc"
	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/model"
	"genfn/functions/runner/protocol"
)

func log(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func onnxDir(t *testing.T) string { return checkout.Path(t, ".runtime", "onnxruntime") }

// openFake opens CUDA's engine on a machine with the fake.
func openFake(t *testing.T, m cudatest.Machine) *cudaEngine {
	t.Helper()
	o := cudatest.New(t, m)
	e, err := openCUDA(&protocol.Hello{Runtime: protocol.RuntimeCUDA, CUDADir: o.LibraryDir, ONNXRuntimeDir: onnxDir(t), CacheDir: t.TempDir()}, o, log(t))
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

// TestCUDAValidation: a well device passes every check, and is said to serve no model without the provider.
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
	require.Equal(t, "networks", v.Tuning[0].Name)
	require.Equal(t, "CUDA", v.Tuning[0].Value)
	models := v.Tuning[len(v.Tuning)-1]
	require.Equal(t, "models", models.Name)
	require.Equal(t, "none", models.Value)
	require.Contains(t, models.Reason, "the CUDA provider of ONNX Runtime not found; searched "+onnxDir(t))
	require.Contains(t, models.Reason, "make onnxruntime-gpu")
	bytes, peak := e.Ledger()
	require.Zero(t, bytes)
	require.Positive(t, peak)
	model := protocol.Model{Name: "emoji", Dir: "/m"}
	require.ErrorContains(t, e.Load(t.Context(), model, nil), "without a device")
	require.Nil(t, e.DeviceMemory())
}

// openVirtualCUDA opens CUDA's engine on the virtual device.
func openVirtualCUDA(t *testing.T, change func(*protocol.Hello)) (*cudaEngine, error) {
	t.Helper()
	o, h := cudatest.Virtual(t), hello(t, "cuda:0")
	h.Runtime, h.CUDADir, h.ONNXRuntimeDir = protocol.RuntimeCUDA, o.LibraryDir, onnxDir(t)
	if change != nil {
		change(h)
	}
	e, err := openCUDA(h, o, log(t))
	if err == nil {
		t.Cleanup(func() { require.NoError(t, e.Close(), "everything native is freed") })
	}
	return e, err
}

// TestCUDAGenerates: the demo model on the virtual device, whose memory is what it was once the model is unloaded.
func TestCUDAGenerates(t *testing.T) {
	e, err := openVirtualCUDA(t, func(h *protocol.Hello) { h.Validate = true })
	require.NoError(t, err)
	require.Equal(t, "genfn virtual CUDA device, ONNX Runtime", e.Info().DeviceName)
	require.Equal(t, "1.31.1", e.Info().Versions["onnxruntime"])
	require.Nil(t, e.Info().Validation.Error)
	require.Equal(t, "networks", e.Info().Tuning[0].Name)
	before := *e.DeviceMemory()

	in := emojiInput(t)
	require.NoError(t, e.Load(t.Context(), in.Model, watch(t)))
	loaded := *e.DeviceMemory()
	require.Greater(t, loaded.Used, before.Used)
	var latents [][]float32
	for _, economy := range []model.Economy{{}, {}, {SequentialGuidance: true, OffloadModels: true}} {
		in.Request.Economy = economy
		out, err := e.Generate(t.Context(), in, watch(t))
		require.NoError(t, err)
		require.Equal(t, "f32", out.Precision)
		latents = append(latents, out.Latents.Data)
		bytes, peak := e.Ledger()
		require.Equal(t, e.Resident(), bytes)
		require.Greater(t, peak, bytes)
	}
	require.Equal(t, latents[0], latents[1])
	require.InDeltaSlice(t, latents[0], latents[2], 1e-4)
	require.NoError(t, e.Cleanup(t.Context()))
	require.NoError(t, e.Unload(in.Model.Name))
	require.Equal(t, before.Used, e.DeviceMemory().Used)
}

func TestCUDADevicesThatCannotServe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*protocol.Hello)
		code   events.Code
		part   string
	}{
		"no such device": {func(h *protocol.Hello) { h.Device = "cuda:7" }, events.CodeDeviceUnavailable, "CUDA sees no device cuda:7 here"},
		"not a device":   {func(h *protocol.Hello) { h.Device = "cuda:x" }, events.CodeDeviceUnavailable, "no device cuda:x"},
		"bfloat16":       {func(h *protocol.Hello) { h.Precision = "bf16" }, events.CodeInvalidRequest, "not in bf16"},
		"streams":        {func(h *protocol.Hello) { h.Streams = 2 }, events.CodeInvalidRequest, "in one stream"},
		"properties":     {func(h *protocol.Hello) { h.Properties = map[string]string{"A": "B"} }, events.CodeInvalidRequest, "a CUDA device has none"},
		"no ONNX Runtime": {
			func(h *protocol.Hello) { h.ONNXRuntimeDir = t.TempDir() }, events.CodeDeviceUnavailable, "run `make onnxruntime`",
		},
		"no tokenizers": {func(h *protocol.Hello) { h.LibraryDir = t.TempDir() }, events.CodeDeviceUnavailable, "OpenVINO, which tokenizes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openVirtualCUDA(t, c.change)
			require.ErrorIs(t, err, &events.Error{Code: c.code})
			require.ErrorContains(t, err, c.part)
		})
	}
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
	_, err := openCUDA(&protocol.Hello{}, cuda.Options{LibraryDir: dir, DriverLibrary: dir + "/libcuda.so.1"}, log(t))
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	require.ErrorContains(t, err, "install the NVIDIA driver")
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
