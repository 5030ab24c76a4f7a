package pipeline_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/diffusion"
	"genfn/functions/imagefile"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
)

// recorder is an Observer that keeps what it is told; onStep may act on it.
type recorder struct {
	stages   []string
	steps    [][2]int
	previews []imagefile.Image
	indices  []int
	onStep   func(k int)
}

func (r *recorder) Stage(name string) { r.stages = append(r.stages, name) }
func (r *recorder) Step(k, n int) {
	r.steps = append(r.steps, [2]int{k, n})
	if r.onStep != nil {
		r.onStep(k)
	}
}
func (r *recorder) Preview(index int, img imagefile.Image) {
	r.indices, r.previews = append(r.indices, index), append(r.previews, img)
}

func request() pipeline.ImageRequest {
	return pipeline.ImageRequest{Prompt: "a red apple", Width: 64, Height: 64, Steps: 4, GuidanceScale: 7.5, Seed: 3, OutputLatents: true}
}

func requireCode(t *testing.T, err error, code events.Code) *events.Error {
	t.Helper()
	var e *events.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, "%v: %s", err, e.Detail)
	return e
}

func TestInvalidRequests(t *testing.T) {
	b := sharedTiny(t)
	for name, c := range map[string]struct {
		change   func(*pipeline.ImageRequest)
		field    string
		expected string
	}{
		"width 60":                    {func(r *pipeline.ImageRequest) { r.Width = 60 }, "/width", "a multiple of 8 from 8 to 4096; the UNet may need multiples of 32"},
		"width -8":                    {func(r *pipeline.ImageRequest) { r.Width = -8 }, "/width", "a multiple of 8"},
		"height 4":                    {func(r *pipeline.ImageRequest) { r.Height = 4 }, "/height", "a multiple of 8"},
		"height too large":            {func(r *pipeline.ImageRequest) { r.Height = 4104 }, "/height", "to 4096"},
		"size not divisible":          {func(r *pipeline.ImageRequest) { r.Height = 72 }, "/width", "multiples of 32"},
		"steps -1":                    {func(r *pipeline.ImageRequest) { r.Steps = -1 }, "/steps", "1 to 1000"},
		"steps that DDIM cannot plan": {func(r *pipeline.ImageRequest) { r.Steps = 1000 }, "/steps", "plan"},
		"steps 1001":                  {func(r *pipeline.ImageRequest) { r.Steps = 1001 }, "/steps", "1 to 1000"},
		"count -1":                    {func(r *pipeline.ImageRequest) { r.Count = -1 }, "/count", "1 to 64"},
		"count 65":                    {func(r *pipeline.ImageRequest) { r.Count = 65 }, "/count", "1 to 64"},
		"guidance NaN":                {func(r *pipeline.ImageRequest) { r.GuidanceScale = math.NaN() }, "/guidance_scale", "0 to 100"},
		"guidance -1":                 {func(r *pipeline.ImageRequest) { r.GuidanceScale = -1 }, "/guidance_scale", "0 to 100"},
		"guidance Inf":                {func(r *pipeline.ImageRequest) { r.GuidanceScale = math.Inf(1) }, "/guidance_scale", "0 to 100"},
		"preview -1":                  {func(r *pipeline.ImageRequest) { r.PreviewEvery = -1 }, "/preview_every", "0 or more"},
		"NUL in prompt":               {func(r *pipeline.ImageRequest) { r.Prompt = "a\x00b" }, "/prompt", "NUL"},
		"NUL in negative":             {func(r *pipeline.ImageRequest) { r.NegativePrompt = "\x00" }, "/negative_prompt", "NUL"},
		"unknown scheduler":           {func(r *pipeline.ImageRequest) { r.Scheduler = "heun" }, "/scheduler", "euler_ancestral"},
		"latents of another shape": {func(r *pipeline.ImageRequest) {
			r.Latents = &imagefile.Array{Shape: []int{1, 4, 8, 9}, Data: make([]float32, 4*8*9)}
		}, "/latents", "[1 4 8 8]"},
		"latents of another count": {func(r *pipeline.ImageRequest) {
			r.Count, r.Latents = 2, &imagefile.Array{Shape: []int{1, 4, 8, 8}, Data: make([]float32, 256)}
		}, "/latents", "[2 4 8 8]"},
		"latents NaN": {func(r *pipeline.ImageRequest) {
			r.Latents = &imagefile.Array{Shape: []int{1, 4, 8, 8}, Data: make([]float32, 256)}
			r.Latents.Data[7] = float32(math.NaN())
		}, "/latents", "finite"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request()
			c.change(&r)
			_, err := b.Generate(t.Context(), r, nil)
			e := requireCode(t, err, events.CodeInvalidRequest)
			assert.Equal(t, c.field, e.Field)
			assert.Contains(t, e.Expected, c.expected)
		})
	}
	for _, name := range diffusion.Names() {
		r := request()
		r.Scheduler, r.Steps, r.GuidanceScale = name, 4, 1
		_, err := b.Generate(t.Context(), r, nil)
		require.NoError(t, err, name)
	}
}

