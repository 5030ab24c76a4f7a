package instance_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/fault"
	"genfn/functions/instance"
	"genfn/functions/runner/crashreport"
	"genfn/functions/runner/runnertest"
)

// causes lists why attempts began: the cause of each but the first.
func causes(attempts []events.Attempt) []string {
	var out []string
	for _, a := range attempts[1:] {
		out = append(out, a.Cause)
	}
	return out
}

func TestRunnerKilledAtEveryMoment(t *testing.T) {
	r := newRig(t)
	reports := crashreport.NewStore(filepath.Join(t.TempDir(), "crashes"))
	r.change = func(c *instance.Config) { c.Runner.Reports = reports }
	r.start(nil)
	var ids []string
	for _, s := range []runnertest.Script{
		{Stage: events.StageLoad}, {Stage: events.StageTokenize}, {Stage: events.StageTextEncoder},
		{Stage: events.StageDenoise}, {Stage: events.StageDenoise, Step: 1}, {Stage: events.StageDenoise, Step: 4}, {Stage: events.StageVAEDecode},
	} {
		s.Do, s.Once = runnertest.Kill, r.once()
		id := r.publish(request(s))
		got := r.succeeded(id)
		require.Equal(t, []string{"runner_killed"}, causes(got.Attempts))
		crash := got.Attempts[0].Error
		require.Contains(t, crash.Message, "signal 9")
		require.Equal(t, s.Stage, crash.Stage)
		require.Contains(t, crash.Message, "another program", "not the out-of-memory killer, not the instance")
		ids = append(ids, id)

		list, err := reports.List()
		require.NoError(t, err)
		require.Len(t, list, len(ids), "each death leaves a report")
		last := list[0]
		require.Equal(t, id, last.Work.Request)
		require.Equal(t, 1, last.Work.Attempt)
		require.Equal(t, modelName, last.Work.Model)
		require.True(t, strings.HasPrefix(last.Work.Stage, s.Stage), last.Work.Stage)
		require.Equal(t, fault.ClassKilled, last.Fault.Class)
		require.Equal(t, "TEST", last.Device)
		require.Equal(t, map[string]string{"genfn": "test", "kernels": "none", "scripted": "1"}, last.Versions)
		require.Positive(t, last.Memory.Last.RSS)
		require.Positive(t, last.Memory.PeakRSS)
	}
	r.settled(ids...)
}

func TestRunnerThatDiedIdleIsReplaced(t *testing.T) {
	r := newRig(t)
	run := r.start(nil)
	pid := run.runnerPID(t)
	first := r.publish(request(runnertest.Script{}))
	r.succeeded(first)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	run.waitLog(t, "runner ended") // the supervisor's word
	second := r.publish(request(runnertest.Script{}))
	require.Len(t, r.succeeded(second).Attempts, 1, "what happens between requests is not charged to one")
	r.settled(first, second)
}

func TestCrashEachTimeFails(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	id := r.publish(request(runnertest.Script{Do: runnertest.Crash, Stage: events.StageDenoise, Step: 2}))
	f := r.failed(id)
	require.False(t, f.Error.Retriable)
	require.Contains(t, f.Error.Message, "2 attempts")
	require.Equal(t, []string{"runner_crash"}, causes(f.Attempts))
	require.Len(t, f.Attempts, 2)
	for _, a := range f.Attempts {
		require.Contains(t, a.Error.Detail, "scripted crash", "the runner's last words are kept")
		require.Contains(t, a.Error.Message, "signal 11")
	}
	good := r.publish(request(runnertest.Script{}))
	r.succeeded(good)
	r.settled(id, good)
	r.buried(id, "TEST", "TEST")
	require.NotContains(t, r.history("one"), events.StateShed)
}

// TestCrashForWantOfMemory: the last words tell more than the signal. Each try needs less than the one before.
func TestCrashForWantOfMemory(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	id := r.publish(request(runnertest.Script{Do: runnertest.Abort, Stage: events.StageDenoise, Step: 2}))
	f := r.failed(id)
	require.Equal(t, events.CodeHostOutOfMemory, f.Error.Code)
	require.Equal(t, []string{"out_of_memory", "out_of_memory"}, causes(f.Attempts))
	for _, a := range f.Attempts {
		require.Contains(t, a.Error.Detail, "std::bad_alloc")
		require.Contains(t, a.Error.Message, "signal 6")
	}
	id2 := r.publish(request(runnertest.Script{Do: runnertest.Abort, Stage: events.StageDenoise, Step: 2, Enough: events.DegradationSequentialGuidance}))
	require.Contains(t, r.succeeded(id2).Degradations, events.DegradationSequentialGuidance)
	r.settled(id, id2)
}

