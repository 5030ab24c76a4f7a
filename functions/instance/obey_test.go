package instance_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/controller"
	"genfn/functions/device"
	"genfn/functions/instance"
	"genfn/functions/runner/runnertest"
)

// brisk is a policy with which nobody has to wait long.
func brisk() controller.Policy {
	return controller.Policy{Backoff: 50 * time.Millisecond, MaxBackoff: 50 * time.Millisecond, QuarantineAfter: 1 << 20, Quarantine: time.Hour}
}

// controller runs a health controller until the test ends or stop is called.
func (r *rig) controller(change func(*controller.Config)) (stop func()) {
	r.t.Helper()
	config := controller.Config{Name: "boss", Broker: r.broker, BrokerConfig: r.set.brokerConfig(), Policy: brisk(), Lease: time.Second}
	if change != nil {
		change(&config)
	}
	c, err := controller.New(config)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(r.t, <-done)
	})
	r.t.Cleanup(stop)
	return stop
}

// connect returns a connection of its own.
func (r *rig) connect(url string) *broker.Broker {
	r.t.Helper()
	b, err := broker.Connect(url, broker.Options{Name: "test"})
	require.NoError(r.t, err)
	r.t.Cleanup(b.Close)
	return b
}

// order asks the controller for a decision on an instance once it knows it, and returns when the instance obeys it.
func (r *rig) order(run *running, instance, command string) events.Decision {
	r.t.Helper()
	d, err := r.broker.Command(r.context(), instance, events.Command{Command: command, Reason: "a test", By: "ada"})
	require.NoError(r.t, err)
	run.waitLog(r.t.(*testing.T), "decision heard\" instance="+instance+" state="+d.State)
	return d
}

// decided waits for a decision that want is looking for among all that was decided on an instance, and returns what
// came before it and itself.
func (r *rig) decided(instance string, want func(events.Decision) bool) (history []events.Decision) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		all, err := r.broker.DecisionHistory(r.context(), instance)
		require.NoError(r.t, err)
		history = nil
		for _, d := range all {
			if n := len(history); n > 0 && history[n-1].Number == d.Number {
				continue // written anew by a new leader
			}
			if history = append(history, d); want(d) {
				return true
			}
		}
		return false
	}, patience, 5*time.Millisecond, "a decision on %s", instance)
	return history
}

// last is the last of some decisions.
func last(history []events.Decision) events.Decision { return history[len(history)-1] }

// inState matches decisions of a state.
func inState(state string) func(events.Decision) bool {
	return func(d events.Decision) bool { return d.State == state }
}

// after matches decisions of a state that come after one.
func after(d events.Decision, state string) func(events.Decision) bool {
	return func(next events.Decision) bool { return next.Number > d.Number && next.State == state }
}

// obeying waits until an instance says that it obeys a decision.
func (r *rig) obeying(d events.Decision) {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		obeyed := r.status(d.Instance).Obeys
		return obeyed != nil && obeyed.Number >= d.Number
	}, patience, 5*time.Millisecond, "%s obeys", d.Instance)
}

// status is the last heartbeat of an instance.
func (r *rig) status(instance string) (status events.DeviceStatus) {
	r.t.Helper()
	list, err := r.broker.Devices(r.context(), time.Minute)
	require.NoError(r.t, err)
	for _, s := range list {
		if s.Instance == instance {
			status = s
		}
	}
	return status
}

// heard waits for another heartbeat of an instance.
func (r *rig) heard(instance string) {
	r.t.Helper()
	before := r.status(instance).Sequence
	require.Eventually(r.t, func() bool { return r.status(instance).Sequence > before }, patience, 20*time.Millisecond, "%s lives", instance)
}

// unanswered checks that a request has not ended.
func (r *rig) unanswered(id string) {
	r.t.Helper()
	_, answered, err := r.broker.Terminal(r.context(), broker.DefaultTenant, id)
	require.NoError(r.t, err)
	require.False(r.t, answered)
}

// TestDrainAndAdmit: an instance that is drained finishes its work and takes no more until it is admitted.
func TestDrainAndAdmit(t *testing.T) {
	r := newRig(t)
	r.controller(nil)
	run := r.start(nil)
	run.waitLog(t, "decision heard")
	g := r.gate()
	running := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1, File: g.path}))
	f := r.follow(running)
	r.until(f, r.inStage(events.StageDenoise))
	r.order(run, "one", events.CommandDrain)
	waits := r.publish(request(runnertest.Script{}))
	g.open(t)
	r.succeeded(running)
	r.unanswered(waits)
	r.order(run, "one", events.CommandAdmit)
	s := r.succeeded(waits)
	require.Empty(t, causes(s.Attempts), "nobody is charged for the wait")
	r.settled(running, waits)
}

