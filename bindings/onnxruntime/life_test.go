package onnxruntime_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/onnxruntime"
	"genfn/bindings/onnxruntime/onnxtest"
	"genfn/bindings/tensor"
)

func TestCloseInAnyOrder(t *testing.T) {
	r := newRuntime(t)
	e, err := r.NewEnv()
	require.NoError(t, err)
	s, err := e.NewSession(onnxtest.Write(t, "affine.onnx", onnxtest.Affine()), onnxruntime.SessionOptions{Threads: 1})
	require.NoError(t, err)
	require.NoError(t, e.Close())
	b, err := s.NewBinding()
	require.NoError(t, err)
	require.NoError(t, s.Close())
	x, err := tensor.New(r.Ledger(), "x", tensor.F32, tensor.Shape{1, 4})
	require.NoError(t, err)
	copy(x.F32(), []float32{1, 2, 3, 4})
	y := buffer(t, r, tensor.Shape{1, 3})
	in, err := r.TensorOf(x)
	require.NoError(t, err)
	require.NoError(t, x.Close())
	require.NoError(t, b.SetInput(0, in))
	require.NoError(t, in.Close())
	require.NoError(t, b.SetOutput(0, tensorOf(t, r, y)))
	require.NoError(t, r.Close())

	require.NoError(t, b.Run(t.Context()), "the binding keeps what it needs")
	assert.Equal(t, affine([]float32{1, 2, 3, 4}), y.F32())
	require.NoError(t, b.Close())
	require.NoError(t, b.Close(), "twice")
	require.ErrorIs(t, b.Run(t.Context()), onnxruntime.ErrClosed)
	require.ErrorIs(t, b.SetInput(0, in), onnxruntime.ErrClosed)
	_, err = s.NewBinding()
	require.ErrorIs(t, err, onnxruntime.ErrClosed)
	_, err = e.NewSession("x.onnx", onnxruntime.SessionOptions{})
	require.ErrorIs(t, err, onnxruntime.ErrClosed)
	_, err = r.NewEnv()
	require.ErrorIs(t, err, onnxruntime.ErrClosed)
	_, err = r.TensorOf(y)
	require.ErrorIs(t, err, onnxruntime.ErrClosed)
	_, err = r.Providers()
	require.ErrorIs(t, err, onnxruntime.ErrClosed)
}

func TestNothing(t *testing.T) {
	var (
		r *onnxruntime.Runtime
		e *onnxruntime.Env
		s *onnxruntime.Session
		b *onnxruntime.Binding
		x *onnxruntime.Tensor
	)
	for _, nothing := range []interface{ Close() error }{r, e, s, b, x, new(onnxruntime.Runtime), new(onnxruntime.Env), new(onnxruntime.Session), new(onnxruntime.Binding), new(onnxruntime.Tensor)} {
		require.NoError(t, nothing.Close())
	}
	_, err := r.NewEnv()
	require.ErrorIs(t, err, onnxruntime.ErrClosed)
	_, err = e.NewSession("x", onnxruntime.SessionOptions{})
	require.ErrorIs(t, err, onnxruntime.ErrClosed)
	_, err = s.NewBinding()
	require.ErrorIs(t, err, onnxruntime.ErrClosed)
	require.ErrorIs(t, b.Run(t.Context()), onnxruntime.ErrClosed)
	require.ErrorIs(t, b.SetOutput(0, x), onnxruntime.ErrClosed)
	assert.Empty(t, s.Inputs())
	assert.Empty(t, s.Outputs())
	_, err = newRuntime(t).TensorOf(nil)
	require.ErrorContains(t, err, "no buffer")
}

func TestUnclosedObjectsAreFound(t *testing.T) {
	ledger := tensor.NewLedger()
	opened := newRuntime(t)
	r, err := onnxruntime.Open(onnxruntime.Options{LibraryDir: opened.Library()[:len(opened.Library())-len("/libonnxruntime.so.1.31.1")], Ledger: ledger})
	require.NoError(t, err)
	closing(t, r)
	s := newSession(t, r, "affine.onnx", onnxtest.Affine())
	b, err := s.NewBinding()
	require.NoError(t, err)
	closing(t, b)
	var kinds []string
	for _, entry := range ledger.Outstanding() {
		kinds = append(kinds, entry.Kind)
		assert.Contains(t, entry.Site, "_test.go")
	}
	assert.Equal(t, []string{"environment", "session", "binding"}, kinds)
}

func BenchmarkRun(b *testing.B) {
	r := newRuntime(b)
	q := newBound(b, r, newSession(b, r, "affine.onnx", onnxtest.Affine()), 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Run(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
