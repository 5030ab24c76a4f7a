package instance_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/functions/instance"
	"genfn/functions/runner/runnertest"
)

// cancel cancels a request, which must end so, and returns the end.
func (r *rig) cancel(id, reason string) events.Cancelled {
	r.t.Helper()
	e, err := r.client.Cancel(r.context(), id, reason)
	require.NoError(r.t, err)
	require.Equal(r.t, events.TypeCancelled, e.Type(), "%s", e.Data())
	require.NoError(r.t, events.Validate(e))
	require.Equal(r.t, e.ID(), r.terminal(id).ID(), "what is told is what is stored")
	return payload[events.Cancelled](r.t, e)
}

// publishUntil sends a request whose time is up after d.
func (r *rig) publishUntil(data events.ImageGenerate, d time.Duration) string {
	r.t.Helper()
	id, err := r.client.Publish(r.context(), client.Request{Data: data, Expiry: time.Now().Add(d)})
	require.NoError(r.t, err)
	return id
}

func TestCancelOfRunningWork(t *testing.T) {
	r := newRig(t)
	run := r.start(nil)
	pid := run.runnerPID(t)
	id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 2}))
	r.until(r.follow(id), r.atStep(2))
	c := r.cancel(id, "changed my mind")
	require.Equal(t, "changed my mind", c.Reason)
	require.Equal(t, "denoise step 2 of 4", c.Stage)
	require.Len(t, c.Attempts, 1)
	require.Equal(t, "one", c.Attempts[0].Instance)
	next := r.publish(request(runnertest.Script{}))
	r.succeeded(next)
	require.NoError(t, syscall.Kill(pid, 0), "the runner ended the job in peace and lives")
	require.False(t, slices.ContainsFunc(r.objects(), func(name string) bool { return strings.HasPrefix(name, id) }))
	r.settled(id, next)
}

// A native call that does not return is not waited for: the client has its answer, and then the runner is killed.
func TestCancelOfWorkThatHangs(t *testing.T) {
	r := newRig(t)
	r.change = func(c *instance.Config) { c.CancelTimeout = 50 * time.Millisecond }
	run := r.start(nil)
	first := run.runnerPID(t)
	id := r.publish(request(runnertest.Script{Do: runnertest.Hang, Stage: events.StageVAEDecode}))
	r.until(r.follow(id), r.inStage(events.StageVAEDecode))
	require.Equal(t, events.StageVAEDecode, r.cancel(id, "").Stage)
	next := r.publish(request(runnertest.Script{}))
	r.succeeded(next)
	require.NotEqual(t, first, run.runnerPID(t))
	require.ErrorIs(t, syscall.Kill(first, 0), syscall.ESRCH, "it is reaped")
	r.settled(id, next)
}

func TestDeadlineOfWorkThatHangs(t *testing.T) {
	r := newRig(t)
	r.change = func(c *instance.Config) { c.CancelTimeout = 50 * time.Millisecond }
	run := r.start(nil)
	first := run.runnerPID(t)
	id := r.publishUntil(request(runnertest.Script{Do: runnertest.Hang, Stage: events.StageDenoise, Step: 1}), time.Second)
	f := r.failed(id)
	require.Equal(t, events.CodeDeadlineExceeded, f.Error.Code)
	require.Contains(t, f.Error.Message, "denoise step 1 of 4")
	require.Len(t, f.Attempts, 1)
	next := r.publish(request(runnertest.Script{}))
	r.succeeded(next)
	require.NotEqual(t, first, run.runnerPID(t))
	require.ErrorIs(t, syscall.Kill(first, 0), syscall.ESRCH)
	r.settled(id, next)
}

// Queued requests end without a free slot, by their clients or by their time.
func TestQueuedRequestsEndBehindABusySlot(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	g := r.gate()
	busy := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1, File: g.path}))
	r.until(r.follow(busy), r.atStep(1))
	withdrawn, late := r.publish(request(runnertest.Script{})), r.publishUntil(request(runnertest.Script{}), 300*time.Millisecond)
	require.Equal(t, events.Cancelled{Reason: "no", Stage: events.StageQueue}, r.cancel(withdrawn, "no"))
	e := r.terminal(late)
	require.Equal(t, events.TypeExpired, e.Type())
	expired := payload[events.Expired](t, e)
	require.False(t, expired.FoundAt.Before(expired.ExpiryTime))
	g.open(t)
	r.succeeded(busy)
	r.settled(busy, withdrawn, late)
}

// The request is in the hands of another process than the one that answers, perhaps.
func TestCancelReachesWhoeverWorks(t *testing.T) {
	r := newRig(t)
	children := map[string]*child{"one": r.spawn(nil), "two": r.spawn(func(s *settings) { s.Name = "two" })}
	for range 4 {
		id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1}))
		r.until(r.follow(id), r.atStep(1))
		c := r.cancel(id, "")
		require.Equal(t, "denoise step 1 of 4", c.Stage, "its holder was the first")
		children[c.Attempts[0].Instance].waitLog(t, "request cancelled")
	}
}

