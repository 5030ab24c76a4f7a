//go:build !race

// The runner of this test is OpenVINO's own GPU plugin over a compiler; the race detector has nothing to see in it and
// would make it several times slower. `make unit` runs it.

package instance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/client"
	"genfn/functions/device"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/device/virtualgpu/virtualgputest"
	"genfn/functions/instance"
	"genfn/functions/model"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// virtual is a GPU instance over the virtual GPU and a CPU instance beside it, both with the smallest model.
type virtual struct {
	*rig
	folder string // of the file of faults and of once-files
	gpu    *running
}

// startVirtual starts both, with a model that has been warmed up.
func startVirtual(t *testing.T) *virtual {
	v := &virtual{rig: newRig(t), folder: t.TempDir()}
	models := t.TempDir()
	nano, err := filepath.Abs(filepath.Join("testdata", "nano-sd"))
	require.NoError(t, err)
	require.NoError(t, os.Symlink(nano, filepath.Join(models, "nano")))
	v.startReal(models)

	env, err := virtualgputest.Installed(t).Env(virtualgpu.Options{
		FaultFile: v.faults(), CacheDir: virtualgputest.KernelCache(t), CountersDir: v.counters(), Memory: 1 << 30,
	})
	require.NoError(t, err)
	store, err := model.OpenStore(models)
	require.NoError(t, err)
	private := t.TempDir()
	v.change = func(c *instance.Config) {
		c.Models = instance.StoreModels(store, private)
		c.Runner = process.Config{
			Command: []string{"/proc/self/exe"}, Env: append(env, envOpenVINO+"=1"), Stderr: t.Output(),
			Hello: protocol.Hello{
				Device: "GPU", RuntimeDir: v.set.RuntimeDir, CacheDir: private, Precision: "f32", CleanupEvery: -1,
				LibraryDir: repositoryPath(t, "this test needs OpenVINO: run make runtime", ".runtime", "openvino"),
			},
		}
		c.Budgets = instance.Budgets{Stage: time.Minute, Floor: 2 * time.Second, Factor: 10}
		c.Health = device.Policy{Backoff: 10 * time.Millisecond, MaxBackoff: 10 * time.Millisecond, QuarantineAfter: 1 << 20, ShedAfter: 1 << 20}
	}
	v.gpu = v.start(func(s *settings) { s.Name = "gpu-1" })
	for range 2 { // compile, and learn how long steps take
		require.Equal(t, "GPU", v.run(v.request(32, 32)).device)
	}
	return v
}

func (v *virtual) faults() string { return filepath.Join(v.folder, "faults") }

func (v *virtual) counters() string { return filepath.Join(v.folder, "counters") }

func (v *virtual) request(width, height int) events.ImageGenerate {
	return events.ImageGenerate{Model: "nano", Prompt: "a red apple", Steps: ptr(3), Seed: ptr(uint64(7)), Width: &width, Height: &height, Device: events.DeviceGPU}
}

// outcome is how a request ended, and what was done on the way.
type outcome struct {
	device   string
	code     events.Code // of the first attempt's error; "" if it succeeded
	stage    string
	attempts int
	done     []string      // codes of the notices
	recovery time.Duration // from the first notice of a fault to the end
	result   events.Succeeded
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
				o.done = append(o.done, n.Code)
				if faulted.IsZero() {
					faulted = time.Now()
				}
			}
		case events.TypeSucceeded:
			o.result = payload[events.Succeeded](v.t, e)
			o.device, o.attempts = o.result.Device, len(o.result.Attempts)
			if first := o.result.Attempts[0].Error; first != nil {
				o.code, o.stage = first.Code, first.Stage
			}
		case events.TypeFailed:
			failed := payload[events.Failed](v.t, e)
			o.device, o.attempts = "failed", len(failed.Attempts)
			o.code, o.stage = failed.Attempts[0].Error.Code, failed.Attempts[0].Error.Stage
		}
	}
	if !faulted.IsZero() {
		o.recovery = time.Since(faulted)
	}
	return o
}

// matrixCase is one fault at one place, and how it must be taken.
type matrixCase struct {
	name   string
	rule   string // CALL:OPTIONS; once=FILE is added unless it is to go on
	goesOn bool
	code   events.Code
	end    string   // device that made the picture
	done   []string // what was done, in order
}

// What is done about a fault.
var (
	freshAndRetry = []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeCanary, events.NoticeRetry}
	toCPU         = []string{events.NoticeFault, events.NoticeFallback}
	unprovedToCPU = []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeCanary, events.NoticeFallback}
	lessMemory    = []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeDegraded}
	sameProcess   = []string{events.NoticeFault, events.NoticeRetry}
)