// TestQuarantineHandsBack: an instance that is quarantined ends its runner and hands back what it works on, with no
// attempt of the request's own charged; another goes on with it.
func TestQuarantineHandsBack(t *testing.T) {
	r := newRig(t)
	r.controller(nil)
	run := r.start(nil)
	run.waitLog(t, "decision heard")
	id := r.publish(request(runnertest.Script{Do: runnertest.Hang, Stage: events.StageDenoise, Step: 1, Once: r.once()}))
	r.until(r.follow(id), r.atStep(1))
	r.order(run, "one", events.CommandQuarantine)
	r.start(func(s *settings) { s.Name, s.MaxDeaths = "two", 1 })
	s := r.succeeded(id)
	require.Equal(t, []string{"quarantined"}, causes(s.Attempts))
	require.Equal(t, "two", s.Attempts[1].Instance)
	r.settled(id)
}

// TestControllerShedsAndTakesBack: what a sick GPU says of itself is confirmed; its requests go to the CPU; each time its
// back-off is over it is to prove itself, and when it does it is taken back.
func TestControllerShedsAndTakesBack(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]string{"validation": runnertest.EnvInvalid, "canary": runnertest.EnvCanary, "wrong numbers": runnertest.EnvWrong} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.controller(nil)
			_, sickness := r.gpu(func(c *instance.Config) { c.Health = device.Policy{Backoff: time.Hour} }) // by itself it would not come back
			r.cpu()
			warm := r.publish(onGPU(runnertest.Script{}))
			require.Equal(t, "GPU.0", r.succeeded(warm).Device)
			cure := sicken(t, sickness, way)
			id := r.publish(onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise}))
			s := r.succeeded(id)
			require.Equal(t, "TEST", s.Device)
			require.Equal(t, []string{"device_fault"}, causes(s.Attempts))

			history := r.decided("gpu-1", inState(events.StateShed))
			shed := last(history)
			require.Contains(t, []string{controller.ReasonOwnStop, controller.ReasonCanaryFailed}, shed.Reason)
			require.NotEmpty(t, shed.Evidence)
			require.NotNil(t, shed.RetryAt)
			next := r.publish(request(runnertest.Script{}))
			require.Equal(t, "TEST", r.succeeded(next).Device, "a shed GPU gets nothing")

			failed := last(r.decided("gpu-1", after(shed, events.StateShed)))
			require.Equal(t, events.StateProbation, failed.Previous)
			require.Contains(t, []string{controller.ReasonOwnStop, controller.ReasonCanaryFailed}, failed.Reason)
			require.Equal(t, 2, failed.Sheds)
			cure()
			back := last(r.decided("gpu-1", after(failed, events.StateReady)))
			require.Equal(t, []string{events.StateProbation, controller.ReasonProved}, []string{back.Previous, back.Reason})
			r.obeying(back)
			again := r.publish(onGPU(runnertest.Script{}))
			require.Equal(t, "GPU.0", r.succeeded(again).Device)
			r.settled(warm, id, next, again)
		})
	}
}

// TestControllerQuarantines: proofs that fail in a row end in quarantine, out of which an operator lets the device prove
// itself.
func TestControllerQuarantines(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.controller(func(c *controller.Config) { c.Policy.QuarantineAfter = 3 })
	run, sickness := r.gpu(func(c *instance.Config) { c.Health = device.Policy{Backoff: time.Hour} })
	r.cpu()
	cure := sicken(t, sickness, runnertest.EnvInvalid)
	id := r.publish(onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise}))
	r.succeeded(id)
	history := r.decided("gpu-1", inState(events.StateQuarantined))
	d := last(history)
	require.Equal(t, 3, d.FailedProofs)
	require.Contains(t, d.Message, "3 proofs failed in a row")
	proofs := 0
	for _, d := range history {
		if d.State == events.StateProbation {
			require.Equal(t, controller.ReasonBackOff, d.Reason)
			proofs++
		}
	}
	require.Equal(t, 3, proofs)
	require.WithinDuration(t, d.At.Add(time.Hour), *d.RetryAt, time.Second)

	cure()
	require.Equal(t, events.StateProbation, r.order(run, "gpu-1", events.CommandAdmit).State, "it proves itself first")
	r.obeying(last(r.decided("gpu-1", after(d, events.StateReady))))
	next := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "GPU.0", r.succeeded(next).Device)
	r.settled(id, next)
}