// An instance that hears nothing is not waited for, and finds the answer when it looks again.
func TestCancelWhileTheInstanceIsStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.set.AckWait = time.Minute // no other gets the request meanwhile
	first := r.spawn(func(s *settings) { s.AckWait = time.Minute })
	require.NoError(t, r.broker.EnsurePool(r.context(), r.set.brokerConfig(), events.PoolToken(events.KindImage, modelName)))
	id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1}))
	r.until(r.follow(id), r.atStep(1))
	first.signal(t, syscall.SIGSTOP)
	r.start(func(s *settings) { s.Name = "two" })
	c := r.cancel(id, "")
	require.Len(t, c.Attempts, 1)
	require.Equal(t, "one", c.Attempts[0].Instance)
	first.signal(t, syscall.SIGCONT)
	first.waitLog(t, "request cancelled")
	first.signal(t, syscall.SIGTERM)
	require.NoError(t, first.cmd.Wait(), "its slot is free again")
	r.settled(id)
}

// The plain subscription may lose a cancel: the lease finds the answer.
func TestAnsweredRequestIsNotWorkedOn(t *testing.T) {
	r := newRig(t)
	run := r.start(nil)
	id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1}))
	r.until(r.follow(id), r.atStep(1))
	e, err := events.NewAnswer(events.TypeCancelled, events.Meta{RequestID: id, Source: "/test"}, events.Cancelled{})
	require.NoError(t, err)
	header, data, err := events.EncodeBinary(e)
	require.NoError(t, err)
	require.NoError(t, r.broker.Conn().PublishMsg(&nats.Msg{Subject: broker.TerminalSubject(broker.DefaultTenant, id), Header: header, Data: data}))
	run.waitLog(t, "has answered it, this attempt stops")
	next := r.publish(request(runnertest.Script{}))
	r.succeeded(next)
	js, err := jetstream.New(r.broker.Conn())
	require.NoError(t, err)
	attempts, err := js.Stream(t.Context(), broker.StreamAttempts)
	require.NoError(t, err)
	m, err := attempts.GetLastMsgForSubject(t.Context(), "gen.att.default."+id)
	require.NoError(t, err)
	require.Contains(t, string(m.Data), `"cause":"answered"`)
}

func TestCancelBetweenAttempts(t *testing.T) {
	r := newRig(t)
	r.start(func(s *settings) { s.MaxDeaths = 1_000_000 })
	id := r.publish(request(runnertest.Script{Do: runnertest.Kill, Stage: events.StageDenoise}))
	r.until(r.follow(id), func(e events.Event) bool {
		return e.Type() == events.TypeProgress && payload[events.Progress](t, e).Notice != nil
	})
	require.NotEmpty(t, r.cancel(id, "enough").Attempts)
	next := r.publish(request(runnertest.Script{}))
	r.succeeded(next)
	r.settled(id, next)
}

// An instance that stops gives running work its grace, but hears of cancels.
func TestCancelDuringASoftStop(t *testing.T) {
	r := newRig(t)
	run := r.start(func(s *settings) { s.Grace = time.Hour })
	id := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1}))
	r.until(r.follow(id), r.atStep(1))
	run.soft()
	require.Equal(t, "denoise step 1 of 4", r.cancel(id, "").Stage)
	require.NoError(t, run.wait(t))
	r.settled(id)
}

// Cancels at any moment of many requests, the final store among them: each ends once, as succeeded with all of its
// artefacts or as cancelled with none.
func TestCancelRacesWithSuccess(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"one", "two"} {
		r.start(func(s *settings) { s.Name, s.Slots = name, 2 })
	}
	random := rand.New(rand.NewPCG(7, 7))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var ids []string
	outcomes, succeeded := map[string]int{}, map[string]bool{}
	turns := make(chan struct{}, 4)
	for range 80 {
		moment := random.IntN(16)
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			id := r.publish(request(runnertest.Script{}))
			f := r.follow(id)
			for range moment { // of about 14 events
				if e, err := f.Next(r.context()); err != nil || events.Terminal(e.Type()) {
					break
				}
			}
			told, err := r.client.Cancel(r.context(), id, "race")
			require.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, told.ID(), r.terminal(id).ID())
			ids = append(ids, id)
			outcomes[told.Type()]++
			if told.Type() == events.TypeSucceeded {
				succeeded[id] = true
				r.checkArtifacts(payload[events.Succeeded](t, told))
			}
		})
	}
	wg.Wait()
	t.Log(outcomes)
	require.Len(t, outcomes, 2, "both ends were met")
	r.settled(ids...)
	var objects []string
	require.Eventually(t, func() bool {
		objects = slices.DeleteFunc(r.objects(), func(name string) bool { id, _, _ := strings.Cut(name, "/"); return succeeded[id] })
		return len(objects) == 0
	}, 10*time.Second, 10*time.Millisecond, "what was cancelled leaves nothing: %v", &objects)
}
