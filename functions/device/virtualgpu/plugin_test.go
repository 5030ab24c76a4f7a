package virtualgpu_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/functions/device/virtualgpu"
)

func TestDeviceIsListed(t *testing.T) {
	c := start(t, virtualgpu.Options{Memory: 1 << 30, MaxAlloc: 1 << 29})
	require.Equal(t, []string{"CPU", "GPU"}, c.must(command{Do: "devices"}).Names)
	for key, want := range map[string]string{
		"FULL_DEVICE_NAME": "genfn virtual GPU (iGPU)", "DEVICE_ARCHITECTURE": "GPU: vendor=0x8086 arch=v12.0.0",
		"GPU_DEVICE_TOTAL_MEM_SIZE": "1073741824", "GPU_DEVICE_MAX_ALLOC_MEM_SIZE": "536870912",
	} {
		assert.Equal(t, want, c.must(command{Do: "property", Device: "GPU", Key: key}).Text, key)
	}
	// Intel's runtime brings LLVM, which takes the signals of a crash; a nil dereference in Go must stay a panic.
	assert.Equal(t, "runtime error: invalid memory address or nil pointer dereference", c.must(command{Do: "panic"}).Text)
}

// TestAgreesWithCPU also ends with the memory it began with, and with Go's signal handlers.
func TestAgreesWithCPU(t *testing.T) {
	for _, name := range []string{"clip", "unet", "vae"} {
		t.Run(name, func(t *testing.T) {
			c := start(t, virtualgpu.Options{})
			run := func(device string) []float32 {
				c.must(command{Do: "load", Model: testModel(t, name), Device: device})
				outputs := c.must(command{Do: "infer", Seed: 1}).Outputs
				require.Len(t, outputs, 1)
				return outputs[0]
			}
			want := run("CPU")
			c.must(command{Do: "unload"})
			got := run("GPU")
			worst := difference(t, want, got)
			t.Logf("largest relative difference %.2g", worst)
			assert.Less(t, worst, 2e-4)
			loaded := c.memory()
			assert.Positive(t, loaded.Current)
			assert.Zero(t, loaded.Refused)
			again := c.must(command{Do: "infer", Seed: 1}).Outputs[0]
			assert.Equal(t, got, again, "the same inputs give the same numbers")
			assert.Equal(t, loaded, c.memory(), "an inference keeps nothing")
			c.must(command{Do: "unload"})
			after := c.memory()
			assert.Zero(t, after.Current)
			assert.Zero(t, after.Allocations)
			assert.Equal(t, loaded.Peak, after.Peak)
			assert.Equal(t, "runtime error: invalid memory address or nil pointer dereference", c.must(command{Do: "panic"}).Text)
		})
	}
}

// TestErrors injects what drivers do and expects the plugin's own words.
func TestErrors(t *testing.T) {
	c := start(t, virtualgpu.Options{})
	load := command{Do: "load", Model: testModel(t, "clip"), Device: "GPU"}
	c.must(load)
	want := c.must(command{Do: "infer", Seed: 1}).Outputs
	for _, tt := range []struct{ faults, text string }{
		{"clFlush error=CL_OUT_OF_RESOURCES times=1", "[GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES"},
		{"clWaitForEvents error=-14 times=1", "[GPU] clWaitForEvents, error code: -14 CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST"},
		{"clWaitForEvents error=-5 times=1", "[GPU] clWaitForEvents, error code: -5 CL_OUT_OF_RESOURCES"},
		{"clEnqueueNDRangeKernel error=-5 after=3 times=1", "[GPU] CL_OUT_OF_RESOURCES exception."},
		{"clEnqueueNDRangeKernel error=-54 times=1", "[GPU] clEnqueueNDRangeKernel, error code: -54 CL_INVALID_WORK_GROUP_SIZE"},
	} {
		c.inject(tt.faults)
		r := c.ask(command{Do: "infer", Seed: 1})
		assert.Contains(t, r.Error, tt.text, tt.faults)
		c.inject("")
		assert.Equal(t, want, c.must(command{Do: "infer", Seed: 1}).Outputs, "well again after %s", tt.faults)
	}
	c.must(command{Do: "unload"})
	for _, tt := range []struct{ faults, text string }{
		{"memory error=CL_MEM_OBJECT_ALLOCATION_FAILURE after=3", "[CL ext] Can not allocate 4 bytes for USM Host. ptr: 0, error: -4"},
		{"clBuildProgram error=CL_BUILD_PROGRAM_FAILURE times=1", "CL_BUILD_PROGRAM_FAILURE"},
	} {
		c.inject(tt.faults)
		assert.Contains(t, c.ask(load).Error, tt.text, tt.faults)
		c.inject("")
		c.must(load)
		assert.Equal(t, want, c.must(command{Do: "infer", Seed: 1}).Outputs, "well again after %s", tt.faults)
		c.must(command{Do: "unload"})
	}
	assert.Zero(t, c.memory().Current)
}

