package instance_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/functions/device"
	"genfn/functions/instance"
	"genfn/functions/metricstest"
	"genfn/functions/runner/runnertest"
)

// gpu starts an instance of a scripted GPU whose sickness is files in the folder it returns.
func (r *rig) gpu(change func(*instance.Config)) (run *running, sickness string) {
	r.t.Helper()
	return r.gpuNamed("gpu-1", "GPU.0", change)
}

func (r *rig) gpuNamed(name, gpu string, change func(*instance.Config)) (run *running, sickness string) {
	r.t.Helper()
	sickness = r.t.TempDir()
	r.change = func(c *instance.Config) {
		for _, name := range []string{runnertest.EnvInvalid, runnertest.EnvCanary, runnertest.EnvWrong} {
			c.Runner.Env = append(c.Runner.Env, name+"="+filepath.Join(sickness, name))
		}
		c.Health = device.Policy{Backoff: 20 * time.Millisecond, MaxBackoff: 20 * time.Millisecond}
		if change != nil {
			change(c)
		}
	}
	run = r.start(func(s *settings) { s.Name, s.Device = name, gpu })
	r.change = nil
	return r.meet(run), sickness
}

func (r *rig) cpu() *running {
	return r.meet(r.start(func(s *settings) { s.Name = "cpu-1" }))
}

// sicken makes the scripted GPU sick in one way, and returns how to make it well.
func sicken(t *testing.T, dir, way string) (cure func()) {
	t.Helper()
	path := filepath.Join(dir, way)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	return func() { require.NoError(t, os.Remove(path)) }
}

// onGPU asks for the GPU first, so that the CPU beside it does not take the request.
func onGPU(s runnertest.Script) events.ImageGenerate {
	s.On = "GPU"
	data := request(s)
	data.Device = events.DeviceGPU
	return data
}

// notices reads a request's events to their end and returns the codes of its notices.
func (r *rig) notices(f *client.Follower) []string {
	r.t.Helper()
	var codes []string
	for e, err := range f.Events(r.context()) {
		require.NoError(r.t, err)
		require.NoError(r.t, events.Validate(e))
		if e.Type() != events.TypeProgress {
			continue
		}
		if n := payload[events.Progress](r.t, e).Notice; n != nil {
			codes = append(codes, n.Code)
		}
	}
	return codes
}

// states waits until the GPU instance has told of this state, and returns all it told of.
func (r *rig) states(until string) []string {
	r.t.Helper()
	var states []string
	require.Eventually(r.t, func() bool {
		states = r.history("gpu-1")
		return len(states) > 0 && states[len(states)-1] == until
	}, patience, 5*time.Millisecond, until)
	return states
}

// TestDeadContextOnce: a fresh process proves itself, then the request may try there once more.
func TestDeadContextOnce(t *testing.T) {
	r := newRig(t)
	run, _ := r.gpu(nil)
	r.cpu()
	id := events.NewID()
	f := r.follow(id)
	_, err := r.client.Publish(r.context(), client.Request{ID: id, Data: onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise, Step: 2, Once: r.once()})})
	require.NoError(t, err)
	require.Equal(t, []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeCanary, events.NoticeRetry}, r.notices(f))
	s := r.succeeded(id)
	require.Equal(t, "GPU.0", s.Device)
	require.Equal(t, []string{"device_fault"}, causes(s.Attempts))
	require.Equal(t, events.CodeDeviceLost, s.Attempts[0].Error.Code)
	require.Equal(t, []string{events.StateReady, events.StateSuspect, events.StateReady}, r.states(events.StateReady))
	run.waitLog(t, "request succeeded")
	r.settled(id)
}

// TestDeadContextAgain: what fails twice on the GPU goes on on the CPU, with no attempt more.
func TestDeadContextAgain(t *testing.T) {
	r := newRig(t)
	run, _ := r.gpu(nil)
	r.cpu()
	id := r.publish(onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageVAEDecode}))
	s := r.succeeded(id)
	require.Equal(t, "TEST", s.Device)
	require.Equal(t, []string{"device_fault", "device_fault"}, causes(s.Attempts))
	run.waitLog(t, "[GPU] Persistent GPU memory errors, falling back to CPU")
	r.settled(id)
}

