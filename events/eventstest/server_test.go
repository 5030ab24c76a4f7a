package eventstest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"genfn/events/eventstest"
)

func TestMain(m *testing.M) {
	// A clock of the NATS server, which ends a moment after the last server.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

func TestRestartKeepsAddressAndStore(t *testing.T) {
	s := eventstest.Start(t, eventstest.WithSync())
	url := s.URL()
	reconnected := make(chan struct{}, 1)
	nc := s.Connect(nats.ReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} }))
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s.1", nil)
	require.NoError(t, err)
	s.Restart()
	<-reconnected
	assert.Equal(t, url, s.URL())
	stream, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	assert.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
	s.Stop()
	s.Stop()
	s.Resume()
	<-reconnected
}

func TestProxyCutsAndFreezes(t *testing.T) {
	s := eventstest.Start(t)
	p := s.Proxy()
	events := make(chan string, 10)
	nc, err := nats.Connect(p.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(1), nats.ReconnectJitter(1, 1),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { events <- "lost" }),
		nats.ReconnectHandler(func(*nats.Conn) { events <- "back" }))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	direct := s.Connect()
	sub, err := direct.SubscribeSync("x")
	require.NoError(t, err)
	require.NoError(t, direct.Flush())

	p.FreezeAnswers()
	require.NoError(t, nc.Publish("x", []byte("1")))
	_, err = sub.NextMsgWithContext(t.Context())
	require.NoError(t, err, "the server still receives")
	flushed := make(chan error, 1)
	go func() { flushed <- nc.FlushTimeout(time.Minute) }()
	require.Empty(t, flushed, "the answer is held back")
	p.Heal()
	require.NoError(t, <-flushed)

	p.Cut()
	require.Equal(t, "lost", <-events)
	p.Heal()
	require.Equal(t, "back", <-events)
	require.NoError(t, nc.Flush())
}