// TestDeadContext: after the first error every call fails, whatever is injected later, until the process ends. To free
// the model ends it: the plugin's destructor throws. So a process with a dead context is killed, not closed.
func TestDeadContext(t *testing.T) {
	c := start(t, virtualgpu.Options{})
	c.must(command{Do: "load", Model: testModel(t, "clip"), Device: "GPU"})
	c.must(command{Do: "infer", Seed: 1})
	c.inject("clEnqueueNDRangeKernel error=CL_OUT_OF_RESOURCES after=5 times=1 sticky=all")
	assert.Contains(t, c.ask(command{Do: "infer", Seed: 1}).Error, "CL_OUT_OF_RESOURCES")
	c.inject("")
	for range 3 {
		assert.Contains(t, c.ask(command{Do: "infer", Seed: 1}).Error, "CL_OUT_OF_RESOURCES")
	}
	_, err := c.try(command{Do: "unload"})
	require.Error(t, err)
	require.Error(t, c.cmd.Wait())
	assert.Contains(t, c.stderr.String(), "terminate called after throwing")
}

func TestMemoryLimit(t *testing.T) {
	c := start(t, virtualgpu.Options{Memory: 256 << 10})
	r := c.ask(command{Do: "load", Model: testModel(t, "unet"), Device: "GPU"})
	assert.Contains(t, r.Error, "error: -4", "CL_MEM_OBJECT_ALLOCATION_FAILURE")
	m := c.memory()
	assert.EqualValues(t, 256<<10, m.Limit)
	assert.Positive(t, m.Refused)
	assert.LessOrEqual(t, m.Peak, m.Limit)
	assert.Zero(t, m.Current, "what was allocated before the refusal is freed")
}

// TestLargestAllocation: the plugin refuses by itself what the device says it cannot allocate at once.
func TestLargestAllocation(t *testing.T) {
	c := start(t, virtualgpu.Options{MaxAlloc: 64 << 10})
	r := c.ask(command{Do: "load", Model: testModel(t, "unet"), Device: "GPU"})
	assert.Contains(t, r.Error, "Exceeded max size of memory object allocation")
	assert.Contains(t, r.Error, "max alloc size supported by device is 65536 bytes")
}

func TestWrongNumbers(t *testing.T) {
	c := start(t, virtualgpu.Options{})
	c.must(command{Do: "load", Model: testModel(t, "clip"), Device: "GPU"})
	want := c.must(command{Do: "infer", Seed: 1}).Outputs
	c.inject("clEnqueueNDRangeKernel flip=2000 seed=3")
	assert.NotEqual(t, want, c.ask(command{Do: "infer", Seed: 1}).Outputs)
	c.inject("")
	assert.Equal(t, want, c.must(command{Do: "infer", Seed: 1}).Outputs)
}

// TestCrash: the process ends with the signal. Go reports one that arrives in native code and exits with code 2.
func TestCrash(t *testing.T) {
	for crash, words := range map[string]string{"SIGSEGV": "SIGSEGV: segmentation violation", "SIGABRT": "SIGABRT: abort"} {
		t.Run(crash, func(t *testing.T) {
			c := start(t, virtualgpu.Options{})
			c.must(command{Do: "load", Model: testModel(t, "clip"), Device: "GPU"})
			c.inject("clFinish crash=" + crash + "; clWaitForEvents crash=" + crash)
			_, err := c.try(command{Do: "infer", Seed: 1})
			require.Error(t, err)
			exit := new(exec.ExitError)
			require.ErrorAs(t, c.cmd.Wait(), &exit)
			assert.Equal(t, 2, exit.ExitCode())
			assert.Contains(t, c.stderr.String(), words)
		})
	}
}