func TestDeviceFaultGetsAFreshRunner(t *testing.T) {
	r := newRig(t)
	reports := crashreport.NewStore(t.TempDir())
	r.change = func(c *instance.Config) { c.Runner.Reports = reports }
	run := r.start(nil)
	first := run.runnerPID(t)
	id := r.publish(request(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise, Once: r.once()}))
	s := r.succeeded(id)
	require.Equal(t, []string{"device_fault"}, causes(s.Attempts))
	require.Equal(t, events.CodeDeviceLost, s.Attempts[0].Error.Code)
	require.Contains(t, s.Attempts[0].Error.DriverText, "CL_OUT_OF_RESOURCES")
	require.NotEqual(t, first, run.runnerPID(t))
	list, err := reports.List()
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "opencl_out_of_resources", list[0].Fault.Rule, "what the runner told is why it had to go")
	require.Equal(t, id, list[0].Work.Request)
	r.settled(id)
}

func TestHungRunnerLosesItsLease(t *testing.T) {
	t.Parallel()
	for stage, step := range map[string]int{events.StageTextEncoder: 0, events.StageDenoise: 2} {
		r := newRig(t)
		r.start(func(s *settings) {
			s.Budgets = instance.Budgets{Stage: time.Second, Floor: time.Second}
		})
		id := r.publish(request(runnertest.Script{Do: runnertest.Hang, Stage: stage, Step: step, Once: r.once()}))
		s := r.succeeded(id)
		require.Equal(t, []string{"hang"}, causes(s.Attempts))
		require.Equal(t, events.CodeHang, s.Attempts[0].Error.Code)
		require.Equal(t, stage, s.Attempts[0].Error.Stage)
		r.settled(id)
	}
}

func TestHangEachTimeFails(t *testing.T) {
	r := newRig(t)
	r.start(func(s *settings) { s.Budgets.Stage = 100 * time.Millisecond })
	id := r.publish(request(runnertest.Script{Do: runnertest.Hang, Stage: events.StageDenoise}))
	f := r.failed(id)
	require.Equal(t, events.CodeHang, f.Error.Code)
	require.Equal(t, []string{"hang"}, causes(f.Attempts))
	r.settled(id)
}

// TestSlowInputIsNotTheRunnersFault: an input of which the store has lost a part is waited for in vain.
func TestSlowInputIsNotTheRunnersFault(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.change = func(c *instance.Config) { c.MaxLost = 1 }
	pid := r.start(func(s *settings) { s.Budgets.Load = 100 * time.Millisecond }).runnerPID(t)
	data := request(runnertest.Script{})
	ref, err := r.broker.PutInput(r.context(), broker.DefaultTenant, "slow", "latents.npy", "application/x-npy", []byte("content"))
	require.NoError(t, err)
	js, err := jetstream.New(r.broker.Conn())
	require.NoError(t, err)
	store, err := js.Stream(r.context(), "OBJ_"+ref.Bucket)
	require.NoError(t, err)
	require.NoError(t, store.Purge(r.context(), jetstream.WithPurgeSubject("$O."+ref.Bucket+".C.>")))
	data.Latents = &ref
	id := r.publish(data)
	require.Equal(t, []string{"instance_lost", "instance_lost"}, causes(r.failed(id).Attempts))
	require.NoError(t, syscall.Kill(pid, 0), "the runner lives")
	r.settled(id)
	l, err := r.broker.DeadLetter(r.context(), broker.DefaultTenant, id)
	require.NoError(t, err)
	require.Equal(t, "instance_lost", l.Attempts[0].Cause)
	require.Contains(t, l.Error.Message, "disappeared")
}

