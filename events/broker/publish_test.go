package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/eventstest"
)

func (b *bench) publishError(on *broker.Broker, a broker.Address) *events.Error {
	b.t.Helper()
	return asError(b.t, on.PublishRequest(b.t.Context(), a, requestEvent(b.t, a.ID)))
}

func TestPublishRefusesADuplicateID(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.Duplicates = 100 * time.Millisecond })
	b.publish(address("a"))
	e := b.publishError(b.Broker, address("a"))
	assert.Equal(t, events.CodeInvalidRequest, e.Code)
	assert.Equal(t, "id", e.Field)
	require.ErrorIs(t, e, broker.ErrDuplicateID)

	require.Eventually(t, func() bool {
		return strings.Contains(b.publishError(b.Broker, address("a")).Message, "is queued or running")
	}, time.Minute, 10*time.Millisecond, "also after the server's window for duplicates")
	b.next(b.queue(b.Broker))
	assert.Contains(t, b.publishError(b.Broker, address("a")).Message, "is queued or running")
	assert.Equal(t, 1, b.messages(broker.StreamRequests))

	otherLane := address("b")
	b.publish(otherLane)
	otherLane.Lane = broker.LaneCPU
	require.ErrorIs(t, b.publishError(b.Broker, otherLane), broker.ErrDuplicateID, "in another lane too")
}

func TestPublishSaysThatTheQueueIsFull(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.QueueMessages = 2 })
	b.publish(address("a"))
	b.publish(address("b"))
	e := b.publishError(b.Broker, address("c"))
	assert.Equal(t, events.CodeQueueFull, e.Code)
	assert.True(t, e.Retriable)
	assert.Contains(t, e.Message, "maximum messages exceeded")

	j := b.next(b.queue(b.Broker))
	won, err := b.begin(j, "i").Finish(t.Context(), failedEvent(t, "a", "x"))
	require.NoError(t, err)
	require.True(t, won)
	require.NoError(t, j.Done(t.Context()))
	b.publish(address("c"))
}

func TestPublishSaysThatTheEventIsTooLarge(t *testing.T) {
	b := newBench(t)
	large := requestEvent(t, "a", func(m *events.Meta) { m.CorrelationID = strings.Repeat("x", 10_000) })
	e := asError(t, b.PublishRequest(t.Context(), address("a"), withData(t, large, events.MaxEventBytes)))
	assert.Equal(t, events.CodeInvalidRequest, e.Code)
	assert.Contains(t, e.Expected, "at most 73728 bytes")

	e = asError(t, b.PublishRequest(t.Context(), address("b"), withData(t, requestEvent(t, "b"), events.MaxEventBytes+1)))
	assert.Equal(t, events.CodeInvalidRequest, e.Code, "the codec's own limit")

	s := eventstest.Start(t, func(o *server.Options) { o.MaxPayload = 2000 })
	small := &bench{t: t, server: s}
	e = asError(t, small.connect(s.URL(), broker.Options{}).PublishRequest(t.Context(), address("c"), withData(t, requestEvent(t, "c"), 3000)))
	assert.Contains(t, e.Expected, "at most 2000 bytes")
	assert.Zero(t, b.messages(broker.StreamRequests))
}

// withData returns e with JSON data of n bytes.
func withData(t *testing.T, e events.Event, n int) events.Event {
	t.Helper()
	e = e.Clone()
	e.DataEncoded = []byte(`"` + strings.Repeat("x", n-2) + `"`)
	return e
}

func TestPublishWithoutStreams(t *testing.T) {
	s := eventstest.Start(t)
	b := &bench{t: t, server: s}
	e := b.publishError(b.connect(s.URL(), broker.Options{}), address("a"))
	assert.Equal(t, events.CodeDeviceUnavailable, e.Code)
	assert.Contains(t, e.Message, "is a genfn instance running?")
	assert.Contains(t, e.Advice, "genfn up")

	s = eventstest.Start(t, func(o *server.Options) { o.JetStream = false })
	e = b.publishError(b.connect(s.URL(), broker.Options{}), address("a"))
	assert.Contains(t, e.Message, "has no JetStream")
	assert.Contains(t, e.Advice, "nats-server -js")
}

// The server tells a denied publisher nothing but through the error handler; the
// publish itself would only time out.
func TestPublishSaysThatItIsDenied(t *testing.T) {
	s := eventstest.Start(t, eventstest.WithUsers(
		&server.User{Username: "admin", Password: "admin"},
		&server.User{Username: "reader", Password: "reader", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"gen.>"}},
		}},
		&server.User{Username: "noinbox", Password: "noinbox", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Deny: []string{"_INBOX.>"}},
		}}))
	b := &bench{t: t, server: s, config: broker.DefaultConfig()}
	host := s.URL()[len("nats://"):]
	require.NoError(t, b.connect("nats://admin:admin@"+host, broker.Options{}).Setup(t.Context(), b.config))

	e := b.publishError(b.connect("nats://reader:reader@"+host, broker.Options{}), address("a"))
	assert.Equal(t, events.CodePermissionDenied, e.Code)
	assert.Contains(t, e.Message, "may not publish to \""+address("a").Subject())

	e = b.publishError(b.connect("nats://noinbox:noinbox@"+host, broker.Options{}), address("b"))
	assert.Equal(t, events.CodePermissionDenied, e.Code)
	assert.Contains(t, e.Message, "may not subscribe to \"_INBOX.")
	assert.Contains(t, e.Advice, "inbox prefix")
}

func TestPublishNamesWhatASubjectMayBe(t *testing.T) {
	b := newBench(t)
	a := address("a")
	a.Priority = "urgent"
	e := b.publishError(b.Broker, a)
	assert.Equal(t, events.CodeInvalidRequest, e.Code)
	assert.Equal(t, "subject", e.Field)
	assert.Contains(t, e.Expected, "<interactive|batch>")
}

func TestPublishIntoNowhere(t *testing.T) {
	b := newBench(t)
	a := address("a")
	a.Lane = "fast"
	e := b.publishError(b.Broker, a)
	assert.Equal(t, events.CodeInvalidRequest, e.Code)
}

// The server stores the request and its confirmation gets lost: the second try
// is refused as a duplicate, which is what the publisher wanted.
func TestPublishWhoseConfirmationGetsLost(t *testing.T) {
	for name, window := range map[string]time.Duration{"within the window for duplicates": time.Minute, "after it": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(c *broker.Config) { c.Duplicates = window })
			proxy := b.server.Proxy()
			publisher := b.connect(proxy.URL(), broker.Options{})
			request := requestEvent(t, "a")
			proxy.FreezeAnswersAfter("PUB " + address("a").Subject())
			result := make(chan error, 1)
			go func() { result <- publisher.PublishRequest(t.Context(), address("a"), request) }()
			require.Eventually(t, func() bool { return b.messages(broker.StreamRequests) == 1 }, time.Minute, time.Millisecond)
			if window < time.Minute {
				require.Eventually(t, func() bool {
					return strings.Contains(b.publishError(b.Broker, address("a")).Message, "is queued or running")
				}, time.Minute, 10*time.Millisecond)
			}
			proxy.Cut()
			proxy.Heal()
			require.NoError(t, <-result)
			assert.Equal(t, 1, b.messages(broker.StreamRequests))
		})
	}
}

func TestPublishWaitsForARestartingServer(t *testing.T) {
	b := newBench(t)
	b.server.Stop()
	published := b.publishSoon(address("a"))
	b.server.Resume()
	require.NoError(t, <-published)
	assert.Equal(t, 1, b.messages(broker.StreamRequests))
}
