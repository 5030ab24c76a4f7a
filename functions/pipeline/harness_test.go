package pipeline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/kernels"
	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
	"genfn/bindings/tensor/tensortest"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
)

const (
	tiny    = "testdata/tiny-sd"
	goldens = "testdata/golden"
)

// kernelSet is the C library where the binary has it, as in production.
func kernelSet(t testing.TB) *kernels.Set {
	t.Helper()
	k, err := kernels.Open(t.TempDir())
	if errors.Is(err, kernels.ErrNotBuilt) {
		return kernels.Reference()
	}
	require.NoError(t, err)
	return k
}

// newRuntime opens OpenVINO with a ledger that must be empty at the end of t.
func newRuntime(t testing.TB) *openvino.Runtime {
	t.Helper()
	dir := os.Getenv(openvino.LibraryDirEnv)
	if dir == "" {
		wd, err := os.Getwd()
		require.NoError(t, err)
		dir = filepath.Join(wd, "../../.runtime/openvino")
	}
	r, err := openvino.Open(openvino.Options{LibraryDir: dir, Ledger: tensortest.NewLedger(t)})
	require.NoError(t, err, "these tests need OpenVINO: run `make runtime`")
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// bench is a pipeline over a model folder with what it stands on.
type bench struct {
	*pipeline.TextToImage
	runtime *openvino.Runtime
	ledger  *tensor.Ledger
	model   *model.Model
}

func open(t testing.TB, dir string, o session.Options) bench {
	t.Helper()
	b, err := tryOpen(t, dir, o)
	require.NoError(t, err)
	return b
}

func tryOpen(t testing.TB, dir string, o session.Options) (bench, error) {
	t.Helper()
	m, err := model.Open(dir)
	require.NoError(t, err)
	r := newRuntime(t)
	loader := session.NewLoader(r, o)
	t.Cleanup(func() { require.NoError(t, loader.Close()) })
	p, err := pipeline.NewTextToImage(t.Context(), m, loader, kernelSet(t), pipeline.Options{})
	if err != nil {
		return bench{}, err
	}
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return bench{p, r, r.Ledger(), m}, nil
}

// shared is one pipeline over the tiny model for tests that only generate.
var shared struct {
	sync.Once
	bench
}

// sharedTiny lives as long as the test binary, so its ledger cannot be a test's.
func sharedTiny(t testing.TB) bench {
	t.Helper()
	shared.Do(func() {
		m, err := model.Open(tiny)
		require.NoError(t, err)
		wd, err := os.Getwd()
		require.NoError(t, err)
		dir := os.Getenv(openvino.LibraryDirEnv)
		if dir == "" {
			dir = filepath.Join(wd, "../../.runtime/openvino")
		}
		ledger := tensor.NewLedger()
		r, err := openvino.Open(openvino.Options{LibraryDir: dir, Ledger: ledger})
		require.NoError(t, err, "these tests need OpenVINO: run `make runtime`")
		p, err := pipeline.NewTextToImage(context.Background(), m, session.NewLoader(r, session.Options{MaxShapes: 8}), kernelSet(t), pipeline.Options{})
		require.NoError(t, err)
		shared.bench = bench{p, r, ledger, m}
	})
	require.NotNil(t, shared.TextToImage, "an earlier test could not open the tiny model")
	return shared.bench
}

// golden is one case of the file cases.json in a folder of goldens.
type golden struct {
	Name           string  `json:"name"`
	Prompt         string  `json:"prompt"`
	NegativePrompt string  `json:"negative_prompt"`
	Scheduler      string  `json:"scheduler"`
	Width          int     `json:"width"`
	Height         int     `json:"height"`
	Steps          int     `json:"steps"`
	GuidanceScale  float64 `json:"guidance_scale"`
	Seed           uint64  `json:"seed"`
	Count          int     `json:"count"`
	LatentsGiven   bool    `json:"latents_given"`
	PredictionType string  `json:"prediction_type"`

	dir string // of its files
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, into))
}

func cases(t testing.TB) []golden { return casesOf(t, goldens) }

func casesOf(t testing.TB, dir string) []golden {
	t.Helper()
	var all []golden
	readJSON(t, filepath.Join(dir, "cases.json"), &all)
	require.NotEmpty(t, all)
	for i := range all {
		all[i].dir = dir
	}
	return all
}

func goldenNamed(t testing.TB, name string) golden {
	t.Helper()
	for _, c := range cases(t) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no golden %q", name)
	return golden{}
}

func (c golden) array(t testing.TB, part string) *imagefile.Array {
	t.Helper()
	f, err := os.Open(filepath.Join(c.dir, c.Name+"."+part+".npy"))
	require.NoError(t, err)
	defer f.Close()
	a, err := imagefile.ReadNPY(f, 1<<20)
	require.NoError(t, err)
	return &a
}

func (c golden) request(t testing.TB) pipeline.ImageRequest {
	t.Helper()
	r := pipeline.ImageRequest{
		Prompt: c.Prompt, NegativePrompt: c.NegativePrompt, Width: c.Width, Height: c.Height, Steps: c.Steps, Count: c.Count,
		GuidanceScale: c.GuidanceScale, Seed: c.Seed, Scheduler: c.Scheduler, OutputLatents: true,
	}
	if c.LatentsGiven {
		r.Latents = c.array(t, "initial")
	}
	return r
}

func (c golden) image(t testing.TB, index int) imagefile.Image {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, fmt.Sprintf("%s.%d.png", c.Name, index)))
	require.NoError(t, err)
	img, err := png.Decode(bytes.NewReader(data))
	require.NoError(t, err)
	size := img.Bounds().Size()
	out := imagefile.Image{Width: size.X, Height: size.Y}
	for y := range size.Y {
		for x := range size.X {
			r, g, b, _ := img.At(x, y).RGBA()
			out.Pix = append(out.Pix, byte(r>>8), byte(g>>8), byte(b>>8))
		}
	}
	return out
}

// relative is max|a-b| / max|b|.
func relative(a, b []float32) float64 {
	var diff, top float64
	for i := range b {
		diff = max(diff, math.Abs(float64(a[i])-float64(b[i])))
		top = max(top, math.Abs(float64(b[i])))
	}
	return diff / top
}

// worstPixel is the largest difference of a byte.
func worstPixel(a, b []byte) int {
	worst := 0
	for i := range b {
		worst = max(worst, int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return worst
}

// copyTiny returns a writable copy of the tiny model with a changed JSON file: a nil value removes the key.
func copyTiny(t testing.TB, file string, changes map[string]any) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tiny-sd")
	require.NoError(t, os.CopyFS(dir, os.DirFS(tiny)))
	if file != "" {
		edit(t, filepath.Join(dir, file), changes)
	}
	return dir
}

func edit(t testing.TB, path string, changes map[string]any) {
	t.Helper()
	values := map[string]any{}
	readJSON(t, path, &values)
	for k, v := range changes {
		if v == nil {
			delete(values, k)
		} else {
			values[k] = v
		}
	}
	data, err := json.Marshal(values)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o644))
}
