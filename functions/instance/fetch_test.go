package instance

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/events/eventstest"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// lateStop is a queue that gives a request out in the moment in which a decision stops the instance.
type lateStop struct {
	queue
	stop func()
}

func (q lateStop) Next(ctx context.Context) (*broker.Job, error) {
	job, err := q.queue.Next(ctx)
	q.stop()
	return job, err
}

// TestStoppedWithARequestInHand: what was delivered in the moment of the decision is handed back at once, with no
// attempt charged.
func TestStoppedWithARequestInHand(t *testing.T) {
	server := eventstest.Start(t)
	b, err := broker.Connect(server.URL(), broker.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	config := broker.DefaultConfig()
	config.AckWait = time.Hour // what is not handed back does not come again
	require.NoError(t, b.Setup(t.Context(), config))
	i, err := New(Config{Name: "one", Broker: b, BrokerConfig: config, Runner: process.Config{Hello: protocol.Hello{Device: "CPU", ServeNoop: true}}})
	require.NoError(t, err)
	require.NoError(t, b.EnsurePool(t.Context(), config, i.catalog.pools()[0]))
	requests, err := b.Subscribe(i.catalog.pools(), i.config.Lanes)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, requests.Close(context.Background())) })
	id, err := client.New(b, client.Options{}).Publish(t.Context(), client.Request{Data: events.ImageGenerate{Model: protocol.NoopModel, Prompt: "an apple"}})
	require.NoError(t, err)

	s := newSlot(i, 0)
	drain := broker.StoredDecision{Revision: 1, Decision: events.Decision{Instance: "one", Number: 1, Term: 1, State: events.StateDraining}}
	s.queue = lateStop{requests, func() { i.obey(drain) }}
	_, err = s.fetch(t.Context())
	require.ErrorIs(t, err, errStopped)

	admit := drain
	admit.Revision, admit.Number, admit.State = 2, 2, events.StateReady
	i.obey(admit)
	s.queue = requests
	job, err := s.fetch(t.Context())
	require.NoError(t, err)
	require.Equal(t, id, job.ID)
	_, attempt, err := job.Start(t.Context(), broker.AttemptRecord{Instance: "one", Device: "CPU"})
	require.NoError(t, err)
	require.Equal(t, 1, attempt.Number)
}
