package pipeline

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"genfn/events"
	"genfn/functions/diffusion"
	"genfn/functions/imagefile"
	"genfn/functions/model"
)

// Limits of a request. The model may narrow them.
const (
	MaxSide  = 4096 // pixels
	MaxSteps = 1000
	MaxCount = 64
)

// ImageRequest says what to generate. Width, Height, Steps and Count take the model's default where they are 0.
type ImageRequest struct {
	Prompt, NegativePrompt string
	Width, Height          int // pixels, multiples of the model's VAEScale
	Steps, Count           int
	GuidanceScale          float64 // 1 or less: no guidance, the negative prompt has no effect
	Seed                   uint64  // of torch's CPU generator; count images draw from one generator, as diffusers does
	Scheduler              string  // one of diffusion.Names or a diffusers class; "": the model's
	// Latents are the initial noise, float32 [count, channels, height/scale, width/scale]; nil: drawn from Seed.
	// They are scaled to the scheduler's first noise level, as diffusers scales its `latents`.
	Latents       *imagefile.Array
	PreviewEvery  int  // steps between previews; 0: none
	OutputLatents bool // return the final latents
	// GuidanceBatch of 1 runs the UNet twice a step with a batch of one; 0 and 2: once with a batch of two. It is a
	// choice of speed, and no degradation.
	GuidanceBatch int
	// Economy asks for less memory. With OffloadModels or tiles there are no previews: those need the whole VAE
	// decoder beside the UNet.
	Economy model.Economy
}

// Observer is told of the progress of a generation, on the goroutine of Generate, which waits for it.
type Observer interface {
	// Stage begins: events.StageLoad (when a network must be compiled), StageTokenize, StageTextEncoder,
	// StageDenoise, StageVAEDecode.
	Stage(name string)
	// Step k of n of the denoising is done, from 1. n counts the UNet's calls, which are more than the steps for some schedulers.
	Step(k, n int)
	// Preview is the denoised estimate of image index. The image is the observer's.
	Preview(index int, img imagefile.Image)
}

// ImageResult is what Generate made.
type ImageResult struct {
	Images          []imagefile.Image
	Latents         *imagefile.Array // final latents as the scheduler left them; nil unless asked for
	PromptTruncated bool             // the prompt, or the negative prompt where it counts, had too many tokens
	Scheduler       string           // diffusers class that ran
	Width, Height   int
	Steps           int // as asked for
	// TimingsMS holds milliseconds: by stage, and "denoise_host", which is the part of "denoise" outside of the
	// UNet's inferences, previews and the observer.
	TimingsMS    map[string]float64
	Degradations []string // events.Degradation...: what was done differently, of the Economy asked for what was used
	Precision    string   // of the UNet's inference, e.g. "f32"
	// GuidanceBatch is the batch with which the UNet ran for each image; 0: there was no guidance.
	GuidanceBatch int
	StepTime      time.Duration // of the UNet for all images, the median of the steps
}

// job is a checked request.
type job struct {
	ImageRequest
	scheduler         diffusion.Scheduler // begun
	latentW, latentH  int
	elements          int // of one image's latents
	guided            bool
	timestepCondition bool
	sequential        bool // the UNet runs twice a step with a batch of one, as the economy or GuidanceBatch asks
	tile              int  // side of the VAE's tiles in latents; 0: the picture is decoded in one piece
}

func bad(field, expected, format string, args ...any) *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, format, args...)
	e.Field, e.Expected = field, expected
	return e
}

// check fills in the model's defaults and validates the request.
func (p *TextToImage) check(r ImageRequest) (*job, error) {
	m := p.model
	for _, d := range []struct {
		value    *int
		fallback int
	}{{&r.Width, m.DefaultWidth}, {&r.Height, m.DefaultHeight}, {&r.Steps, m.DefaultSteps}, {&r.Count, 1}} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	j := &job{ImageRequest: r, latentW: r.Width / m.VAEScale, latentH: r.Height / m.VAEScale}
	j.elements = m.LatentChannels * j.latentW * j.latentH
	j.timestepCondition = m.TimeCondProjDim > 0
	j.guided = r.GuidanceScale > 1 && !j.timestepCondition
	p.economize(j)
	for _, check := range []func(*job) error{p.checkSize, p.checkNumbers, p.checkLatents, p.checkScheduler} {
		if err := check(j); err != nil {
			return nil, err
		}
	}
	return j, nil
}

