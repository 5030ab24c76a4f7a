package instance_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/functions/device"
	"genfn/functions/instance"
	"genfn/functions/runner/runnertest"
)

// mixed is scripted GPUs and a CPU of which it is known how long they take.
type mixed struct {
	*rig
	gpus     []*running
	sickness []string // folders of the GPUs
	cpu      *running
	gates    []gate   // at which the GPUs are
	held     []string // the requests that wait there
}

// newMixed starts GPUs and a CPU with slots that takes ratio times as long as one of them. Then it keeps each GPU busy
// with a request that waits at a gate.
func newMixed(t *testing.T, gpus, slots int, ratio float64) *mixed {
	m := &mixed{rig: newRig(t)}
	for n := range gpus {
		run, sickness := m.gpuNamed(fmt.Sprintf("gpu-%d", n+1), fmt.Sprintf("GPU.%d", n), func(c *instance.Config) {
			c.Health = device.Policy{Backoff: time.Hour}
		})
		m.gpus, m.sickness = append(m.gpus, run), append(m.sickness, sickness)
	}
	m.cpu = m.meet(m.start(func(s *settings) { s.Name, s.Slots = "cpu-1", slots }))
	for kind, ms := range map[string]float64{m.status("gpu-1").Kind: 10, m.status("cpu-1").Kind: 10 * ratio} {
		require.NotEmpty(t, kind)
		// Another size than that of the requests here, so that it stays, and so often that it counts.
		require.NoError(t, m.broker.UpdateLearned(m.context(), kind, modelName+" 512x512 x1 guided", func(l *broker.Learned) {
			l.Runs, l.TimesMS = 1000, map[string]float64{"step": ms, events.StageVAEDecode: 5 * ms}
		}))
	}
	m.limited(int(ratio) * gpus)
	for range m.gpus {
		m.holdGPU()
	}
	return m
}

// limited waits until the CPU takes a request only if so many wait; 0: whenever one does.
func (m *mixed) limited(n int) {
	m.t.Helper()
	words := "requests that must wait for the CPU to take one\" instance=cpu-1 by_model=map[]"
	if n > 0 {
		words = fmt.Sprintf("%s:%d]", modelName, n)
	}
	m.cpu.waitLog(m.t.(*testing.T), words)
}

// holdGPU keeps one more GPU busy.
func (m *mixed) holdGPU() {
	m.t.Helper()
	g := m.gate()
	id := m.publish(onGPU(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1, File: g.path}))
	m.until(m.follow(id), m.atStep(1))
	m.gates, m.held = append(m.gates, g), append(m.held, id)
}

// publishMany publishes requests for any device.
func (m *mixed) publishMany(n int) (ids []string) {
	for range n {
		ids = append(ids, m.publish(request(runnertest.Script{})))
	}
	return ids
}

// onCPU has a request done that only the CPU may take: it has looked at the queue then.
func (m *mixed) onCPU() string {
	m.t.Helper()
	data := request(runnertest.Script{})
	data.Device, data.Fallback = events.DeviceCPU, events.FallbackNever
	id := m.publish(data)
	require.Equal(m.t, "TEST", m.succeeded(id).Device)
	return id
}

// answered counts the requests that have ended, by device; "" those that have not.
func (m *mixed) answered(ids []string) map[string]int {
	m.t.Helper()
	n := map[string]int{}
	for _, id := range ids {
		e, ok, err := m.broker.Terminal(m.context(), broker.DefaultTenant, id)
		require.NoError(m.t, err)
		device := ""
		if ok {
			device = payload[events.Succeeded](m.t, e).Device
		}
		n[device]++
	}
	return n
}

// TestSickGPUsHoldNothingBack: three requests, which are too few for the CPU to take while the GPUs are well, are done by
// it as soon as all GPUs are sick, although those are heard of.
func TestSickGPUsHoldNothingBack(t *testing.T) {
	m := newMixed(t, 2, 1, 16)
	ids := m.publishMany(3)
	cpu := m.onCPU()
	require.Equal(t, map[string]int{"": 3}, m.answered(ids), "the GPUs will do them")
	for n, run := range m.gpus {
		sicken(t, m.sickness[n], runnertest.EnvInvalid)
		require.NoError(t, syscall.Kill(run.runnerPID(t), syscall.SIGKILL))
	}
	m.limited(0)
	for _, id := range ids {
		s := m.succeeded(id)
		require.Equal(t, "TEST", s.Device)
		require.Empty(t, causes(s.Attempts))
	}
	m.heard("gpu-1")
	require.Equal(t, events.StateShed, m.status("gpu-1").State, "sick, but alive")
	for _, id := range m.held {
		require.Equal(t, "TEST", m.succeeded(id).Device)
	}
	m.settled(slices.Concat(ids, m.held, []string{cpu})...)
}

