package client_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

func TestReplayOfADeadLetter(t *testing.T) {
	b := newBench(t)
	_, err := b.Publish(t.Context(), client.Request{ID: "old", Data: apple(), Priority: broker.Batch, CorrelationID: "c", Expiry: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	j := b.next()
	b.finish(j, b.begin(j))
	l, err := b.DeadLetter(t.Context(), "old")
	require.NoError(t, err)

	id, err := b.Replay(t.Context(), l)
	require.NoError(t, err)
	again := b.next()
	assert.Equal(t, broker.Address{Pool: pool, Lane: broker.LaneAny, Priority: broker.Batch, Tenant: "default", ID: id}, again.Address)
	e, ok, err := again.Open(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, "old", e.CausationID())
	assert.Equal(t, "c", e.CorrelationID())
	assert.False(t, e.ExpiryTime().IsZero())
	assert.Equal(t, apple(), again.Asked())
	stored, err := b.DeadLetter(t.Context(), "old")
	require.NoError(t, err)
	require.Len(t, stored.Replays, 1)
	assert.Equal(t, id, stored.Replays[0].ID)

	l.Header, l.Data = nil, []byte("{")
	_, err = b.Replay(t.Context(), l)
	require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest})
	require.ErrorContains(t, err, "cannot be read")
	require.NoError(t, b.Drop(t.Context(), "old"))
	require.NoError(t, b.DeadLetters(t.Context(), func(l broker.DeadLetter) { require.Fail(t, "it is still there", l.ID) }))
}
