package broker_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

// deadLetter returns the dead letter of a request, which must have one.
func (b *bench) deadLetter(id string) broker.DeadLetter {
	b.t.Helper()
	l, err := b.DeadLetter(b.t.Context(), broker.DefaultTenant, id)
	require.NoError(b.t, err)
	return l
}

// answered publishes a request and answers it, and returns the job, which is still to be acknowledged.
func (b *bench) answered(id, typ string, data any) *broker.Job {
	b.t.Helper()
	b.publish(address(id))
	j := b.next(b.queue(b.Broker))
	e, err := events.NewAnswer(typ, events.Meta{RequestID: id, Source: "/test/instance"}, data)
	require.NoError(b.t, err)
	won, err := b.begin(j, "i1").FinishValid(b.t.Context(), e)
	require.NoError(b.t, err)
	require.True(b.t, won)
	return j
}

func TestADeadLetterTellsTheWholeStory(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	j := b.next(b.queue(b.Broker))
	first := b.begin(j, "i1")
	crash := events.Errorf(events.CodeGPURuntimeError, "the runner crashed")
	crash.Detail = "its last words"
	require.NoError(t, first.End(t.Context(), "runner_crash", crash, "gpu"))
	second := b.begin(j, "i2")
	last := events.Errorf(events.CodeHang, "it hung")
	e, err := events.NewAnswer(events.TypeFailed, events.Meta{RequestID: "a", Source: "/test/instance"},
		events.Failed{Error: events.Errorf(events.CodeHang, "it failed twice"), Attempts: []events.Attempt{{Number: 2, Instance: "i2", Error: last}}})
	require.NoError(t, err)
	won, err := second.FinishValid(t.Context(), e)
	require.NoError(t, err)
	require.True(t, won)
	require.NoError(t, j.Done(t.Context()))
	require.NoError(t, j.Done(t.Context()), "again changes nothing")

	l := b.deadLetter("a")
	assert.Equal(t, "it failed twice", l.Error.Message)
	assert.Equal(t, j.Subject(), l.Subject)
	assert.Equal(t, j.Header, l.Header)
	assert.Equal(t, j.Data, l.Data)
	assert.WithinDuration(t, e.Time(), l.EndedAt, time.Second)
	require.Len(t, l.Attempts, 2)
	assert.Equal(t, "runner_crash", l.Attempts[0].Cause)
	assert.Equal(t, "its last words", l.Attempts[0].Error.Detail)
	assert.Equal(t, []string{"gpu"}, l.Attempts[0].Excluded)
	assert.Equal(t, "i2", l.Attempts[1].Instance)
	assert.Equal(t, "it hung", l.Attempts[1].Error.Message, "which only the terminal event tells")
	request, err := l.Request()
	require.NoError(t, err)
	assert.Equal(t, "a", request.Subject())
	assert.Equal(t, 1, b.messages(broker.StreamDeadLetters))
	assert.Zero(t, b.messages(broker.StreamRequests))
}

func TestWhatTheSenderDidIsNoDeadLetter(t *testing.T) {
	b := newBench(t)
	field := events.Errorf(events.CodeHostOutOfMemory, "too large")
	field.Field = "/width"
	for id, answer := range map[string]struct {
		typ  string
		data any
	}{
		"invalid":   {events.TypeFailed, events.Failed{Error: events.Errorf(events.CodeInvalidRequest, "x")}},
		"unknown":   {events.TypeFailed, events.Failed{Error: events.Errorf(events.CodeModelNotFound, "x")}},
		"late":      {events.TypeFailed, events.Failed{Error: events.Errorf(events.CodeDeadlineExceeded, "x")}},
		"field":     {events.TypeFailed, events.Failed{Error: field}},
		"cancelled": {events.TypeCancelled, events.Cancelled{}},
		"done":      {events.TypeSucceeded, events.Succeeded{}},
	} {
		require.NoError(t, b.answered(id, answer.typ, answer.data).Done(t.Context()))
		_, err := b.DeadLetter(t.Context(), broker.DefaultTenant, id)
		require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest}, id)
	}
	require.Zero(t, b.messages(broker.StreamRequests))
}

