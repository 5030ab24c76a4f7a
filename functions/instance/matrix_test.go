//go:build !race

package instance_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/device/virtualgpu"
)

// matrixCase is one fault at one place, and how it must be taken.
type matrixCase struct {
	name   string
	rule   string // specification; the first fault acts in one process only unless it goes on
	goesOn bool
	model  string // "": "nano", which is loaded; "other" has the runner unload that and load
	code   events.Code
	class  fault.Class
	stage  string   // how that begins
	end    string   // device that made the picture
	done   []string // what was done, in order
	says   string   // words of one of the notices
}

// What is done about a fault.
var (
	freshAndRetry = []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeCanary, events.NoticeRetry}
	toCPU         = []string{events.NoticeFault, events.NoticeFallback}
	unprovedToCPU = []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeCanary, events.NoticeFallback}
	lessMemory    = []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeDegraded}
	sameProcess   = []string{events.NoticeFault, events.NoticeRetry}
)

// TestFaultMatrix injects faults into the real GPU plugin, each at several places of a request's life: each must be
// named right, end as specified, and leave the device's memory as it was.
func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	table := &table{}
	t.Run("requests", func(t *testing.T) {
		v := startVirtual(t, virtualgpu.Options{Memory: 1 << 30}, nil)
		v.warmUp()
		for i, c := range append(append(whileGenerating(), wrongNumbers()...), whileLoading()...) {
			v.try(table, strconv.Itoa(i), c)
		}
		v.leavesNothing()
	})
	t.Run("limits", func(t *testing.T) { limits(t, table) })
	t.Run("validation", func(t *testing.T) { validations(t, table) })
	t.Log(table)
}

// whileGenerating are the faults of a loaded model: clFlush comes once in the text encoder, once in each of the three
// steps, and in the VAE.
func whileGenerating() (list []matrixCase) {
	add := func(c matrixCase) { list = append(list, c) }
	places := []struct {
		name, stage, death string // death: the stage of a process that dies, which tells no step
		after              int
	}{
		{"text encoder", "text_encoder", "text_encoder", 0}, {"step 1", "denoise step 1 of 3", "denoise", 1},
		{"step 3", "denoise step 3 of 3", "denoise", 3}, {"VAE", "vae_decode", "vae_decode", 4},
	}
	for _, p := range places {
		at := func(what string) string { return fmt.Sprintf("clFlush %s after=%d", what, p.after) }
		for _, code := range []int{-5, -14, -36} {
			add(matrixCase{name: fmt.Sprintf("clFlush %d, %s", code, p.name), rule: at("error=" + strconv.Itoa(code)), code: events.CodeDeviceLost, class: fault.ClassFatal, stage: p.stage, end: "GPU", done: freshAndRetry})
		}
		add(matrixCase{name: "clFlush -4, " + p.name, rule: at("error=-4"), code: events.CodeGPUOutOfMemory, class: fault.ClassMemory, stage: p.stage, end: "GPU", done: lessMemory})
		add(matrixCase{name: "clFlush -2, " + p.name, rule: at("error=-2"), code: events.CodeDeviceUnavailable, class: fault.ClassTransient, stage: p.stage, end: "GPU", done: sameProcess})
		add(matrixCase{name: "crash SIGSEGV, " + p.name, rule: at("crash=SIGSEGV"), code: events.CodeGPURuntimeError, class: fault.ClassFatal, stage: p.death, end: "CPU", done: toCPU})
		add(matrixCase{name: "crash SIGABRT, " + p.name, rule: at("crash=SIGABRT"), code: events.CodeGPURuntimeError, class: fault.ClassFatal, stage: p.death, end: "CPU", done: toCPU})
		add(matrixCase{name: "hang, " + p.name, rule: at("hang"), code: events.CodeHang, class: fault.ClassHang, stage: p.death, end: "CPU", done: toCPU})
		add(matrixCase{name: "dead for good, " + p.name, rule: at("error=-5 sticky=all"), goesOn: true, code: events.CodeDeviceLost, class: fault.ClassFatal, stage: p.stage, end: "CPU", done: unprovedToCPU})
	}
	for _, code := range []int{-9, -38, -48, -52} {
		add(matrixCase{name: fmt.Sprintf("kernel start %d", code), rule: fmt.Sprintf("clEnqueueNDRangeKernel error=%d", code), code: events.CodeGPURuntimeError, class: fault.ClassFatal, stage: "text_encoder", end: "GPU", done: freshAndRetry})
	}
	add(matrixCase{name: "kernel start -54", rule: "clEnqueueNDRangeKernel error=-54", code: events.CodeGPURuntimeError, class: fault.ClassRequest, stage: "text_encoder", end: "CPU", done: toCPU})
	add(matrixCase{name: "kernel start -61", rule: "clEnqueueNDRangeKernel error=-61", code: events.CodeGPUOutOfMemory, class: fault.ClassMemory, stage: "text_encoder", end: "GPU", done: lessMemory})
	add(matrixCase{name: "kernel start -5", rule: "clEnqueueNDRangeKernel error=-5", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: "text_encoder", end: "GPU", done: freshAndRetry})
	add(matrixCase{name: "a convolution hangs", rule: "clEnqueueNDRangeKernel hang kernel=convolution", code: events.CodeHang, class: fault.ClassHang, stage: "denoise", end: "CPU", done: toCPU})
	add(matrixCase{name: "no context for a fresh process", rule: "clFlush error=-5; clCreateContext error=-2", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: "text_encoder", end: "CPU", done: unprovedToCPU})
	add(matrixCase{name: "slow, no fault", rule: "clFlush delay=20ms", goesOn: true, end: "GPU"})
	return list
}