// cases are the faults: clFlush comes once in the text encoder, once in each of the three steps, and in the VAE.
func cases() (list []matrixCase) {
	add := func(c matrixCase) { list = append(list, c) }
	places := []struct {
		name  string
		after int
	}{{"text encoder", 0}, {"step 1", 1}, {"step 3", 3}, {"VAE", 4}}
	for _, p := range places {
		at := func(call, what string) string { return fmt.Sprintf("%s %s after=%d", call, what, p.after) }
		for _, code := range []int{-5, -14, -36} {
			add(matrixCase{name: fmt.Sprintf("clFlush %d, %s", code, p.name), rule: at("clFlush", "error="+strconv.Itoa(code)), code: events.CodeDeviceLost, end: "GPU", done: freshAndRetry})
		}
		add(matrixCase{name: "clFlush -4, " + p.name, rule: at("clFlush", "error=-4"), code: events.CodeGPUOutOfMemory, end: "GPU", done: lessMemory})
		add(matrixCase{name: "clFlush -2, " + p.name, rule: at("clFlush", "error=-2"), code: events.CodeDeviceUnavailable, end: "GPU", done: sameProcess})
		add(matrixCase{name: "crash SIGSEGV, " + p.name, rule: at("clFlush", "crash=SIGSEGV"), code: events.CodeGPURuntimeError, end: "CPU", done: toCPU})
		add(matrixCase{name: "crash SIGABRT, " + p.name, rule: at("clFlush", "crash=SIGABRT"), code: events.CodeGPURuntimeError, end: "CPU", done: toCPU})
		add(matrixCase{name: "hang, " + p.name, rule: at("clFlush", "hang"), code: events.CodeHang, end: "CPU", done: toCPU})
		add(matrixCase{name: "dead for good, " + p.name, rule: at("clFlush", "error=-5 sticky=all"), goesOn: true, code: events.CodeDeviceLost, end: "CPU", done: unprovedToCPU})
	}
	for _, code := range []int{-38, -48, -52} {
		add(matrixCase{name: fmt.Sprintf("kernel start %d", code), rule: fmt.Sprintf("clEnqueueNDRangeKernel error=%d", code), code: events.CodeGPURuntimeError, end: "GPU", done: freshAndRetry})
	}
	add(matrixCase{name: "kernel start -61", rule: "clEnqueueNDRangeKernel error=-61", code: events.CodeGPUOutOfMemory, end: "GPU", done: lessMemory})
	add(matrixCase{name: "kernel start -5", rule: "clEnqueueNDRangeKernel error=-5", code: events.CodeDeviceLost, end: "GPU", done: freshAndRetry})
	add(matrixCase{name: "kernel hangs", rule: "clEnqueueNDRangeKernel hang", code: events.CodeHang, end: "CPU", done: toCPU})
	add(matrixCase{name: "slow, no fault", rule: "clFlush delay=20ms", goesOn: true, end: "GPU"})
	return list
}

// TestFaultMatrix injects faults into the real GPU plugin, each at several places of a generation: each must be named
// right, end as specified, and leave nothing behind.
func TestFaultMatrix(t *testing.T) {
	v := startVirtual(t)
	var table strings.Builder
	fmt.Fprintf(&table, "\n| fault | named | stage | done | picture by | attempts | recovery |\n|---|---|---|---|---|---:|---:|\n")
	for i, c := range cases() {
		virtualgputest.WriteFaults(t, v.faults(), "")
		v.ready(c.name)
		data := v.request(32, 32)
		rule := c.rule
		if !c.goesOn {
			rule += " once=" + filepath.Join(v.folder, "once-"+strconv.Itoa(i))
		}
		virtualgputest.WriteFaults(t, v.faults(), rule)
		o := v.run(data)
		virtualgputest.WriteFaults(t, v.faults(), "")
		fmt.Fprintf(&table, "| %s | %s | %s | %s | %s | %d | %s |\n", c.name, o.code, o.stage, strings.Join(o.done, ", "), o.device, o.attempts, o.recovery.Round(time.Millisecond))
		if o.code != c.code || o.device != c.end || !slices.Equal(o.done, c.done) {
			t.Errorf("%s: named %q, %v, picture by %s; expected %q, %v, %s", c.name, o.code, o.done, o.device, c.code, c.done, c.end)
		}
	}
	t.Log(table.String())
	virtualgputest.WriteFaults(t, v.faults(), "")
	v.ready("at the end")
	v.leavesNothing()
}

// leavesNothing ends the GPU instance: no process of it is left, and the last one's device memory is what it was at
// its start, nothing.
func (v *virtual) leavesNothing() {
	v.t.Helper()
	v.gpu.soft()
	require.NoError(v.t, v.gpu.wait(v.t.(*testing.T)))
	entries, err := os.ReadDir(v.counters())
	require.NoError(v.t, err)
	require.NotEmpty(v.t, entries)
	for _, entry := range entries {
		require.NoDirExists(v.t, "/proc/"+entry.Name(), "the runner has ended")
	}
}

// ready has the GPU serve again: its canary passes, and a request works there.
func (v *virtual) ready(before string) {
	v.t.Helper()
	require.Eventually(v.t, func() bool {
		list, err := v.broker.Devices(v.context(), time.Minute)
		require.NoError(v.t, err)
		return slices.ContainsFunc(list, func(s events.DeviceStatus) bool {
			return s.Instance == "gpu-1" && s.State == events.StateReady && s.Busy == 0
		})
	}, patience, 20*time.Millisecond, before)
	require.Equal(v.t, "GPU", v.run(v.request(32, 32)).device, before)
}