// TestSchedulerThatCannotFollow: the key matters to the requested class only.
func TestSchedulerThatCannotFollow(t *testing.T) {
	b := open(t, copyTiny(t, "scheduler/scheduler_config.json", map[string]any{"use_dynamic_shifting": true}), session.Options{})
	r := request()
	r.Scheduler = "flow_match_euler"
	_, err := b.Generate(t.Context(), r, nil)
	e := requireCode(t, err, events.CodeInvalidRequest)
	assert.Equal(t, "/scheduler", e.Field)
	assert.Contains(t, e.Message, "use_dynamic_shifting")
}

func TestDefaults(t *testing.T) {
	dir := copyTiny(t, "unet/config.json", map[string]any{"sample_size": 4})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(`{"num_inference_steps": 3}`), 0o644))
	b := open(t, dir, session.Options{})
	require.NoError(t, b.Prepare(t.Context(), pipeline.Form{}))
	var o recorder
	r, err := b.Generate(t.Context(), pipeline.ImageRequest{Prompt: "x"}, &o)
	require.NoError(t, err)
	assert.Equal(t, []int{32, 32, 3}, []int{r.Width, r.Height, r.Steps})
	assert.Len(t, r.Images, 1)
	assert.Nil(t, r.Latents)
	assert.Equal(t, "DDIMScheduler", r.Scheduler)
	assert.NotContains(t, o.stages, events.StageLoad, "it is compiled already")
}

// TestKeptNetworks: a later process compiles nothing, and makes the same picture.
func TestKeptNetworks(t *testing.T) {
	cache := t.TempDir()
	var pictures [2]*pipeline.ImageResult
	for i := range pictures {
		var compiled []string
		b := open(t, tiny, session.Options{CacheDir: cache, CacheCompiled: true, OnCompile: func(component, _ string, _ bool) {
			compiled = append(compiled, component)
		}})
		r := request()
		r.Steps, r.PreviewEvery = 3, 1 // previews need the VAE decoder early
		var o recorder
		var err error
		pictures[i], err = b.Generate(t.Context(), r, &o)
		require.NoError(t, err)
		require.NoError(t, b.Keep(t.Context()))
		if i == 0 {
			slices.Sort(compiled)
			require.Equal(t, []string{"text_encoder", "tokenizer", "unet", "vae_decoder"}, compiled)
			continue
		}
		require.Empty(t, compiled)
	}
	require.Equal(t, pictures[0].Images, pictures[1].Images)

	// Who gives up at the first step leaves the VAE decoder on its way, which is waited for.
	b := open(t, tiny, session.Options{CacheDir: cache, CacheCompiled: true})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := b.Generate(ctx, request(), &recorder{onStep: func(int) { cancel() }})
	requireCode(t, err, events.CodeCancelled)
	require.NoError(t, b.Prepare(t.Context(), pipeline.Form{Guided: true}))
}

