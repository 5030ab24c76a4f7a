package top_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/events/eventstest"
	"genfn/functions/top"
)

// patience bounds every wait of these tests; none of them needs it when things work.
const patience = 60 * time.Second

// until takes snapshots until one is as wanted, and returns it.
func until(t *testing.T, w *top.Watcher, is func(top.Snapshot) bool) (s top.Snapshot) {
	t.Helper()
	require.Eventually(t, func() bool {
		s = w.Snapshot(t.Context())
		return is(s)
	}, patience, 10*time.Millisecond)
	return s
}

// TestSnapshot: what instances say, what is decided on them, and what is in the queue.
func TestSnapshot(t *testing.T) {
	server := eventstest.Start(t)
	b, err := broker.Connect(server.URL(), broker.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	early, err := top.Watch(t.Context(), b)
	require.NoError(t, err)
	require.Empty(t, early.Snapshot(t.Context()).Problem, "a server on which nothing is set up yet is no problem")
	early.Close()

	config := broker.DefaultConfig()
	require.NoError(t, b.Setup(t.Context(), config))
	pool := events.PoolToken(events.KindImage, "a.model")
	require.NoError(t, b.EnsurePool(t.Context(), config, pool))
	status := events.DeviceStatus{
		Instance: "one", Device: "GPU.0", Class: events.DeviceGPU, State: events.StateReady, Reason: "validated", Since: time.Now(), Models: []string{"a.model"}, Slots: 1, Busy: 1,
		Incarnation: "x", Sequence: 1, GenerationCount: 5,
	}
	require.NoError(t, b.PublishStatus(status, true, "/test"))
	joined := events.Decision{Instance: "one", Number: 1, Term: 1, State: events.StateReady, Reason: "joined", Message: "hello", DecidedBy: "boss", At: time.Now()}
	revision, err := b.PutDecision(t.Context(), joined, 0, "/test")
	require.NoError(t, err)

	w, err := top.Watch(t.Context(), b)
	require.NoError(t, err)
	t.Cleanup(w.Close)
	s := until(t, w, func(s top.Snapshot) bool { return len(s.Instances) == 1 })
	require.Empty(t, s.Decisions, "what was in force is no news")
	one := s.Instances[0]
	require.True(t, one.Takes)
	require.Equal(t, "joined", one.Decision.Reason)
	require.Equal(t, []top.Model{{Model: "a.model", Lanes: map[string]int64{}, Serve: map[string]int{events.DeviceGPU: 1}}}, s.Queue.Models)

	c := client.New(b, client.Options{})
	for range 3 {
		_, err := c.Publish(t.Context(), client.Request{Data: events.ImageGenerate{Model: "a.model", Prompt: "x"}})
		require.NoError(t, err)
	}
	cancelled, err := c.Publish(t.Context(), client.Request{Data: events.ImageGenerate{Model: "a.model", Prompt: "x", Device: events.DeviceCPU}})
	require.NoError(t, err)
	queue, err := b.Subscribe([]string{pool}, []broker.Lane{broker.LaneAny})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, queue.Close(context.Background())) })
	_, err = queue.Next(t.Context())
	require.NoError(t, err)
	status.Sequence, status.State, status.GenerationCount = 2, events.StateShed, 6
	require.NoError(t, b.PublishStatus(status, false, "/test"))
	shed := joined
	shed.Number, shed.State, shed.Reason = 2, events.StateShed, "fault"
	revision, err = b.PutDecision(t.Context(), shed, revision, "/test")
	require.NoError(t, err)
	again := shed
	again.Term = 2 // by the next leader, which decides nothing new
	_, err = b.PutDecision(t.Context(), again, revision, "/test")
	require.NoError(t, err)

	published, news := 0.0, []events.Decision(nil)
	s = until(t, w, func(s top.Snapshot) bool {
		published += s.Rates.Published
		news = append(news, s.Decisions...)
		return len(s.Queue.Models) == 1 && s.Queue.Models[0].Waiting == 3 && s.Instances[0].State == events.StateShed && len(news) > 0
	})
	require.Positive(t, published)
	require.Len(t, news, 1)
	require.Equal(t, "fault", news[0].Reason)
	m := s.Queue.Models[0]
	require.EqualValues(t, 1, m.Taken)
	require.Equal(t, map[string]int64{"any": 2, "cpu": 1}, m.Lanes)
	require.Empty(t, m.Serve)
	require.EqualValues(t, 4, s.Queue.Requests)
	require.Positive(t, s.Queue.OldestMS)
	require.False(t, s.Instances[0].Takes)

	terminal, err := events.NewAnswer(events.TypeCancelled, events.Meta{RequestID: cancelled, Source: "/test", ID: "c1", Time: time.Now()}, events.Cancelled{Reason: "x", Stage: "queue"})
	require.NoError(t, err)
	js, err := jetstream.New(b.Conn())
	require.NoError(t, err)
	header, data, err := events.EncodeBinary(terminal)
	require.NoError(t, err)
	_, err = js.PublishMsg(t.Context(), &nats.Msg{Subject: broker.TerminalSubject(broker.DefaultTenant, cancelled), Header: header, Data: data})
	require.NoError(t, err)
	until(t, w, func(s top.Snapshot) bool { return s.Rates.Cancelled > 0 })

	server.Stop()
	require.NotEmpty(t, w.Snapshot(t.Context()).Problem)
	server.Resume()
}
