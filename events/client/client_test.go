package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
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
	"genfn/events/client"
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

var pool = events.PoolToken(events.KindImage, "demo")

// bench is a server with streams, a client, and an instance played by the test.
type bench struct {
	*client.Client
	t      *testing.T
	server *eventstest.Server
	b      *broker.Broker // the instance's
	queue  *broker.Queue
	js     jetstream.JetStream
}

func newBench(t *testing.T, change ...func(*broker.Config)) *bench {
	t.Helper()
	c := broker.DefaultConfig()
	c.AckWait = time.Hour
	for _, f := range change {
		f(&c)
	}
	b := &bench{t: t, server: eventstest.Start(t)}
	b.b = b.connect(b.server.URL())
	require.NoError(t, b.b.Setup(t.Context(), c))
	require.NoError(t, b.b.EnsurePool(t.Context(), c, pool))
	b.openQueue()
	b.Client = client.New(b.connect(b.server.URL()), client.Options{})
	var err error
	b.js, err = jetstream.New(b.server.Connect())
	require.NoError(t, err)
	return b
}

func (b *bench) openQueue() {
	b.t.Helper()
	var err error
	b.queue, err = b.b.Subscribe([]string{pool}, broker.Lanes())
	require.NoError(b.t, err)
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		assert.NoError(b.t, b.queue.Close(ctx))
	})
}

func (b *bench) connect(url string) *broker.Broker {
	b.t.Helper()
	other, err := broker.Connect(url, broker.Options{Logger: eventstest.Logger(b.t)})
	require.NoError(b.t, err)
	b.t.Cleanup(other.Close)
	return other
}

func apple() events.ImageGenerate { return events.ImageGenerate{Model: "demo", Prompt: "a red apple"} }

func (b *bench) publish(id string) {
	b.t.Helper()
	_, err := b.Publish(b.t.Context(), client.Request{ID: id, Data: apple()})
	require.NoError(b.t, err)
}

func (b *bench) next() *broker.Job {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	j, err := b.queue.Next(ctx)
	require.NoError(b.t, err)
	return j
}

func (b *bench) begin(j *broker.Job) *broker.Attempt {
	b.t.Helper()
	a, err := j.Begin(b.t.Context(), broker.AttemptRecord{Instance: "i"})
	require.NoError(b.t, err)
	return a
}

func progress(t *testing.T, id string, step int) events.Event {
	t.Helper()
	e, err := events.NewAnswer(events.TypeProgress, events.Meta{RequestID: id, Source: "/test"}, events.Progress{Stage: events.StageDenoise, Step: step, Steps: 100})
	require.NoError(t, err)
	return e
}

func (b *bench) steps(a *broker.Attempt, id string, from, to int) {
	b.t.Helper()
	for step := from; step <= to; step++ {
		require.NoError(b.t, a.Publish(b.t.Context(), broker.KindProgress, progress(b.t, id, step)))
	}
}

// stored waits until the server keeps n live events.
func (b *bench) stored(n int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		s, err := b.js.Stream(b.t.Context(), broker.StreamEvents)
		return err == nil && int(s.CachedInfo().State.Msgs) == n
	}, time.Minute, time.Millisecond)
}

func end(t *testing.T, id string) events.Event {
	t.Helper()
	e, err := events.NewAnswer(events.TypeFailed, events.Meta{RequestID: id, Source: "/test"}, events.Failed{Error: events.Errorf(events.CodeHang, "the end")})
	require.NoError(t, err)
	return e
}

func (b *bench) finish(j *broker.Job, a *broker.Attempt) {
	b.t.Helper()
	won, err := a.Finish(b.t.Context(), end(b.t, j.ID))
	require.NoError(b.t, err)
	require.True(b.t, won)
	require.NoError(b.t, j.Done(b.t.Context()))
}