func TestObserver(t *testing.T) {
	b := sharedTiny(t)
	var o recorder
	r := request()
	r.Steps, r.Count, r.PreviewEvery, r.Scheduler = 5, 2, 2, "pndm" // of this model: with Runge-Kutta steps
	got, err := b.Generate(t.Context(), r, &o)
	require.NoError(t, err)
	stages := strings.Join(o.stages, " ")
	assert.Equal(t, "tokenize text_encoder denoise vae_decode", strings.Replace(stages, "load ", "", 1))
	require.Len(t, o.steps, 14, "three times four calls of the UNet for the first steps, then one a step")
	assert.Equal(t, [2]int{14, 14}, o.steps[13])
	assert.Equal(t, []int{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1}, o.indices, "every second call, not after the last")
	for _, img := range o.previews {
		assert.Equal(t, []int{64, 64, 3 * 64 * 64}, []int{img.Width, img.Height, len(img.Pix)})
	}
	assert.NotEqual(t, o.previews[0].Pix, o.previews[2].Pix)
	for _, stage := range []string{"tokenize", "text_encoder", "denoise", "denoise_host", "vae_decode"} {
		assert.Contains(t, got.TimingsMS, stage)
	}
	assert.Less(t, got.TimingsMS["denoise_host"], got.TimingsMS["denoise"])

	r.PreviewEvery = 0
	again, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Equal(t, again.Latents, got.Latents, "previews change nothing")
}

// TestPreviewIsTheDenoisedEstimate: with one step left the estimate is close to the picture, unlike the sample.
func TestPreviewIsTheDenoisedEstimate(t *testing.T) {
	b := sharedTiny(t)
	var o recorder
	r := request()
	r.Steps, r.PreviewEvery = 20, 19
	got, err := b.Generate(t.Context(), r, &o)
	require.NoError(t, err)
	require.Len(t, o.previews, 1)
	sum := 0.0
	for i, v := range got.Images[0].Pix {
		sum += math.Abs(float64(v) - float64(o.previews[0].Pix[i]))
	}
	assert.Less(t, sum/float64(len(got.Images[0].Pix)), 8.0, "mean difference of bytes")
}

func TestSeeds(t *testing.T) {
	b := sharedTiny(t)
	first, err := b.Generate(t.Context(), request(), nil)
	require.NoError(t, err)
	same, err := b.Generate(t.Context(), request(), nil)
	require.NoError(t, err)
	assert.Equal(t, first.Images, same.Images)
	assert.Equal(t, first.Latents, same.Latents)
	r := request()
	r.Seed++
	other, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	assert.NotEqual(t, first.Images, other.Images)
}