// TestHandBackRace: a request that is delivered about when its instance is stopped is done before or afterwards, and no
// attempt is charged for it. Both are held back and reach the instance at once.
func TestHandBackRace(t *testing.T) {
	r := newRig(t)
	proxy := r.server.Proxy()
	r.controller(nil)
	run := r.start(func(s *settings) { s.URL = proxy.URL() })
	run.waitLog(t, "decision heard")
	var ids []string
	for range 10 {
		proxy.FreezeAnswers()
		id := r.publish(request(runnertest.Script{}))
		d, err := r.broker.Command(r.context(), "one", events.Command{Command: events.CommandDrain, Reason: "a test", By: "ada"})
		require.NoError(t, err)
		proxy.Heal()
		r.obeying(d)
		r.order(run, "one", events.CommandAdmit)
		require.Len(t, r.succeeded(id).Attempts, 1)
		ids = append(ids, id)
	}
	r.settled(ids...)
}

// TestControllerDies: a controller that is cut off is followed by another, which decides with what was decided before; to
// instances nothing happens meanwhile.
func TestControllerDies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := r.server.Proxy()
	b := r.connect(proxy.URL())
	r.controller(func(c *controller.Config) { c.Name, c.Broker = "first", b })
	run, sickness := r.gpu(func(c *instance.Config) { c.Health = device.Policy{Backoff: time.Hour} })
	r.cpu()
	joined := last(r.decided("gpu-1", inState(events.StateReady)))
	require.Equal(t, "controller first", joined.DecidedBy)
	run.waitLog(t, "decision heard")
	drained := r.order(run, "gpu-1", events.CommandDrain)
	proxy.Freeze()
	id := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "TEST", r.succeeded(id).Device, "the last decision stays in force while nobody leads")

	r.controller(func(c *controller.Config) { c.Name = "second" })
	admitted, err := r.broker.Command(r.context(), "gpu-1", events.Command{Command: events.CommandAdmit, Reason: "a test", By: "ada"})
	require.NoError(t, err)
	require.Greater(t, admitted.Term, drained.Term)
	require.Equal(t, drained.Number+1, admitted.Number, "the second knows what the first has decided")
	r.obeying(admitted)
	sicken(t, sickness, runnertest.EnvInvalid)
	lost := r.publish(onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise}))
	require.Equal(t, "TEST", r.succeeded(lost).Device)
	shed := last(r.decided("gpu-1", inState(events.StateShed)))
	require.Equal(t, "controller second", shed.DecidedBy)

	proxy.Heal() // the first goes on, and finds that it does not lead
	d, err := r.broker.Command(r.context(), "cpu-1", events.Command{Command: events.CommandDrain, Reason: "a test", By: "ada"})
	require.NoError(t, err)
	require.Equal(t, admitted.Term, d.Term)
	r.settled(id, lost)
}

// TestCutOff: an instance that is cut off from the broker keeps to what was decided last, also when it comes back while
// nobody leads; and it stops by itself when its device fails meanwhile.
func TestCutOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := r.server.Proxy()
	r.set.Budgets = instance.Budgets{Stage: time.Second, Floor: time.Second}
	stop := r.controller(nil)
	r.set.URL = proxy.URL()
	run, sickness := r.gpu(func(c *instance.Config) { c.Health = device.Policy{Backoff: time.Hour} })
	r.set.URL = r.server.URL()
	run.waitLog(t, "decision heard")
	r.order(run, "gpu-1", events.CommandDrain)
	stop()
	proxy.Cut()
	proxy.Heal()
	r.cpu()
	r.heard("gpu-1")
	id := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "TEST", r.succeeded(id).Device, "drained before, drained now")

	r.controller(func(c *controller.Config) { c.Name = "next" })
	r.order(run, "gpu-1", events.CommandAdmit)
	hit := r.publish(onGPU(runnertest.Script{Do: runnertest.Hang, Stage: events.StageDenoise, Step: 1, Once: r.once()}))
	r.until(r.follow(hit), r.atStep(1))
	proxy.Cut()
	cure := sicken(t, sickness, runnertest.EnvInvalid)
	run.waitLog(t, "state=shed previous=suspect reason=validation_failed")
	require.Equal(t, "TEST", r.succeeded(hit).Device)
	proxy.Heal()
	shed := last(r.decided("gpu-1", inState(events.StateShed)))
	next := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "TEST", r.succeeded(next).Device)
	cure()
	r.obeying(last(r.decided("gpu-1", after(shed, events.StateReady))))
	r.settled(id, hit, next)
}