// TestLongQueueOverflows: of a long queue the CPUs take what is beyond the limit, and no more.
func TestLongQueueOverflows(t *testing.T) {
	m := newMixed(t, 1, 4, 3)
	ids := m.publishMany(2)
	cpu := m.onCPU()
	require.Equal(t, map[string]int{"": 2}, m.answered(ids))
	ids = append(ids, m.publishMany(3)...)
	require.Eventually(t, func() bool { return m.answered(ids)["TEST"] == 3 }, patience, 5*time.Millisecond, "two of five are left to the GPU")
	again := m.onCPU()
	require.Equal(t, map[string]int{"": 2, "TEST": 3}, m.answered(ids))
	m.gates[0].open(t)
	for _, id := range append(ids, m.held...) {
		m.succeeded(id)
	}
	require.Equal(t, map[string]int{"GPU.0": 2, "TEST": 3}, m.answered(ids))
	m.settled(slices.Concat(ids, m.held, []string{cpu, again})...)
}

// TestGPUThatEndsHoldsNothingBack: a GPU's instance that stops says so, and the CPU takes the rest at once.
func TestGPUThatEndsHoldsNothingBack(t *testing.T) {
	m := newMixed(t, 1, 1, 16)
	ids := m.publishMany(2)
	m.gpus[0].soft()
	m.limited(0)
	for _, id := range ids {
		require.Equal(t, "TEST", m.succeeded(id).Device)
	}
	require.True(t, m.status("gpu-1").Leaving)
	m.gates[0].open(t)
	require.Equal(t, "GPU.0", m.succeeded(m.held[0]).Device, "it finishes what it has")
	require.NoError(t, m.gpus[0].wait(t))
	m.settled(append(ids, m.held...)...)
}

// TestNeverStaysInItsClass: a request that failed on a GPU and must not fall back waits for a GPU that is well.
func TestNeverStaysInItsClass(t *testing.T) {
	r := newRig(t)
	_, sickness := r.gpu(nil)
	run := r.cpu()
	run.waitLog(t, modelName+":10]") // nothing is known yet
	cure := sicken(t, sickness, runnertest.EnvInvalid)
	data := request(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise, On: "GPU", Once: r.once()})
	data.Fallback = events.FallbackNever
	id := r.publish(data)
	require.Eventually(t, func() bool {
		q, err := r.broker.QueueState(r.context())
		require.NoError(t, err)
		return slices.ContainsFunc(q.Depths, func(d broker.Depth) bool { return d.Lane == broker.LaneGPU && d.Waiting+d.Taken > 0 })
	}, patience, 5*time.Millisecond, "handed back")
	other := r.publish(request(runnertest.Script{}))
	require.Equal(t, "TEST", r.succeeded(other).Device, "the CPU has no limit now")
	r.unanswered(id)
	cure()
	require.Equal(t, "GPU.0", r.succeeded(id).Device)
	r.settled(id, other)
}

// TestBatchShareOfAnInstance: batch requests get on while interactive ones wait.
func TestBatchShareOfAnInstance(t *testing.T) {
	r := newRig(t)
	r.change = func(c *instance.Config) { c.BatchEvery = 3 }
	r.start(nil)
	g := r.gate()
	ids := []string{r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1, File: g.path}))}
	r.until(r.follow(ids[0]), r.atStep(1))
	kinds := map[string]byte{ids[0]: 'i'}
	for n := range 8 {
		priority := broker.Interactive
		if n >= 6 {
			priority = broker.Batch
		}
		id, err := r.client.Publish(r.context(), client.Request{Data: request(runnertest.Script{}), Priority: priority})
		require.NoError(t, err)
		ids, kinds[id] = append(ids, id), priority[0]
	}
	answers, err := r.broker.Conn().SubscribeSync(broker.AnswerSubject(broker.DefaultTenant, "*"))
	require.NoError(t, err)
	require.NoError(t, r.broker.Flush())
	g.open(t)
	order := make([]byte, len(ids))
	for i := range order {
		m, err := answers.NextMsg(patience)
		require.NoError(t, err)
		order[i] = kinds[m.Subject[strings.LastIndex(m.Subject, ".")+1:]]
	}
	require.Equal(t, "iibiibiii", string(order))
	r.settled(ids...)
}
