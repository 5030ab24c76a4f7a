//go:build !race

package instance_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/device/virtualcuda"
	"genfn/functions/instance"
	"genfn/functions/model"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// virtualCUDA is an instance on the virtual CUDA device and one on the CPU, both over ONNX Runtime, with the demo model
// under two names.
type virtualCUDA struct {
	virtual
}

const cudaDevice = "cuda:0"

func startVirtualCUDA(t *testing.T) *virtualCUDA {
	v := &virtualCUDA{virtual: virtual{rig: newRig(t), folder: t.TempDir(), device: cudaDevice}}
	models, private := t.TempDir(), t.TempDir()
	for _, name := range []string{"nano", "other"} {
		require.NoError(t, os.Symlink(repositoryPath(t, "the demo model is part of the repository", "deploy", "models", "emoji"), filepath.Join(models, name)))
	}
	store, err := model.OpenStore(models)
	require.NoError(t, err)
	installed := &virtualcuda.Installation{Libraries: repositoryPath(t, "this test needs the virtual CUDA device: run make vcuda", ".runtime", "vcuda", "lib")}
	env, err := installed.Env(virtualcuda.Options{FaultFile: v.faults()})
	require.NoError(t, err)
	hello := protocol.Hello{ // no forced clean-up: it comes after the answer, and would meet the next fault
		RuntimeDir: v.set.RuntimeDir, CacheDir: private, CleanupEvery: -1, GuidanceBatch: 2, Threads: 1,
		LibraryDir:     repositoryPath(t, "this test needs OpenVINO: run make runtime", ".runtime", "openvino"),
		ONNXRuntimeDir: repositoryPath(t, "this test needs ONNX Runtime: run make onnxruntime", ".runtime", "onnxruntime"),
	}
	serve := func(name, device, runtime string) *running {
		v.change = func(c *instance.Config) {
			hello := hello
			hello.Device, hello.Runtime, hello.CUDADir = device, runtime, installed.Libraries
			c.Models = instance.StoreModels(store, private)
			c.Runner = process.Config{Command: []string{"/proc/self/exe"}, Env: append(env, envOpenVINO+"=1"), Stderr: t.Output(), Hello: hello}
			c.Budgets = instance.Budgets{Stage: time.Minute, Floor: 3 * time.Second, Factor: 10}
			c.Health = healthOfMatrix
		}
		return v.start(func(s *settings) { s.Name = name })
	}
	serve("cpu-1", "CPU", protocol.RuntimeONNXRuntime)
	v.gpu = serve("gpu-1", cudaDevice, protocol.RuntimeCUDA)
	return v
}

// classOnCUDA is that of the first attempt's fault, by the driver's number and words.
func (o outcome) classOnCUDA() fault.Class {
	if o.first == nil || o.first.DriverCode == "" {
		return o.class()
	}
	status, _ := strconv.Atoi(o.first.DriverCode) // of a library's own name: 0
	return fault.Classify(fault.Evidence{Runtime: fault.RuntimeCUDA, Status: status, Text: o.first.DriverText, Device: cudaDevice, Err: o.first}).Class
}

// TestCUDAFaultMatrix injects faults into the virtual CUDA device, at each kind of place in a request's life: each must be
// named right, end as specified, and leave the device's memory as it was.
func TestCUDAFaultMatrix(t *testing.T) {
	t.Parallel()
	v, table := startVirtualCUDA(t), &table{}
	first := v.run(v.request(64))
	require.Equal(t, cudaDevice, first.device)
	v.latents, v.baseline = first.latents(), *first.result.Memory.DeviceAfter
	require.Greater(t, *first.result.Memory.DevicePeak, v.baseline, "a generation takes memory and gives it back")
	for i, c := range cudaFaults() {
		v.meet(table, strconv.Itoa(i), c)
	}
	v.stages(table)
	v.gpu.soft()
	require.NoError(t, v.gpu.wait(t))
	t.Log(table)
}

