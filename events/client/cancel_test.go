package client_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/client"
)

// serveCancels has the bench's instance answer cancels until the test ends.
func (b *bench) serveCancels() {
	b.t.Helper()
	stop, err := b.b.ServeCancels(func(string, string, string) {})
	require.NoError(b.t, err)
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		stop(ctx)
	})
}

func TestCancelIsSeenByWhoFollows(t *testing.T) {
	b := newBench(t)
	b.publish("a")
	_, err := b.Cancel(t.Context(), "a", "")
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable}, "nobody is there")
	b.serveCancels()
	follower := b.follow("a")
	e, err := b.Cancel(t.Context(), "a", "changed my mind")
	require.NoError(t, err)
	require.Equal(t, events.TypeCancelled, e.Type())
	assert.Equal(t, []string{"end"}, read(t, follower, 1))
	assertEnded(t, follower)
	waited, err := b.Wait(t.Context(), "a")
	require.NoError(t, err)
	data, err := events.Payload[events.Cancelled](waited)
	require.NoError(t, err)
	assert.Equal(t, "changed my mind", data.Reason)
	_, err = b.Publish(t.Context(), client.Request{ID: "a", Data: apple()})
	require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest}, "the id is used")
}

func TestCancelRefusesWhatCannotBe(t *testing.T) {
	b := newBench(t)
	b.serveCancels()
	for id, reason := range map[string]string{"*": "", ">": "", "a.b": "", "": "", "a": strings.Repeat("x", 1001), "nobody": ""} {
		_, err := b.Cancel(t.Context(), id, reason)
		require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest}, "%q", id)
	}
}