// TestLedger: after the first generation every outcome leaves the ledger as it was, in bytes and in objects.
func TestLedger(t *testing.T) {
	b := open(t, tiny, session.Options{})
	_, err := b.Generate(t.Context(), request(), nil)
	require.NoError(t, err)
	baseline, objects := b.ledger.Bytes(), len(b.ledger.Outstanding())
	require.Positive(t, baseline)
	check := func(outcome string) {
		t.Helper()
		assert.Equal(t, baseline, b.ledger.Bytes(), outcome)
		assert.Equal(t, objects, len(b.ledger.Outstanding()), outcome) //nolint:testifylint // Len would print all of them
	}

	_, err = b.Generate(t.Context(), request(), &recorder{})
	require.NoError(t, err)
	check("success")

	r := request()
	r.Width = 60
	_, err = b.Generate(t.Context(), r, nil)
	requireCode(t, err, events.CodeInvalidRequest)
	check("invalid request")

	r = request()
	r.Width = 72
	_, err = b.Generate(t.Context(), r, nil)
	requireCode(t, err, events.CodeInvalidRequest)
	check("a size that the UNet cannot take")

	r = request()
	r.Latents = &imagefile.Array{Shape: []int{1, 4, 8, 8}, Data: make([]float32, 256)}
	for i := range r.Latents.Data {
		r.Latents.Data[i] = math.MaxFloat32
	}
	_, err = b.Generate(t.Context(), r, nil)
	e := requireCode(t, err, events.CodeNumericalError)
	assert.Equal(t, "denoise step 1 of 4", e.Stage)
	assert.Contains(t, e.Message, "of 256 values")
	check("NaN")

	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the client went away")
	o := recorder{onStep: func(k int) {
		if k == 2 {
			cancel(reason)
		}
	}}
	_, err = b.Generate(ctx, request(), &o)
	e = requireCode(t, err, events.CodeCancelled)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, reason)
	assert.Equal(t, "denoise step 3 of 4", e.Stage)
	assert.Len(t, o.steps, 2)
	check("cancel")

	ctx, stop := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer stop()
	_, err = b.Generate(ctx, request(), nil)
	requireCode(t, err, events.CodeDeadlineExceeded)
	check("deadline")

	require.NoError(t, b.Trim(t.Context()))
	assert.Zero(t, b.ledger.Bytes(), "buffers belong to the compiled networks")
	_, err = b.Generate(t.Context(), request(), nil)
	require.NoError(t, err)
	check("after trimming")
}

// TestCancelDuringInference: the context ends while the UNet runs, and the generation does not wait for the rest.
func TestCancelDuringInference(t *testing.T) {
	b := sharedTiny(t)
	r := request()
	r.Width, r.Height, r.Steps = 256, 256, 500
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := recorder{onStep: func(k int) {
		if k == 1 {
			// The next inference takes tens of milliseconds.
			time.AfterFunc(5*time.Millisecond, cancel)
		}
	}}
	_, err := b.Generate(ctx, r, &o)
	requireCode(t, err, events.CodeCancelled)
	assert.Less(t, len(o.steps), 500)
	_, err = b.Generate(t.Context(), request(), nil)
	require.NoError(t, err, "the request is usable afterwards")
}

func TestConcurrentGenerations(t *testing.T) {
	b := sharedTiny(t)
	want, err := b.Generate(t.Context(), request(), nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := b.Generate(t.Context(), request(), nil)
			if assert.NoError(t, err) {
				assert.Equal(t, want.Images, got.Images)
			}
		})
	}
	wg.Wait()
}

func TestClose(t *testing.T) {
	b := open(t, tiny, session.Options{})
	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
	_, err := b.Generate(t.Context(), request(), nil)
	require.ErrorContains(t, err, "closed")
	assert.Zero(t, b.ledger.Bytes())
}

// fix writes shapes into the inputs of a copied model's networks, as an export with fixed shapes has them.
func fix(t *testing.T, dir, network, from, to string) {
	t.Helper()
	path := filepath.Join(dir, network, "openvino_model.xml")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(data), from)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(data), from, to, 1)), 0o644))
}

// TestFixedShapes runs exports whose batch and size are fixed in every way that occurs, against the goldens.
func TestFixedShapes(t *testing.T) {
	for name, batch := range map[string]string{"batch of two": "2", "batch of one": "1"} {
		t.Run(name, func(t *testing.T) {
			dir := copyTiny(t, "", nil)
			fix(t, dir, "unet", `shape="?,4,?,?"`, `shape="`+batch+`,4,8,8"`)
			fix(t, dir, "unet", `shape="?,77,32"`, `shape="`+batch+`,77,32"`)
			fix(t, dir, "vae_decoder", `shape="?,4,?,?"`, `shape="1,4,8,8"`)
			fix(t, dir, "text_encoder", `shape="?,77"`, `shape="`+batch+`,77"`)
			b := open(t, dir, session.Options{})
			for _, golden := range []string{"ddim", "no_guidance", "count_two_ancestral"} {
				c := goldenNamed(t, golden)
				r, err := b.Generate(t.Context(), c.request(t), nil)
				require.NoError(t, err, golden)
				assert.LessOrEqual(t, relative(r.Latents.Data, c.array(t, "final").Data), 1e-3, golden)
				assert.Empty(t, r.Degradations)
			}
			r := request()
			r.Height = 96
			_, err := b.Generate(t.Context(), r, nil)
			e := requireCode(t, err, events.CodeInvalidRequest)
			assert.Equal(t, "/height", e.Field)
			assert.Equal(t, "64x64", e.Expected)
		})
	}
}

