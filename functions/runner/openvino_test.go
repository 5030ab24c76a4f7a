package runner

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/runner/protocol"
)

// installed is the OpenVINO that `make runtime` puts into the repository.
func installed(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("GENFN_OPENVINO_DIR"); dir != "" {
		return dir
	}
	dir, err := filepath.Abs(filepath.Join("..", "..", ".runtime", "openvino"))
	require.NoError(t, err)
	_, err = os.Stat(dir)
	require.NoError(t, err, "this test needs OpenVINO: run make runtime")
	return dir
}

func hello(t *testing.T, device string) *protocol.Hello {
	return &protocol.Hello{
		Protocol: protocol.Version, Device: device, Slot: protocol.AnySlot, RuntimeDir: t.TempDir(), CacheDir: t.TempDir(), LibraryDir: installed(t), Threads: 1,
	}
}

func openEngine(t *testing.T, h *protocol.Hello) Engine {
	t.Helper()
	e, err := OpenOpenVINO(t.Context(), h, slog.New(slog.NewTextHandler(t.Output(), nil)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close(), "everything native is freed") })
	return e
}

func TestDevices(t *testing.T) {
	e := openEngine(t, hello(t, ""))
	devices, err := e.Devices(t.Context(), "")
	require.NoError(t, err)
	require.NotEmpty(t, devices)
	cpu := devices[0]
	require.Equal(t, "CPU", cpu.Name)
	require.NotEmpty(t, cpu.FullName)
	require.Contains(t, cpu.Properties, "OPTIMIZATION_CAPABILITIES")
	require.Contains(t, e.Info().Versions, "openvino")
	require.ErrorIs(t, e.Load(t.Context(), protocol.Model{Name: "m", Dir: "/m"}, nil), &events.Error{Code: events.CodeDeviceUnavailable})
}

// TestValidation: a device is looked at before any model is loaded, and everything that is wrong is told at once.
func TestValidation(t *testing.T) {
	e := openEngine(t, hello(t, ""))
	devices, err := e.Devices(t.Context(), "CPU")
	require.NoError(t, err)
	require.Len(t, devices, 1, "no other device is touched")
	v := devices[0].Validation
	require.Nil(t, v.Error)
	require.Equal(t, events.DeviceCPU, v.Class)
	var names []string
	for _, c := range v.Checks {
		require.True(t, c.OK, c.Name)
		names = append(names, c.Name)
	}
	require.Equal(t, []string{checkDriver, checkProperties, checkMemory, checkComputation}, names)
	bytes, _ := e.Ledger()
	require.Zero(t, bytes)

	h := hello(t, "CPU")
	h.Validate, h.Properties = true, map[string]string{"GPU_MEMORY_REUSE": "YES"}
	_, err = OpenOpenVINO(t.Context(), h, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "no release of OpenVINO has it")
	var said *events.Error
	require.ErrorAs(t, err, &said)
	require.Contains(t, said.Advice, "GPU_ENABLE_KERNELS_REUSE")
	for key, value := range map[string]string{"NUM_STREAMS": "many", "FULL_DEVICE_NAME": "mine"} { // a bad value, and one that can only be read
		h.Properties = map[string]string{key: value}
		_, err = OpenOpenVINO(t.Context(), h, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "does not take the property "+key+"="+value)
	}
	h.Properties = map[string]string{"INFERENCE_NUM_THREADS": "2"}
	require.Equal(t, "2", openEngine(t, h).Info().Validation.Properties["INFERENCE_NUM_THREADS"], "a property wins over --threads")
}

// TestTuning: what is chosen without validation is told.
func TestTuning(t *testing.T) {
	h := hello(t, "CPU")
	h.Threads, h.Slots = 0, 1<<10
	e := openEngine(t, h)
	chosen := map[string]string{}
	for _, s := range e.Info().Tuning {
		chosen[s.Name] = s.Value
	}
	require.Equal(t, map[string]string{"threads": "1", "pinning": "no", "streams": "1", "precision": "f32", "guidance": "auto"}, chosen)
	h.RuntimeDir, h.Properties = t.TempDir(), map[string]string{"NO_SUCH": "1"}
	_, err := OpenOpenVINO(t.Context(), h, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, `the device CPU has no property "NO_SUCH"`)
}

