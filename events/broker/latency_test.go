package broker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/eventstest"
)

// One request in flight: from before its publish until a waiting slot has it,
// and on to its acknowledged terminal event. Both with and without an fsync for
// every write.
func BenchmarkRequest(b *testing.B) {
	for name, options := range map[string][]eventstest.Option{"nosync": nil, "sync": {eventstest.WithSync()}} {
		b.Run(name, func(b *testing.B) { benchmarkRequest(b, eventstest.Start(b, options...)) })
	}
}

func benchmarkRequest(b *testing.B, s *eventstest.Server) {
	ctx := b.Context()
	sender, err := broker.Connect(s.URL(), broker.Options{})
	require.NoError(b, err)
	defer sender.Close()
	holder, err := broker.Connect(s.URL(), broker.Options{})
	require.NoError(b, err)
	defer holder.Close()
	c := broker.DefaultConfig()
	require.NoError(b, holder.Setup(ctx, c))
	require.NoError(b, holder.EnsurePool(ctx, c, pool))
	q, err := holder.Subscribe([]string{pool}, broker.Lanes())
	require.NoError(b, err)
	defer q.Close(context.WithoutCancel(ctx))

	arrived, opened, begun, finished := make([]time.Duration, b.N), make([]time.Duration, b.N), make([]time.Duration, b.N), make([]time.Duration, b.N)
	requests := make([]events.Event, b.N)
	terminals := make([]events.Event, b.N)
	for i := range requests {
		id := fmt.Sprintf("id%d", i)
		requests[i], err = events.NewRequest(events.TypeImageGenerate, events.Meta{RequestID: id, Source: "/test"}, events.ImageGenerate{Model: model, Prompt: "a red apple"})
		require.NoError(b, err)
		terminals[i], err = events.NewAnswer(events.TypeFailed, events.Meta{RequestID: id, Source: "/test"}, events.Failed{Error: events.Errorf(events.CodeHang, "x")})
		require.NoError(b, err)
	}
	b.ResetTimer()
	for i := range b.N {
		var start time.Time
		waiting, published := make(chan struct{}), make(chan error, 1)
		go func() {
			<-waiting
			start = time.Now()
			published <- sender.PublishRequest(ctx, address(fmt.Sprintf("id%d", i)), requests[i])
		}()
		close(waiting)
		j, err := q.Next(ctx)
		at := time.Now()
		require.NoError(b, err)
		_, ok, err := j.Open(ctx)
		require.NoError(b, err)
		require.True(b, ok)
		o := time.Now()
		a, err := j.Begin(ctx, broker.AttemptRecord{Instance: "i"})
		require.NoError(b, err)
		beg := time.Now()
		won, err := a.Finish(ctx, terminals[i])
		require.NoError(b, err)
		require.True(b, won)
		fin := time.Now()
		require.NoError(b, <-published)
		arrived[i], opened[i], begun[i], finished[i] = at.Sub(start), o.Sub(at), beg.Sub(o), fin.Sub(beg)
		require.NoError(b, j.Done(ctx))
	}
	b.StopTimer()
	for name, d := range map[string][]time.Duration{"arrive": arrived, "open": opened, "begin": begun, "finish": finished} {
		b.ReportMetric(median(d), name+"-µs")
	}
}

// median returns the median in microseconds.
func median(d []time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(d))
	return float64(sorted[len(sorted)/2].Nanoseconds()) / 1000
}