// TestNeverFallsBack: who forbids the CPU gets the GPU's error.
func TestNeverFallsBack(t *testing.T) {
	r := newRig(t)
	r.gpu(nil)
	r.cpu()
	data := onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise})
	data.Fallback = events.FallbackNever
	id := r.publish(data)
	f := r.failed(id)
	require.Equal(t, events.CodeDeviceLost, f.Error.Code)
	require.Len(t, f.Attempts, 2)
	require.Contains(t, f.Error.Message, "2 attempts")
	r.settled(id)
}

// TestNobodyToFallBackTo: with no CPU instance the request fails instead of waiting for one for ever.
func TestNobodyToFallBackTo(t *testing.T) {
	r := newRig(t)
	r.gpu(nil)
	id := r.publish(onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise}))
	require.Equal(t, events.CodeDeviceLost, r.failed(id).Error.Code)
	r.settled(id)
}

// TestCrashIsJudgedByTheOtherClass: the CPU can do it, so the GPU was to blame, which proves itself meanwhile.
func TestCrashIsJudgedByTheOtherClass(t *testing.T) {
	r := newRig(t)
	r.gpu(nil)
	r.cpu()
	warm := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "GPU.0", r.succeeded(warm).Device)
	id := r.publish(onGPU(runnertest.Script{Do: runnertest.Crash, Stage: events.StageDenoise}))
	s := r.succeeded(id)
	require.Equal(t, "TEST", s.Device)
	require.Equal(t, []string{"runner_crash"}, causes(s.Attempts), "the GPU gets it once")
	require.Equal(t, []string{events.StateReady, events.StateSuspect, events.StateReady}, r.states(events.StateReady))
	next := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "GPU.0", r.succeeded(next).Device)
	r.settled(warm, id, next)
}

// TestPoisonRequest: what kills a runner on both classes is to blame itself; two runners die and nobody is shed.
func TestPoisonRequest(t *testing.T) {
	r := newRig(t)
	r.gpu(nil)
	r.cpu()
	data := request(runnertest.Script{Do: runnertest.Crash, Stage: events.StageTextEncoder})
	data.Device = events.DeviceGPU
	id := r.publish(data)
	f := r.failed(id)
	require.Len(t, f.Attempts, 2)
	require.Contains(t, f.Error.Message, "failed on gpu")
	require.Contains(t, f.Error.Message, "and on cpu")
	require.Contains(t, f.Error.Advice, "the request is the likely cause")
	require.Contains(t, f.Attempts[0].Error.Detail, "scripted crash")
	r.states(events.StateReady)
	good := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "GPU.0", r.succeeded(good).Device)
	r.settled(id, good)
	l := r.buried(id, "GPU.0", "TEST")
	require.Equal(t, []string{"runner_crash", "runner_crash"}, []string{l.Attempts[0].Cause, l.Attempts[1].Cause})
	for _, name := range []string{"gpu-1", "cpu-1"} {
		require.NotContains(t, r.history(name), events.StateShed)
	}
}

// TestPoisonRequestThatMayNotGoElsewhere: the canary between the two deaths shows that the GPU is well.
func TestPoisonRequestThatMayNotGoElsewhere(t *testing.T) {
	r := newRig(t)
	r.gpu(nil)
	r.cpu()
	data := onGPU(runnertest.Script{Do: runnertest.Crash, Stage: events.StageDenoise})
	data.Fallback = events.FallbackNever
	id := events.NewID()
	f := r.follow(id)
	_, err := r.client.Publish(r.context(), client.Request{ID: id, Data: data})
	require.NoError(t, err)
	require.Equal(t, []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeCanary, events.NoticeRetry, events.NoticeFault}, r.notices(f))
	require.Contains(t, r.failed(id).Error.Message, "2 attempts")
	r.settled(id)
	r.buried(id, "GPU.0", "GPU.0")
	require.NotContains(t, r.history("gpu-1"), events.StateShed)
}

// TestDeathOnASickGPU: the canary fails, so the request, which must not go elsewhere, waits for the GPU to be well.
func TestDeathOnASickGPU(t *testing.T) {
	r := newRig(t)
	_, sickness := r.gpu(nil)
	warm := r.publish(onGPU(runnertest.Script{}))
	r.succeeded(warm)
	cure := sicken(t, sickness, runnertest.EnvCanary)
	data := onGPU(runnertest.Script{Do: runnertest.Crash, Stage: events.StageDenoise, Once: r.once()})
	data.Fallback = events.FallbackNever
	id := r.publish(data)
	r.shedStatus()
	cure()
	require.Equal(t, []string{"runner_crash"}, causes(r.succeeded(id).Attempts))
	r.settled(warm, id)
	_, err := r.broker.DeadLetter(r.context(), broker.DefaultTenant, id)
	require.Error(t, err, "it was not to blame")
}