// Whoever takes an answered request out of the queue completes what its instance could not.
func TestADeadLetterIsNotLostWithItsInstance(t *testing.T) {
	died := events.Failed{Error: events.Errorf(events.CodeDeviceLost, "x")}
	t.Run("cancel", func(t *testing.T) {
		b := newBench(t)
		b.answered("a", events.TypeFailed, died)
		b.serveCancels()
		e, err := b.cancel("a", "")
		require.NoError(t, err)
		require.Equal(t, events.TypeFailed, e.Type())
		require.Equal(t, events.CodeDeviceLost, b.deadLetter("a").Error.Code)
	})
	t.Run("sweeper", func(t *testing.T) {
		b := newBench(t)
		expiry := time.Now().Add(time.Hour)
		require.NoError(t, b.PublishRequest(t.Context(), address("a"), requestEvent(t, "a", func(m *events.Meta) { m.ExpiryTime = expiry })))
		e, err := events.NewAnswer(events.TypeFailed, events.Meta{RequestID: "a", Source: "/test/instance"}, died)
		require.NoError(t, err)
		_, err = b.begin(b.next(b.queue(b.Broker)), "i1").FinishValid(t.Context(), e)
		require.NoError(t, err)
		later := b.connect(b.server.URL(), broker.Options{Now: func() time.Time { return expiry.Add(time.Hour) }})
		require.NoError(t, broker.NewSweeper(later, broker.SweeperConfig{}).Sweep(t.Context()))
		require.Zero(t, b.messages(broker.StreamRequests))
		require.Equal(t, events.CodeDeviceLost, b.deadLetter("a").Error.Code)
	})
}

// Dead letters may be kept for longer than answers: then an id may be used again.
func TestADeadLetterOfAnotherRequestUnderItsID(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.Duplicates = 100 * time.Millisecond })
	require.NoError(t, b.answered("a", events.TypeFailed, events.Failed{Error: events.Errorf(events.CodeHang, "x")}).Done(t.Context()))
	for _, stream := range []string{broker.StreamTerminals, broker.StreamAttempts} {
		s, err := b.js.Stream(t.Context(), stream)
		require.NoError(t, err)
		require.NoError(t, s.Purge(t.Context()))
	}
	require.Eventually(t, func() bool {
		return b.PublishRequest(t.Context(), address("a"), requestEvent(t, "a")) == nil
	}, time.Minute, 10*time.Millisecond, "the window ends")
	j := b.next(b.queue(b.Broker))
	e, err := events.NewAnswer(events.TypeFailed, events.Meta{RequestID: "a", Source: "/test/instance"}, events.Failed{Error: events.Errorf(events.CodeDeviceLost, "y")})
	require.NoError(t, err)
	_, err = b.begin(j, "i1").FinishValid(t.Context(), e)
	require.NoError(t, err)
	require.NoError(t, j.Done(t.Context()))
	require.Equal(t, events.CodeDeviceLost, b.deadLetter("a").Error.Code)
	require.Equal(t, 1, b.messages(broker.StreamDeadLetters))
}

func TestDeadLettersAreListedMarkedAndDropped(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"a", "b"} {
		require.NoError(t, b.answered(id, events.TypeFailed, events.Failed{Error: events.Errorf(events.CodeHang, "x")}).Done(t.Context()))
	}
	_, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: "gen.dlq.default.strange", Data: []byte("of another make")})
	require.NoError(t, err)
	_, err = b.js.PublishMsg(t.Context(), &nats.Msg{Subject: "gen.dlq.other.c", Data: []byte("{}")})
	require.NoError(t, err)
	list := func() (ids []string) {
		require.NoError(t, b.DeadLetters(t.Context(), broker.DefaultTenant, func(l broker.DeadLetter) { ids = append(ids, l.ID) }))
		return ids
	}
	require.Equal(t, []string{"a", "b", "strange"}, list())
	require.Contains(t, b.deadLetter("strange").Error.Message, "cannot be read")

	old := b.deadLetter("a")
	require.NoError(t, b.MarkReplayed(t.Context(), old, "a-2"))
	require.NoError(t, b.MarkReplayed(t.Context(), old, "a-3"), "two at the same time")
	got := b.deadLetter("a")
	require.Len(t, got.Replays, 2)
	require.Equal(t, []string{"a-2", "a-3"}, []string{got.Replays[0].ID, got.Replays[1].ID})
	require.Equal(t, old.Data, got.Data)
	require.NoError(t, b.DropDeadLetter(t.Context(), broker.DefaultTenant, "a"))
	require.NoError(t, b.DropDeadLetter(t.Context(), broker.DefaultTenant, "strange"))
	require.Equal(t, []string{"b"}, list())
	require.Equal(t, 2, b.messages(broker.StreamDeadLetters), "and the other tenant's")

	for _, id := range []string{"a", "*", ">", "", "b.c"} {
		_, err = b.DeadLetter(t.Context(), broker.DefaultTenant, id)
		require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest}, id)
		require.ErrorIs(t, b.DropDeadLetter(t.Context(), broker.DefaultTenant, id), &events.Error{Code: events.CodeInvalidRequest}, id)
	}
	require.ErrorIs(t, b.DeadLetters(t.Context(), "*", nil), &events.Error{Code: events.CodeInvalidRequest})
}
