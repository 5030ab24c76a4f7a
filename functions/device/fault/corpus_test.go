package fault_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device/fault"
)

// real is an error text that people met, from a public issue or pull request, or that a release gave here; long ones are
// shortened to what tells.
type real struct {
	Source  string // repository#issue on GitHub, or the release and what was done
	Runtime fault.Runtime
	Status  int
	Device  string
	Text    string
	Rule    string
	Class   fault.Class
	Code    events.Code
	Bytes   int64 // asked for
}

func corpus(t testing.TB) []real {
	t.Helper()
	var all []real
	for _, name := range []string{"issues.json", "measured.json"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		var texts []real
		require.NoError(t, json.Unmarshal(raw, &texts))
		all = append(all, texts...)
	}
	return all
}

func TestTextsFromTheField(t *testing.T) {
	texts := corpus(t)
	require.GreaterOrEqual(t, len(texts), 40)
	for _, c := range texts {
		t.Run(c.Source, func(t *testing.T) {
			f := fault.Classify(fault.Evidence{Runtime: c.Runtime, Status: c.Status, Text: c.Text, Device: c.Device, Stage: "denoise step 3 of 20"})
			require.Equal(t, c.Rule, f.Rule)
			require.Equal(t, c.Class, f.Class)
			require.Equal(t, c.Code, f.Err.Code)
			require.Equal(t, c.Bytes, f.Err.RequestedBytes)
			require.Equal(t, c.Text, f.Err.DriverText)
			requireComplete(t, f)
		})
	}
}

// requireComplete checks what every fault promises.
func requireComplete(t *testing.T, f fault.Fault) {
	t.Helper()
	require.NotEmpty(t, f.Rule)
	require.NotEmpty(t, f.Class)
	require.NotEmpty(t, f.Action)
	require.NotEmpty(t, f.Err.Title)
	require.NotEmpty(t, f.Err.Message)
	require.NotEmpty(t, f.Err.Advice)
	require.NotContains(t, f.Err.Message, "{")
	require.Equal(t, events.Errorf(f.Err.Code, "").Retriable, f.Err.Retriable, "the vocabulary decides what is retriable")
	if f.Action == fault.ActionReject || f.Action == fault.ActionNone {
		require.False(t, f.Err.Retriable, "what fails everywhere is not to be sent again")
	}
}

// TestNotMisread has texts that look like something they are not. None of them is known, so each fails closed, or is
// what the rest of it says.
func TestNotMisread(t *testing.T) {
	for name, c := range map[string]struct {
		runtime fault.Runtime
		status  int
		text    string
		rule    string
	}{
		"another number that begins the same": {fault.RuntimeOpenVINO, -1, "[GPU] clFoo, error code: -50000 SOMETHING", "openvino_gpu_plugin"},
		"-50 is not -5":                       {fault.RuntimeOpenVINO, -1, "[GPU] clSetKernelArg, error code: -50", "opencl_kernel_invalid"},
		"-140 is not -14":                     {fault.RuntimeOpenVINO, -1, "[GPU] clWaitForEvents, error code: -140", "openvino_gpu_plugin"},
		"a path with a code":                  {fault.RuntimeOpenVINO, -1, "Exception from /models/error code: -5 /x.cpp:224:\nsomething new", fault.Unknown},
		"a prompt with a code":                {fault.RuntimeOpenVINO, -1, "tokenizer: cannot encode \"a cat at -5 degrees, CUDA_VISIBLE_DEVICES\"", fault.Unknown},
		"a name in the middle of a prompt":    {fault.RuntimeOpenVINO, -1, "tokenizer: cannot encode \"draw CL_OUT_OF_RESOURCES as a poster\"", fault.Unknown},
		"-5 of OpenVINO's own API":            {fault.RuntimeOpenVINO, -5, "port for tensor name was not there", "openvino_not_found"},
		"-14 of OpenVINO's own API":           {fault.RuntimeOpenVINO, -14, "", "openvino_busy"},
		"a size with 700 in it":               {fault.RuntimeONNXRuntime, 1, "node Conv_700 wanted a workspace of 700 bytes on line 700", fault.Unknown},
		"a line with 719":                     {fault.RuntimeOpenVINO, -1, "Exception from src/plugins/x.cpp:719:\nunheard of", fault.Unknown},
		"memory size with 700":                {fault.RuntimeONNXRuntime, 6, "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 700", "onnxruntime_arena"},
		"CUDA number 7000":                    {fault.RuntimeONNXRuntime, 1, "CUDA failure 7000: brand new", fault.Unknown},
		"cudaError as a type":                 {fault.RuntimeONNXRuntime, 1, "[with ERRTYPE = cudaError; bool THRW = true] who knows", fault.Unknown},
		"a benign warning about memory":       {fault.RuntimeONNXRuntime, 1, "[W:onnxruntime:, session_state.cc:1166 VerifyEachNodeIsAssignedToAnEp] Some nodes were not assigned to the preferred execution providers", fault.Unknown},
		"status of another runtime":           {fault.RuntimeOpenVINO, 700, "", fault.Unknown},
		"NVRTC's 2 is not CUDA's":             {fault.RuntimeNVRTC, 2, "", "nvrtc_internal"},
		"NVML's 15 is not an OrtErrorCode":    {fault.RuntimeONNXRuntime, 15, "", fault.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			f := fault.Classify(fault.Evidence{Runtime: c.runtime, Status: c.status, Text: c.text, Device: "GPU.0"})
			require.Equal(t, c.rule, f.Rule)
			requireComplete(t, f)
			if c.rule == fault.Unknown {
				require.Equal(t, fault.ClassFatal, f.Class)
				require.True(t, f.Replace)
			}
		})
	}
}

// FuzzClassify: whatever a runtime says, the answer is complete and text that is not known fails closed.
func FuzzClassify(f *testing.F) {
	for _, c := range corpus(f) {
		f.Add(string(c.Runtime), c.Status, c.Text, c.Device)
	}
	f.Add("openvino", -1, "[GPU] clFlush, error code: -99999999999999999999", "GPU")
	f.Add("cuda", 2, "Tried to allocate 99999999999999999999.99 TiB", "CUDA:0")
	f.Add("cuda", 0, "requested 9223372036854775808 bytes", "")
	f.Fuzz(func(t *testing.T, runtime string, status int, text, device string) {
		got := fault.Classify(fault.Evidence{Runtime: fault.Runtime(runtime), Status: status, Text: text, Device: device})
		require.NotEmpty(t, got.Err.Message)
		require.GreaterOrEqual(t, got.Err.RequestedBytes, int64(0))
		if got.Rule == fault.Unknown {
			require.True(t, got.Replace)
			require.Equal(t, fault.ClassFatal, got.Class)
		}
		again := fault.Classify(fault.Evidence{Runtime: fault.Runtime(runtime), Status: status, Text: strings.Clone(text), Device: device})
		require.Equal(t, got, again)
	})
}