// took is what a follower returned, "attempt.sequence" for each event and "end"
// for the terminal one.
func read(t *testing.T, f *client.Follower, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	for len(got) < n {
		e, err := f.Next(ctx)
		require.NoError(t, err, "after %v", got)
		got = append(got, label(e))
	}
	return got
}

func label(e events.Event) string {
	if events.Terminal(e.Type()) {
		return "end"
	}
	return fmt.Sprintf("%d.%d", e.Attempt(), e.Sequence())
}

func labels(attempt, from, to int) []string {
	var l []string
	for i := from; i <= to; i++ {
		l = append(l, fmt.Sprintf("%d.%d", attempt, i))
	}
	return l
}

func (b *bench) follow(id string) *client.Follower {
	b.t.Helper()
	f, err := b.Follow(b.t.Context(), id)
	require.NoError(b.t, err)
	b.t.Cleanup(f.Close)
	return f
}

func assertEnded(t *testing.T, f *client.Follower) {
	t.Helper()
	_, err := f.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
}

func TestPublishMakesAValidRequest(t *testing.T) {
	b := newBench(t)
	expiry := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	id, err := b.Publish(t.Context(), client.Request{
		Data: apple(), Priority: broker.Batch, Lane: broker.LaneCPU, Expiry: expiry,
		CorrelationID: "c1", CausationID: "c2", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Inputs: map[string]client.Input{"latents": {Name: "l.npy", MediaType: "application/x-npy", Data: []byte("numbers")}},
	})
	require.NoError(t, err)
	j := b.next()
	assert.Equal(t, broker.Address{Pool: pool, Lane: broker.LaneCPU, Priority: broker.Batch, Tenant: "default", ID: id}, j.Address)
	e, ok, err := j.Open(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, "c1", e.CorrelationID())
	assert.Equal(t, "c2", e.CausationID())
	assert.True(t, expiry.Equal(e.ExpiryTime()))
	assert.Equal(t, "/genfn/client", e.Source())
	data, err := events.Payload[events.ImageGenerate](e)
	require.NoError(t, err)
	require.NotNil(t, data.Latents)
	assert.Regexp(t, "^"+id+"/input/(.*/)?l.npy$", data.Latents.Object)
	input, err := b.Fetch(t.Context(), *data.Latents)
	require.NoError(t, err)
	assert.Equal(t, "numbers", string(input))
}

func TestPublishRefusesWhatCannotSucceed(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		request client.Request
		field   string
	}{
		"unknown type":    {client.Request{Type: "dev.genfn.symphony.compose.v1", Data: apple()}, "type"},
		"no model":        {client.Request{Data: events.ImageGenerate{Prompt: "x"}}, "/model"},
		"model as a path": {client.Request{Data: events.ImageGenerate{Model: "../demo", Prompt: "x"}}, "/model"},
		"empty prompt":    {client.Request{Data: events.ImageGenerate{Model: "demo"}}, "/prompt"},
		"id":              {client.Request{ID: "no.token", Data: apple()}, "id"},
		"no object":       {client.Request{Data: "text", Inputs: map[string]client.Input{"x": {}}}, "/model"},
		"huge prompt":     {client.Request{Data: events.ImageGenerate{Model: "demo", Prompt: strings.Repeat("x", 1<<20)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Publish(t.Context(), c.request)
			var e *events.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, events.CodeInvalidRequest, e.Code)
			if c.field != "" {
				assert.Equal(t, c.field, e.Field)
			}
		})
	}
	_, err := b.Publish(t.Context(), client.Request{Data: func() {}})
	require.Error(t, err)
}

func TestPublishRefusesAnIDThatIsInUse(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.Duplicates = 100 * time.Millisecond })
	refused := func(words string) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, err := b.Publish(t.Context(), client.Request{ID: "a", Data: apple()})
			return errors.Is(err, broker.ErrDuplicateID) && strings.Contains(err.Error(), words)
		}, time.Minute, 10*time.Millisecond, words)
	}
	b.publish("a")
	refused("is queued or running")
	j := b.next()
	refused("is queued or running")
	b.finish(j, b.begin(j))
	refused("is answered already")
}

