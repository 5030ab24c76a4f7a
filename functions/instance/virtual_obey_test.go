//go:build !race

package instance_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/controller"
	"genfn/functions/device"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/instance"
)

// TestControllerAndRealPlugin: the whole way over OpenVINO's GPU plugin: a GPU whose context is dead for good, and one
// that computes wrong numbers and says nothing, are shed, the CPU does their work, and once they are well again they prove
// it and are taken back.
func TestControllerAndRealPlugin(t *testing.T) {
	t.Parallel()
	v := startVirtual(t, virtualgpu.Options{}, func(c *instance.Config) {
		c.CanaryEvery = 200 * time.Millisecond
		c.Health = device.Policy{Backoff: time.Hour} // by itself it would not come back
	})
	v.controller(nil)
	v.warmUp()
	require.Eventually(t, func() bool {
		c := v.status("gpu-1").LastCanary
		return c != nil && c.Against == events.AgainstReference
	}, patience, 20*time.Millisecond, "the CPU says what is right")
	t.Logf("the canary of the virtual GPU is %.2g apart from the CPU's", v.status("gpu-1").LastCanary.Apart)

	v.inject("clFlush error=-5 sticky=all")
	o := v.run(v.request(32))
	require.Equal(t, "CPU", o.device)
	shed := last(v.decided("gpu-1", inState(events.StateShed)))
	require.NotEmpty(t, shed.Evidence)
	v.inject("")
	v.takenBack(shed)

	v.inject("clEnqueueNDRangeKernel flip=20 seed=4 kernel=reduce")
	wrong := last(v.decided("gpu-1", func(d events.Decision) bool {
		return d.Number > shed.Number+1 && d.State == events.StateShed && d.Previous == events.StateReady
	}))
	require.Contains(t, wrong.Evidence[0].Message, "wrong numbers")
	anywhere := v.request(32)
	anywhere.Device = ""
	require.Equal(t, "CPU", v.run(anywhere).device, "a shed GPU gets nothing")
	v.inject("")
	v.takenBack(wrong)
	v.leavesNothing()
}

// takenBack waits until the GPU is, after a decision, and computes what it did when it was well.
func (v *virtual) takenBack(after events.Decision) {
	v.t.Helper()
	back := last(v.decided("gpu-1", func(d events.Decision) bool { return d.Number > after.Number && d.State == events.StateReady }))
	require.Equal(v.t, []string{events.StateProbation, controller.ReasonProved}, []string{back.Previous, back.Reason})
	v.obeying(back)
	o := v.run(v.request(32))
	require.Equal(v.t, "GPU", o.device)
	require.Equal(v.t, v.latents, o.latents())
}