// TestGuidanceIsCompared on the first real generations of a model and size, once: batched, sequential, then the faster.
func TestGuidanceIsCompared(t *testing.T) {
	h := hello(t, "CPU")
	nano, err := filepath.Abs(filepath.Join("..", "instance", "testdata", "nano-sd"))
	require.NoError(t, err)
	e := openEngine(t, h).(*openVINO)
	var latents [][]float32
	generate := func(e *openVINO, steps int) *events.DeviceSetting {
		in := Input{Model: protocol.Model{Name: "nano", Dir: nano}, Request: protocol.Request{
			Prompt: "x", Width: 32, Height: 32, Steps: steps, GuidanceScale: 5, Count: 1, OutputLatents: true,
		}}
		out, err := e.Generate(t.Context(), in, &observer{runner: &runner{conn: discard(t)}, job: newJob(t.Context(), 1, &protocol.Generate{})})
		require.NoError(t, err)
		if steps == 8 {
			latents = append(latents, out.Latents.Data)
		}
		return out.Guidance
	}
	first := generate(e, 8)
	require.Equal(t, &events.DeviceSetting{Name: "guidance", Value: "batched", Reason: "nano 32x32: not measured yet"}, first)
	e.models[0].compiled = 1 // however long it took here: the trial shall be made
	require.Equal(t, "batched", generate(e, 2).Value, "a canary is not delayed")
	second := generate(e, 8)
	require.Equal(t, "sequential", second.Value)
	require.Contains(t, second.Reason, "being compared")
	third := generate(e, 8)
	require.Contains(t, third.Reason, "a step takes")
	for i, v := range latents[0] {
		require.InDelta(t, v, latents[1][i], 1e-4)
		require.InDelta(t, v, latents[2][i], 1e-4)
	}
	h.RuntimeDir = t.TempDir()
	again := openEngine(t, h).(*openVINO)
	require.Equal(t, third, generate(again, 8), "the next process knows it")
}

// discard is a connection whose other end reads everything.
func discard(t *testing.T) *protocol.Conn {
	ours, theirs := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	conn := protocol.NewConn(ours)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// TestKnownComputation: one wrong value is found.
func TestKnownComputation(t *testing.T) {
	y := make([]float32, validationSide*validationSide)
	for i := range y {
		for k := range validationSide {
			y[i] += validationValue(i/validationSide, k, 0) * validationValue(k, i%validationSide, 5)
		}
		y[i] = max(y[i], 0)
	}
	require.NoError(t, compareProduct(y))
	y[77] = math.Nextafter32(y[77], 100)
	require.ErrorIs(t, compareProduct(y), &events.Error{Code: events.CodeNumericalError})
	require.ErrorContains(t, compareProduct(y[1:]), "expected 1024")
}

func TestMemoryStatistics(t *testing.T) {
	for text, want := range map[string]int64{
		"{cl_mem:12,usm_device:30}": 42, "usm_host: 5; usm_shared: 6": 11, "": 0, "{}": 0,
	} {
		require.Equal(t, want, sumStatistics(text), text)
	}
}

func TestDeviceThatIsNotThere(t *testing.T) {
	_, err := OpenOpenVINO(t.Context(), hello(t, "GPU.7"), slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	require.ErrorContains(t, err, "one of CPU")
}

func TestRuntimeThatIsNotThere(t *testing.T) {
	h := hello(t, "CPU")
	h.LibraryDir = t.TempDir()
	_, err := OpenOpenVINO(t.Context(), h, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	require.ErrorContains(t, err, h.LibraryDir)
}

// TestStartFailureIsTold: what goes wrong at the start reaches the other side in words.
func TestStartFailureIsTold(t *testing.T) {
	for name, first := range map[string]protocol.Message{
		"device":  hello(t, "GPU.7"),
		"version": &protocol.Hello{Protocol: 99},
		"order":   &protocol.Devices{Job: 1},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			conn := protocol.NewConn(ours)
			bulk, err := protocol.CreateBulk()
			require.NoError(t, err)
			done := make(chan error, 1)
			go func() {
				done <- Run(context.Background(), protocol.NewConn(theirs), bulk, Options{Logger: slog.New(slog.DiscardHandler)})
			}()
			require.NoError(t, conn.Send(first))
			m, err := conn.Receive()
			require.NoError(t, err)
			require.IsType(t, &protocol.Failed{}, m)
			require.NoError(t, <-done)
			require.NoError(t, conn.Close())
		})
	}
}
