//go:build !race

// The runner of these tests is OpenVINO's own GPU plugin over a compiler; the race detector has nothing to see in it
// and would make it several times slower. `make unit` runs them.

package instance_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/client"
	"genfn/functions/device"
	"genfn/functions/device/fault"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/device/virtualgpu/virtualgputest"
	"genfn/functions/instance"
	"genfn/functions/model"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// virtual is a GPU instance over the virtual GPU and a CPU instance beside it, both with the smallest model under two
// names: a runner keeps one loaded, so a request for the other has it load.
type virtual struct {
	*rig
	folder   string // of the file of faults and of once-files
	device   string // of the next GPU instance that is started
	gpu      *running
	baseline int64  // bytes of device memory with the model "nano" loaded and nothing under way
	latents  string // checksum of what the request for it gives
}

// healthOfMatrix never sets an instance aside for long: the next fault is to meet it.
var healthOfMatrix = device.Policy{Backoff: 10 * time.Millisecond, MaxBackoff: 10 * time.Millisecond, QuarantineAfter: 1 << 20, ShedAfter: 1 << 20}

// startVirtual starts both over a virtual GPU with the given memory. also, which may be nil, changes both.
func startVirtual(t *testing.T, o virtualgpu.Options, also func(*instance.Config)) *virtual {
	v := &virtual{rig: newRig(t), folder: t.TempDir(), device: "GPU"}
	v.also = also
	models := t.TempDir()
	nano, err := filepath.Abs(filepath.Join("testdata", "nano-sd"))
	require.NoError(t, err)
	for _, name := range []string{"nano", "other"} {
		require.NoError(t, os.Symlink(nano, filepath.Join(models, name)))
	}
	v.startReal(models)

	o.FaultFile, o.CacheDir, o.CountersDir = v.faults(), virtualgputest.KernelCache(t), v.counters()
	env, err := virtualgputest.Installed(t).Env(o)
	require.NoError(t, err)
	store, err := model.OpenStore(models)
	require.NoError(t, err)
	private := t.TempDir()
	v.change = func(c *instance.Config) {
		c.Models = instance.StoreModels(store, private)
		c.Runner = process.Config{
			Command: []string{"/proc/self/exe"}, Env: append(env, envOpenVINO+"=1"), Stderr: t.Output(),
			Hello: protocol.Hello{
				Device: v.device, RuntimeDir: v.set.RuntimeDir, CacheDir: private, Precision: "f32", CleanupEvery: 1,
				GuidanceBatch: 2, // so that it is the ladder that takes to sequential guidance, not a prediction
				LibraryDir:    repositoryPath(t, "this test needs OpenVINO: run make runtime", ".runtime", "openvino"),
			},
		}
		c.Budgets = instance.Budgets{Stage: time.Minute, Floor: 3 * time.Second, Factor: 10}
		c.Health = healthOfMatrix
	}
	v.gpu = v.start(func(s *settings) { s.Name = "gpu-1" })
	return v
}

func (v *virtual) faults() string { return filepath.Join(v.folder, "faults") }

func (v *virtual) counters() string { return filepath.Join(v.folder, "counters") }

// once is a file whose making lets a fault act in one process only.
func (v *virtual) once(name string) string { return " once=" + filepath.Join(v.folder, "once-"+name) }

func (v *virtual) inject(text string) {
	v.t.Helper()
	require.NoError(v.t, virtualgpu.WriteFaults(v.faults(), text))
}

// warmUp has the GPU compile the model, and learn how long steps take.
func (v *virtual) warmUp() {
	v.t.Helper()
	for range 2 {
		o := v.run(v.request(32))
		require.Equal(v.t, "GPU", o.device)
		require.NotEmpty(v.t, o.result.Versions["driver"], "OpenCL tells it")
		v.latents = o.latents()
	}
	v.baseline = v.memory()
	require.Positive(v.t, v.baseline)
}

func (v *virtual) request(side int) events.ImageGenerate {
	return events.ImageGenerate{
		Model: "nano", Prompt: "a red apple", Steps: ptr(3), Seed: ptr(uint64(7)), Width: &side, Height: &side, Device: events.DeviceGPU, OutputLatents: true,
	}
}

// outcome is how a request ended, and what was done on the way.
type outcome struct {
	device   string        // that made the picture, or "failed"
	first    *events.Error // of the first attempt; nil if it succeeded
	attempts int
	notices  []events.Notice
	recovery time.Duration // from the first notice of a fault to the end
	result   events.Succeeded
}

// class is that of the first attempt's fault. The events carry what was said, which has one class.
func (o outcome) class() fault.Class {
	switch {
	case o.first == nil:
		return ""
	case o.first.DriverText != "":
		return fault.Classify(fault.Evidence{Runtime: fault.RuntimeOpenVINO, Text: o.first.DriverText, Device: "GPU", Err: errors.New(o.first.DriverText)}).Class
	}
	return fault.Of(o.first).Class
}

// done is the codes of the notices.
func (o outcome) done() (codes []string) {
	for _, n := range o.notices {
		codes = append(codes, n.Code)
	}
	return codes
}

// said is the messages of the notices.
func (o outcome) said() string {
	var b strings.Builder
	for _, n := range o.notices {
		b.WriteString(n.Message + "\n")
	}
	return b.String()
}

