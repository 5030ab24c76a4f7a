package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

// sweep runs a sweeper until the test ends.
func (b *bench) sweep(on *broker.Broker, c broker.SweeperConfig) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- broker.NewSweeper(on, c).Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		assert.NoError(b.t, <-done)
	})
}

// eventuallyAnswered waits for the terminal event of a request.
func (b *bench) eventuallyAnswered(a broker.Address) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		_, ok, err := b.Terminal(b.t.Context(), a.Tenant, a.ID)
		return ok && err == nil
	}, time.Minute, 2*time.Millisecond)
	require.Eventually(b.t, func() bool {
		s, err := b.js.Stream(b.t.Context(), broker.StreamRequests)
		if err != nil {
			return false
		}
		_, err = s.GetLastMsgForSubject(b.t.Context(), a.Subject())
		return err != nil
	}, time.Minute, 2*time.Millisecond, "the request must be removed after it is answered")
}

func unservedAddress(id string) broker.Address {
	a := address(id)
	a.Pool = events.PoolToken(events.KindImage, "nope")
	return a
}

func (b *bench) publishUnserved(a broker.Address) {
	b.t.Helper()
	e, err := events.NewRequest(events.TypeImageGenerate, events.Meta{RequestID: a.ID, Source: "/test"}, events.ImageGenerate{Model: "nope", Prompt: "x"})
	require.NoError(b.t, err)
	require.NoError(b.t, b.PublishRequest(b.t.Context(), a, e))
}

func TestSweeperAnswersWhatNobodyServes(t *testing.T) {
	b := newBench(t)
	before := unservedAddress("before")
	b.publishUnserved(before)
	b.publish(address("served")) // no instance runs, but the pool exists
	b.sweep(b.Broker, broker.SweeperConfig{Grace: time.Millisecond, Interval: 10 * time.Millisecond})
	b.eventuallyAnswered(before)
	after := unservedAddress("after")
	b.publishUnserved(after)
	b.eventuallyAnswered(after)
	for _, a := range []broker.Address{before, after} {
		e := b.failed(a).Error
		assert.Equal(t, events.CodeModelNotFound, e.Code)
		assert.Contains(t, e.Message, `"nope"`)
		assert.Equal(t, "one of "+model, e.Expected)
	}
	assert.Equal(t, "served", b.next(b.queue(b.Broker)).ID, "the request of a pool that exists stays")
}

func TestSweeperWaitsForAPoolThatIsComing(t *testing.T) {
	b := newBench(t)
	now := &clock{now: time.Now()}
	s := broker.NewSweeper(b.connect(b.server.URL(), broker.Options{Now: now.Now}), broker.SweeperConfig{Grace: time.Minute})
	late, never := unservedAddress("late"), unservedAddress("never")
	never.Pool = events.PoolToken(events.KindImage, "never")
	b.publishUnserved(late)
	b.raw(never, nil, nil)
	require.NoError(t, s.Sweep(t.Context()))
	now.advance(59 * time.Second)
	require.NoError(t, s.Sweep(t.Context()))
	assert.Equal(t, 2, b.messages(broker.StreamRequests))
	assert.Zero(t, b.messages(broker.StreamTerminals))
	require.NoError(t, b.EnsurePool(t.Context(), b.config, late.Pool))
	now.advance(time.Second)
	require.NoError(t, s.Sweep(t.Context()))
	assert.Equal(t, 1, b.messages(broker.StreamRequests), "the one whose pool came stays")
	assert.Equal(t, events.CodeModelNotFound, b.failed(never).Error.Code)
	assert.Equal(t, 1, b.messages(broker.StreamDeadLetters), "the other could not be read")
}

func TestSweeperNamesWhatCannotExist(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*broker.Address)
		text   string
	}{
		"kind":     {func(a *broker.Address) { a.Pool = "symphony-x" }, "kind of work"},
		"pool":     {func(a *broker.Address) { a.Pool = "image=zz" }, "kind of work"},
		"lane":     {func(a *broker.Address) { a.Lane = "fast" }, "nothing reads"},
		"priority": {func(a *broker.Address) { a.Priority = "urgent" }, "nothing reads"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.sweep(b.Broker, broker.SweeperConfig{Grace: time.Millisecond, Interval: 10 * time.Millisecond})
			a := address("a")
			c.change(&a)
			header, data := encoded(t, requestEvent(t, "a"))
			b.raw(a, header, data)
			b.eventuallyAnswered(a)
			e := b.failed(a).Error
			assert.Equal(t, events.CodeInvalidRequest, e.Code)
			assert.Equal(t, "subject", e.Field)
			assert.Contains(t, e.Message, c.text)
		})
	}
}

