package onnxruntime_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"genfn/bindings/onnxruntime"
	"genfn/bindings/onnxruntime/onnxtest"
	"genfn/bindings/tensor"
)

func TestRun(t *testing.T) {
	r := newRuntime(t)
	s := newSession(t, r, "affine.onnx", onnxtest.Affine())
	for _, rows := range []int64{1, 2, 7} {
		b := newBound(t, r, s, rows)
		for round := range 3 {
			for i := range b.x.F32() {
				b.x.F32()[i] = float32(i + 10*round)
			}
			require.NoError(t, b.Run(t.Context()))
			assert.Equal(t, affine(b.x.F32()), b.y.F32())
		}
	}
}

func TestEveryLevelOfOptimizationAndOfMemory(t *testing.T) {
	r := newRuntime(t)
	e, err := r.NewEnv()
	require.NoError(t, err)
	closing(t, e)
	path := onnxtest.Write(t, "affine.onnx", onnxtest.Affine())
	for level := onnxruntime.OptimizeAll; level <= onnxruntime.OptimizeNothing; level++ {
		s, err := e.NewSession(path, onnxruntime.SessionOptions{Threads: 1, Optimization: level, NoArena: true, NoMemoryPattern: true})
		require.NoError(t, err)
		b := newBound(t, r, closing(t, s), 2)
		copy(b.x.F32(), []float32{1, -2, 3, -4, 0.5, 0, 0, 8})
		require.NoError(t, b.Run(t.Context()))
		assert.Equal(t, affine(b.x.F32()), b.y.F32())
	}
	_, err = e.NewSession(path, onnxruntime.SessionOptions{Optimization: onnxruntime.OptimizeNothing + 1})
	require.ErrorContains(t, err, "optimization 4 and 0 threads, expected 0 to 3")
}

// TestOneSessionServesManyBindings runs a network for several users at once, each with its own tensors.
func TestOneSessionServesManyBindings(t *testing.T) {
	r := newRuntime(t)
	s := newSession(t, r, "affine.onnx", onnxtest.Affine())
	var group errgroup.Group
	for worker := range 4 {
		b := newBound(t, r, s, 3)
		group.Go(func() error {
			for i := range 200 {
				b.x.F32()[0] = float32(worker*1000 + i)
				if err := b.Run(t.Context()); err != nil {
					return err
				}
				assert.Equal(t, affine(b.x.F32()), b.y.F32())
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
}

// counting is a binding of onnxtest.Count, which counts to n.
func counting(t *testing.T, n int64) (b *onnxruntime.Binding, y *tensor.Buffer) {
	t.Helper()
	r := newRuntime(t)
	s := newSession(t, r, "count.onnx", onnxtest.Count())
	b, err := s.NewBinding()
	require.NoError(t, err)
	closing(t, b)
	count, err := tensor.New(r.Ledger(), "n", tensor.I64, tensor.Shape{})
	require.NoError(t, err)
	closing(t, count).I64()[0] = n
	y = buffer(t, r, tensor.Shape{1})
	require.NoError(t, b.SetInput(0, tensorOf(t, r, count)))
	require.NoError(t, b.SetInput(1, tensorOf(t, r, buffer(t, r, tensor.Shape{1}, 0.5))))
	require.NoError(t, b.SetOutput(0, tensorOf(t, r, y)))
	return b, y
}

func TestRunEndsWithItsContext(t *testing.T) {
	b, _ := counting(t, math.MaxInt64)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := b.Run(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var failed *onnxruntime.Error
	require.ErrorAs(t, err, &failed, "it was running")
	assert.Equal(t, 1, failed.Code)
	assert.Contains(t, failed.Text, "terminate flag")
	require.ErrorIs(t, b.Run(ctx), context.DeadlineExceeded, "before it begins")
}

func TestBindingGoesOnAfterAStop(t *testing.T) {
	b, y := counting(t, 3)
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, b.Run(ctx))
		cancel()
		assert.Equal(t, []float32{3.5}, y.F32())
	}
	require.NoError(t, b.Run(context.Background()))
}

func TestBusyBindingRefuses(t *testing.T) {
	b, _ := counting(t, math.MaxInt64)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group errgroup.Group
	results := make(chan error, 2)
	for range 2 {
		group.Go(func() error {
			results <- b.Run(ctx)
			return nil
		})
	}
	require.ErrorIs(t, <-results, onnxruntime.ErrBusy, "the one that came second")
	require.ErrorIs(t, b.SetInput(0, nil), onnxruntime.ErrBusy)
	require.NoError(t, b.Close(), "during a run")
	cancel()
	require.ErrorIs(t, <-results, context.Canceled)
	require.NoError(t, group.Wait())
}
