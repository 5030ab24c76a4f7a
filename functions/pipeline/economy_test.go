package pipeline_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/diffusion"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
)

const emoji = "../../deploy/models/emoji"

// meanPixel is the mean difference of two pictures' bytes.
func meanPixel(a, b []byte) float64 {
	sum := 0
	for i := range b {
		sum += max(int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return float64(sum) / float64(len(b))
}

// TestSequentialGuidance: two passes with a batch of one end within 1e-5 relative of one pass with a batch of two,
// pixels within 1. Measured on a CPU with AVX2 they are equal bit for bit; other processors may use other kernels for
// another batch.
func TestSequentialGuidance(t *testing.T) {
	b := open(t, tiny, session.Options{})
	var names []string
	results := map[bool]map[string]*pipeline.ImageResult{}
	for _, sequential := range []bool{false, true} {
		names, results[sequential] = nil, map[string]*pipeline.ImageResult{}
		for _, name := range diffusion.Names() {
			if strings.HasSuffix(name, "Scheduler") {
				continue // the diffusers class of one of the others
			}
			r := request()
			r.Scheduler, r.Steps, r.Count, r.Economy.SequentialGuidance = name, 8, 2, sequential
			got, err := b.Generate(t.Context(), r, nil)
			require.NoError(t, err, name)
			names, results[sequential][name] = append(names, name), got
		}
	}
	for _, name := range names {
		want, got := results[false][name], results[true][name]
		assert.Empty(t, want.Degradations)
		assert.Equal(t, []string{events.DegradationSequentialGuidance}, got.Degradations)
		diff, worst := relative(got.Latents.Data, want.Latents.Data), 0
		for i := range want.Images {
			worst = max(worst, worstPixel(got.Images[i].Pix, want.Images[i].Pix))
		}
		t.Logf("%s: latents differ by %.1e, pixels by %d", name, diff, worst)
		assert.LessOrEqual(t, diff, 1e-5, name)
		assert.LessOrEqual(t, worst, 1, name)
	}
}

// TestGuidanceBatch: one after the other as a choice of speed is no degradation, both forms stay compiled, and the
// pictures are equal within the bounds of TestSequentialGuidance.
func TestGuidanceBatch(t *testing.T) {
	b := open(t, tiny, session.Options{})
	r := request()
	want, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	require.Equal(t, 2, want.GuidanceBatch)
	require.Positive(t, want.StepTime)
	r.GuidanceBatch = 1
	got, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	require.Equal(t, 1, got.GuidanceBatch)
	require.Empty(t, got.Degradations)
	require.Equal(t, 2, compiled(b, "unet"))
	require.LessOrEqual(t, relative(got.Latents.Data, want.Latents.Data), 1e-5)
	require.LessOrEqual(t, worstPixel(got.Images[0].Pix, want.Images[0].Pix), 1)
	r.GuidanceScale = 1
	got, err = b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	require.Zero(t, got.GuidanceBatch)
}

// TestSequentialGuidanceFreesTheBatch: the form for a batch of two is gone, and what a request does not need is not
// called a degradation.
func TestSequentialGuidanceFreesTheBatch(t *testing.T) {
	b := open(t, tiny, session.Options{})
	r := request()
	_, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	both := compiled(b, "unet")
	r.Economy.SequentialGuidance = true
	_, err = b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Equal(t, 1, compiled(b, "unet"))
	assert.Equal(t, 1, both)
	assert.Equal(t, b.Resident(), b.ledger.Bytes())

	r.GuidanceScale = 1
	got, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Empty(t, got.Degradations)
}

// compiled counts the compiled forms of a component.
func compiled(b bench, component string) int {
	n := 0
	for _, e := range b.ledger.Outstanding() {
		if e.Kind == "compiled model" && strings.Contains(e.Owner, component) {
			n++
		}
	}
	return n
}

// TestTiledPictureEqualsDiffusers goes the whole way with tiles that do not divide the picture.
func TestTiledPictureEqualsDiffusers(t *testing.T) {
	b := open(t, tiny, session.Options{})
	c := goldenNamed(t, "native_size")
	r := c.request(t)
	r.Economy = model.Economy{TiledVAE: true, TileSize: 96}
	got, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{events.DegradationTiledVAE}, got.Degradations)
	c.Name = "tiled_native_size"
	assert.LessOrEqual(t, worstPixel(got.Images[0].Pix, c.image(t, 0).Pix), 1)
	assert.Equal(t, b.Resident(), b.ledger.Bytes())
}

// TestTilesAreCloseToTheWhole states what seams and the statistics of a tile cost, in levels of 255: normalizations
// see the tile only, in diffusers as here. Random weights are the worst case.
func TestTilesAreCloseToTheWhole(t *testing.T) {
	for name, c := range map[string]struct {
		dir           string
		width, height int
		tile          int
		mean          float64
	}{
		"tiny, tiles of 64":     {tiny, 96, 64, 64, 16},
		"tiny, by default":      {tiny, 256, 224, 0, 8},
		"demo, tiles of 32":     {emoji, 64, 64, 32, 12},
		"demo, tiles of 48":     {emoji, 72, 56, 48, 5},
		"demo, larger pictures": {emoji, 160, 96, 0, 5},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, c.dir, session.Options{})
			r := request()
			r.Width, r.Height, r.Steps, r.Count, r.GuidanceScale = c.width, c.height, 8, 2, 4
			want, err := b.Generate(t.Context(), r, nil)
			require.NoError(t, err)
			r.Economy = model.Economy{TiledVAE: true, TileSize: c.tile}
			got, err := b.Generate(t.Context(), r, nil)
			require.NoError(t, err)
			assert.Contains(t, got.Degradations, events.DegradationTiledVAE)
			assert.Equal(t, want.Latents, got.Latents)
			for i := range want.Images {
				mean := meanPixel(got.Images[i].Pix, want.Images[i].Pix)
				t.Logf("picture %d: mean %.2f, worst %d", i, mean, worstPixel(got.Images[i].Pix, want.Images[i].Pix))
				assert.LessOrEqual(t, mean, c.mean)
			}
		})
	}
}