func TestSweeperSaysThatNoModelIsServed(t *testing.T) {
	b := newBench(t)
	for _, lane := range broker.Lanes() {
		for _, priority := range broker.Priorities() {
			require.NoError(t, b.js.DeleteConsumer(t.Context(), broker.StreamRequests, fmt.Sprintf("req_%s_%s_%s", pool, lane, priority)))
		}
	}
	a := unservedAddress("a")
	b.publishUnserved(a)
	require.NoError(t, broker.NewSweeper(b.Broker, broker.SweeperConfig{Grace: 1}).Sweep(t.Context()))
	assert.Contains(t, b.failed(a).Error.Expected, "none has served any model yet")
}

// publishUntil queues a valid request whose time is up at expiry.
func (b *bench) publishUntil(id string, expiry time.Time) {
	b.t.Helper()
	e := requestEvent(b.t, id, func(m *events.Meta) { m.ExpiryTime = expiry })
	require.NoError(b.t, b.PublishRequest(b.t.Context(), address(id), e))
}

func (b *bench) endedAs(id string) string {
	b.t.Helper()
	e, ok, err := b.Terminal(b.t.Context(), broker.DefaultTenant, id)
	require.NoError(b.t, err)
	if !ok {
		return ""
	}
	return e.Type()
}

func TestSweeperExpiresWhatNobodyWorksOn(t *testing.T) {
	b := newBench(t)
	now := &clock{now: time.Now()}
	s := broker.NewSweeper(b.connect(b.server.URL(), broker.Options{Now: now.Now}), broker.SweeperConfig{})
	expiry := now.Now().Add(time.Minute)
	b.publishUntil("begun", expiry)
	b.publishUntil("ended", expiry)
	b.publishUntil("waiting", expiry)
	b.publishUntil("later", expiry.Add(time.Second))
	require.NoError(t, s.Sweep(t.Context()))
	q := b.queue(b.Broker)
	begun, ended := b.next(q), b.next(q)
	require.Equal(t, "begun", begun.ID)
	b.begin(begun, "i1")
	require.NoError(t, b.begin(ended, "i1").End(t.Context(), "shutdown", nil))
	now.advance(time.Minute - 1)
	require.NoError(t, s.Sweep(t.Context()))
	assert.Zero(t, b.messages(broker.StreamTerminals))

	now.advance(1)
	require.NoError(t, s.Sweep(t.Context()))
	assert.Equal(t, events.TypeExpired, b.endedAs("waiting"))
	f := b.failed(address("ended"))
	assert.Equal(t, events.CodeDeadlineExceeded, f.Error.Code)
	assert.Len(t, f.Attempts, 1)
	assert.Empty(t, b.endedAs("begun"), "its instance's business")
	assert.Empty(t, b.endedAs("later"))
	assert.Equal(t, 2, b.messages(broker.StreamRequests))

	now.advance(time.Minute)
	require.NoError(t, s.Sweep(t.Context()))
	assert.Equal(t, events.TypeExpired, b.endedAs("later"))
	assert.Equal(t, events.CodeDeadlineExceeded, b.failed(address("begun")).Error.Code, "its instance is gone or stuck")
	assert.Zero(t, b.messages(broker.StreamRequests))
	require.NoError(t, ended.Done(t.Context()))
}

