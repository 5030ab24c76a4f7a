package pipeline_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/onnxruntime"
	"genfn/functions/model"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
)

// openONNX opens a model on ONNX Runtime, with OpenVINO's ledger.
func openONNX(t testing.TB, dir string) bench {
	t.Helper()
	m, err := model.Open(dir)
	require.NoError(t, err)
	r := newRuntime(t)
	onnx, err := onnxruntime.Open(onnxruntime.Options{LibraryDir: checkout.Path(t, ".runtime", "onnxruntime"), Ledger: r.Ledger()})
	require.NoError(t, err)
	loader := session.NewLoader(r, session.Options{ONNX: onnx, Threads: 2})
	t.Cleanup(func() { require.NoError(t, loader.Close()) })
	p, err := pipeline.NewTextToImage(t.Context(), m, loader, kernelSet(t), pipeline.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return bench{p, r, r.Ledger(), m}
}

func TestONNXProbe(t *testing.T) {
	a, b := open(t, emoji, session.Options{Threads: 2}), openONNX(t, emoji)
	r := pipeline.ImageRequest{Prompt: "a red apple", Width: 64, Height: 64, Steps: 10, Count: 1, GuidanceScale: 4, Seed: 3, OutputLatents: true}
	for range 2 {
		x, err := a.Generate(t.Context(), r, nil)
		require.NoError(t, err)
		y, err := b.Generate(t.Context(), r, nil)
		require.NoError(t, err)
		t.Logf("latents %.2e pixels %d %v %v", relative(y.Latents.Data, x.Latents.Data), worstPixel(y.Images[0].Pix, x.Images[0].Pix), x.TimingsMS, y.TimingsMS)
	}
}
