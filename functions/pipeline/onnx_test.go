package pipeline_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/openvino"
	"genfn/functions/cudadevice"
	"genfn/functions/cudadevice/cudadevicetest"
	"genfn/functions/diffusion"
	"genfn/functions/model"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
)

// openONNX opens a model on ONNX Runtime in a precision, with OpenVINO's ledger.
func openONNX(t testing.TB, dir, precision string) bench {
	t.Helper()
	return openONNXOn(t, dir, precision, newRuntime(t), nil)
}

// openCUDA opens a model on the virtual CUDA device.
func openCUDA(t testing.TB, dir, precision string) bench {
	t.Helper()
	r := newRuntime(t)
	return openONNXOn(t, dir, precision, r, cudadevicetest.Open(t, r.Ledger()))
}

func openONNXOn(t testing.TB, dir, precision string, r *openvino.Runtime, d *cudadevice.Device) bench {
	t.Helper()
	m, err := model.Open(dir)
	require.NoError(t, err)
	onnx, err := onnxruntime.Open(onnxruntime.Options{LibraryDir: checkout.Path(t, ".runtime", "onnxruntime"), Ledger: r.Ledger()})
	require.NoError(t, err)
	loader := session.NewLoader(r, session.Options{ONNX: onnx, Threads: 2, CUDA: d, Precision: precision, Kernels: kernelSet(t)})
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

// TestRuntimesAgree: ONNX Runtime, on the CPU and with everything in a CUDA device's memory, and OpenVINO make of the same
// ONNX files what diffusers makes of the checkpoint that they were exported from, and the same as each other: latents
// within 1e-4 relative, pixels within 1 (measured: 3e-6 and 1). All schedulers are tried on the CUDA path, as many on
// the others as find what is theirs.
func TestRuntimesAgree(t *testing.T) {
	type on struct {
		name string
		bench
	}
	dir := emojiAsONNX(t)
	all := []on{{"CUDA", openCUDA(t, dir, "")}, {"ONNX Runtime", openONNX(t, dir, "")}, {"OpenVINO", open(t, dir, session.Options{Threads: 2})}}
	cases := casesOf(t, "testdata/golden-emoji")
	require.Len(t, cases, len(slices.DeleteFunc(diffusion.Names(), func(name string) bool { return strings.HasSuffix(name, "Scheduler") })))
	for i, c := range cases {
		runtimes := all
		if i >= 3 {
			runtimes = all[:1]
		}
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
		if len(latents) == 1 {
			continue
		}
		assert.Equal(t, latents[0], latents[1], "of ONNX Runtime on the CPU and over the virtual device's memory, every bit is the same")
		between := relative(latents[0], latents[2])
		t.Logf("%s: runtimes differ by %.1e", c.Name, between)
		assert.LessOrEqual(t, between, 1e-4)
	}
}

// TestFloat16 compares the demo model's float16 files, on ONNX Runtime on the CPU and over a CUDA device's memory, with what diffusers makes of the checkpoint in
// float32: latents within 5e-3 relative, pixels within 3 (measured: 1e-3 and 1). Outside of the networks all is float32.
func TestFloat16(t *testing.T) {
	dir := emojiAsONNX(t)
	cpu, device := openONNX(t, dir, "f16"), openCUDA(t, dir, "f16")
	compared := 0
	for _, c := range casesOf(t, "testdata/golden-emoji") {
		if c.Name != "ddim" && c.Name != "euler_ancestral" { // with and without noise at each step
			continue
		}
		compared++
		r, err := cpu.Generate(t.Context(), c.request(t), nil)
		require.NoError(t, err)
		same, err := device.Generate(t.Context(), c.request(t), nil)
		require.NoError(t, err)
		assert.Equal(t, r.Latents.Data, same.Latents.Data, "the device's kernels round as the host does")
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
