package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events/broker"
	"genfn/events/eventstest"
)

// On a replicated stream the losers of a race are refused in another way than on
// a single one, and the winner may not be readable everywhere at once. A server
// dies meanwhile.
func TestAClusterThatLosesAServer(t *testing.T) {
	c := eventstest.StartCluster(t)
	b := &bench{t: t, config: broker.DefaultConfig()}
	b.config.Replicas = 3
	b.config.AckWait = 2 * time.Second
	brokers := make([]*broker.Broker, 4)
	for i := range brokers {
		brokers[i] = b.connect(c.URL(), broker.Options{})
	}
	b.Broker = brokers[0]
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	require.NoError(t, b.Setup(ctx, b.config))
	require.NoError(t, b.EnsurePool(ctx, b.config, pool))
	nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	b.js, err = jetstream.New(nc)
	require.NoError(t, err)
	q := b.queue(b.Broker)

	const n = 12
	for i := range n {
		if i == n/3 {
			c.KillLeader(broker.StreamTerminals)
		}
		id := fmt.Sprintf("id%d", i)
		require.NoError(t, b.PublishRequest(ctx, address(id), requestEvent(t, id)))
		j, err := q.Next(ctx)
		require.NoError(t, err)
		assert.Equal(t, id, j.ID)
		_, ok, err := j.Open(ctx)
		require.NoError(t, err)
		require.True(t, ok)
		attempt, err := j.Begin(ctx, broker.AttemptRecord{Instance: "i"})
		require.NoError(t, err)
		if i == 0 {
			b.putMany(attempt, id)
		}
		assert.Equal(t, 1, b.race(ctx, attempt, id))
		require.NoError(t, j.Done(ctx))
	}
	s, err := b.js.Stream(ctx, broker.StreamTerminals)
	require.NoError(t, err)
	assert.EqualValues(t, n, s.CachedInfo().State.Msgs)
}

// race lets many try to finish the request and returns how many won.
func (b *bench) race(ctx context.Context, attempt *broker.Attempt, id string) int {
	terminal := failedEvent(b.t, id, "x")
	var wg sync.WaitGroup
	winners := make(chan struct{}, 8)
	for range cap(winners) {
		wg.Go(func() {
			won, err := attempt.Finish(ctx, terminal)
			assert.NoError(b.t, err)
			if won {
				winners <- struct{}{}
			}
		})
	}
	wg.Wait()
	return len(winners)
}
