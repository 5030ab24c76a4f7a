package broker_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

// Requests that are made to be answered never, or to take others with them.

func TestARefusalFitsIntoItsEvent(t *testing.T) {
	b := newBench(t)
	a := address("a")
	data, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": "a", "source": "/test", "type": events.TypeImageGenerate,
		"subject": strings.Repeat("\u200b", 20_000), // 6 bytes each when quoted
		"data":    map[string]string{"model": model, "prompt": "x"},
	})
	require.NoError(t, err)
	b.raw(a, nats.Header{"Content-Type": {"application/cloudevents+json"}}, data)
	_, ok, err := b.next(b.queue(b.Broker)).Open(t.Context())
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, "subject", b.failed(a).Error.Field)
	require.Zero(t, b.messages(broker.StreamRequests))
}

func TestAWildcardInASubjectTakesNoOtherRequestAway(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"*", ">"} {
		require.NoError(t, b.nc.Publish(unservedAddress(id).Subject(), []byte("x"))) // a client of another make would
	}
	require.NoError(t, b.nc.Flush())
	good := unservedAddress("good")
	b.publishUnserved(good)
	s := broker.NewSweeper(b.Broker, broker.SweeperConfig{Grace: -1})
	require.NoError(t, s.Sweep(t.Context()))
	require.Equal(t, events.CodeModelNotFound, b.failed(good).Error.Code)
	require.Equal(t, 2, b.messages(broker.StreamDeadLetters))
	require.Zero(t, b.messages(broker.StreamRequests))
}

func TestARequestToAWildcardIsADeadLetter(t *testing.T) {
	b := newBench(t)
	finished := address("finished")
	b.publish(finished)
	q := b.queue(b.Broker)
	j := b.next(q)
	won, err := b.begin(j, "one").Finish(t.Context(), failedEvent(t, "finished", "x"))
	require.NoError(t, err)
	require.True(t, won)
	require.NoError(t, j.Done(t.Context()))

	require.NoError(t, b.nc.Publish(address("*").Subject(), []byte("x")))
	_, ok, err := b.next(q).Open(t.Context())
	require.NoError(t, err)
	require.False(t, ok)
	l := b.deadLetter("_2")
	require.Equal(t, address("*").Subject(), l.Subject, "it is not taken for the finished one")
	require.Equal(t, events.CodeInvalidRequest, l.Error.Code)
	require.Equal(t, 1, b.messages(broker.StreamTerminals))
	require.Zero(t, b.messages(broker.StreamRequests))
}

func TestAnAttemptRecordAlwaysFits(t *testing.T) {
	b := newBench(t)
	a := address("a")
	b.publish(a)
	j := b.next(b.queue(b.Broker))
	wordy := events.Errorf(events.CodeDeviceLost, "%s", strings.Repeat("<", 100_000)) // 6 bytes each in JSON
	var last *broker.Attempt
	for range 4 {
		last = b.begin(j, "one")
		require.NoError(t, last.End(t.Context(), "device_fault", wordy))
	}
	require.Len(t, last.Records(), 4)
	require.Equal(t, "device_fault", last.Records()[0].Cause)
	require.Equal(t, events.CodeDeviceLost, last.Records()[3].Error.Code)
}