// TestRunnerThatCannotBeStartedAgain: the request goes from instance to instance, but not for ever.
func TestRunnerThatCannotBeStartedAgain(t *testing.T) {
	r := newRig(t)
	self, err := os.Executable()
	require.NoError(t, err)
	breaks := func(c *instance.Config) { // its first runner is its last
		once := r.once()
		c.MaxUnavailable = 2
		c.Runner.Command = []string{"/bin/sh", "-c", `mkdir "$1" && exec "$0"`, self, once}
	}
	r.change = breaks
	r.start(nil)
	id := r.publish(request(runnertest.Script{Do: runnertest.Kill, Stage: events.StageDenoise}))
	r.until(r.follow(id), r.inStage(events.StageDenoise))
	r.start(func(s *settings) { s.Name = "two" })
	f := r.failed(id)
	require.Equal(t, events.CodeDeviceUnavailable, f.Error.Code)
	require.Contains(t, f.Error.Message, "2 attempts")
	require.Equal(t, []string{"runner_killed", "runner_unavailable", "runner_killed"}, causes(f.Attempts))
	require.Contains(t, f.Attempts[1].Error.Detail, "exit code 1")
	r.settled(id)
	l, err := r.broker.DeadLetter(r.context(), broker.DefaultTenant, id)
	require.NoError(t, err)
	require.Len(t, l.Attempts, 4)
	require.Equal(t, "runner_unavailable", l.Attempts[3].Cause)
}

// TestRunnerThatCannotBeKilled: nothing is handed back while the runner may still work; the lease runs out and
// another instance does the request.
func TestRunnerThatCannotBeKilled(t *testing.T) {
	r := newRig(t)
	r.start(func(s *settings) { s.Budgets.Stage, s.Reap = 100*time.Millisecond, 10*time.Millisecond })
	id := r.publish(request(runnertest.Script{Do: runnertest.Stuck, Stage: events.StageDenoise, Once: r.once()}))
	f := r.follow(id)
	r.until(f, r.inStage(events.StageDenoise))
	r.start(func(s *settings) { s.Name = "two" })
	s := r.succeeded(id)
	require.Equal(t, []string{"instance_lost"}, causes(s.Attempts))
	r.settled(id)
}

func TestInstanceKilledInTheMiddle(t *testing.T) {
	r := newRig(t)
	first := r.spawn(nil)
	id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 2, Once: r.once()}))
	f := r.follow(id)
	r.until(f, r.atStep(2))
	first.signal(t, syscall.SIGKILL)
	r.start(func(s *settings) { s.Name = "two" })
	s := r.succeeded(id)
	require.Equal(t, []string{"instance_lost"}, causes(s.Attempts))
	require.Equal(t, "two", s.Attempts[1].Instance)
	r.settled(id)
}

// TestStoppedInstanceSpoilsNothing: an instance is stopped past its lease, another finishes the request, and the
// first goes on with a finished runner in its hands.
func TestStoppedInstanceSpoilsNothing(t *testing.T) {
	r := newRig(t)
	first := r.spawn(nil)
	g := r.gate()
	data := request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 2, File: g.path, Once: r.once()})
	data.Seed = ptr(uint64(3))
	id := r.publish(data)
	f := r.follow(id)
	r.until(f, r.atStep(2))
	first.signal(t, syscall.SIGSTOP)
	g.open(t) // the runner, which is not stopped, finishes and its result waits in the socket

	second := r.start(func(s *settings) { s.Name = "two" })
	s := r.succeeded(id)
	require.Equal(t, "two", s.Attempts[1].Instance)
	before := r.objects()

	first.signal(t, syscall.SIGCONT)
	first.waitLog(t, "another instance holds the request")
	first.signal(t, syscall.SIGTERM)
	_ = first.cmd.Wait()
	require.Equal(t, s, r.succeeded(id), "the answer and every stored byte are the same")
	require.Equal(t, before, r.objects(), "the stale attempt removed what it stored")
	require.False(t, slices.ContainsFunc(before, func(name string) bool { return strings.HasPrefix(name, id+"/1/") }))
	second.soft()
	require.NoError(t, second.wait(t))
	r.settled(id)
}

// TestStoppedInstanceStillHasItsRequest: nobody else took it in the meantime, so it goes on.
func TestStoppedInstanceStillHasItsRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.spawn(func(s *settings) { s.Budgets = instance.Budgets{Stage: time.Second} })
	g := r.gate()
	id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 2, File: g.path, Once: r.once()}))
	f := r.follow(id)
	r.until(f, r.atStep(2))
	first.signal(t, syscall.SIGSTOP)
	g.open(t)
	expired := time.NewTimer(2 * time.Second) // past the budget and the lease: the pause is what is tested
	<-expired.C
	first.signal(t, syscall.SIGCONT)
	s := r.succeeded(id)
	require.NotContains(t, causes(s.Attempts), "hang", "the silence was the instance's own")
	r.settled(id)
}

func TestBrokerRestartInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, stage := range []string{events.StageTokenize, events.StageVAEDecode} {
		r := newRig(t)
		r.start(nil)
		g := r.gate()
		id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: stage, File: g.path}))
		r.until(r.follow(id), r.inStage(stage))
		r.server.Restart()
		g.open(t)
		r.succeeded(id)
		next := r.publish(request(runnertest.Script{}))
		r.succeeded(next)
		r.settled(id, next)
	}
}

// TestBrokerAwayWhileStoring: the runner has finished, even died, when the results can be stored at last.
func TestBrokerAwayWhileStoring(t *testing.T) {
	r := newRig(t)
	run := r.start(nil)
	pid := run.runnerPID(t)
	g := r.gate()
	id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageVAEDecode, File: g.path}))
	r.until(r.follow(id), r.inStage(events.StageVAEDecode))
	r.server.Stop()
	g.open(t)
	run.waitLog(t, "stage=store")
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	r.server.Resume()
	r.succeeded(id)
	next := r.publish(request(runnertest.Script{}))
	r.succeeded(next)
	r.settled(id, next)
}

func TestNetworkGap(t *testing.T) {
	t.Parallel()
	for name, disrupt := range map[string]func(interface {
		Cut()
		Freeze()
	}){
		"cut": func(p interface {
			Cut()
			Freeze()
		}) {
			p.Cut()
		},
		"frozen": func(p interface {
			Cut()
			Freeze()
		}) {
			p.Freeze()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			proxy := r.server.Proxy()
			r.start(func(s *settings) { s.URL = proxy.URL() })
			g := r.gate()
			id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 2, File: g.path, Once: r.once()}))
			r.until(r.follow(id), r.atStep(2))
			disrupt(proxy)
			r.start(func(s *settings) { s.Name = "two" })
			s := r.succeeded(id)
			require.Equal(t, "two", s.Attempts[len(s.Attempts)-1].Instance)
			g.open(t)
			proxy.Heal()
			next := r.publish(request(runnertest.Script{}))
			r.succeeded(next)
			require.Equal(t, s, r.succeeded(id))
			r.settled(id, next)
		})
	}
}

func TestSoftStopFinishesItsWork(t *testing.T) {
	r := newRig(t)
	run := r.start(nil)
	g := r.gate()
	id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, File: g.path}))
	r.until(r.follow(id), r.inStage(events.StageDenoise))
	run.soft()
	waiting := r.publish(request(runnertest.Script{}))
	g.open(t)
	s := r.succeeded(id)
	require.Len(t, s.Attempts, 1)
	require.NoError(t, run.wait(t))
	_, answered, err := r.broker.Terminal(r.context(), "default", waiting)
	require.NoError(t, err)
	require.False(t, answered, "nothing new is taken after the stop")
	r.start(func(s *settings) { s.Name = "two" })
	require.Len(t, r.succeeded(waiting).Attempts, 1)
	r.settled(id, waiting)
}

func TestStopsHandBack(t *testing.T) {
	for name, stop := range map[string]func(*running){
		"grace over":    func(run *running) { run.soft() },
		"second signal": func(run *running) { run.soft(); run.hard() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			run := r.start(func(s *settings) {
				s.AckWait = time.Second
				if name == "grace over" {
					s.Grace = -1
				}
			})
			// Hanging: a runner that would not even let itself be cancelled.
			id := r.publish(request(runnertest.Script{Do: runnertest.Hang, Stage: events.StageDenoise, Step: 1, Once: r.once()}))
			r.until(r.follow(id), r.atStep(1))
			stop(run)
			require.NoError(t, run.wait(t))
			r.start(func(s *settings) { s.Name, s.MaxDeaths = "two", 1 })
			s := r.succeeded(id)
			require.Equal(t, []string{"shutdown"}, causes(s.Attempts), "a shutdown is not charged")
			r.settled(id)
		})
	}
}