func TestPublishWithoutAnInstance(t *testing.T) {
	s := eventstest.Start(t)
	b := &bench{t: t, server: s}
	c := client.New(b.connect(s.URL()), client.Options{})
	_, err := c.Publish(t.Context(), client.Request{Data: apple()})
	require.ErrorContains(t, err, "is a genfn instance running?")
	_, err = c.Publish(t.Context(), client.Request{ID: "mine", Data: apple()})
	require.ErrorContains(t, err, "is a genfn instance running?")
	_, err = c.Wait(t.Context(), "mine")
	require.ErrorContains(t, err, "is a genfn instance running?")
	_, err = c.Publish(t.Context(), client.Request{Data: apple(), Inputs: map[string]client.Input{"latents": {Data: []byte("x")}}})
	require.ErrorContains(t, err, "is a genfn instance running?")
}

func TestFollowFromBeforeThePublish(t *testing.T) {
	b := newBench(t)
	f := b.follow("a")
	b.publish("a")
	j := b.next()
	a := b.begin(j)
	b.steps(a, "a", 1, 50)
	b.finish(j, a)
	assert.Equal(t, append(labels(1, 1, 50), "end"), read(t, f, 51))
	assertEnded(t, f)
}

func TestPublishAndFollow(t *testing.T) {
	b := newBench(t)
	nc := b.server.Connect()
	reads, err := nc.SubscribeSync("$JS.API.STREAM.MSG.GET.*")
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	f, err := b.PublishAndFollow(t.Context(), client.Request{Data: apple()})
	require.NoError(t, err)
	t.Cleanup(f.Close)
	j := b.next()
	assert.Equal(t, f.ID(), j.ID)
	a := b.begin(j)
	b.steps(a, j.ID, 1, 5)
	b.finish(j, a)
	assert.Equal(t, append(labels(1, 1, 5), "end"), read(t, f, 6))
	assertEnded(t, f)
	require.NoError(t, nc.Flush())
	for n, _, _ := reads.Pending(); n > 0; n-- {
		m, err := reads.NextMsg(time.Minute)
		require.NoError(t, err)
		assert.Equal(t, "$JS.API.STREAM.MSG.GET.GEN_ATT", m.Subject, "the client reads nothing, only the instance looks whether its attempt is current")
	}

	f, err = b.PublishAndFollow(t.Context(), client.Request{ID: "mine", Data: apple()})
	require.NoError(t, err)
	t.Cleanup(f.Close)
	j = b.next()
	b.finish(j, b.begin(j))
	assert.Equal(t, []string{"end"}, read(t, f, 1))
}

// The same id gives the same answer: while its request is queued or running, within the server's window for
// duplicates, and after it.
func TestTheSameIDIsAnsweredOnce(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.Duplicates = 100 * time.Millisecond })
	ask := func(repeated bool) *client.Follower {
		t.Helper()
		f, err := b.PublishAndFollow(t.Context(), client.Request{ID: "mine", Data: apple()})
		require.NoError(t, err)
		t.Cleanup(f.Close)
		require.Equal(t, repeated, f.Repeated())
		return f
	}
	first, second := ask(false), ask(true)
	j := b.next()
	third := ask(true)
	b.finish(j, b.begin(j))
	for _, f := range []*client.Follower{first, second, third, ask(true)} {
		assert.Equal(t, []string{"end"}, read(t, f, 1))
		assertEnded(t, f)
	}
	require.Eventually(t, func() bool { // somebody who does not look for the answer first
		return b.b.PublishRequest(t.Context(), j.Address, request(t, "mine")) == nil
	}, time.Minute, 10*time.Millisecond, "the window ends")
	_, ok, err := b.next().Open(t.Context())
	require.NoError(t, err)
	require.False(t, ok, "an instance looks, too")
	assert.Equal(t, []string{"end"}, read(t, ask(true), 1))
	s, err := b.js.Stream(t.Context(), broker.StreamRequests)
	require.NoError(t, err)
	assert.Zero(t, s.CachedInfo().State.Msgs)
}

