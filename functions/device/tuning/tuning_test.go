package tuning

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/hostcpu"
)

var (
	cpuProperties = []string{PropertyThreads, propertyPinning, propertyStreams, propertyPrecision}
	gpuProperties = []string{propertyUnrolling, propertyReuse, propertyStreams, propertyPrecision}
)

func setting(p Plan, name string) events.DeviceSetting {
	for _, s := range p.Settings {
		if s.Name == name {
			return s
		}
	}
	return events.DeviceSetting{}
}

func TestThreads(t *testing.T) {
	for name, c := range map[string]struct {
		cores           hostcpu.Cores
		slots, asked    int
		property, value string
		reason          string
	}{
		"all of them":            {hostcpu.Cores{Logical: 8, Physical: 8, Machine: 8}, 1, 0, "", "8", "8 cores"},
		"two threads a core":     {hostcpu.Cores{Logical: 8, Physical: 4, Machine: 8}, 1, 0, "", "4", "4 cores with 8 logical processors, which share the arithmetic units"},
		"quota":                  {hostcpu.Cores{Logical: 64, Physical: 32, Machine: 64, Quota: 2.5}, 1, 0, "2", "2", "a quota of 2.5 processors in the control group, of 32 cores"},
		"quota of half a core":   {hostcpu.Cores{Logical: 2, Physical: 2, Machine: 2, Quota: .5}, 1, 0, "1", "1", "a quota of 0.5 processors in the control group, of 2 cores"},
		"quota that is no limit": {hostcpu.Cores{Logical: 2, Physical: 2, Machine: 2, Quota: 4}, 1, 0, "", "2", "2 cores"},
		"affinity":               {hostcpu.Cores{Logical: 2, Physical: 2, Machine: 16}, 1, 0, "", "2", "2 cores allowed by affinity or cpuset, of 16 logical processors of the machine"},
		"slots share":            {hostcpu.Cores{Logical: 8, Physical: 8, Machine: 8}, 3, 0, "2", "2", "8 cores, shared by 3 runners"},
		"more slots than cores":  {hostcpu.Cores{Logical: 2, Physical: 2, Machine: 2}, 5, 0, "1", "1", "2 cores, shared by 5 runners"},
		"one core":               {hostcpu.Cores{Logical: 1, Physical: 1, Machine: 1}, 1, 0, "", "1", "1 core"},
		"asked for":              {hostcpu.Cores{Logical: 8, Physical: 8, Machine: 8}, 2, 7, "7", "7", "asked for"},
		"not known":              {hostcpu.Cores{}, 1, 0, "", "auto", "the runtime's choice: it is not known which cores this process may use"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Choose(Device{Name: "CPU", Supported: cpuProperties, Cores: c.cores, Slots: c.slots}, Wishes{Threads: c.asked})
			require.NoError(t, err)
			assert.Equal(t, events.DeviceSetting{Name: Threads, Value: c.value, Reason: c.reason}, setting(p, Threads))
			assert.Equal(t, c.property, p.Properties[PropertyThreads])
			if c.slots > 1 {
				assert.Equal(t, "NO", p.Properties[propertyPinning])
			} else {
				assert.NotContains(t, p.Properties, propertyPinning)
			}
		})
	}
}

func TestPrecision(t *testing.T) {
	for name, c := range map[string]struct {
		device, asked string
		can           []string
		value, reason string
	}{
		"cpu":                   {"CPU", "", []string{"FP32"}, "f32", "the same picture on every processor"},
		"cpu with bf16":         {"CPU", "", []string{"FP32", "BF16"}, "f32", "this one has BF16 in hardware"},
		"cpu, fastest":          {"CPU", "auto", []string{"FP32", "BF16"}, "bf16", "AMX or AVX512_BF16"},
		"cpu, fastest, no bf16": {"CPU", "auto", []string{"FP32", "INT8"}, "f32", "lists no BF16 among FP32 INT8"},
		"cpu, asked":            {"CPU", "bf16", []string{"FP32"}, "bf16", "asked for; the device does not list it among FP32"},
		"gpu":                   {"GPU.1", "", []string{"FP32", "FP16"}, "f16", "in hardware (FP16)"},
		"gpu, fastest":          {"GPU.1", "auto", []string{"FP32", "FP16"}, "f16", "in hardware (FP16)"},
		"gpu without f16":       {"GPU", "", []string{"FP32"}, "f32", "lists no FP16 among FP32"},
		"gpu, asked":            {"GPU", "f32", []string{"FP32", "FP16"}, "f32", "asked for"},
		"gpu that is silent":    {"GPU", "", nil, "auto", "the runtime's choice"},
		"cpu, asked for f32":    {"CPU", "f32", nil, "f32", "the same picture on every processor"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Choose(Device{Name: c.device, Supported: gpuProperties, Capabilities: c.can}, Wishes{Precision: c.asked})
			require.NoError(t, err)
			got := setting(p, Precision)
			assert.Equal(t, c.value, got.Value)
			assert.Contains(t, got.Reason, c.reason)
			if c.value != "auto" {
				assert.Equal(t, c.value, p.Properties[propertyPrecision])
			}
		})
	}
}

