package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/eventstest"
)

func TestMain(m *testing.M) {
	// A clock of the NATS server, which ends a moment after the last server.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
		// nats.go starts it with the first asynchronous publication; a connection that is closed in the same moment sets
		// the channel to nil before it is read, and it waits for ever.
		goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}

const (
	model = "demo-1.5"
	// never is an ack wait no test lives to see end: what arrives anyway came
	// without waiting for it.
	never = time.Hour
)

var pool = events.PoolToken(events.KindImage, model)

// bench is a server with streams and one pool, and a broker on it.
type bench struct {
	*broker.Broker
	t      *testing.T
	server *eventstest.Server
	config broker.Config
	js     jetstream.JetStream // the test's own look at the server
	nc     *nats.Conn
}

func newBench(t *testing.T, change ...func(*broker.Config)) *bench {
	t.Helper()
	c := broker.DefaultConfig()
	c.AckWait = never
	for _, f := range change {
		f(&c)
	}
	s := eventstest.Start(t)
	b := &bench{t: t, server: s, config: c, nc: s.Connect()}
	b.Broker = b.connect(s.URL(), broker.Options{})
	require.NoError(t, b.Setup(t.Context(), c))
	require.NoError(t, b.EnsurePool(t.Context(), c, pool))
	var err error
	b.js, err = jetstream.New(b.nc)
	require.NoError(t, err)
	return b
}

func ackWait(d time.Duration) func(*broker.Config) {
	return func(c *broker.Config) { c.AckWait = d }
}

func (b *bench) connect(url string, o broker.Options) *broker.Broker {
	b.t.Helper()
	o.Logger = eventstest.Logger(b.t)
	other, err := broker.Connect(url, o)
	require.NoError(b.t, err)
	b.t.Cleanup(other.Close)
	return other
}

func (b *bench) queue(on *broker.Broker, lanes ...broker.Lane) *broker.Queue {
	b.t.Helper()
	if len(lanes) == 0 {
		lanes = broker.Lanes()
	}
	q, err := on.Subscribe([]string{pool}, lanes)
	require.NoError(b.t, err)
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		assert.NoError(b.t, q.Close(ctx))
	})
	return q
}

func (b *bench) next(q *broker.Queue) *broker.Job {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	j, err := q.Next(ctx)
	require.NoError(b.t, err)
	return j
}

// nextSoon calls next in the background; nil in the channel means that it failed.
func (b *bench) nextSoon(q *broker.Queue) <-chan *broker.Job {
	got := make(chan *broker.Job, 1)
	go func() {
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
		defer cancel()
		j, err := q.Next(ctx)
		assert.NoError(b.t, err)
		got <- j
	}()
	return got
}

func address(id string) broker.Address {
	return broker.Address{Pool: pool, Lane: broker.LaneAny, Priority: broker.Interactive, Tenant: broker.DefaultTenant, ID: id}
}

func requestEvent(t *testing.T, id string, change ...func(*events.Meta)) events.Event {
	t.Helper()
	m := events.Meta{RequestID: id, Source: "/test"}
	for _, f := range change {
		f(&m)
	}
	e, err := events.NewRequest(events.TypeImageGenerate, m, events.ImageGenerate{Model: model, Prompt: "a red apple"})
	require.NoError(t, err)
	return e
}

// publish queues a valid request.
func (b *bench) publish(a broker.Address) {
	b.t.Helper()
	require.NoError(b.t, b.PublishRequest(b.t.Context(), a, requestEvent(b.t, a.ID)))
}

// publishSoon queues valid requests in the background.
func (b *bench) publishSoon(addresses ...broker.Address) <-chan error {
	requests := make([]events.Event, len(addresses))
	for i, a := range addresses {
		requests[i] = requestEvent(b.t, a.ID)
	}
	result := make(chan error, 1)
	go func() {
		var err error
		for i, a := range addresses {
			err = errors.Join(err, b.PublishRequest(b.t.Context(), a, requests[i]))
		}
		result <- err
	}()
	return result
}

// raw publishes anything as a request.
func (b *bench) raw(a broker.Address, header nats.Header, data []byte) {
	b.t.Helper()
	_, err := b.js.PublishMsg(b.t.Context(), &nats.Msg{Subject: a.Subject(), Header: header, Data: data})
	require.NoError(b.t, err)
}

func (b *bench) begin(j *broker.Job, instance string) *broker.Attempt {
	b.t.Helper()
	a, err := j.Begin(b.t.Context(), broker.AttemptRecord{Instance: instance, Device: "CPU"})
	require.NoError(b.t, err)
	return a
}

func failedEvent(t *testing.T, id, text string) events.Event {
	t.Helper()
	e, err := events.NewAnswer(events.TypeFailed, events.Meta{RequestID: id, Source: "/test/instance"},
		events.Failed{Error: events.Errorf(events.CodeHang, "%s", text)})
	require.NoError(t, err)
	return e
}

// terminal returns the request's terminal event, which must be a failed one.
func (b *bench) failed(a broker.Address) events.Failed {
	b.t.Helper()
	e, ok, err := b.Terminal(b.t.Context(), a.Tenant, a.ID)
	require.NoError(b.t, err)
	require.True(b.t, ok, "no terminal event")
	require.Equal(b.t, events.TypeFailed, e.Type())
	var f events.Failed
	require.NoError(b.t, json.Unmarshal(e.Data(), &f))
	require.NotNil(b.t, f.Error)
	return f
}

// messages counts what a stream holds.
func (b *bench) messages(stream string) int {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), stream)
	require.NoError(b.t, err)
	return int(s.CachedInfo().State.Msgs)
}

func (b *bench) consumer(a broker.Address) *jetstream.ConsumerInfo {
	b.t.Helper()
	c, err := b.js.Consumer(b.t.Context(), broker.StreamRequests, "req_"+a.Pool+"_"+string(a.Lane)+"_"+string(a.Priority))
	require.NoError(b.t, err)
	return c.CachedInfo()
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func asError(t *testing.T, err error) *events.Error {
	t.Helper()
	var e *events.Error
	require.ErrorAs(t, err, &e)
	return e
}
