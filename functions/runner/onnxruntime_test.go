package runner

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/events"
	"genfn/functions/model"
	"genfn/functions/runner/protocol"
)

func helloONNX(t *testing.T) *protocol.Hello {
	h := hello(t, "CPU")
	h.Runtime, h.ONNXRuntimeDir = protocol.RuntimeONNXRuntime, checkout.Path(t, ".runtime", "onnxruntime")
	return h
}

func openONNX(t *testing.T, h *protocol.Hello) *onnxEngine {
	t.Helper()
	e, err := Open(t.Context(), h, slog.New(slog.NewTextHandler(t.Output(), nil)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close(), "everything native is freed") })
	return e.(*onnxEngine)
}

// emojiInput is a generation of two steps with the demo model, which has its networks in both forms.
func emojiInput(t *testing.T) Input {
	return Input{
		Model:   protocol.Model{Name: "emoji", Dir: checkout.Path(t, "deploy", "models", "emoji")},
		Request: protocol.Request{Prompt: "a red apple", Width: 64, Height: 64, Steps: 2, GuidanceScale: 4, Seed: 1, Count: 1, OutputLatents: true},
	}
}

func watch(t *testing.T) Observer {
	return &observer{runner: &runner{conn: discard(t)}, job: newJob(t.Context(), 1, &protocol.Generate{})}
}

func TestONNXRuntimeGenerates(t *testing.T) {
	h := helloONNX(t)
	h.Validate = true
	e := openONNX(t, h)
	require.Contains(t, e.Info().DeviceName, ", ONNX Runtime")
	require.Equal(t, "1.31.1", e.Info().Versions["onnxruntime"])
	require.Contains(t, e.Info().Validation.Checks[0].Detail, "CPUExecutionProvider")
	require.Equal(t, "threads", e.Info().Tuning[0].Name)
	require.Equal(t, "1", e.Info().Tuning[0].Value)

	in := emojiInput(t)
	require.NoError(t, e.Load(t.Context(), in.Model, watch(t)))
	var latents [][]float32
	for _, economy := range []model.Economy{{}, {}, {SequentialGuidance: true, OffloadModels: true}} {
		in.Request.Economy = economy
		out, err := e.Generate(t.Context(), in, watch(t))
		require.NoError(t, err)
		require.Equal(t, "f32", out.Precision)
		latents = append(latents, out.Latents.Data)
		bytes, _ := e.Ledger()
		require.Equal(t, e.Resident(), bytes, "nothing but what belongs to the networks")
		require.NoError(t, e.Cleanup(t.Context()))
	}
	require.Equal(t, latents[0], latents[1])
	for i, v := range latents[0] {
		require.InDelta(t, v, latents[2][i], 1e-4)
	}
	require.NoError(t, e.Unload("emoji"))
	bytes, _ := e.Ledger()
	require.Zero(t, bytes)
}

// TestONNXRuntimeInFloat16: the networks' float16 files are used if they are asked for, with nothing else in the ledger, and
// a model without them is refused.
func TestONNXRuntimeInFloat16(t *testing.T) {
	h := helloONNX(t)
	h.Precision = "f16"
	e := openONNX(t, h)
	require.Contains(t, e.Info().Tuning, events.DeviceSetting{Name: "precision", Value: "f16", Reason: "the model_fp16.onnx of each network, as asked for; a CPU computes most of it in f32 and rounds"})
	out, err := e.Generate(t.Context(), emojiInput(t), watch(t))
	require.NoError(t, err)
	require.Equal(t, "f16", out.Precision)
	bytes, _ := e.Ledger()
	require.Equal(t, e.Resident(), bytes, "nothing but what belongs to the networks")
	require.NoError(t, e.Cleanup(t.Context()))
	require.NoError(t, e.Unload("emoji"))
	bytes, _ = e.Ledger()
	require.Zero(t, bytes)

	in := emojiInput(t)
	in.Model = protocol.Model{Name: "nano", Dir: checkout.Path(t, "functions", "instance", "testdata", "nano-sd")}
	_, err = e.Generate(t.Context(), in, watch(t))
	require.ErrorIs(t, err, &events.Error{Code: events.CodeModelInvalid})
	require.ErrorContains(t, err, "model_fp16.onnx")
}

func TestONNXRuntimeRefuses(t *testing.T) {
	e := openONNX(t, helloONNX(t))
	in := emojiInput(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.Generate(ctx, in, watch(t))
	require.ErrorIs(t, err, context.Canceled)
	in.Request.Width = 68 // the latents cannot be halved
	_, err = e.Generate(t.Context(), in, watch(t))
	require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest})

	in.Model = protocol.Model{Name: "nano", Dir: checkout.Path(t, "functions", "instance", "testdata", "nano-sd")}
	_, err = e.Generate(t.Context(), in, watch(t))
	require.ErrorIs(t, err, &events.Error{Code: events.CodeModelInvalid})
	require.ErrorContains(t, err, "model.onnx")
	bytes, _ := e.Ledger()
	require.Zero(t, bytes, "the model before it was given up")
}

func TestONNXRuntimeThatIsNotThere(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*protocol.Hello)
		code   events.Code
		words  string
	}{
		"library":    {func(h *protocol.Hello) { h.ONNXRuntimeDir = t.TempDir() }, events.CodeDeviceUnavailable, "make onnxruntime"},
		"tokenizers": {func(h *protocol.Hello) { h.LibraryDir = t.TempDir() }, events.CodeDeviceUnavailable, "OpenVINO, which tokenizes"},
		"device":     {func(h *protocol.Hello) { h.Device = "cuda:0" }, events.CodeDeviceUnavailable, "on cuda:0 yet"},
		"property":   {func(h *protocol.Hello) { h.Properties = map[string]string{"CACHE_MODE": "x"} }, events.CodeInvalidRequest, "INFERENCE_NUM_THREADS"},
		"precision":  {func(h *protocol.Hello) { h.Precision = "bf16" }, events.CodeInvalidRequest, "does not compute in bf16"},
		"threads":    {func(h *protocol.Hello) { h.Properties = map[string]string{"INFERENCE_NUM_THREADS": "many"} }, events.CodeInvalidRequest, "no number of threads"},
	} {
		t.Run(name, func(t *testing.T) {
			h := helloONNX(t)
			c.change(h)
			_, err := Open(t.Context(), h, slog.New(slog.DiscardHandler))
			require.ErrorIs(t, err, &events.Error{Code: c.code})
			require.ErrorContains(t, err, c.words)
		})
	}
}
