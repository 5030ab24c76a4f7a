package broker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events/broker"
)

// publishMany queues n requests and waits until their consumer knows of them.
func (b *bench) publishMany(a broker.Address, n int) {
	b.t.Helper()
	name := a.ID
	for i := range n {
		a.ID = fmt.Sprintf("%s%d", name, i)
		b.publish(a)
	}
	b.eventuallyPending(a, uint64(n))
}

// on returns an address in another lane.
func on(lane broker.Lane, id string) broker.Address {
	a := address(id)
	a.Lane = lane
	return a
}

// Below the limit requests of the any lane are for others; those of other lanes are not.
func TestMinPendingLeavesRequestsToOthers(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	q.SetMinPending(pool, 3)
	got := b.nextSoon(q)
	b.eventuallyWaiting(address(""))
	b.publishMany(address("a"), 2)
	b.publish(on(broker.LaneCPU, "cpu"))
	assert.Equal(t, "cpu", (<-got).ID, "the older ones do not come")

	got = b.nextSoon(q)
	b.publish(address("a2"))
	assert.Equal(t, "a0", (<-got).ID, "three wait")
	b.publish(on(broker.LaneRetry, "retry"))
	assert.Equal(t, "retry", b.next(q).ID, "two wait")
	other := b.queue(b.connect(b.server.URL(), broker.Options{}))
	assert.Equal(t, "a1", b.next(other).ID, "without a limit")
	assert.Equal(t, "a2", b.next(other).ID)
}

// Of many slots with a limit only those above it get work.
func TestMinPendingIsTheNumberThatIsLeft(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	q.SetMinPending(pool, 5)
	b.publishMany(address("a"), 7)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string, 10)
	ended := make(chan struct{})
	for range 6 {
		go func() {
			defer func() { ended <- struct{}{} }()
			if j, err := q.Next(ctx); err == nil {
				got <- j.ID
			}
		}()
	}
	ids := []string{<-got, <-got, <-got}
	assert.ElementsMatch(t, []string{"a0", "a1", "a2"}, ids)
	b.eventuallyPending(address(""), 4)
	b.eventuallyWaiting(address(""))
	b.publish(on(broker.LaneCPU, "cpu"))
	assert.Equal(t, "cpu", <-got, "no fourth one of the any lane")
	cancel()
	for range 6 {
		<-ended
	}
}

// Three requests against a limit of 32 are taken as soon as it is given up: the
// pull that waits at the server for 32 does not delay them.
func TestMinPendingIsGivenUpAtOnce(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	q.SetMinPending(pool, 32)
	got := b.nextSoon(q)
	b.eventuallyWaiting(address(""))
	b.publishMany(address("a"), 3)
	began := time.Now()
	q.SetMinPending(pool, 0)
	assert.Equal(t, "a0", (<-got).ID)
	assert.Equal(t, "a1", b.next(q).ID)
	assert.Equal(t, "a2", b.next(q).ID)
	assert.Less(t, time.Since(began), 4*time.Second, "a pull waits for 5 s")
}

// The server does not look for a request for a pull that does not wait while more
// pulls wait than requests. Those with a limit must not hide an interactive one.
func TestWaitingPullsHideNothing(t *testing.T) {
	b := newBench(t)
	for range 3 {
		limited := b.queue(b.connect(b.server.URL(), broker.Options{}))
		limited.SetMinPending(pool, 32)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, err := limited.Next(ctx)
			assert.ErrorIs(t, err, context.Canceled)
		}()
		t.Cleanup(func() { cancel(); <-ended })
	}
	batch := address("batch")
	batch.Priority = broker.Batch
	for _, a := range []broker.Address{address(""), batch} {
		require.Eventually(t, func() bool { return b.consumer(a).NumWaiting == 3 }, time.Minute, time.Millisecond)
	}
	b.publishMany(batch, 1)
	b.publishMany(address("inter"), 1)
	q := b.queue(b.Broker)
	assert.Equal(t, "inter0", b.next(q).ID)
	assert.Equal(t, "batch0", b.next(q).ID)
}

// However many interactive requests wait, of every five requests one is a batch one.
func TestBatchHasItsShare(t *testing.T) {
	b := newBench(t)
	batch := address("batch")
	batch.Priority = broker.Batch
	b.publishMany(address("inter"), 20)
	b.publishMany(batch, 3)
	q := b.queue(b.Broker)
	order := func(n int) string {
		kinds := make([]byte, n)
		for i := range kinds {
			kinds[i] = b.next(q).Priority[0]
		}
		return string(kinds)
	}
	assert.Equal(t, "iiiibiiiib", order(10))
	q.SetBatchEvery(0)
	assert.Equal(t, "iiiiii", order(6), "strictly")
	q.SetBatchEvery(5)
	assert.Equal(t, "b", order(1))
	assert.Equal(t, "iiiiii", order(6), "a turn that none uses costs nothing")
}