func TestVirtualGPU(t *testing.T) {
	p, err := Choose(Device{Name: "GPU", Supported: gpuProperties, Capabilities: []string{"FP32", "FP16"}, Virtual: true}, Wishes{})
	require.NoError(t, err)
	require.Equal(t, events.DeviceSetting{Name: Precision, Value: "f32", Reason: "the virtual GPU computes right in f32 only"}, setting(p, Precision))
}

func TestGPUProperties(t *testing.T) {
	p, err := Choose(Device{Name: "GPU", Supported: gpuProperties, Capabilities: []string{"FP32"}}, Wishes{})
	require.NoError(t, err)
	require.Equal(t, map[string]string{propertyUnrolling: "NO", propertyReuse: "YES", propertyStreams: "1", propertyPrecision: "f32"}, p.Properties)
	p, err = Choose(Device{Name: "GPU", Supported: []string{propertyStreams}}, Wishes{Streams: 2})
	require.NoError(t, err)
	require.Equal(t, map[string]string{propertyStreams: "2"}, p.Properties, "what the plugin does not have is not set")
	require.Contains(t, setting(p, Reuse).Reason, "does not have GPU_ENABLE_KERNELS_REUSE")
	require.Equal(t, "asked for", setting(p, Streams).Reason)
}

func TestGivenProperties(t *testing.T) {
	d := Device{Name: "GPU", Supported: gpuProperties, Capabilities: []string{"FP16"}}
	p, err := Choose(d, Wishes{Properties: map[string]string{propertyPrecision: "f32", propertyUnrolling: "YES"}})
	require.NoError(t, err)
	require.Equal(t, "f32", p.Properties[propertyPrecision], "it wins")
	require.Equal(t, events.DeviceSetting{Name: Precision, Value: "f32", Reason: "asked for by the property INFERENCE_PRECISION_HINT"}, setting(p, Precision))
	for key, words := range map[string]string{"GPU_MAX_BATCH_SIZE": "--guidance-batch 1", "GPU_MEMORY_REUSE": "GPU_ENABLE_KERNELS_REUSE=YES", "NUM_STRAMS": "genfn devices --properties"} {
		_, err := Choose(d, Wishes{Properties: map[string]string{key: "1"}})
		var e *events.Error
		require.ErrorAs(t, err, &e, key)
		require.Equal(t, events.CodeInvalidRequest, e.Code)
		require.Contains(t, e.Advice, words)
		require.Contains(t, e.Expected, "GPU_ENABLE_LOOP_UNROLLING, INFERENCE_PRECISION_HINT")
		require.Equal(t, len(instead[key]) > 0, e.Message != `the device GPU has no property "`+key+`"`)
	}
}

func TestEverySettingHasAReason(t *testing.T) {
	for _, d := range []Device{{Name: "CPU", Supported: cpuProperties, Slots: 2}, {Name: "GPU", Supported: gpuProperties}} {
		for _, batch := range []int{0, 1, 2} {
			p, err := Choose(d, Wishes{GuidanceBatch: batch})
			require.NoError(t, err)
			for _, s := range p.Settings {
				require.NotEmpty(t, s.Value, s.Name)
				require.NotEmpty(t, s.Reason, s.Name)
			}
			require.Equal(t, []string{"auto", "sequential", "batched"}[batch], setting(p, Guidance).Value)
		}
	}
}
