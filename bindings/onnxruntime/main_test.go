package onnxruntime_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/onnxruntime/onnxtest"
	"genfn/bindings/tensor"
	"genfn/bindings/tensor/tensortest"
)

// newRuntime opens ONNX Runtime with a ledger that must be empty at the end of t.
func newRuntime(t testing.TB) *onnxruntime.Runtime {
	t.Helper()
	r, err := onnxruntime.Open(onnxruntime.Options{LibraryDir: checkout.Path(t, ".runtime", "onnxruntime"), Ledger: tensortest.NewLedger(t)})
	require.NoError(t, err)
	return closing(t, r)
}

// closing closes x at the end of t.
func closing[T io.Closer](t testing.TB, x T) T {
	t.Helper()
	t.Cleanup(func() { assert.NoError(t, x.Close()) })
	return x
}

// newSession reads a network on two threads, which do not spin.
func newSession(t testing.TB, r *onnxruntime.Runtime, name string, g *onnxtest.Graph) *onnxruntime.Session {
	t.Helper()
	e, err := r.NewEnv()
	require.NoError(t, err)
	s, err := closing(t, e).NewSession(onnxtest.Write(t, name, g), onnxruntime.SessionOptions{Threads: 2, NoSpinning: true})
	require.NoError(t, err)
	return closing(t, s)
}

// buffer makes a buffer of the given shape and elements.
func buffer(t testing.TB, r *onnxruntime.Runtime, shape tensor.Shape, elements ...float32) *tensor.Buffer {
	t.Helper()
	b, err := tensor.New(r.Ledger(), t.Name(), tensor.F32, shape)
	require.NoError(t, err)
	copy(b.F32(), elements)
	return closing(t, b)
}

// tensorOf makes a tensor over b.
func tensorOf(t testing.TB, r *onnxruntime.Runtime, b *tensor.Buffer) *onnxruntime.Tensor {
	t.Helper()
	x, err := r.TensorOf(b)
	require.NoError(t, err)
	return closing(t, x)
}

// bound is a binding of onnxtest.Affine to buffers.
type bound struct {
	*onnxruntime.Binding
	x, y *tensor.Buffer
}

func newBound(t testing.TB, r *onnxruntime.Runtime, s *onnxruntime.Session, rows int64) bound {
	t.Helper()
	b, err := s.NewBinding()
	require.NoError(t, err)
	closing(t, b)
	x, y := buffer(t, r, tensor.Shape{rows, 4}), buffer(t, r, tensor.Shape{rows, 3})
	require.NoError(t, b.SetInput(0, tensorOf(t, r, x)))
	require.NoError(t, b.SetOutput(0, tensorOf(t, r, y)))
	return bound{b, x, y}
}

// affine is onnxtest.Affine in Go.
func affine(x []float32) []float32 {
	var y []float32
	for ; len(x) >= 4; x = x[4:] {
		for j, sum := range [3]float32{0.5, -1, 100} {
			for i := range 4 {
				sum += x[i] * float32(3*i+j+1)
			}
			y = append(y, sum)
		}
	}
	return y
}