func (o outcome) code() events.Code {
	if o.first == nil {
		return ""
	}
	return o.first.Code
}

func (o outcome) stage() string {
	if o.first == nil {
		return ""
	}
	return o.first.Stage
}

// run publishes a request and follows it to its end.
func (v *virtual) run(data events.ImageGenerate) (o outcome) {
	v.t.Helper()
	id := events.NewID()
	f := v.follow(id)
	_, err := v.client.Publish(v.context(), client.Request{ID: id, Data: data})
	require.NoError(v.t, err)
	var faulted time.Time
	for e, err := range f.Events(v.context()) {
		require.NoError(v.t, err)
		switch e.Type() {
		case events.TypeProgress:
			if n := payload[events.Progress](v.t, e).Notice; n != nil {
				o.notices = append(o.notices, *n)
				if faulted.IsZero() {
					faulted = time.Now()
				}
			}
		case events.TypeSucceeded:
			o.result = payload[events.Succeeded](v.t, e)
			o.device, o.attempts, o.first = o.result.Device, len(o.result.Attempts), o.result.Attempts[0].Error
		case events.TypeFailed:
			failed := payload[events.Failed](v.t, e)
			o.device, o.attempts, o.first = "failed", len(failed.Attempts), failed.Attempts[0].Error
		}
	}
	if !faulted.IsZero() {
		o.recovery = time.Since(faulted)
	}
	return o
}

// latents is the checksum of the final latents.
func (o outcome) latents() string {
	i := slices.IndexFunc(o.result.Artifacts, func(a events.Artifact) bool { return a.Name == "latents.npy" })
	return o.result.Artifacts[i].Ref.SHA256
}

// ready has the GPU serve again: its canary passes, and a request works there.
func (v *virtual) ready(before string) {
	v.t.Helper()
	v.serves(before)
	require.Equal(v.t, "GPU", v.run(v.request(32)).device, before)
}

// serves waits until the GPU takes requests.
func (v *virtual) serves(before string) {
	v.t.Helper()
	require.Eventually(v.t, func() bool {
		list, err := v.broker.Devices(v.context(), time.Minute)
		require.NoError(v.t, err)
		return slices.ContainsFunc(list, func(s events.DeviceStatus) bool {
			return s.Instance == "gpu-1" && s.State == events.StateReady && s.Busy == 0
		})
	}, patience, 20*time.Millisecond, before)
}

// memory is what all living processes have on the device, in bytes.
func (v *virtual) memory() (sum int64) {
	v.t.Helper()
	require.NoError(v.t, virtualgpu.SweepMemory(v.counters()))
	entries, err := os.ReadDir(v.counters())
	require.NoError(v.t, err)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // a count that is being made
		}
		list, err := virtualgpu.ReadMemory(v.counters(), pid)
		require.NoError(v.t, err)
		sum += list[0].Current
	}
	return sum
}

// TestSeveralVirtualGPUs: each has an instance, a lock and a count of memory of its own, and computes the same.
func TestSeveralVirtualGPUs(t *testing.T) {
	v := startVirtual(t, virtualgpu.Options{Devices: 2}, nil)
	v.device = "GPU.1"
	second := v.start(func(s *settings) { s.Name = "gpu-2" })
	var latents []string
	for _, device := range []string{"GPU", "GPU.1"} {
		data := v.request(32)
		data.Device, data.Fallback = device, events.FallbackNever
		o := v.run(data)
		assert.Equal(t, device, o.device)
		latents = append(latents, o.latents())
	}
	assert.Equal(t, latents[0], latents[1])

	// Who has something on the second device has nothing on the first.
	entries, err := os.ReadDir(v.counters())
	require.NoError(t, err)
	var has [2]int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		require.NoError(t, err)
		list, err := virtualgpu.ReadMemory(v.counters(), pid)
		require.NoError(t, err)
		require.Len(t, list, 2)
		assert.Zero(t, min(list[0].Current, list[1].Current))
		for i, m := range list {
			if m.Current > 0 {
				has[i]++
			}
		}
	}
	assert.Equal(t, [2]int{1, 1}, has)

	_, err = process.Start(t.Context(), process.Config{
		Command: []string{"/proc/self/exe"}, Env: []string{envOpenVINO + "=1"}, Stderr: t.Output(),
		Hello: protocol.Hello{Device: "GPU.1", RuntimeDir: v.set.RuntimeDir, LibraryDir: repositoryPath(t, "run make runtime", ".runtime", "openvino")},
	})
	require.ErrorContains(t, err, "device GPU.1 is in use")
	second.soft()
	require.NoError(t, second.wait(t))
	v.leavesNothing()
}

// leavesNothing ends the GPU instance: no process of it is left, and with it no memory.
func (v *virtual) leavesNothing() {
	v.t.Helper()
	v.gpu.soft()
	require.NoError(v.t, v.gpu.wait(v.t.(*testing.T)))
	require.NoError(v.t, virtualgpu.SweepMemory(v.counters()))
	entries, err := os.ReadDir(v.counters())
	require.NoError(v.t, err)
	require.Empty(v.t, entries, "every runner has ended, and its memory with it")
}
