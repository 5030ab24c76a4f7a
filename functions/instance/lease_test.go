package instance

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/model"
)

// fakeHolder counts extensions and can be told that the request is another's.
type fakeHolder struct {
	extended atomic.Int64
	stale    atomic.Bool
	deaf     atomic.Bool // the broker does not answer
	each     chan struct{}
}

func newHolder() *fakeHolder { return &fakeHolder{each: make(chan struct{}, 1000)} }

func (h *fakeHolder) Extend() error {
	h.extended.Add(1)
	select {
	case h.each <- struct{}{}:
	default:
	}
	if h.deaf.Load() {
		return errors.New("no connection")
	}
	return nil
}

func (h *fakeHolder) Current(context.Context) (bool, error) {
	if h.deaf.Load() {
		return false, errors.New("no connection")
	}
	return !h.stale.Load(), nil
}

func TestLeaseEndsWithoutProgress(t *testing.T) {
	h := newHolder()
	ctx, l := newLease(t.Context(), h, time.Millisecond, 30*time.Millisecond, slog.New(slog.DiscardHandler))
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), errHang)
	require.Positive(t, h.extended.Load(), "it was extended as long as the budget lasted")
	count := h.extended.Load()
	l.Stop()
	l.Stop()
	require.Equal(t, count, h.extended.Load(), "never extended after the hang")
}

func TestLeaseGoesOnWithProgress(t *testing.T) {
	h := newHolder()
	ctx, l := newLease(t.Context(), h, time.Millisecond, time.Hour, slog.New(slog.DiscardHandler))
	for range 20 {
		<-h.each
	}
	require.NoError(t, ctx.Err())
	l.Progress(0)
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), errHang)
	l.Stop()
}

// TestLeaseEndsAtItsDeadline: a hang is found when the budget is over, not when the lease is extended next.
func TestLeaseEndsAtItsDeadline(t *testing.T) {
	ctx, l := newLease(t.Context(), newHolder(), time.Hour, time.Millisecond, slog.New(slog.DiscardHandler))
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), errHang)
	l.Stop()

	ctx, l = newLease(t.Context(), newHolder(), time.Hour, time.Hour, slog.New(slog.DiscardHandler))
	l.Progress(time.Hour)
	l.Progress(time.Millisecond)
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), errHang, "also when the budget became shorter")
	l.Stop()
}

func TestLeaseNoticesAnotherHolder(t *testing.T) {
	h := newHolder()
	ctx, l := newLease(t.Context(), h, time.Millisecond, time.Hour, slog.New(slog.DiscardHandler))
	<-h.each
	h.stale.Store(true)
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), errStale)
	l.Stop()
}

func TestLeaseWithoutBrokerDecidesNothing(t *testing.T) {
	h := newHolder()
	h.deaf.Store(true)
	ctx, l := newLease(t.Context(), h, time.Millisecond, time.Hour, slog.New(slog.DiscardHandler))
	for range 10 {
		<-h.each
	}
	require.NoError(t, ctx.Err())
	l.Stop()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.NotErrorIs(t, context.Cause(ctx), errHang)
}

func TestLeaseOutlivesItsCancelledWork(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	h := newHolder()
	_, l := newLease(parent, h, time.Millisecond, time.Hour, slog.New(slog.DiscardHandler))
	cancel()
	for range 10 {
		<-h.each
	}
	l.Stop()
}

func TestLeaseForgivesItsOwnPause(t *testing.T) {
	l := &lease{interval: time.Second, budget: time.Minute, deadline: time.Now().Add(-time.Second), log: slog.New(slog.DiscardHandler)}
	l.forgive(2 * time.Second)
	require.True(t, l.late(time.Now()), "a tick that is a little late is no excuse")
	l.forgive(4 * time.Second)
	require.False(t, l.late(time.Now()))
}

