package controller_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/eventstest"
	"genfn/functions/controller"
	"genfn/functions/metricstest"
)

// patience bounds every wait of these tests; none of them needs it when things work.
const patience = 60 * time.Second

// rig is a server with one instance that says how it is.
type rig struct {
	t        *testing.T
	server   *eventstest.Server
	broker   *broker.Broker
	sequence uint64
	obeys    *events.Obeyed
	decided  chan broker.StoredDecision
	metrics  *controller.Metrics // of the replicas; may be nil
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, server: eventstest.Start(t), decided: make(chan broker.StoredDecision, 100)}
	r.broker = r.connect(r.server.URL())
	require.NoError(t, r.broker.Setup(t.Context(), broker.DefaultConfig()))
	stop, err := r.broker.WatchDecision(t.Context(), "i1", func(d broker.StoredDecision) { r.decided <- d })
	require.NoError(t, err)
	t.Cleanup(stop)
	return r
}

func (r *rig) connect(url string) *broker.Broker {
	b, err := broker.Connect(url, broker.Options{Logger: eventstest.Logger(r.t)})
	require.NoError(r.t, err)
	r.t.Cleanup(b.Close)
	return b
}

// start runs a replica until stop is called.
func (r *rig) start(name, url string, log *safeBuffer) (stop func()) {
	b := r.connect(url)
	c, err := controller.New(controller.Config{
		Name: name, Broker: b, BrokerConfig: broker.DefaultConfig(), Lease: time.Second, Log: log, Logger: eventstest.Logger(r.t), Metrics: r.metrics,
		Policy: controller.Policy{SilentAfter: time.Hour},
	})
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(r.t, err)
		case <-time.After(patience):
			require.Fail(r.t, "the controller does not stop")
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// says has the instance say how it is, until something is decided in which want finds what it looks for.
func (r *rig) says(state string, want func(events.Decision) bool) events.Decision {
	r.t.Helper()
	timeout := time.After(patience)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		r.sequence++
		s := events.DeviceStatus{
			Instance: "i1", Device: "GPU.0", Class: events.DeviceGPU, State: state, Reason: "a_reason", Since: time.Now(), Models: []string{"m"}, Slots: 1,
			Incarnation: "x", Sequence: r.sequence, Obeys: r.obeys,
		}
		require.NoError(r.t, r.broker.PublishStatus(s, true, "/test"))
		select {
		case d := <-r.decided:
			r.obeys = &events.Obeyed{Number: d.Number, State: d.State}
			if want(d.Decision) {
				return d.Decision
			}
		case <-again.C:
		case <-timeout:
			require.FailNow(r.t, "the decision is not made")
		}
	}
}

func by(name, state string) func(events.Decision) bool {
	return func(d events.Decision) bool { return d.DecidedBy == "controller "+name && d.State == state }
}

// safeBuffer is a log that may be read while it is written.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) replay(t *testing.T) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	require.NoError(t, controller.Replay(bytes.NewReader(b.buf.Bytes()), func(events.Decision) { n++ }))
	return n
}

// TestLeaderDies: when the leader is cut off the other replica goes on with what was decided, and the first one, back
// again, decides nothing.
func TestLeaderDies(t *testing.T) {
	r := newRig(t)
	proxy := r.server.Proxy()
	var logA, logB safeBuffer
	r.start("a", proxy.URL(), &logA)
	first := r.says(events.StateReady, by("a", events.StateReady))
	require.Equal(t, []any{uint64(1), controller.ReasonJoined}, []any{first.Number, first.Reason})
	stopB := r.start("b", r.server.URL(), &logB)
	r.says(events.StateSuspect, by("a", events.StateSuspect))

	proxy.Freeze() // as a machine that sleeps: nothing is said of it
	shed := r.says(events.StateShed, by("b", events.StateShed))
	require.Greater(t, shed.Term, first.Term)
	proxy.Heal()
	d := r.command(events.CommandAdmit)
	require.Equal(t, shed.Term, d.Term, "the old leader does not answer")

	stopB() // gives the lease back
	ready := r.says(events.StateReady, by("a", events.StateReady))
	require.Equal(t, controller.ReasonProved, ready.Reason)
	require.Greater(t, ready.Term, shed.Term)

	history, err := r.broker.DecisionHistory(t.Context(), "i1")
	require.NoError(t, err)
	number, term := uint64(0), uint64(0)
	for _, d := range history { // entries that a new leader has written anew are there twice
		require.GreaterOrEqual(t, d.Number, number)
		require.LessOrEqual(t, d.Number, number+1)
		require.GreaterOrEqual(t, d.Term, term)
		number, term = d.Number, d.Term
	}
	require.Equal(t, ready.Number, number)
	require.Positive(t, logA.replay(t))
	require.Positive(t, logB.replay(t))
}

