package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/eventstest"
)

func TestQueueHandsOutInteractiveBeforeBatch(t *testing.T) {
	b := newBench(t)
	for i := range 3 {
		a := address(fmt.Sprintf("batch%d", i))
		a.Priority = broker.Batch
		b.publish(a)
	}
	for i := range 3 {
		b.publish(address(fmt.Sprintf("inter%d", i)))
	}
	b.eventuallyPending(address(""), 3)
	q := b.queue(b.Broker)
	var ids []string
	for range 6 {
		ids = append(ids, b.next(q).ID)
	}
	assert.Equal(t, []string{"inter0", "inter1", "inter2", "batch0", "batch1", "batch2"}, ids)
}

// No batch request while an interactive one may still be found.
func TestQueueLooksEverywhereBeforeItTakesBatch(t *testing.T) {
	b := newBench(t)
	for round := range 20 { // the two calls do not always overlap
		for i := range 2 {
			a := address(fmt.Sprintf("batch-%d-%d", round, i))
			a.Priority = broker.Batch
			b.publish(a)
			a = address(fmt.Sprintf("inter-%d-%d", round, i))
			a.Lane = broker.LaneRetry // looked into last
			b.publish(a)
		}
		retry, batch := address(""), address("")
		retry.Lane, batch.Priority = broker.LaneRetry, broker.Batch
		b.eventuallyPending(retry, 2)
		b.eventuallyPending(batch, 2)
		// A new one each time: no pull is left that takes what comes first.
		q, err := b.Subscribe([]string{pool}, broker.Lanes())
		require.NoError(t, err)
		first, second := b.nextSoon(q), b.nextSoon(q)
		assert.Equal(t, broker.Interactive, (<-first).Priority)
		assert.Equal(t, broker.Interactive, (<-second).Priority)
		for range 2 {
			assert.Equal(t, broker.Batch, b.next(q).Priority)
		}
		require.NoError(t, q.Close(t.Context()))
	}
}

func TestQueueFetchesNothingBeyondFreeSlots(t *testing.T) {
	b := newBench(t)
	for _, lane := range broker.Lanes() {
		for _, priority := range broker.Priorities() {
			a := address("id-" + string(lane) + "-" + string(priority))
			a.Lane, a.Priority = lane, priority
			b.publish(a)
			b.eventuallyPending(a, 1)
		}
	}
	q := b.queue(b.Broker)
	j := b.next(q)
	assert.Equal(t, broker.Interactive, j.Priority)
	delivered := 0
	for _, lane := range broker.Lanes() {
		for _, priority := range broker.Priorities() {
			a := address("")
			a.Lane, a.Priority = lane, priority
			delivered += int(b.consumer(a).Delivered.Consumer)
		}
	}
	assert.Equal(t, 1, delivered, "one slot, one delivery, nothing fetched to be handed back")

	seen := map[string]bool{j.ID: true}
	for range 7 {
		j := b.next(q)
		assert.EqualValues(t, 1, j.Delivered)
		seen[j.ID] = true
	}
	assert.Len(t, seen, 8)
}

// A pull that is left from another slot's search must not keep what it gets.
func TestQueueHandsBackWhatNoSlotWaitsFor(t *testing.T) {
	b := newBench(t)
	busy := b.queue(b.Broker)
	got := b.nextSoon(busy)
	b.eventuallyWaiting(address(""))
	retry := address("second")
	retry.Lane = broker.LaneRetry
	b.eventuallyWaiting(retry)
	b.publish(address("first"))
	require.Equal(t, "first", (<-got).ID)

	// The busy queue's pull on the retry lane is still at the server and first in line.
	b.publish(retry)
	j := b.next(b.queue(b.connect(b.server.URL(), broker.Options{})))
	assert.Equal(t, "second", j.ID, "long before the ack wait")
	assert.EqualValues(t, 2, j.Delivered)
	attempts, err := j.Attempts(t.Context())
	require.NoError(t, err)
	assert.Empty(t, attempts, "no attempt is charged")
}

// eventuallyPending returns when a consumer knows of n requests: the server tells
// it a moment after it confirmed their publish.
func (b *bench) eventuallyPending(a broker.Address, n uint64) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.consumer(a).NumPending == n }, time.Minute, time.Millisecond)
}

// eventuallyWaiting returns when a pull waits at the consumer of a lane.
func (b *bench) eventuallyWaiting(a broker.Address) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.consumer(a).NumWaiting > 0 }, time.Minute, time.Millisecond)
}