func (p *TextToImage) checkSize(j *job) error {
	m := p.model
	for _, side := range []struct {
		field string
		value int
	}{{"/width", j.Width}, {"/height", j.Height}} {
		if side.value < m.VAEScale || side.value > MaxSide || side.value%m.VAEScale != 0 {
			expected := fmt.Sprintf("a multiple of %d from %d to %d", m.VAEScale, m.VAEScale, MaxSide)
			if m.SizeStep != m.VAEScale {
				expected += fmt.Sprintf("; the UNet may need multiples of %d", m.SizeStep)
			}
			return bad(side.field, expected, "%d pixels", side.value)
		}
	}
	if size := (model.Size{Width: j.Width, Height: j.Height}); p.fixed != nil && !slices.Contains(p.fixed, size) {
		words := make([]string, len(p.fixed))
		for i, s := range p.fixed {
			words[i] = s.String()
		}
		field := "/width"
		if j.Width == p.fixed[0].Width {
			field = "/height"
		}
		return bad(field, strings.Join(words, " or "), "the model was exported for fixed sizes and cannot make %s", size)
	}
	return nil
}

func (p *TextToImage) checkNumbers(j *job) error {
	switch {
	case j.Steps < 1 || j.Steps > MaxSteps:
		return bad("/steps", fmt.Sprintf("1 to %d", MaxSteps), "%d steps", j.Steps)
	case j.Count < 1 || j.Count > MaxCount:
		return bad("/count", fmt.Sprintf("1 to %d", MaxCount), "%d images", j.Count)
	case math.IsNaN(j.GuidanceScale) || j.GuidanceScale < 0 || j.GuidanceScale > 100:
		return bad("/guidance_scale", "0 to 100", "guidance scale %v", j.GuidanceScale)
	case j.PreviewEvery < 0:
		return bad("/preview_every", "0 or more", "a preview every %d steps", j.PreviewEvery)
	case p.model.CheckTileSize(j.Economy.TileSize) != nil:
		return bad("/economy/tile_size", fmt.Sprintf("a multiple of %d", p.model.TileStep()), "%d pixels", j.Economy.TileSize)
	case strings.ContainsRune(j.Prompt, 0):
		return bad("/prompt", "text without NUL characters", "a NUL character")
	case strings.ContainsRune(j.NegativePrompt, 0):
		return bad("/negative_prompt", "text without NUL characters", "a NUL character")
	}
	return nil
}

func (p *TextToImage) checkLatents(j *job) error {
	if j.Latents == nil {
		return nil
	}
	want := []int{j.Count, p.model.LatentChannels, j.latentH, j.latentW}
	if !slices.Equal(j.Latents.Shape, want) || len(j.Latents.Data) != j.Count*j.elements {
		return bad("/latents", fmt.Sprintf("%v for %d images of %dx%d", want, j.Count, j.Width, j.Height), "latents of shape %v with %d values", j.Latents.Shape, len(j.Latents.Data))
	}
	if n := p.kernels.CountNonFinite(j.Latents.Data); n > 0 {
		return bad("/latents", "finite numbers", "%d of the values are NaN or infinite", n)
	}
	return nil
}

// checkScheduler makes the scheduler and plans its steps.
func (p *TextToImage) checkScheduler(j *job) error {
	config := p.config
	if j.Scheduler != "" {
		var err error
		if config, err = p.override(j.Scheduler); err != nil {
			return err
		}
	}
	scheduler, err := diffusion.New(config)
	if err != nil {
		return bad("/scheduler", "a scheduler that can follow the model's configuration", "%v", err)
	}
	if err := scheduler.Begin(j.Steps, j.Count, j.elements, diffusion.Options{}); err != nil {
		return bad("/steps", "a number of steps that the scheduler can plan", "%v", err)
	}
	j.scheduler = scheduler
	return nil
}

// override returns the model's configuration for another scheduler.
func (p *TextToImage) override(name string) (*diffusion.Config, error) {
	expected := strings.Join(diffusion.Names(), ", ")
	config, err := p.config.WithClass(name)
	switch {
	case errors.Is(err, diffusion.ErrUnknownName):
		return nil, bad("/scheduler", expected, "unknown scheduler %.100q", name)
	case err == nil && config.NeedsMu():
		err = errNeedsMu
		fallthrough
	case err != nil:
		return nil, bad("/scheduler", expected, "scheduler %q cannot follow the model's configuration: %v", name, err)
	}
	return config, nil
}