// buried returns a request's dead letter, which tells of an attempt with its error on each of the devices.
func (r *rig) buried(id string, devices ...string) broker.DeadLetter {
	r.t.Helper()
	l, err := r.broker.DeadLetter(r.context(), broker.DefaultTenant, id)
	require.NoError(r.t, err)
	var tried []string
	for _, a := range l.Attempts {
		tried = append(tried, a.Device)
		require.NotNil(r.t, a.Error)
		require.NotEmpty(r.t, a.Error.Detail, "the runner's last words are kept")
	}
	require.Equal(r.t, devices, tried)
	return l
}

// history is the states an instance has told of.
func (r *rig) history(name string) (states []string) {
	r.t.Helper()
	history, err := r.broker.DeviceHistory(r.context(), name)
	require.NoError(r.t, err)
	for _, s := range history {
		states = append(states, s.State)
	}
	return states
}

// TestShedAndTakenBack: a device that cannot prove itself is shed, its work goes on elsewhere, and it comes back
// when it is well.
func TestShedAndTakenBack(t *testing.T) {
	for name, way := range map[string]string{"validation": runnertest.EnvInvalid, "canary": runnertest.EnvCanary, "wrong numbers": runnertest.EnvWrong} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			run, sickness := r.gpu(nil)
			r.cpu()
			warm := r.publish(onGPU(runnertest.Script{}))
			r.succeeded(warm)
			cure := sicken(t, sickness, way)
			id := r.publish(onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise}))
			s := r.succeeded(id)
			require.Equal(t, "TEST", s.Device)
			require.Equal(t, []string{"device_fault"}, causes(s.Attempts), "an unproved device is not tried again")
			if way == runnertest.EnvInvalid {
				run.waitLog(t, "[GPU] GPU validation failed")
			}
			shed := r.shedStatus()
			require.True(t, shed.GPUFailed)
			require.NotNil(t, shed.NextTry)
			cure()
			require.Contains(t, r.states(events.StateReady), events.StateProbation)
			next := r.publish(onGPU(runnertest.Script{}))
			require.Equal(t, "GPU.0", r.succeeded(next).Device)
			r.settled(warm, id, next)
		})
	}
}

// shedStatus is the first status in which the GPU was shed.
func (r *rig) shedStatus() (shed events.DeviceStatus) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		history, err := r.broker.DeviceHistory(r.context(), "gpu-1")
		require.NoError(r.t, err)
		for _, s := range history {
			if s.State == events.StateShed {
				shed = s
				return true
			}
		}
		return false
	}, patience, 5*time.Millisecond, "the GPU is shed")
	return shed
}

// TestTransientFault: the same process tries again, and its device is not suspected.
func TestTransientFault(t *testing.T) {
	r := newRig(t)
	run, _ := r.gpu(nil)
	pid := run.runnerPID(t)
	id := r.publish(onGPU(runnertest.Script{Do: runnertest.Shaky, Stage: events.StageDenoise, Once: r.once()}))
	s := r.succeeded(id)
	require.Equal(t, []string{"device_transient"}, causes(s.Attempts))
	require.Equal(t, []string{events.StateReady}, r.states(events.StateReady))
	require.NoError(t, r.alive(pid))

	id2 := r.publish(onGPU(runnertest.Script{Do: runnertest.Shaky, Stage: events.StageDenoise}))
	require.Len(t, r.failed(id2).Attempts, 3, "two retries")
	r.settled(id, id2)
}

func (r *rig) alive(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Signal(syscall.Signal(0))
}