// The queue is looked at once; afterwards only what is new is.
func TestSweeperReadsEachRequestOnce(t *testing.T) {
	b := newBench(t)
	now := &clock{now: time.Now()}
	s := broker.NewSweeper(b.connect(b.server.URL(), broker.Options{Now: now.Now}), broker.SweeperConfig{})
	reads, err := b.nc.SubscribeSync("$JS.API.STREAM.MSG.GET." + broker.StreamRequests)
	require.NoError(t, err)
	sweeps := func(want int, why ...any) { // and reads so many
		t.Helper()
		require.NoError(t, s.Sweep(t.Context()))
		for range want { // the answer may be there before the copy of the question
			_, err := reads.NextMsg(time.Minute)
			require.NoError(t, err, why...)
		}
		require.NoError(t, b.nc.Flush())
		n, _, err := reads.Pending()
		require.NoError(t, err)
		assert.Zero(t, n, why...)
	}
	for i := range 50 {
		b.publish(address(fmt.Sprintf("id%d", i)))
	}
	b.publishUntil("short", now.Now().Add(time.Minute))
	sweeps(51)
	sweeps(0)
	b.publish(address("new"))
	sweeps(1)
	now.advance(time.Minute)
	sweeps(1, "the one whose time is up")
	assert.Equal(t, events.TypeExpired, b.endedAs("short"))
	sweeps(0)
	now.advance(10 * time.Minute)
	sweeps(51, "all again after a while")
}

func TestSweeperNoticesThatTheQueueWasMadeAnew(t *testing.T) {
	b := newBench(t)
	s := broker.NewSweeper(b.Broker, broker.SweeperConfig{})
	for i := range 5 {
		b.publish(address(fmt.Sprintf("id%d", i)))
	}
	require.NoError(t, s.Sweep(t.Context()))
	require.NoError(t, b.js.DeleteStream(t.Context(), broker.StreamRequests))
	require.NoError(t, b.Setup(t.Context(), b.config))
	require.NoError(t, b.EnsurePool(t.Context(), b.config, pool))
	b.publishUntil("late", time.Now().Add(-time.Second))
	require.NoError(t, s.Sweep(t.Context()))
	assert.Equal(t, events.TypeExpired, b.endedAs("late"))
}

// A request of a pool that exists ends in time although nobody has a free slot, whichever sweeper is awake.
func TestSweepersExpireInTime(t *testing.T) {
	b := newBench(t)
	for range 3 {
		b.sweep(b.connect(b.server.URL(), broker.Options{}), broker.SweeperConfig{Interval: 20 * time.Millisecond})
	}
	for i := range 20 {
		b.publishUntil(fmt.Sprintf("id%d", i), time.Now().Add(time.Duration(i)*10*time.Millisecond))
	}
	for i := range 20 {
		b.eventuallyAnswered(address(fmt.Sprintf("id%d", i)))
		assert.Equal(t, events.TypeExpired, b.endedAs(fmt.Sprintf("id%d", i)))
	}
	assert.Equal(t, 20, b.messages(broker.StreamTerminals))
}

// Every instance runs a sweeper.
func TestManySweepersAnswerOnce(t *testing.T) {
	b := newBench(t)
	const n = 20
	for i := range n {
		b.publishUnserved(unservedAddress(fmt.Sprintf("id%d", i)))
	}
	var wg sync.WaitGroup
	for range 4 {
		s := broker.NewSweeper(b.connect(b.server.URL(), broker.Options{}), broker.SweeperConfig{Grace: 1})
		wg.Add(1)
		go func() {
			defer wg.Done()
			assert.NoError(t, s.Sweep(t.Context()))
		}()
	}
	wg.Wait()
	assert.Equal(t, n, b.messages(broker.StreamTerminals))
	assert.Zero(t, b.messages(broker.StreamRequests))
}

func TestSweeperSurvivesARestartOfTheServer(t *testing.T) {
	b := newBench(t)
	b.sweep(b.Broker, broker.SweeperConfig{Grace: time.Millisecond, Interval: 50 * time.Millisecond})
	b.server.Restart()
	a := unservedAddress("a")
	b.publishUnserved(a)
	b.eventuallyAnswered(a)
}

func TestSweeperLeavesAnsweredRequestsTheirAnswer(t *testing.T) {
	b := newBench(t)
	a := unservedAddress("a")
	_, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: broker.TerminalSubject(a.Tenant, a.ID), Data: []byte("first")})
	require.NoError(t, err)
	b.publishUnserved(a)
	require.NoError(t, broker.NewSweeper(b.Broker, broker.SweeperConfig{Grace: 1}).Sweep(t.Context()))
	assert.Zero(t, b.messages(broker.StreamRequests))
	_, answered, err := b.Terminal(t.Context(), a.Tenant, a.ID)
	assert.True(t, answered)
	require.Error(t, err, "what is stored is no event")
}