// TestSlicing: the pictures of a batch are those of one image at a time, whether whole or in tiles.
func TestSlicing(t *testing.T) {
	b := open(t, tiny, session.Options{})
	for _, e := range []model.Economy{{OffloadModels: true}, {TiledVAE: true, TileSize: 64}} {
		r := request()
		r.Width, r.Count, r.Economy = 96, 2, e
		batch, err := b.Generate(t.Context(), r, nil)
		require.NoError(t, err)
		n := len(batch.Latents.Data) / 2
		for i := range 2 {
			// The noise of image i, by drawing the whole batch of latents from the same seed.
			single := r
			single.Count, single.Latents = 1, noise(t, b, r, i, n)
			got, err := b.Generate(t.Context(), single, nil)
			require.NoError(t, err)
			assert.Equal(t, batch.Images[i], got.Images[0])
		}
	}
}

// noise is the initial latents of image i of a request for two.
func noise(t *testing.T, b bench, r pipeline.ImageRequest, i, n int) *imagefile.Array {
	t.Helper()
	all := make([]float32, 2*n)
	kernelSet(t).TorchNormal(r.Seed).Fill(all)
	return &imagefile.Array{Shape: []int{1, b.model.LatentChannels, r.Height / b.model.VAEScale, r.Width / b.model.VAEScale}, Data: all[i*n : (i+1)*n]}
}

// TestOffload: one network is compiled at a time, none afterwards, and the picture is the same.
func TestOffload(t *testing.T) {
	var b bench
	var mu sync.Mutex // without the economy networks are compiled at the same time
	most := 0
	b = open(t, tiny, session.Options{OnCompile: func(component, _ string, _ bool) {
		mu.Lock()
		defer mu.Unlock()
		if b.TextToImage != nil {
			for _, other := range []string{"text_encoder", "unet", "vae_decoder"} {
				if n := compiled(b, other); other != component {
					most = max(most, n)
				}
			}
		}
	}})
	r := request()
	want, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	require.Positive(t, b.ledger.Bytes())
	for e, loads := range map[model.Economy]int{{OffloadModels: true}: 3, {OffloadModels: true, SequentialGuidance: true, TiledVAE: true, TileSize: 32}: 2 + 4} {
		require.NoError(t, b.Trim(t.Context()))
		most = 0
		r.Economy, r.PreviewEvery = e, 1
		var o recorder
		got, err := b.Generate(t.Context(), r, &o)
		require.NoError(t, err)
		assert.Zero(t, most, "another network was compiled")
		assert.Zero(t, b.ledger.Bytes(), "all are freed")
		assert.Contains(t, got.Degradations, events.DegradationModelOffload)
		assert.Empty(t, o.previews)
		for _, stage := range []string{"load", "load_text_encoder", "load_unet", "load_vae_decoder"} {
			assert.Positive(t, got.TimingsMS[stage], stage)
		}
		assert.Equal(t, loads, strings.Count(strings.Join(compact(o.stages), " "), "load"))
		if !e.TiledVAE {
			assert.Equal(t, want.Latents, got.Latents)
			assert.Equal(t, want.Images, got.Images)
		}
	}
}

// compact drops repeated stages.
func compact(stages []string) []string {
	var out []string
	for _, s := range stages {
		if len(out) == 0 || out[len(out)-1] != s {
			out = append(out, s)
		}
	}
	return out
}