// wrongNumbers are inverted bits. Invalid numbers are found at once, wrong ones by a fresh process's validation or when
// its canary is compared. A few wrong bits in one request, with finite numbers, are found by nobody: the picture is
// another one.
func wrongNumbers() []matrixCase {
	const few = "clEnqueueNDRangeKernel flip=20 seed=4 kernel=" // reduce is in the UNet only
	return []matrixCase{
		{name: "1000 bits of a convolution", rule: "clEnqueueNDRangeKernel flip=1000 kernel=convolution", code: events.CodeNumericalError, class: fault.ClassNumerical, stage: "denoise step 1 of 3", end: "CPU", done: toCPU, says: "NaN or infinite"},
		{name: "20 bits in the canary", rule: "clFlush error=-5; " + few + "reduce", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: "text_encoder", end: "CPU", done: unprovedToCPU, says: "apart from those of the first"},
		{name: "20 bits in a fresh process's validation", rule: "clFlush error=-5; " + few + "fully_connected", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: "text_encoder", end: "CPU", done: unprovedToCPU, says: "the known computation is wrong"},
		{name: undetected, rule: few + "reduce", end: "GPU"},
	}
}

const undetected = "20 bits in one request: not found"

// whileLoading are the faults between two models.
func whileLoading() (list []matrixCase) {
	add := func(c matrixCase) {
		c.model = "other"
		list = append(list, c)
	}
	for _, code := range []int{-4, -5, -6, -61} {
		add(matrixCase{name: fmt.Sprintf("allocation %d", code), rule: fmt.Sprintf("memory error=%d", code), code: events.CodeGPUOutOfMemory, class: fault.ClassMemory, stage: events.StageLoad, end: "GPU", done: lessMemory})
	}
	// The first allocations are of what is compiled, then of its requests, then of inferences.
	for _, after := range []int{10, 20, 30, 40} {
		add(matrixCase{name: fmt.Sprintf("allocation -4, number %d", after+1), rule: fmt.Sprintf("memory error=-4 after=%d", after), code: events.CodeGPUOutOfMemory, class: fault.ClassMemory, end: "GPU", done: lessMemory})
	}
	add(matrixCase{name: "clFinish -5, the model before is unloaded", rule: "clFinish error=-5", code: events.CodeDeviceLost, class: fault.ClassFatal, stage: "canary", end: "GPU", done: freshAndRetry})
	add(matrixCase{name: "no kernel compiles: -11", rule: "clBuildProgram error=-11", goesOn: true, code: events.CodeModelLoadFailed, class: fault.ClassRequest, stage: events.StageLoad, end: "CPU", done: toCPU})
	add(matrixCase{name: "one kernel does not compile: -11", rule: "clBuildProgram error=-11", end: "GPU"}) // with open dimensions
	return list
}