func TestQueueServesPoolsAddedLater(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	got := b.nextSoon(q)
	b.eventuallyWaiting(address(""))
	other := events.PoolToken(events.KindImage, "other")
	require.NoError(t, b.EnsurePool(t.Context(), b.config, other))
	q.AddPool(other)
	q.AddPool(other)
	a := address("x")
	a.Pool = other
	require.NoError(t, b.PublishRequest(t.Context(), a, requestEvent(t, "x")))
	assert.Equal(t, other, (<-got).Pool)
}

func TestQueueNextEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := q.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
	b.publish(address("a"))
	assert.Equal(t, "a", b.next(q).ID)
}

// However calls of Next and arrivals meet, each request is handed out once and
// none gets lost until an ack wait that never ends.
func TestQueueLosesNothingToCancelledCalls(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	const n = 100
	addresses := make([]broker.Address, n)
	for i := range addresses {
		addresses[i] = address(fmt.Sprintf("id%d", i))
	}
	published := b.publishSoon(addresses...)
	got := map[string]int{}
	for len(got) < n {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Microsecond)
		if j, err := q.Next(ctx); err == nil {
			got[j.ID]++
		} else {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		cancel()
	}
	require.NoError(t, <-published)
	for id, times := range got {
		assert.Equal(t, 1, times, id)
	}
}

func TestQueueManySlots(t *testing.T) {
	b := newBench(t)
	q1, q2 := b.queue(b.Broker), b.queue(b.connect(b.server.URL(), broker.Options{}))
	const n = 60
	ids := make(chan string, n)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			q := q1
			if i%2 == 1 {
				q = q2
			}
			for {
				j, err := q.Next(ctx)
				if err != nil {
					return
				}
				ids <- j.ID
			}
		}()
	}
	for i := range n {
		a := address(fmt.Sprintf("id%d", i))
		a.Lane = broker.Lanes()[i%4]
		a.Priority = broker.Priorities()[i%2]
		b.publish(a)
	}
	seen := map[string]bool{}
	for range n {
		id := <-ids
		assert.False(t, seen[id], "%s was delivered twice", id)
		seen[id] = true
	}
	cancel()
	wg.Wait()
}

func TestQueueCloseHandsBackAndEndsNext(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	result := make(chan error, 1)
	go func() {
		_, err := q.Next(t.Context())
		result <- err
	}()
	b.eventuallyWaiting(address(""))
	require.NoError(t, q.Close(t.Context()))
	require.ErrorIs(t, <-result, broker.ErrQueueClosed)
	require.NoError(t, q.Close(t.Context()), "safe twice")
	_, err := q.Next(t.Context())
	require.ErrorIs(t, err, broker.ErrQueueClosed)

	b.publish(address("a"))
	j := b.next(b.queue(b.connect(b.server.URL(), broker.Options{})))
	assert.Equal(t, "a", j.ID, "the closed queue's pulls keep nothing")
}

// A pull that is answered while the queue closes hands its message back.
func TestQueueCloseRacesArrivals(t *testing.T) {
	b := newBench(t)
	rest := b.queue(b.connect(b.server.URL(), broker.Options{}))
	for i := range 40 {
		q, err := b.Subscribe([]string{pool}, broker.Lanes())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan *broker.Job, 1)
		go func() {
			j, err := q.Next(ctx)
			if err != nil {
				j = nil
			}
			got <- j
		}()
		b.eventuallyWaiting(address(""))
		published := b.publishSoon(address(fmt.Sprintf("id%d", i)))
		if i%2 == 0 {
			cancel()
		}
		require.NoError(t, q.Close(t.Context()))
		require.NoError(t, <-published)
		cancel()
		j := <-got
		if j == nil {
			j = b.next(rest)
		}
		assert.Equal(t, fmt.Sprintf("id%d", i), j.ID)
	}
}

func TestQueueSurvivesARestartOfTheServer(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	got := b.nextSoon(q)
	b.eventuallyWaiting(address(""))
	b.server.Restart()
	b.publish(address("a"))
	assert.Equal(t, "a", (<-got).ID)
}