func request(t *testing.T, id string) events.Event {
	t.Helper()
	e, err := events.NewRequest(events.TypeImageGenerate, events.Meta{RequestID: id, Source: "/test"}, apple())
	require.NoError(t, err)
	return e
}

func TestFollowJoinsLate(t *testing.T) {
	b := newBench(t)
	b.publish("a")
	j := b.next()
	a := b.begin(j)
	b.steps(a, "a", 1, 20)
	b.stored(20)
	f := b.follow("a")
	assert.Equal(t, labels(1, 1, 20), read(t, f, 20))
	b.steps(a, "a", 21, 30)
	assert.Equal(t, labels(1, 21, 30), read(t, f, 10))
	b.finish(j, a)
	assert.Equal(t, []string{"end"}, read(t, f, 1))

	late := b.follow("a")
	assert.Equal(t, append(labels(1, 1, 30), "end"), read(t, late, 31), "after the end too")
	assertEnded(t, late)
}

// Replay and live overlap at every point when following begins amid the events.
func TestFollowHasNeitherGapNorDouble(t *testing.T) {
	b := newBench(t)
	b.publish("a")
	j := b.next()
	a := b.begin(j)
	var wg sync.WaitGroup
	results := make(chan []string, 20)
	for step := 1; step <= 200; step++ {
		b.steps(a, "a", step, step)
		if step%10 == 0 {
			f := b.follow("a")
			wg.Add(1)
			go func() {
				defer wg.Done()
				var got []string
				for e, err := range f.Events(t.Context()) {
					if !assert.NoError(t, err) {
						return
					}
					got = append(got, label(e))
				}
				results <- got
			}()
		}
	}
	b.finish(j, a)
	wg.Wait()
	close(results)
	want := append(labels(1, 1, 200), "end")
	n := 0
	for got := range results {
		assert.Equal(t, want, got)
		n++
	}
	assert.Equal(t, 20, n)
}

func TestFollowLeavesOutStaleAttempts(t *testing.T) {
	b := newBench(t)
	b.publish("a")
	j := b.next()
	stale := b.begin(j)
	f := b.follow("a")
	b.steps(stale, "a", 1, 3)
	assert.Equal(t, labels(1, 1, 3), read(t, f, 3))
	require.NoError(t, j.HandBack(t.Context()))
	j = b.next()
	current := b.begin(j)
	b.steps(current, "a", 1, 1)
	b.stored(4)
	b.steps(stale, "a", 4, 6)
	b.stored(7)
	won, err := stale.Finish(t.Context(), end(t, "a"))
	require.NoError(t, err)
	require.False(t, won, "it cannot answer either")
	b.steps(current, "a", 2, 2)
	b.stored(8)
	b.finish(j, current)
	assert.Equal(t, []string{"2.1", "2.2", "end"}, read(t, f, 3))
	assert.Equal(t, []string{"1.1", "1.2", "1.3", "2.1", "2.2", "end"}, read(t, b.follow("a"), 6), "in the replay too")
}

// What a subscription sees as the terminal event is refused by the stream when
// another was first.
func TestFollowBelievesOnlyTheStoredTerminalEvent(t *testing.T) {
	b := newBench(t)
	b.publish("a")
	j := b.next()
	a := b.begin(j)
	f := b.follow("a")
	b.steps(a, "a", 1, 1)
	assert.Equal(t, labels(1, 1, 1), read(t, f, 1))
	forged := nats.NewMsg(broker.TerminalSubject("default", "a"))
	forged.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "12345")
	_, err := b.js.PublishMsg(t.Context(), forged)
	require.Error(t, err)
	require.NoError(t, b.server.Connect().Publish(broker.AnswerSubject("default", "a"), []byte("no event")))
	b.steps(a, "a", 2, 2)
	assert.Equal(t, labels(1, 2, 2), read(t, f, 1), "the work goes on")
	b.finish(j, a)
	assert.Equal(t, []string{"end"}, read(t, f, 1))
}

