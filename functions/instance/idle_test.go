package instance_test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/instance"
	"genfn/functions/runner/runnertest"
)

// TestIdleModelsAndRunner: what nobody uses gives the device's memory back, first the model, then the process with all
// that it holds, and comes back on demand with no attempt charged.
func TestIdleModelsAndRunner(t *testing.T) {
	r := newRig(t)
	models := r.gpuWith(1000*mib, func(c *instance.Config) { c.IdleModels = time.Millisecond })
	pid := models.runnerPID(t)
	r.succeeded(r.publish(onGPU(runnertest.Script{Uses: 500 * mib})))
	models.waitLog(t, "idle models unloaded")
	require.Eventually(t, func() bool { return r.deviceUsed("gpu-1") == 0 }, patience, 5*time.Millisecond, "the memory is free")
	again := r.succeeded(r.publish(onGPU(runnertest.Script{Uses: 500 * mib})))
	require.Equal(t, pid, again.Process.PID, "the process stayed")
	models.soft()
	require.NoError(t, models.wait(t))

	ends := r.gpuWith(1000*mib, func(c *instance.Config) { c.IdleRunner = time.Millisecond })
	pid = ends.runnerPID(t)
	ends.waitLog(t, "idle runner ended")
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	require.Eventually(t, func() bool { return len(r.status("gpu-1").MemoryInfo.Processes) == 0 }, patience, 5*time.Millisecond, "no process is told of")
	id := r.publish(onGPU(runnertest.Script{}))
	s := r.succeeded(id)
	require.NotEqual(t, pid, s.Process.PID)
	require.Len(t, s.Attempts, 1)
	ends.waitLog(t, "idle runner ended")
}

// TestPreloadedStays: what is to be loaded ahead is not taken for idle.
func TestPreloadedStays(t *testing.T) {
	r := newRig(t)
	r.change = func(c *instance.Config) {
		c.Preload, c.Models = modelName, two{}
		c.Runner.Hello.MaxModels = 2
		c.IdleModels, c.IdleRunner = time.Millisecond, time.Millisecond
	}
	run := r.start(nil)
	pid := run.runnerPID(t)
	first := r.succeeded(r.publish(request(runnertest.Script{})))
	other := request(runnertest.Script{})
	other.Model = "second"
	r.succeeded(r.publish(other))
	require.Contains(t, run.waitLog(t, "idle models unloaded"), "models=[second]")
	require.Equal(t, pid, first.Process.PID)
	require.Equal(t, pid, r.succeeded(r.publish(request(runnertest.Script{}))).Process.PID)
}

// TestColdStartLongerThanTheAckWait: neither a process that takes several ack waits to start nor a model that takes as
// long to load has its request delivered to anybody else.
func TestColdStartLongerThanTheAckWait(t *testing.T) {
	r := newRig(t)
	r.set.AckWait = 200 * time.Millisecond
	slow := filepath.Join(t.TempDir(), "slow")
	r.change = func(c *instance.Config) {
		c.IdleRunner = time.Millisecond
		c.Runner.Env = append(c.Runner.Env, runnertest.EnvSlow+"="+slow)
	}
	cold := r.start(nil)
	cold.waitLog(t, "idle runner ended")
	require.NoError(t, syscall.Mkfifo(slow, 0o600))
	g := r.gate()
	extended := r.extensions()
	id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageLoad, File: g.path}))
	extended(12) // a quarter of the ack wait apart
	gate{slow}.open(t)
	require.NoError(t, os.Remove(slow))
	extended(12)
	g.open(t)
	s := r.succeeded(id)
	require.Len(t, s.Attempts, 1)
	require.Equal(t, 1, s.Attempts[0].Number)
	r.settled(id)
}

// TestRunnerStoppedWhileIdle: one that does not even begin is found long before the time for loading is up.
func TestRunnerStoppedWhileIdle(t *testing.T) {
	r := newRig(t)
	r.set.Budgets = instance.Budgets{Begin: 200 * time.Millisecond}
	run := r.start(nil)
	pid := run.runnerPID(t)
	r.succeeded(r.publish(request(runnertest.Script{})))
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	id := r.publish(request(runnertest.Script{}))
	s := r.succeeded(id)
	require.Len(t, s.Attempts, 2)
	require.Equal(t, "hang", s.Attempts[1].Cause)
	require.Equal(t, events.CodeHang, s.Attempts[0].Error.Code)
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
}

// extensions listens for extensions of leases. What it returns waits for n more.
func (r *rig) extensions() (more func(n int)) {
	r.t.Helper()
	messages := make(chan *nats.Msg, 1000)
	sub, err := r.broker.Conn().ChanSubscribe("$JS.ACK."+broker.StreamRequests+".>", messages)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = sub.Unsubscribe() })
	require.NoError(r.t, r.broker.Flush())
	timeout := r.context()
	return func(n int) {
		r.t.Helper()
		for n > 0 {
			select {
			case m := <-messages:
				if bytes.HasPrefix(m.Data, []byte("+WPI")) {
					n--
				}
			case <-timeout.Done():
				require.FailNow(r.t, "the lease is not extended")
			}
		}
	}
}

// deviceUsed is how much of its device's memory an instance told of last.
func (r *rig) deviceUsed(instance string) int64 {
	r.t.Helper()
	used := r.status(instance).MemoryInfo.DeviceUsed
	require.NotNil(r.t, used)
	return *used
}