// TestEconomyLeavesNothing: whatever the outcome and the economy, what is outstanding afterwards belongs to compiled
// networks, and offloading leaves none.
func TestEconomyLeavesNothing(t *testing.T) {
	b := open(t, tiny, session.Options{})
	all := model.Economy{SequentialGuidance: true, TiledVAE: true, OffloadModels: true, TileSize: 32}
	for name, e := range map[string]model.Economy{"none": {}, "tiles": {TiledVAE: true, TileSize: 32}, "all": all} {
		for outcome, run := range map[string]func(pipeline.ImageRequest) error{
			"success": func(r pipeline.ImageRequest) error { return generate(t.Context(), b, r, nil) },
			"NaN": func(r pipeline.ImageRequest) error {
				r.Latents = &imagefile.Array{Shape: []int{1, 4, 8, 8}, Data: make([]float32, 256)}
				for i := range r.Latents.Data {
					r.Latents.Data[i] = math.MaxFloat32
				}
				return generate(t.Context(), b, r, nil)
			},
			"cancel while denoising": func(r pipeline.ImageRequest) error { return cancelAt(t.Context(), b, r, events.StageDenoise) },
			"cancel while decoding":  func(r pipeline.ImageRequest) error { return cancelAt(t.Context(), b, r, events.StageVAEDecode) },
			"cancel while encoding":  func(r pipeline.ImageRequest) error { return cancelAt(t.Context(), b, r, events.StageTextEncoder) },
			"cancel while loading": func(r pipeline.ImageRequest) error {
				require.NoError(t, b.Trim(t.Context()))
				return cancelAt(t.Context(), b, r, events.StageLoad)
			},
		} {
			r := request()
			r.Economy = e
			err := run(r)
			assert.Equal(t, outcome == "success", err == nil, "%s, %s: %v", name, outcome, err)
			assert.Equal(t, b.Resident(), b.ledger.Bytes(), "%s, %s", name, outcome)
			if e.OffloadModels {
				assert.Zero(t, b.ledger.Bytes(), "%s, %s", name, outcome)
				assert.Zero(t, compiled(b, "unet")+compiled(b, "vae")+compiled(b, "text_encoder"), "%s, %s", name, outcome)
			}
		}
	}
}

// TestNoMemoryInAnInference: a network whose native allocation fails when it runs (of 4 TiB, see make_tiny.py) fails the
// generation in its stage, again and again, and leaves nothing of it.
func TestNoMemoryInAnInference(t *testing.T) {
	for stage, network := range map[string]string{events.StageTextEncoder: "text_encoder", events.StageDenoise: "unet", events.StageVAEDecode: "vae_decoder"} {
		t.Run(network, func(t *testing.T) {
			dir := copyTiny(t, "", nil)
			for _, file := range []string{"openvino_model.xml", "openvino_model.bin"} {
				data, err := os.ReadFile(filepath.Join("testdata/no-memory", network, file))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(dir, network, file), data, 0o644))
			}
			b := open(t, dir, session.Options{})
			for _, e := range []model.Economy{{}, {SequentialGuidance: true, TiledVAE: true, TileSize: 32, OffloadModels: true}} {
				for range 2 {
					r := request()
					r.Economy = e
					failed := requireCode(t, generate(t.Context(), b, r, nil), events.CodeInternal) // until the runner reads the words
					assert.Contains(t, failed.Stage, stage)
					assert.Contains(t, failed.Detail, "Failed to allocate 4398046511104 bytes")
					assert.Equal(t, b.Resident(), b.ledger.Bytes())
					if e.OffloadModels {
						assert.Zero(t, b.ledger.Bytes())
						assert.Zero(t, compiled(b, "unet")+compiled(b, "vae")+compiled(b, "text_encoder"), "half-loaded")
					}
				}
			}
		})
	}
}

func generate(ctx context.Context, b bench, r pipeline.ImageRequest, o pipeline.Observer) error {
	_, err := b.Generate(ctx, r, o)
	return err
}

// canceller cancels when a stage begins.
type canceller struct {
	recorder
	at     string
	cancel func()
}

func (c *canceller) Stage(name string) {
	if name == c.at {
		c.cancel()
	}
}

func cancelAt(ctx context.Context, b bench, r pipeline.ImageRequest, stage string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return generate(ctx, b, r, &canceller{at: stage, cancel: func() { cancel(errors.New("enough")) }})
}

func TestTileSizeIsChecked(t *testing.T) {
	b := sharedTiny(t)
	for _, side := range []int{-32, 16, 40} {
		r := request()
		r.Economy.TileSize = side
		e := requireCode(t, generate(t.Context(), b, r, nil), events.CodeInvalidRequest)
		assert.Equal(t, "/economy/tile_size", e.Field)
		assert.Equal(t, "a multiple of 32", e.Expected)
	}
	r := request() // a picture no larger than a tile is decoded in one piece
	r.Economy = model.Economy{TiledVAE: true, TileSize: 64}
	got, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Empty(t, got.Degradations)
}