// TestInputTypes: exporters differ in the element types of whole-number inputs.
func TestInputTypes(t *testing.T) {
	for _, timestep := range []string{"i32", "f32"} {
		t.Run(timestep, func(t *testing.T) {
			dir := copyTiny(t, "", nil)
			fix(t, dir, "unet", `shape="1" element_type="i64"`, `shape="1" element_type="`+timestep+`"`)
			fix(t, dir, "text_encoder", `shape="?,77" element_type="i64"`, `shape="?,77" element_type="i32"`)
			c := goldenNamed(t, "ddim")
			r, err := open(t, dir, session.Options{}).Generate(t.Context(), c.request(t), nil)
			require.NoError(t, err)
			assert.LessOrEqual(t, relative(r.Latents.Data, c.array(t, "final").Data), 1e-3)
		})
	}
}

func TestModelsThatCannotRun(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string)
		code  events.Code
		words []string
	}{
		"unknown scheduler": {func(dir string) {
			edit(t, filepath.Join(dir, "scheduler/scheduler_config.json"), map[string]any{"_class_name": "HeunDiscreteScheduler"})
		}, events.CodeModelInvalid, []string{"scheduler/scheduler_config.json", "HeunDiscreteScheduler"}},
		"three tokens": {func(dir string) {
			edit(t, filepath.Join(dir, "text_encoder/config.json"), map[string]any{"max_position_embeddings": 40})
		}, events.CodeModelInvalid, []string{"text_encoder", "77 tokens", "40"}},
		"batch of three": {func(dir string) {
			fix(t, dir, "unet", `shape="?,4,?,?"`, `shape="3,4,8,8"`)
		}, events.CodeModelInvalid, []string{"batch", "3"}},
		"damaged network": {func(dir string) {
			fix(t, dir, "unet", `type="Convolution"`, `type="Revolution"`)
		}, events.CodeModelLoadFailed, []string{"unet", "read"}},
		"damaged tokenizer": {func(dir string) {
			path := filepath.Join(dir, "tokenizer/openvino_tokenizer.xml")
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(data), "BPETokenizer", "XYZTokenizer")), 0o644))
		}, events.CodeModelLoadFailed, []string{"tokenizer"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyTiny(t, "", nil)
			c.spoil(dir)
			_, err := tryOpen(t, dir, session.Options{})
			e := requireCode(t, err, c.code)
			for _, w := range c.words {
				assert.Contains(t, e.Message, w)
			}
			t.Log(e.Message, "|", e.Advice, "|", e.Detail)
		})
	}
}

// BenchmarkGenerate reports our own time per step beside the time of the whole at 64 pixels.
func BenchmarkGenerate(b *testing.B) {
	p := sharedTiny(b)
	r := request()
	r.Steps = 20
	require.NoError(b, p.Prepare(b.Context(), pipeline.Form{Width: r.Width, Height: r.Height, Guided: true}))
	host := 0.0
	for b.Loop() {
		got, err := p.Generate(b.Context(), r, nil)
		require.NoError(b, err)
		host += got.TimingsMS["denoise_host"]
	}
	b.ReportMetric(1000*host/float64(20*b.N), "host-µs/step")
}
