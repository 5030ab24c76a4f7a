package broker_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

func TestCollectorRemovesWhatLostAttemptsLeft(t *testing.T) {
	b := newBench(t)
	put := func(a *broker.Attempt) {
		_, err := a.PutObject(t.Context(), "image-0.png", "image/png", []byte("picture"))
		require.NoError(t, err)
	}
	finish := func(a *broker.Attempt, id, typ string, data any) {
		e, err := events.NewAnswer(typ, events.Meta{RequestID: id, Source: "/test"}, data)
		require.NoError(t, err)
		won, err := a.FinishValid(t.Context(), e)
		require.NoError(t, err)
		require.True(t, won)
	}
	q := b.queue(b.Broker)
	for id, end := range map[string]func(*broker.Attempt){
		"won": func(a *broker.Attempt) { put(a); finish(a, "won", events.TypeSucceeded, events.Succeeded{}) },
		"failed": func(a *broker.Attempt) {
			finish(a, "failed", events.TypeFailed, events.Failed{Error: events.Errorf(events.CodeHang, "x")})
		},
		"running": put,
	} {
		b.publish(address(id))
		j := b.next(q)
		put(b.begin(j, "died"))
		end(b.begin(j, "two"))
	}
	_, err := b.PutInput(t.Context(), broker.DefaultTenant, "won", "latents.npy", "application/x-npy", []byte("numbers"))
	require.NoError(t, err)
	store, err := b.js.ObjectStore(t.Context(), broker.Bucket(broker.DefaultTenant))
	require.NoError(t, err)
	_, err = store.PutString(t.Context(), "somebody's/1/file", "x")
	require.NoError(t, err)

	c := broker.NewCollector(b.Broker, []string{broker.DefaultTenant})
	for range 2 {
		require.NoError(t, c.Collect(t.Context()))
		list, err := store.List(t.Context())
		require.NoError(t, err)
		var names []string
		for _, o := range list {
			names = append(names, o.Name)
		}
		slices.Sort(names)
		require.Len(t, names, 5)
		require.Equal(t, []string{"running/1/image-0.png", "running/2/image-0.png", "somebody's/1/file", "won/2/image-0.png"}, slices.DeleteFunc(names, func(name string) bool { return name[:min(len(name), 9)] == "won/input" }))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Run(ctx) // ends with its context
}
