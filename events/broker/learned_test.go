package broker_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events/broker"
	"genfn/events/eventstest"
)

// watched is what a watcher of the learned entries has found.
type watched struct {
	mu      sync.Mutex
	entries map[string]broker.Learned // by work
	calls   int
}

func (w *watched) found(l broker.Learned) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.entries == nil {
		w.entries = map[string]broker.Learned{}
	}
	w.entries[l.Work], w.calls = l, w.calls+1
}

func (w *watched) of(work string) broker.Learned {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.entries[work]
}

func (b *bench) watchLearned(from *broker.Broker) *watched {
	b.t.Helper()
	w := &watched{}
	stop, err := from.WatchLearned(b.t.Context(), w.found)
	require.NoError(b.t, err)
	b.t.Cleanup(stop)
	return w
}

func count(l *broker.Learned) { l.Runs++ }

// TestLearnedByManyAtOnce: no writer's figures are lost, and everybody hears of the last.
func TestLearnedByManyAtOnce(t *testing.T) {
	b := newBench(t)
	live := b.watchLearned(b.Broker)
	const writers, times = 4, 5
	var wg sync.WaitGroup
	for n := range writers {
		other := b.connect(b.server.URL(), broker.Options{})
		wg.Go(func() {
			for range times {
				assert.NoError(t, other.UpdateLearned(t.Context(), "gpu x", "work", func(l *broker.Learned) {
					l.Runs++
					l.PeakBytes = max(l.PeakBytes, int64(100*(n+1)))
				}))
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return live.of("work").Runs == writers*times }, time.Minute, time.Millisecond)
	require.EqualValues(t, 100*writers, live.of("work").PeakBytes)
	later := b.watchLearned(b.connect(b.server.URL(), broker.Options{}))
	require.Equal(t, live.of("work"), later.of("work"), "what was stored is found before the watch begins")
	require.Equal(t, 1, later.calls)
}

// TestLearnedOutlivesTheServer: the entries are on disk.
func TestLearnedOutlivesTheServer(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.UpdateLearned(t.Context(), "cpu", "before", count))
	b.server.Restart()
	require.NoError(t, b.UpdateLearned(t.Context(), "cpu", "after", count))
	w := b.watchLearned(b.Broker)
	require.EqualValues(t, 1, w.of("before").Runs)
	require.Positive(t, w.of("after").Runs, "twice, if the first confirmation was lost with the connection")
}

// TestLearnedIsBounded: full, the bucket forgets what was measured least recently.
func TestLearnedIsBounded(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.LearnedEntries = 3 })
	for n := range 5 {
		require.NoError(t, b.UpdateLearned(t.Context(), "cpu", strconv.Itoa(n), count))
	}
	w := b.watchLearned(b.Broker)
	for n, runs := range []int64{0, 0, 1, 1, 1} {
		require.Equal(t, runs, w.of(strconv.Itoa(n)).Runs, n)
	}
	require.NoError(t, b.UpdateLearned(t.Context(), "cpu", "0", count), "what was forgotten is learned again")
}

// TestForeignEntriesAreIgnored: what others put into the bucket is left out, and replaced where it is in the way.
func TestForeignEntriesAreIgnored(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.UpdateLearned(t.Context(), "cpu", "good", count))
	js, err := jetstream.New(b.nc)
	require.NoError(t, err)
	bucket, err := js.KeyValue(t.Context(), broker.BucketLearned)
	require.NoError(t, err)
	keys, err := bucket.Keys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 1)
	good, err := bucket.Get(t.Context(), keys[0])
	require.NoError(t, err)
	for name, value := range map[string]string{
		"foreign": "not JSON", "negative": `{"device":"cpu","work":"w","runs":-1}`, "elsewhere": string(good.Value()), "empty": "{}",
		"endless": `{"device":"cpu","work":"w","runs":1,"times_ms":{"step":1e300}}`,
		"long":    `{"device":"cpu","work":"` + strings.Repeat("w", 600) + `"}`,
	} {
		_, err := bucket.PutString(t.Context(), name, value)
		require.NoError(t, err)
	}
	w := b.watchLearned(b.Broker)
	require.Equal(t, 1, w.calls, "only ours")
	_, err = bucket.PutString(t.Context(), keys[0], "damaged")
	require.NoError(t, err)
	require.NoError(t, b.UpdateLearned(t.Context(), "cpu", "good", count))
	require.Eventually(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.calls == 2 }, time.Minute, time.Millisecond)
	require.EqualValues(t, 1, w.of("good").Runs, "begun anew")
	require.ErrorContains(t, b.UpdateLearned(t.Context(), "cpu", "good", func(l *broker.Learned) { l.PeakBytes = -5 }), "makes no sense")
	require.NoError(t, bucket.Delete(t.Context(), keys[0]))
	require.NoError(t, b.UpdateLearned(t.Context(), "cpu", "good", count), "after it was deleted by hand")
}

// TestNothingLearnedWithoutSetup: who watches before the bucket is there is told so.
func TestNothingLearnedWithoutSetup(t *testing.T) {
	b := &bench{t: t, server: eventstest.Start(t)}
	one := b.connect(b.server.URL(), broker.Options{})
	_, err := one.WatchLearned(t.Context(), func(broker.Learned) {})
	require.Error(t, err)
	require.Error(t, one.UpdateLearned(t.Context(), "cpu", "work", count))
}
