package pipeline_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/onnxruntime"
	"genfn/functions/model"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
)

// openONNX opens a model on ONNX Runtime in a precision, with OpenVINO's ledger.
func openONNX(t testing.TB, dir, precision string) bench {
	t.Helper()
	m, err := model.Open(dir)
	require.NoError(t, err)
	r := newRuntime(t)
	onnx, err := onnxruntime.Open(onnxruntime.Options{LibraryDir: checkout.Path(t, ".runtime", "onnxruntime"), Ledger: r.Ledger()})
	require.NoError(t, err)
	loader := session.NewLoader(r, session.Options{ONNX: onnx, Threads: 2, Precision: precision})
	t.Cleanup(func() { require.NoError(t, loader.Close()) })
	p, err := pipeline.NewTextToImage(t.Context(), m, loader, kernelSet(t), pipeline.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return bench{p, r, r.Ledger(), m}
}

// emojiAsONNX is the demo model with its ONNX files alone.
func emojiAsONNX(t testing.TB) string {
	t.Helper()
	source, dir := checkout.Path(t, "deploy", "models", "emoji"), t.TempDir()
	require.NoError(t, filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(source, path)
		switch {
		case err != nil || strings.HasPrefix(d.Name(), "openvino_model."):
			return err
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, name), 0o755)
		}
		return os.Symlink(path, filepath.Join(dir, name))
	}))
	return dir
}

// TestRuntimesAgree: ONNX Runtime and OpenVINO make of the same ONNX files what diffusers makes of the checkpoint that
// they were exported from, and the same as each other: latents within 1e-4 relative, pixels within 1 (measured: 3e-6 and 1).
func TestRuntimesAgree(t *testing.T) {
	dir := emojiAsONNX(t)
	runtimes := []struct {
		name string
		bench
	}{{"ONNX Runtime", openONNX(t, dir, "")}, {"OpenVINO", open(t, dir, session.Options{Threads: 2})}}
	for _, c := range casesOf(t, "testdata/golden-emoji") {
		var latents [][]float32
		for _, on := range runtimes {
			r, err := on.Generate(t.Context(), c.request(t), nil)
			require.NoError(t, err, on.name)
			latents = append(latents, r.Latents.Data)
			diff, worst := relative(r.Latents.Data, c.array(t, "final").Data), 0
			require.Len(t, r.Images, c.Count)
			for i, img := range r.Images {
				worst = max(worst, worstPixel(img.Pix, c.image(t, i).Pix))
			}
			t.Logf("%s, %s: latents differ from diffusers by %.1e, pixels by %d; milliseconds %v", c.Name, on.name, diff, worst, r.TimingsMS)
			assert.LessOrEqual(t, diff, 1e-4, on.name)
			assert.LessOrEqual(t, worst, 1, on.name)
			assert.Equal(t, "f32", r.Precision)
		}
		between := relative(latents[0], latents[1])
		t.Logf("%s: runtimes differ by %.1e", c.Name, between)
		assert.LessOrEqual(t, between, 1e-4)
	}
}

// TestFloat16 compares the demo model's float16 files, on ONNX Runtime, with what diffusers makes of the checkpoint in
// float32: latents within 5e-3 relative, pixels within 3 (measured: 1e-3 and 1). Outside of the networks all is float32.
func TestFloat16(t *testing.T) {
	b := openONNX(t, emojiAsONNX(t), "f16")
	compared := 0
	for _, c := range casesOf(t, "testdata/golden-emoji") {
		if c.Name != "ddim" && c.Name != "euler_ancestral" { // with and without noise at each step
			continue
		}
		compared++
		r, err := b.Generate(t.Context(), c.request(t), nil)
		require.NoError(t, err)
		diff, worst := relative(r.Latents.Data, c.array(t, "final").Data), 0
		for i, img := range r.Images {
			worst = max(worst, worstPixel(img.Pix, c.image(t, i).Pix))
		}
		t.Logf("%s: latents differ by %.1e, pixels by %d; milliseconds %v", c.Name, diff, worst, r.TimingsMS)
		assert.LessOrEqual(t, diff, 5e-3)
		assert.LessOrEqual(t, worst, 3)
		assert.Positive(t, diff, "it is float16")
		assert.Equal(t, "f16", r.Precision)
	}
	require.Equal(t, 2, compared)
}