// TestLadderOfMemory: each try needs less than the one before, as far as that is possible; then another class does it.
func TestLadderOfMemory(t *testing.T) {
	r := newRig(t)
	run, _ := r.gpu(nil)
	r.cpu()
	id := events.NewID()
	f := r.follow(id)
	_, err := r.client.Publish(r.context(), client.Request{ID: id, Data: onGPU(runnertest.Script{Do: runnertest.Full, Stage: events.StageVAEDecode, Enough: events.DegradationModelOffload})})
	require.NoError(t, err)
	tries := []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeDegraded}
	require.Equal(t, slices.Concat(tries, tries), r.notices(f))
	s := r.succeeded(id)
	require.Equal(t, "GPU.0", s.Device)
	require.Equal(t, []string{"out_of_memory", "out_of_memory"}, causes(s.Attempts))
	require.Equal(t, []string{events.DegradationModelOffload, events.DegradationSequentialGuidance, events.DegradationTiledVAE}, s.Degradations)
	require.Equal(t, events.CodeGPUOutOfMemory, s.Attempts[0].Error.Code)
	require.Contains(t, s.Attempts[0].Error.Message, "tried to allocate 3 GiB, of 1 GiB at most; all models of the process are unloaded to free memory: scripted")
	run.waitLog(t, "[GPU] Emergency memory cleanup begins")
	run.waitLog(t, "[GPU] Emergency memory cleanup completed")
	run.waitLog(t, "mode=text_to_image seed=")
	require.NotContains(t, r.states(events.StateReady), events.StateShed, "too large a request is not the device's fault")

	id2 := r.publish(onGPU(runnertest.Script{Do: runnertest.Full, Stage: events.StageDenoise}))
	s = r.succeeded(id2)
	require.Equal(t, "TEST", s.Device)
	require.Equal(t, []string{"out_of_memory", "out_of_memory", "out_of_memory", "out_of_memory"}, causes(s.Attempts), "the floor, a fresh process and two rungs")
	run.waitLog(t, "[GPU] Persistent GPU memory errors, falling back to CPU")

	never := onGPU(runnertest.Script{Do: runnertest.Full, Stage: events.StageDenoise})
	never.Fallback, never.Degrade, never.Count = events.FallbackNever, events.DegradeAllowed, ptr(2)
	id3 := r.publish(never)
	failed := r.failed(id3)
	require.Equal(t, events.CodeGPUOutOfMemory, failed.Error.Code)
	require.Contains(t, failed.Error.Message, "attempts failed")
	r.settled(id, id2, id3)
}

// TestInvalidNumbers: another class decides whether the device is to blame.
func TestInvalidNumbers(t *testing.T) {
	r := newRig(t)
	r.gpu(nil)
	r.cpu()
	id := r.publish(onGPU(runnertest.Script{Do: runnertest.NaN, Stage: events.StageDenoise}))
	s := r.succeeded(id)
	require.Equal(t, "TEST", s.Device)
	require.Equal(t, []string{"device_unfit"}, causes(s.Attempts))
	both := request(runnertest.Script{Do: runnertest.NaN, Stage: events.StageDenoise})
	both.Device = events.DeviceGPU
	id2 := r.publish(both)
	require.Equal(t, events.CodeNumericalError, r.failed(id2).Error.Code)
	r.settled(id, id2)
}

// TestDeviceChoice: a class that was asked for gets the request, whatever lane it was published in.
func TestDeviceChoice(t *testing.T) {
	r := newRig(t)
	r.gpu(nil)
	r.cpu()
	for want, device := range map[string]string{events.DeviceCPU: "TEST", events.DeviceGPU: "GPU.0", "GPU.0": "GPU.0"} {
		for _, lane := range []broker.Lane{broker.LaneAny, ""} {
			data := request(runnertest.Script{})
			data.Device = want
			id, err := r.client.Publish(r.context(), client.Request{Data: data, Lane: lane})
			require.NoError(t, err)
			s := r.succeeded(id)
			require.Equal(t, device, s.Device, "%s by lane %q", want, lane)
			require.NotContains(t, causes(s.Attempts), "instance_lost", "who sends it on is not charged")
		}
	}
	data := request(runnertest.Script{})
	data.Device, data.Fallback = "GPU.9", events.FallbackNever
	f := r.failed(r.publish(data))
	require.Equal(t, events.CodeDeviceUnavailable, f.Error.Code)
	require.Contains(t, f.Error.Message, "GPU.9")
	data.Fallback = ""
	require.Equal(t, "GPU.0", r.succeeded(r.publish(data)).Device)
}