func TestQueueMakesAgainWhatSomebodyRemoved(t *testing.T) {
	b := newBench(t)
	got := b.nextSoon(b.queue(b.Broker))
	a := address("lonely")
	c := b.consumer(a)
	require.NoError(t, b.js.DeleteConsumer(t.Context(), broker.StreamRequests, c.Name))
	b.publish(a)
	require.Equal(t, a, (<-got).Address)

	got = b.nextSoon(b.queue(b.Broker))
	require.NoError(t, b.js.DeleteStream(t.Context(), broker.StreamRequests))
	a.ID = "after"
	require.Eventually(t, func() bool {
		_, err := b.js.Consumer(t.Context(), broker.StreamRequests, c.Name)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	b.publish(a)
	require.Equal(t, a, (<-got).Address)
}

func TestQueueSurvivesANetworkGap(t *testing.T) {
	b := newBench(t)
	proxy := b.server.Proxy()
	q := b.queue(b.connect(proxy.URL(), broker.Options{}))
	got := b.nextSoon(q)
	b.eventuallyWaiting(address(""))
	proxy.Cut()
	require.Eventually(t, func() bool { return b.consumer(address("")).NumWaiting == 0 }, time.Minute, time.Millisecond)
	b.publish(address("a"))
	proxy.Heal()
	assert.Equal(t, "a", (<-got).ID)
}

// The server sends into a connection that is dead and does not know it: the
// message comes again after the ack wait, from then on as usual.
func TestQueueGetsAgainWhatASilentNetworkSwallowed(t *testing.T) {
	b := newBench(t, ackWait(300*time.Millisecond))
	proxy := b.server.Proxy()
	q := b.queue(b.connect(proxy.URL(), broker.Options{}))
	got := b.nextSoon(q)
	b.eventuallyWaiting(address(""))
	proxy.FreezeAnswers()
	b.publish(address("a"))
	require.Eventually(t, func() bool { return b.consumer(address("")).NumAckPending == 1 }, time.Minute, time.Millisecond, "delivered into the void")
	proxy.Cut()
	proxy.Heal()
	j := <-got
	assert.Equal(t, "a", j.ID)
	assert.Greater(t, j.Delivered, uint64(1))
}

func TestQueueSaysThatFetchingIsDenied(t *testing.T) {
	s := eventstest.Start(t, eventstest.WithUsers(
		&server.User{Username: "admin", Password: "admin"},
		&server.User{Username: "reader", Password: "reader", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.MSG.NEXT.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_READER.>"}},
		}}))
	b := &bench{t: t, server: s, config: broker.DefaultConfig()}
	admin := b.connect("nats://admin:admin@"+s.URL()[len("nats://"):], broker.Options{})
	require.NoError(t, admin.Setup(t.Context(), b.config))
	require.NoError(t, admin.EnsurePool(t.Context(), b.config, pool))
	reader := b.connect("nats://reader:reader@"+s.URL()[len("nats://"):], broker.Options{InboxPrefix: "_READER"})
	q := b.queue(reader)
	_, err := q.Next(t.Context())
	e := asError(t, err)
	assert.Equal(t, events.CodePermissionDenied, e.Code)
	assert.Contains(t, e.Message, "$JS.API.CONSUMER.MSG.NEXT.GEN_REQ.")
}

// Hand-backs count as deliveries: with a delivery limit the request would be
// stuck in the stream after a few.
func TestHandBackNeverUsesUpARequest(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	a := address("a")
	a.Lane = broker.LaneRetry // where it stays
	b.publish(a)
	for i := range 25 {
		j := b.next(q)
		require.EqualValues(t, i+1, j.Delivered)
		require.NoError(t, j.HandBack(t.Context()))
	}
	assert.Equal(t, "a", b.next(q).ID)
	assert.Equal(t, -1, b.consumer(a).Config.MaxDeliver)
	assert.Empty(t, b.consumer(a).Config.BackOff, "a back-off would delay hand-backs")
}

func TestTheWorkOfADeadHolderIsDeliveredAgain(t *testing.T) {
	b := newBench(t, ackWait(200*time.Millisecond))
	b.publish(address("a"))
	dead := b.connect(b.server.URL(), broker.Options{})
	q := b.queue(dead)
	require.EqualValues(t, 1, b.next(q).Delivered)
	dead.Close() // without a word, as after SIGKILL
	j := b.next(b.queue(b.Broker))
	assert.Equal(t, "a", j.ID)
	assert.EqualValues(t, 2, j.Delivered)
}

func TestExtendKeepsTheRequest(t *testing.T) {
	b := newBench(t, ackWait(500*time.Millisecond))
	b.publish(address("held"))
	holder := b.queue(b.connect(b.server.URL(), broker.Options{}))
	j := b.next(holder)
	b.publish(address("dropped"))
	b.next(holder)
	other := b.queue(b.Broker)
	got := b.nextSoon(other)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case again := <-got: // two ack waits are over for one of them
			assert.Equal(t, "dropped", again.ID)
			return
		case <-ticker.C:
			require.NoError(t, j.Extend())
		}
	}
}
