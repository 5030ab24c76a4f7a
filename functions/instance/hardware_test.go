package instance_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/client"
	"genfn/functions/device"
	"genfn/functions/device/virtualcuda"
	"genfn/functions/instance"
	"genfn/functions/metricstest"
	"genfn/functions/runner/runnertest"
)

// nvidia is an instance on a virtual CUDA device, whose generations are scripted and whose driver is asked by NVML.
type nvidia struct {
	*rig
	run     *running
	file    string // of faults
	metrics *prometheus.Registry
}

func startNVIDIA(t *testing.T) *nvidia {
	t.Helper()
	installed := virtualcuda.Installation{Libraries: repositoryPath(t, "this test needs the virtual CUDA device: run make vcuda", ".runtime", "vcuda", "lib")}
	n := &nvidia{rig: newRig(t), file: filepath.Join(t.TempDir(), "faults"), metrics: prometheus.NewRegistry()}
	env, err := installed.Env(virtualcuda.Options{FaultFile: n.file, Memory: 256 << 20})
	require.NoError(t, err)
	n.run, _ = n.gpuNamed("gpu-1", "cuda:0", func(c *instance.Config) {
		c.Runner.Env = append(c.Runner.Env, env...)
		c.Runner.Hello.CUDADir, c.Runner.Hello.CacheDir = installed.Libraries, t.TempDir()
		c.Health = device.Policy{Backoff: time.Second}
		c.Metrics, err = instance.NewMetrics(n.metrics)
		require.NoError(t, err)
	})
	return n
}

func (n *nvidia) inject(text string) {
	n.t.Helper()
	next := n.file + ".next"
	require.NoError(n.t, os.WriteFile(next, []byte(text), 0o600))
	require.NoError(n.t, os.Rename(next, n.file))
}

// when waits until the GPU's status is as wanted.
func (n *nvidia) when(why string, want func(events.DeviceStatus) bool) (s events.DeviceStatus) {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		s = n.status("gpu-1")
		return want(s)
	}, patience, 20*time.Millisecond, why)
	return s
}

func conditionOf(s events.DeviceStatus, kind string) *events.Condition {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return &c
		}
	}
	return nil
}

// TestXidShedsInstance goes the whole way: the driver reports an Xid while a request runs, the instance is set aside, the
// request goes on elsewhere with no attempt charged, and the device comes back once it has proved itself.
func TestXidShedsInstance(t *testing.T) {
	t.Parallel()
	n := startNVIDIA(t)
	n.cpu()
	g := n.gate()
	data := request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 2, File: g.path, On: "cuda"})
	id := events.NewID()
	f := n.follow(id)
	_, err := n.client.Publish(n.context(), client.Request{ID: id, Data: data})
	require.NoError(t, err)
	n.until(f, n.atStep(2))

	n.inject("xid value=13 times=1") // an application's fault
	n.run.waitLog(t, "Xid")
	n.inject("xid value=119 once=" + filepath.Join(t.TempDir(), "once"))
	s := n.succeeded(id)
	require.Equal(t, "TEST", s.Device, "the CPU has made it")
	require.Equal(t, []string{"hardware"}, causes(s.Attempts))
	require.Equal(t, events.CodeDeviceLost, s.Attempts[0].Error.Code)
	require.Equal(t, "119", s.Attempts[0].Error.DriverCode)
	n.settled(id)

	back := n.when("it proves itself", func(s events.DeviceStatus) bool {
		return s.State == events.StateReady && s.Hardware != nil && s.Hardware.LastXid != nil && s.Hardware.LastXid.Number == 119
	})
	require.Nil(t, conditionOf(back, events.ConditionXid))
	require.Contains(t, back.Hardware.LastXid.Meaning, "asks for a reset")
	history, err := n.broker.DeviceHistory(n.context(), "gpu-1")
	require.NoError(t, err)
	var states []string
	for _, h := range history {
		if len(states) == 0 || states[len(states)-1] != h.State {
			states = append(states, h.State)
		}
		if h.State == events.StateShed {
			require.Equal(t, device.ReasonHardware, h.Reason)
		}
		if c := conditionOf(h, events.ConditionXid); c != nil {
			require.Equal(t, "Xid 119", c.Evidence)
			require.Equal(t, events.LevelCritical, c.Level)
		}
	}
	require.Equal(t, []string{events.StateReady, events.StateShed, events.StateProbation, events.StateReady}, states)
	require.Contains(t, metricstest.Text(t, n.metrics), `genfn_device_xids_total{class="gpu",device="cuda:0",instance="gpu-1",xid="119"} 1`)
}

// TestHardwareConditions: what the driver tells is in the status; warnings stop nothing, a lost device is set aside and
// stays so until it answers again.
func TestHardwareConditions(t *testing.T) {
	t.Parallel()
	n := startNVIDIA(t)
	s := n.when("the driver tells", func(s events.DeviceStatus) bool { return s.Hardware != nil && s.Hardware.Own != nil })
	require.Equal(t, 40, *s.Hardware.Temperature)
	require.Equal(t, int64(256<<20/32), *s.Hardware.Own, "the runner's context")
	require.True(t, s.Hardware.ECC.Enabled)

	n.inject("temperature value=96; throttling value=64; remap_pending value=1; others value=300000000; ecc_corrected value=7")
	s = n.when("conditions", func(s events.DeviceStatus) bool { return len(s.Conditions) >= 3 })
	require.Equal(t, events.StateReady, s.State, "warnings stop nothing")
	require.Contains(t, conditionOf(s, events.ConditionThermalThrottling).Evidence, "hardware_thermal at 96 °C, slowed down from 94 °C on")
	require.NotNil(t, conditionOf(s, events.ConditionRowRemapPending))
	require.Contains(t, conditionOf(s, events.ConditionMemoryOfOthers).Evidence, "286 MiB in 1 processes")
	id := n.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "cuda:0", n.succeeded(id).Device)

	n.inject("nvml error=NVML_ERROR_GPU_IS_LOST")
	n.when("lost", func(s events.DeviceStatus) bool { return conditionOf(s, events.ConditionDeviceLost) != nil })
	s = n.when("it cannot prove itself", func(s events.DeviceStatus) bool { return s.Reason == device.ReasonValidationFailed })
	require.Contains(t, s.Message, "has fallen off the bus")
	history, err := n.broker.DeviceHistory(n.context(), "gpu-1") // heartbeats come less often than it tries
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(history, func(s events.DeviceStatus) bool {
		return s.State == events.StateShed && s.Reason == device.ReasonHardware
	}))
	n.inject("")
	s = n.when("it answers again", func(s events.DeviceStatus) bool { return s.State == events.StateReady })
	require.Nil(t, conditionOf(s, events.ConditionDeviceLost))
}