// specification is the rule, whose first fault acts once, as the word says that is given, unless it goes on.
func (c matrixCase) specification(once string) string {
	if c.goesOn {
		return c.rule
	}
	first, rest, _ := strings.Cut(c.rule, ";")
	return first + once + ";" + rest
}

// judge says what of the outcome, with its class of fault, is as it must be.
func (c matrixCase) judge(t testing.TB, o outcome, class fault.Class) []bool {
	t.Helper()
	return []bool{
		assert.Equal(t, c.code, o.code(), c.name),
		assert.Equal(t, c.class, class, c.name),
		assert.True(t, strings.HasPrefix(o.stage(), c.stage), "%s: stage %q, expected %q", c.name, o.stage(), c.stage),
		assert.Equal(t, c.end, o.device, c.name),
		assert.Equal(t, c.done, o.done(), c.name),
		assert.Contains(t, o.said(), c.says, c.name),
	}
}

// try has a request meet a fault.
func (v *virtual) try(table *table, id string, c matrixCase) {
	v.t.Helper()
	data := v.request(32)
	if c.model != "" {
		data.Model = c.model
	}
	v.inject(c.specification(v.once(id)))
	o := v.run(data)
	v.inject("")
	held := c.judge(v.t, o, o.class())
	if c.name == undetected {
		held = append(held, assert.NotEqual(v.t, v.latents, o.latents(), "the numbers were wrong"))
	}
	v.ready(c.name)
	v.memoryIsBack(c.name)
	table.add(c.name, o, "yes", held)
}

// memoryIsBack waits until the device holds what it held when the model was loaded first.
func (v *virtual) memoryIsBack(after string) {
	v.t.Helper()
	var now int64
	require.Eventually(v.t, func() bool {
		now = v.memory()
		return now == v.baseline
	}, patience, 5*time.Millisecond, "%s: memory does not come back", after)
}

// limits has requests meet a device that is too small for them. The ladder ends where it fits, or on the CPU.
func limits(t *testing.T, table *table) {
	for _, c := range []struct {
		name    string
		options virtualgpu.Options
		side    int
		says    string
		end     string
		gave    []string // up
	}{
		{"80 MiB of memory", virtualgpu.Options{Memory: 80 << 20}, 1024, "no memory left: tried to allocate", "GPU", []string{events.DegradationSequentialGuidance}},
		{"128 KiB in one allocation", virtualgpu.Options{MaxAlloc: 128 << 10}, 128, "tried to allocate 192 KiB, of 128 KiB at most", "GPU", []string{events.DegradationSequentialGuidance, events.DegradationTiledVAE}},
		{"64 KiB in one allocation", virtualgpu.Options{MaxAlloc: 64 << 10}, 32, "of 64 KiB at most", "CPU", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := startVirtual(t, c.options, nil)
			data := v.request(c.side)
			data.Steps = ptr(1)
			o := v.run(data)
			held := []bool{
				assert.Equal(t, events.CodeGPUOutOfMemory, o.code()),
				assert.Equal(t, c.end, o.device),
				assert.ElementsMatch(t, c.gave, o.result.Degradations),
				assert.Contains(t, o.said(), c.says),
				assert.Positive(t, o.first.RequestedBytes),
			}
			if limit := c.options.Memory; limit > 0 {
				held = append(held, assert.LessOrEqual(t, v.memory(), limit))
			}
			v.leavesNothing()
			table.add(c.name, o, "yes, to 0", held)
		})
	}
}

// table is what became of each fault.
type table struct{ rows []string }

// add puts a fault in the table; held are what was expected of it.
func (t *table) add(name string, o outcome, memory string, held []bool) {
	verdict := "as specified" // bench/faults.go counts these
	if slices.Contains(held, false) {
		verdict = "OTHERWISE"
	}
	t.rows = append(t.rows, fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %d | %s | %s | %s |", name, o.stage(), o.class(), o.code(),
		strings.Join(o.done(), ", "), o.device, o.attempts, o.recovery.Round(time.Millisecond), memory, verdict))
}

func (t *table) String() string {
	return "\n| fault | stage | class | code | action taken | picture by | attempts | time to recovery | memory back | |\n|---|---|---|---|---|---|---:|---:|---|---|\n" + strings.Join(t.rows, "\n")
}