// TestWrongNumbersOfAnIdleDevice: a GPU that raises no error but computes wrong numbers is found by a canary while nobody
// asks it for anything, is shed, and comes back when it is right again.
func TestWrongNumbersOfAnIdleDevice(t *testing.T) {
	r := newRig(t)
	r.controller(nil)
	run, sickness := r.gpu(func(c *instance.Config) {
		c.CanaryEvery = 10 * time.Millisecond
		c.Health = device.Policy{Backoff: time.Hour}
	})
	r.cpu()
	first := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "GPU.0", r.succeeded(first).Device)
	run.waitLog(t, "canary passed")
	cure := sicken(t, sickness, runnertest.EnvWrong)
	shed := last(r.decided("gpu-1", inState(events.StateShed)))
	require.Contains(t, []string{controller.ReasonOwnStop, controller.ReasonCanaryFailed}, shed.Reason)
	require.Contains(t, shed.Evidence[0].Message, "wrong numbers")
	id := r.publish(request(runnertest.Script{}))
	require.Equal(t, "TEST", r.succeeded(id).Device)
	cure()
	back := last(r.decided("gpu-1", after(shed, events.StateReady)))
	require.Equal(t, controller.ReasonProved, back.Reason)
	r.obeying(back)
	next := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "GPU.0", r.succeeded(next).Device)
	require.True(t, r.status("gpu-1").LastCanary.Passed)
	r.settled(first, id, next)
}

// TestWrongNumbersFromTheFirst: a GPU that never computed right is found before its first request is served, by what a CPU
// computed while it was idle, and the CPU serves the request.
func TestWrongNumbersFromTheFirst(t *testing.T) {
	r := newRig(t)
	r.controller(nil)
	r.change = func(c *instance.Config) { c.CanaryEvery = 10 * time.Millisecond }
	cpu := r.cpu()
	known := r.publish(request(runnertest.Script{}))
	r.succeeded(known)
	cpu.waitLog(t, "the values that canaries of this model must give are known")
	var cure func()
	_, sickness := r.gpu(func(c *instance.Config) { c.Health = device.Policy{Backoff: time.Hour} })
	cure = sicken(t, sickness, runnertest.EnvWrong)
	id := r.publish(onGPU(runnertest.Script{}))
	s := r.succeeded(id)
	require.Equal(t, "TEST", s.Device)
	require.Equal(t, []string{"device_unfit"}, causes(s.Attempts))
	require.Contains(t, s.Attempts[0].Error.Message, "what a CPU computes")
	shed := last(r.decided("gpu-1", inState(events.StateShed)))
	cure()
	r.obeying(last(r.decided("gpu-1", after(shed, events.StateReady))))
	next := r.publish(onGPU(runnertest.Script{}))
	require.Equal(t, "GPU.0", r.succeeded(next).Device)
	require.Equal(t, events.AgainstReference, r.status("gpu-1").LastCanary.Against)
	r.settled(known, id, next)
}

// TestReferenceForOthers: a CPU makes the values that a GPU lacks, also of a model that it was never asked for.
func TestReferenceForOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, _ = r.gpu(func(c *instance.Config) { c.CanaryEvery = 10 * time.Millisecond })
	id := r.publish(onGPU(runnertest.Script{}))
	r.succeeded(id)
	r.change = func(c *instance.Config) { c.CanaryEvery = time.Hour }
	cpu := r.cpu()
	cpu.waitLog(t, "the values that canaries of this model must give are known")
	require.Eventually(t, func() bool {
		c := r.status("gpu-1").LastCanary
		return c != nil && c.Against == events.AgainstReference && c.Passed
	}, patience, 20*time.Millisecond)
}

// TestWrongNumbersOfACPU: a CPU that computes wrong numbers is no better than a GPU: it proves itself by its canary.
func TestWrongNumbersOfACPU(t *testing.T) {
	r := newRig(t)
	r.controller(nil)
	sickness := t.TempDir()
	r.change = func(c *instance.Config) {
		c.CanaryEvery = 10 * time.Millisecond
		c.Runner.Env = append(c.Runner.Env, runnertest.EnvWrong+"="+filepath.Join(sickness, runnertest.EnvWrong))
		c.Health = device.Policy{Backoff: 20 * time.Millisecond, MaxBackoff: 20 * time.Millisecond, QuarantineAfter: 1 << 20}
	}
	run := r.cpu()
	r.succeeded(r.publish(request(runnertest.Script{})))
	run.waitLog(t, "canary passed")
	cure := sicken(t, sickness, runnertest.EnvWrong)
	shed := last(r.decided("cpu-1", inState(events.StateShed)))
	require.Contains(t, shed.Evidence[0].Message, "wrong numbers")
	id := r.publish(request(runnertest.Script{}))
	run.waitLog(t, "canary failed")
	run.waitLog(t, "canary failed")
	r.unanswered(id)
	cure()
	r.obeying(last(r.decided("cpu-1", after(shed, events.StateReady))))
	r.succeeded(id)
}