// TestHang: the child does not answer, and can be killed.
func TestHang(t *testing.T) {
	c := start(t, virtualgpu.Options{})
	c.must(command{Do: "load", Model: testModel(t, "clip"), Device: "GPU"})
	c.must(command{Do: "infer", Seed: 1})
	c.inject("clEnqueueNDRangeKernel delay=1us times=1; clEnqueueNDRangeKernel hang after=1")
	c.send(command{Do: "infer", Seed: 1})
	answered := make(chan error, 1)
	go func() {
		var r reply
		answered <- c.replies.Decode(&r)
	}()
	select {
	case err := <-answered:
		t.Fatalf("the child answered: %v", err)
	case <-time.After(time.Second): // how long an inference of the model never takes
	}
	c.kill()
	require.Error(t, <-answered)
}

// TestBadSpecification: the virtual device is gone, loudly.
func TestBadSpecification(t *testing.T) {
	c := start(t, virtualgpu.Options{})
	require.NoError(t, os.WriteFile(c.faultFile, []byte("clFlush eror=-5\n"), 0o600))
	assert.Equal(t, []string{"CPU"}, c.must(command{Do: "devices"}).Names)
	c.end()
	assert.Contains(t, c.stderr.String(), `"eror=-5": expected error=`)
}

// TestCompiledModelCache: OpenVINO keeps what the OpenCL runtime gives it for binaries; the numbers from there must be the same.
func TestCompiledModelCache(t *testing.T) {
	properties := map[string]string{"CACHE_DIR": t.TempDir()}
	var outputs [2][][]float32
	for i := range outputs {
		c := start(t, virtualgpu.Options{})
		c.must(command{Do: "load", Model: testModel(t, "clip"), Device: "GPU", Properties: properties})
		outputs[i] = c.must(command{Do: "infer", Seed: 1}).Outputs
	}
	files, err := filepath.Glob(filepath.Join(properties["CACHE_DIR"], "*.blob"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "OpenVINO kept the compiled model")
	assert.Equal(t, outputs[0], outputs[1])
}

// TestTinyStableDiffusion runs the whole pipeline: the text encoder, two steps of the UNet, the VAE decoder.
func TestTinyStableDiffusion(t *testing.T) {
	dir, err := filepath.Abs("../../pipeline/testdata/tiny-sd")
	require.NoError(t, err)
	c := start(t, virtualgpu.Options{})
	want := c.must(command{Do: "generate", Device: "CPU", Model: dir}).Outputs
	got := c.must(command{Do: "generate", Device: "GPU", Model: dir}).Outputs
	latents := difference(t, want[0], got[0])
	pixels := difference(t, want[1], got[1])
	t.Logf("largest relative difference: latents %.2g, pixels %.2g", latents, pixels)
	assert.Less(t, latents, 2e-3)
	assert.LessOrEqual(t, pixels, 2.0/255)
	assert.Zero(t, c.memory().Current)
}

// TestSeveralDevices: each has its own count of memory.
func TestSeveralDevices(t *testing.T) {
	c := start(t, virtualgpu.Options{Devices: 2})
	require.Equal(t, []string{"CPU", "GPU.0", "GPU.1"}, c.must(command{Do: "devices"}).Names)
	uuids := map[string]bool{}
	for _, device := range []string{"GPU.0", "GPU.1"} {
		uuids[c.must(command{Do: "property", Device: device, Key: "DEVICE_UUID"}).Text] = true
	}
	assert.Len(t, uuids, 2)
	c.must(command{Do: "load", Model: testModel(t, "clip"), Device: "CPU"})
	want := c.must(command{Do: "infer", Seed: 1}).Outputs[0]
	c.must(command{Do: "unload"})
	c.must(command{Do: "load", Model: testModel(t, "clip"), Device: "GPU.1"})
	assert.Less(t, difference(t, want, c.must(command{Do: "infer", Seed: 1}).Outputs[0]), 2e-4)
	list, err := virtualgpu.ReadMemory(c.counters, c.cmd.Process.Pid)
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Zero(t, list[0].Current)
	assert.Positive(t, list[1].Current)
}
