package broker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

func record(instance string) broker.AttemptRecord {
	return broker.AttemptRecord{Instance: instance, Device: "CPU"}
}

func TestStartANewRequest(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	b.publish(address("a"))
	j := b.next(q)
	e, first, err := j.Start(t.Context(), record("i1"))
	require.NoError(t, err)
	require.NotNil(t, first)
	assert.Equal(t, "a", e.Subject())
	assert.Equal(t, "a red apple", j.Asked().Prompt)
	assert.Equal(t, 1, first.Number)
	require.NoError(t, first.End(t.Context(), "hang", nil))
	require.NoError(t, j.HandBack(t.Context()))

	_, second, err := b.next(q).Start(t.Context(), record("i2"))
	require.NoError(t, err)
	assert.Equal(t, 2, second.Number)
	assert.Equal(t, "hang", second.Records()[1].CausePrevious)
	won, err := first.Finish(t.Context(), failedEvent(t, "a", "stale"))
	require.NoError(t, err)
	assert.False(t, won)
}

// A moved request looks new to its consumer.
func TestStartFindsTheAttemptsOfAMovedRequest(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	j := b.next(b.queue(b.Broker, broker.LaneAny))
	_, first, err := j.Start(t.Context(), record("i1"))
	require.NoError(t, err)
	require.NoError(t, first.End(t.Context(), "device_fault", nil))
	require.NoError(t, j.Move(t.Context(), broker.LaneRetry))

	j = b.next(b.queue(b.Broker, broker.LaneRetry))
	assert.EqualValues(t, 1, j.Delivered)
	_, second, err := j.Start(t.Context(), record("i2"))
	require.NoError(t, err)
	assert.Equal(t, 2, second.Number)
	assert.Equal(t, "device_fault", second.Records()[1].CausePrevious)
}

// One that is queued again after it was answered looks new, too.
func TestStartOnlyAcknowledgesWhatIsAnswered(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.Duplicates = 100 * time.Millisecond })
	q := b.queue(b.Broker)
	b.publish(address("a"))
	j := b.next(q)
	won, err := b.begin(j, "i1").Finish(t.Context(), failedEvent(t, "a", "the first answer"))
	require.NoError(t, err)
	require.True(t, won)
	require.NoError(t, j.Done(t.Context()))
	require.Eventually(t, func() bool {
		return b.PublishRequest(t.Context(), address("a"), requestEvent(t, "a")) == nil
	}, time.Minute, 10*time.Millisecond, "the window ends")

	_, a, err := b.next(q).Start(t.Context(), record("i2"))
	require.NoError(t, err)
	assert.Nil(t, a)
	assert.Zero(t, b.messages(broker.StreamRequests))
	assert.Equal(t, "the first answer", b.failed(address("a")).Error.Message)
	b.raw(address("a"), nil, nil)
	records, err := b.next(q).Attempts(t.Context())
	require.NoError(t, err)
	require.Len(t, records, 2)
	assert.Equal(t, broker.CauseAnswered, records[1].Cause, "each attempt tells how it ended")
}

func TestStartAnswersWhatMustNotRun(t *testing.T) {
	b := newBench(t)
	e := requestEvent(t, "bad")
	require.NoError(t, e.SetData("application/json", events.ImageGenerate{Model: model}))
	header, data := encoded(t, e)
	b.raw(address("bad"), header, data)
	_, a, err := b.next(b.queue(b.Broker)).Start(t.Context(), record("i1"))
	require.NoError(t, err)
	assert.Nil(t, a)
	assert.Equal(t, "/prompt", b.failed(address("bad")).Error.Field)
	assert.Zero(t, b.messages(broker.StreamRequests))
	assert.Zero(t, b.messages(broker.StreamAttempts), "no attempt is charged")
}