func TestFollowSurvivesARestartOfTheServer(t *testing.T) {
	b := newBench(t)
	b.publish("a")
	j := b.next()
	a := b.begin(j)
	f := b.follow("a")
	b.steps(a, "a", 1, 5)
	assert.Equal(t, labels(1, 1, 5), read(t, f, 5))
	b.server.Restart() // the live events stored so far are gone, and their stream
	b.stored(0)
	b.steps(a, "a", 6, 8)
	b.finish(j, a)
	assert.Equal(t, append(labels(1, 6, 8), "end"), read(t, f, 4))
	assertEnded(t, f)
}

func TestFollowFillsTheGapOfTheNetwork(t *testing.T) {
	b := newBench(t)
	proxy := b.server.Proxy()
	b.Client = client.New(b.connect(proxy.URL()), client.Options{})
	f := b.follow("a")
	b.publish("a")
	j := b.next()
	a := b.begin(j)
	b.steps(a, "a", 1, 3)
	assert.Equal(t, labels(1, 1, 3), read(t, f, 3))
	proxy.Cut()
	b.steps(a, "a", 4, 9)
	b.stored(9)
	proxy.Heal()
	assert.Equal(t, labels(1, 4, 9), read(t, f, 6))
	proxy.Cut()
	b.finish(j, a)
	proxy.Heal()
	assert.Equal(t, []string{"end"}, read(t, f, 1), "although nobody announced it here")
}

// A reader that is slower than the events: what does not fit is replayed.
func TestFollowKeepsUpWithMoreThanItHolds(t *testing.T) {
	b := newBench(t)
	f := b.follow("a")
	b.publish("a")
	j := b.next()
	a := b.begin(j)
	const n = 5000
	b.steps(a, "a", 1, n)
	b.stored(n)
	assert.Equal(t, labels(1, 1, 100), read(t, f, 100))
	b.steps(a, "a", n+1, n+50) // there is room for these, after a gap
	b.stored(n + 50)
	assert.Equal(t, labels(1, 101, n+50), read(t, f, n-50))
	b.steps(a, "a", n+51, n+60)
	b.finish(j, a)
	assert.Equal(t, append(labels(1, n+51, n+60), "end"), read(t, f, 11))
}