func cudaFaults() []matrixCase {
	cuda := cudaDevice
	return []matrixCase{
		{name: "illegal address in step 1, told later", rule: "kernel error=700 kernel=genfn_step", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: "denoise step", end: cuda, done: freshAndRetry, says: "illegal access"},
		{name: "launch failure at the VAE, told by the picture", rule: "kernel error=719 kernel=genfn_image", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: events.StageVAEDecode, end: cuda, done: freshAndRetry},
		{name: "unknown error 999", rule: "cudaStreamSynchronize error=999", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: events.StageTextEncoder, end: cuda, done: freshAndRetry},
		{name: "uncorrectable ECC in a copy", rule: "copy error=214 after=8", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: events.StageDenoise, end: "CPU", done: toCPU},
		{name: "lost for good", rule: "kernel error=719 sticky=all", goesOn: true, code: events.CodeDeviceLost, class: fault.ClassFatal, stage: events.StageDenoise, end: "CPU", done: unprovedToCPU},
		{name: "refused for now", rule: "cudaMemcpyAsync error=46", code: events.CodeDeviceUnavailable, class: fault.ClassTransient, stage: events.StageTextEncoder, end: cuda, done: sameProcess},
		{name: "hang of a kernel", rule: "kernel hang kernel=genfn_step", code: events.CodeHang, class: fault.ClassHang, stage: events.StageDenoise, end: "CPU", done: toCPU},
		{name: "crash SIGSEGV in the driver", rule: "cudaLaunchKernelExC crash=SIGSEGV kernel=genfn_image", code: events.CodeGPURuntimeError, class: fault.ClassFatal, stage: events.StageVAEDecode, end: "CPU", done: toCPU},
		{name: "1000 wrong bits", rule: "kernel flip=1000 kernel=genfn_scale", code: events.CodeNumericalError, class: fault.ClassNumerical, stage: "denoise step 1 of 3", end: "CPU", done: toCPU, says: "NaN or infinite"},
		{name: "wrong bits in a fresh process's validation", rule: "kernel error=700 kernel=genfn_step; kernel flip=1 every=1 kernel=genfn_step times=1", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: "denoise step", end: "CPU", done: unprovedToCPU, says: "the known computation is wrong"},
		{name: "slow, no fault", rule: "kernel delay=5ms", goesOn: true, end: cuda},
	}
}

// inject changes the faults in one step.
func (v *virtualCUDA) inject(text string) {
	v.t.Helper()
	next := v.faults() + ".next"
	require.NoError(v.t, os.WriteFile(next, []byte(text), 0o600))
	require.NoError(v.t, os.Rename(next, v.faults()))
}

// meet has a request meet a fault.
func (v *virtualCUDA) meet(table *table, id string, c matrixCase) outcome {
	v.t.Helper()
	data := v.request(64)
	if c.model != "" {
		data.Model = c.model
	}
	v.inject(c.specification(v.once(id)))
	o := v.run(data)
	v.inject("")
	held := c.judge(v.t, o, o.classOnCUDA())
	// The next request works on the device, gives what it gave, and leaves what there was.
	next := v.again(c.name)
	held = append(held, assert.Equal(v.t, v.latents, next.latents(), c.name), assert.Equal(v.t, v.baseline, *next.result.Memory.DeviceAfter, c.name))
	table.add(c.name, o, "yes", held)
	return o
}

// again makes the picture of the warm-up once the device serves again.
func (v *virtualCUDA) again(after string) outcome {
	v.t.Helper()
	v.serves(after)
	o := v.run(v.request(64))
	require.Equal(v.t, cudaDevice, o.device, after)
	return o
}

// stages is the story of the field: a model of several stages takes memory, one of them is refused some; all is given
// back, and the next request works.
func (v *virtualCUDA) stages(table *table) {
	for i, c := range []struct {
		stage string
		after int // allocations of the process that go well
		model string
	}{
		{events.StageLoad, 0, "other"}, {events.StageTextEncoder, 0, ""}, {"denoise step 1 of 3", 5, ""}, {events.StageVAEDecode, 6, ""},
	} {
		v.meet(table, "memory-"+strconv.Itoa(i), matrixCase{
			name: "no memory: " + c.stage, rule: "cudaMalloc error=2 after=" + strconv.Itoa(c.after), model: c.model,
			code: events.CodeGPUOutOfMemory, class: fault.ClassMemory, stage: c.stage, end: cudaDevice, done: lessMemory,
		})
	}
}