func TestBudgets(t *testing.T) {
	l := newLearned(Budgets{Floor: time.Second, Factor: 4, Stage: time.Minute, Load: time.Hour, Store: 7 * time.Second}, events.DeviceCPU, nil)
	shape := shapeKey("m", 64, 64, 1, true, model.Economy{})
	require.Equal(t, time.Minute, l.budget(shape, stageStep))
	l.note(shape, stageStep, 2*time.Second)
	require.Equal(t, 8*time.Second, l.budget(shape, stageStep))
	l.note(shape, stageStep, time.Second)
	require.Equal(t, 4*1700*time.Millisecond, l.budget(shape, stageStep), "newer times weigh more, old ones are not forgotten")
	l.note(shape, events.StageVAEDecode, time.Millisecond)
	require.Equal(t, time.Second, l.budget(shape, events.StageVAEDecode), "the floor")
	require.Equal(t, time.Hour, l.budget(shape, events.StageLoad))
	require.Equal(t, 7*time.Second, l.budget(shape, events.StageStore))
	other := shapeKey("m", 64, 64, 2, true, model.Economy{})
	require.Equal(t, time.Minute, l.budget(other, stageStep), "nothing is known of another shape")
	for i := range 2 * maxLearned {
		l.note(shapeKey("m", i, 64, 1, true, model.Economy{}), stageStep, time.Second)
	}
	require.LessOrEqual(t, len(l.figures.entries), maxLearned)
}

// TestPrediction: what one class of device took says nothing of another.
func TestPrediction(t *testing.T) {
	figures := NewFigures()
	l := newLearned(Budgets{}, events.DeviceCPU, figures)
	l.note("shape", events.StageVAEDecode, 300*time.Millisecond)
	_, ok := figures.total(events.DeviceCPU, "shape", 10)
	require.False(t, ok, "no step was measured")
	l.note("shape", stageStep, 50*time.Millisecond)
	took, ok := figures.total(events.DeviceCPU, "shape", 10)
	require.True(t, ok)
	require.Equal(t, 800*time.Millisecond, took)
	_, ok = figures.total(events.DeviceGPU, "shape", 10)
	require.False(t, ok)
}

func TestTrackerAndETA(t *testing.T) {
	l := newLearned(Budgets{}, events.DeviceCPU, nil)
	began := time.Unix(1000, 0)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	run := func() (etas []int64, timings map[string]float64) {
		tr := newTracker(l, "shape", began)
		tr.enter(events.StageLoad, at(0))
		tr.enter(events.StageDenoise, at(100))
		require.Zero(t, tr.progress(at(100)).EtaMS, "nothing is known before the first step")
		for step := 1; step <= 4; step++ {
			tr.done(step, 4, at(100+50*step))
			p := tr.progress(at(100 + 50*step))
			require.Equal(t, step, p.Step)
			require.EqualValues(t, 100+50*step, p.ElapsedMS)
			etas = append(etas, p.EtaMS)
		}
		tr.enter(events.StageVAEDecode, at(300))
		tr.enter(events.StageEncode, at(380))
		tr.leave(at(400))
		return etas, tr.timings
	}
	etas, timings := run()
	require.Equal(t, []int64{150, 100, 50, 0}, etas)
	require.Equal(t, map[string]float64{events.StageLoad: 100, events.StageDenoise: 200, events.StageVAEDecode: 80, events.StageEncode: 20}, timings)
	etas, _ = run()
	require.Equal(t, []int64{250, 200, 150, 100}, etas, "the stages after the steps are known now")
}

func TestPrintable(t *testing.T) {
	require.Equal(t, "a\tb\n.[31m.", printable("a\tb\n\x1b[31m\x00"))
}

func TestPreviewFitsIntoItsEvent(t *testing.T) {
	pix := make([]byte, 3*2000*1000)
	state := uint32(1)
	for i := range pix { // noise: the worst picture for JPEG
		state = state*1664525 + 1013904223
		pix[i] = byte(state >> 24)
	}
	data, err := encodePreview(2000, 1000, pix)
	require.NoError(t, err)
	require.LessOrEqual(t, len(data), previewBytes)
	data, err = encodePreview(1, 1, []byte{1, 2, 3})
	require.NoError(t, err)
	require.NotEmpty(t, data)
}