func TestFollowNextCanBeCalledAgain(t *testing.T) {
	b := newBench(t)
	f := b.follow("a")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_, err := f.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	for _, err := range f.Events(ctx) {
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	b.publish("a")
	j := b.next()
	b.finish(j, b.begin(j))
	assert.Equal(t, []string{"end"}, read(t, f, 1))
	f.Close()
	f.Close()
}

func TestWait(t *testing.T) {
	b := newBench(t)
	b.publish("a")
	type result struct {
		e   events.Event
		err error
	}
	waited := make(chan result, 1)
	go func() {
		e, err := b.Wait(t.Context(), "a")
		waited <- result{e, err}
	}()
	j := b.next()
	a := b.begin(j)
	b.steps(a, "a", 1, 3)
	b.finish(j, a)
	r := <-waited
	require.NoError(t, r.err)
	assert.Equal(t, events.TypeFailed, r.e.Type())
	e, err := b.Wait(t.Context(), "a")
	require.NoError(t, err, "long after too")
	assert.Equal(t, r.e.ID(), e.ID())

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_, err = b.Wait(ctx, "nobody-sent-this")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestWaitOverARestartOfTheServer(t *testing.T) {
	b := newBench(t)
	b.publish("a")
	waited := make(chan error, 1)
	go func() {
		_, err := b.Wait(t.Context(), "a")
		waited <- err
	}()
	j := b.next()
	a := b.begin(j)
	b.server.Restart()
	b.finish(j, a)
	require.NoError(t, <-waited)
}

func TestFetchChecksWhatItGets(t *testing.T) {
	b := newBench(t)
	ref, err := b.b.PutInput(t.Context(), "default", "a", "x", "text/plain", []byte("content"))
	require.NoError(t, err)
	data, err := b.Fetch(t.Context(), ref)
	require.NoError(t, err)
	assert.Equal(t, "content", string(data))

	code := func(change func(*events.Ref)) events.Code {
		changed := ref
		change(&changed)
		_, err := b.Fetch(t.Context(), changed)
		var e *events.Error
		require.ErrorAs(t, err, &e)
		return e.Code
	}
	assert.Equal(t, events.CodeInternal, code(func(r *events.Ref) { r.SHA256 = strings.Repeat("0", 64) }))
	assert.Equal(t, events.CodeInternal, code(func(r *events.Ref) { r.Size = 3 }))
	assert.Equal(t, events.CodeInternal, code(func(r *events.Ref) { r.Size = 300 }))
	assert.Equal(t, events.CodeInvalidRequest, code(func(r *events.Ref) { r.Object = "a/input/y" }))
	assert.Equal(t, events.CodePermissionDenied, code(func(r *events.Ref) { r.Bucket = "genfn-other" }))

	store, err := b.js.ObjectStore(t.Context(), ref.Bucket)
	require.NoError(t, err)
	_, err = store.PutString(t.Context(), ref.Object, "forgery")
	require.NoError(t, err)
	assert.Equal(t, events.CodeInternal, code(func(*events.Ref) {}), "replaced by something of the same size")
}

func TestFetchLargeObjects(t *testing.T) {
	b := newBench(t)
	large := []byte(strings.Repeat("0123456789abcdef", 1<<16)) // more than one chunk and more than one payload
	ref, err := b.b.PutInput(t.Context(), "default", "a", "x", "text/plain", append(large, '!'))
	require.NoError(t, err)
	data, err := b.Fetch(t.Context(), ref)
	require.NoError(t, err)
	assert.Len(t, data, len(large)+1)
}

func TestARefusedRequestReplacesNoInput(t *testing.T) {
	b := newBench(t)
	send := func(content string) error {
		_, err := b.Publish(t.Context(), client.Request{ID: "a", Data: apple(), Inputs: map[string]client.Input{"latents": {Name: "l.npy", Data: []byte(content)}}})
		return err
	}
	require.NoError(t, send("first"))
	require.ErrorIs(t, send("second"), broker.ErrDuplicateID)
	var data events.ImageGenerate
	require.NoError(t, json.Unmarshal(b.next().Data, &data))
	content, err := b.Fetch(t.Context(), *data.Latents)
	require.NoError(t, err)
	assert.Equal(t, "first", string(content))
}

func TestFollowRefusesWhatIsNoID(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"", "*", ">", "a.b"} {
		_, err := b.Follow(t.Context(), id)
		require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest}, id)
		_, err = b.Wait(t.Context(), id)
		require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest}, id)
	}
}

func TestTenantsAreApart(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.b.EnsureTenant(t.Context(), broker.DefaultConfig(), "acme"))
	acme := client.New(b.connect(b.server.URL()), client.Options{Tenant: "acme", Source: "/acme"})
	_, err := acme.Publish(t.Context(), client.Request{ID: "a", Data: apple()})
	require.NoError(t, err)
	b.publish("a") // the same id
	for range 2 {
		j := b.next()
		a := b.begin(j)
		if j.Tenant == "acme" {
			b.steps(a, "a", 1, 1)
		}
		b.finish(j, a)
	}
	f, err := acme.Follow(t.Context(), "a")
	require.NoError(t, err)
	t.Cleanup(f.Close)
	assert.Equal(t, []string{"1.1", "end"}, read(t, f, 2))
	assert.Equal(t, []string{"end"}, read(t, b.follow("a"), 1))
}
