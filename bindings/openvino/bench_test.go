package openvino_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/tensor"
)

// BenchmarkCalls measures the calls of a denoising step, on a model that computes next to nothing.
func BenchmarkCalls(b *testing.B) {
	r := newRuntime(b)
	q := newRequest(b, compileModel(b, newCore(b, r), affineXML))
	x, y := f32(b, r, tensor.Shape{1, 4}), f32(b, r, tensor.Shape{1, 3})
	require.NoError(b, q.SetInput(0, x))
	require.NoError(b, q.SetOutput(0, y))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for name, call := range map[string]func() error{
		"SetInput":         func() error { return q.SetInput(0, x) },
		"Infer":            func() error { return q.Infer(context.Background()) },
		"InferCancellable": func() error { return q.Infer(ctx) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