// TestInvalidDeviceDoesNotServe: an instance whose device fails its validation says so and ends.
func TestInvalidDeviceDoesNotServe(t *testing.T) {
	r := newRig(t)
	sickness := t.TempDir()
	sicken(t, sickness, runnertest.EnvInvalid)
	config := r.set.config(r.broker, nil)
	config.Name, config.Runner.Hello.Device = "gpu-1", "GPU.0"
	config.Runner.Env = append(config.Runner.Env, runnertest.EnvInvalid+"="+filepath.Join(sickness, runnertest.EnvInvalid))
	i, err := instance.New(config)
	require.NoError(t, err)
	err = i.Run(r.context(), context.Background())
	require.ErrorIs(t, err, &events.Error{Code: events.CodeNumericalError})
}

// TestNoGPUServes: a request that asks for a GPU where none serves goes to the CPU, unless it forbids that.
func TestNoGPUServes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cpu()
	never := onGPU(runnertest.Script{})
	never.Fallback = events.FallbackNever
	waits := r.publish(never)
	id := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "TEST", r.succeeded(id).Device)
	_, answered, err := r.broker.Terminal(r.context(), broker.DefaultTenant, waits)
	require.NoError(t, err)
	require.False(t, answered)
	r.gpu(nil)
	require.Equal(t, "GPU.0", r.succeeded(waits).Device)
	r.settled(id, waits)
}

// TestMetrics: what happened is counted, by instance and device.
func TestMetrics(t *testing.T) {
	r := newRig(t)
	registry := prometheus.NewPedanticRegistry()
	metrics, err := instance.NewMetrics(registry)
	require.NoError(t, err)
	r.gpu(func(c *instance.Config) { c.Metrics = metrics })
	r.change = func(c *instance.Config) { c.Metrics = metrics }
	r.cpu()
	id := r.publish(onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise}))
	r.succeeded(id)
	r.settled(id)
	text := func() string { return metricstest.Text(t, registry) }
	for _, line := range []string{
		`genfn_requests_total{class="cpu",device="TEST",instance="cpu-1",model="scripted",outcome="succeeded"} 1`,
		`genfn_attempt_failures_total{cause="device_fault",class="gpu",code="device_lost",device="GPU.0",instance="gpu-1"} 2`,
		`genfn_requests_total{class="gpu",device="GPU.0",instance="gpu-1",model="scripted",outcome="moved"} 1`,
		`genfn_recoveries_total{action="fallback",class="gpu",device="GPU.0",instance="gpu-1"} 1`,
		`genfn_device_state{class="cpu",device="TEST",instance="cpu-1",state="ready"} 1`,
		`genfn_stage_duration_seconds_count{class="cpu",device="TEST",instance="cpu-1",model="scripted",outcome="succeeded",stage="total"} 1`,
		`genfn_stage_duration_seconds_count{class="gpu",device="GPU.0",instance="gpu-1",model="scripted",outcome="tried_again",stage="denoise"} 1`,
		`genfn_stage_duration_seconds_count{class="gpu",device="GPU.0",instance="gpu-1",model="scripted",outcome="moved",stage="denoise"} 1`,
		`genfn_attempts_total{cause="device_fault",class="gpu",device="GPU.0",instance="gpu-1"} 2`,
		`genfn_attempts_total{cause="answered",class="cpu",device="TEST",instance="cpu-1"} 1`,
		`genfn_request_duration_seconds_count{class="cpu",device="TEST",instance="cpu-1",model="scripted",outcome="succeeded"} 1`,
		`genfn_request_queue_duration_seconds_count{class="gpu",device="GPU.0",instance="gpu-1",lane="gpu",model="scripted",priority="interactive"} 1`,
		`genfn_device_state_changes_total{class="gpu",device="GPU.0",instance="gpu-1",reason="fault",state="suspect"} `,
		`genfn_device_recovery_duration_seconds_count{class="gpu",device="GPU.0",instance="gpu-1"} `,
		`genfn_runner_exits_total{class="gpu",device="GPU.0",instance="gpu-1",reason="shutdown"} `,
		`genfn_runner_starts_total{class="cpu",device="TEST",instance="cpu-1"} 1`,
		`genfn_canaries_total{class="gpu",device="GPU.0",instance="gpu-1",result="failed"} 0`,
		`genfn_broker_connected{class="gpu",device="GPU.0",instance="gpu-1"} 1`,
	} {
		require.Eventually(t, func() bool { return strings.Contains(text(), line) }, patience, 5*time.Millisecond, "counted after the answer is out: %s", line)
	}
	require.Regexp(t, `genfn_memory_bytes\{class="cpu",device="TEST",instance="cpu-1",kind="rss"\} [1-9]`, text())
}