func (r *rig) command(word string) events.Decision {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	d, err := r.broker.Command(ctx, "i1", events.Command{Command: word, Reason: "because", By: "ada"})
	require.NoError(r.t, err)
	return d
}

// TestCommands: what an operator asks for is in force when the answer comes, with the name and the reason; what cannot
// be done is said in words.
func TestCommands(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // for a controller to come
	defer cancel()
	_, err := r.broker.Command(ctx, "i1", events.Command{Command: events.CommandDrain, Reason: "because", By: "ada"})
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	require.ErrorContains(t, err, "no health controller")

	r.start("a", r.server.URL(), &safeBuffer{})
	r.says(events.StateReady, by("a", events.StateReady))
	d := r.command(events.CommandDrain)
	require.Equal(t, []any{events.StateDraining, "ada", "because"}, []any{d.State, d.DecidedBy, d.Message})
	stored, err := r.broker.Decision(t.Context(), "i1")
	require.NoError(t, err)
	require.Equal(t, d, stored.Decision)

	for name, c := range map[string]struct{ instance, command, reason, says string }{
		"nobody":    {"i2", events.CommandDrain, "because", `no living instance has the name "i2"`},
		"no reason": {"i1", events.CommandDrain, "", "text of 1 to 1000 characters"},
		"no word":   {"i1", "explode", "because", "one of admit, shed, drain, quarantine"},
		"no name":   {"a.b", events.CommandDrain, "because", "a.b"},
	} {
		_, err := r.broker.Command(t.Context(), c.instance, events.Command{Command: c.command, Reason: c.reason, By: "ada"})
		require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest}, name)
		e := events.AsError(err)
		require.Contains(t, e.Message+" "+e.Expected, c.says, name)
	}
}

// TestMetrics: who leads, what was decided and how long that took, and how instances stand.
func TestMetrics(t *testing.T) {
	r := newRig(t)
	registry := prometheus.NewPedanticRegistry()
	metrics, err := controller.NewMetrics(registry)
	require.NoError(t, err)
	r.metrics = metrics
	stop := r.start("a", r.server.URL(), &safeBuffer{})
	r.says(events.StateReady, by("a", events.StateReady))
	r.says(events.StateSuspect, by("a", events.StateSuspect))
	_, err = r.broker.Command(t.Context(), "i2", events.Command{Command: events.CommandDrain, Reason: "because", By: "ada"})
	require.Error(t, err)
	want := []string{
		`genfn_controller_leader{controller="a"} 1`,
		`genfn_controller_decisions_total{controller="a",reason="joined",state="ready"} 1`,
		`genfn_controller_decisions_total{controller="a",reason="fault",state="suspect"} 1`,
		`genfn_controller_decision_duration_seconds_count{controller="a"} 2`,
		`genfn_controller_instances{controller="a",state="suspect"} 1`,
		`genfn_controller_refused_commands_total{controller="a"} 1`,
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		text := metricstest.Text(t, registry)
		for _, line := range want {
			assert.Contains(c, text, line)
		}
	}, patience, 20*time.Millisecond)
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	stop()
	text := metricstest.Text(t, registry)
	require.Contains(t, text, `genfn_controller_leader{controller="a"} 0`)
	require.NotContains(t, text, "genfn_controller_instances{", "who does not lead does not know")
}
