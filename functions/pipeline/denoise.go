package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"genfn/bindings/kernels"
	"genfn/events"
	"genfn/functions/diffusion"
	"genfn/functions/model/session"
)

// denoiser is the loop's state. All its memory is there before the first step.
type denoiser[V any] struct {
	g             *generation[V]
	run           *diffusion.Run[V]
	unet          *session.Executable
	source        kernels.NormalSource
	sample        V         // [count, elements]
	noise         V         // the same, none if the scheduler takes none
	drawn         []float32 // noise on the host, on its way to there
	cond, uncond  V         // the UNet's outputs, the same; uncond none: no guidance
	direct        bool      // these are the UNet's output itself
	input, output V         // the UNet's
	states        V         // encoder_hidden_states
	timestep      V         // the UNet's
	timesteps     V         // all of them, in the UNet's type
	batch         int       // of an inference
	counting      int       // call after which the latents are being counted; -1: none
	infer, other  time.Duration
}

// denoise runs the scheduler's steps over all images of the request together: noise is drawn for all of them at
// once, as diffusers does, so that one seed gives the same images.
func (g *generation[V]) denoise(ctx context.Context) error {
	start := time.Now()
	var d *denoiser[V]
	if err := g.arrays.Do(func() (err error) {
		d, err = g.newDenoiser()
		return err
	}); err != nil {
		return err
	}
	g.sample = d.sample
	calls := len(g.job.scheduler.Timesteps())
	times := make([]time.Duration, calls)
	for i := range calls {
		inferred := d.infer
		if err := d.step(ctx, i); err != nil {
			return staged(ctx, stageOf(i, calls), err)
		}
		times[i] = d.infer - inferred
		before := time.Now()
		g.observer.Step(i+1, calls)
		if g.nets.decodes() && g.job.PreviewEvery > 0 && (i+1)%g.job.PreviewEvery == 0 && i+1 < calls {
			if err := d.preview(ctx); err != nil {
				return staged(ctx, stageOf(i, calls), err)
			}
		}
		d.other += time.Since(before)
	}
	if err := d.counted(true); err != nil {
		return err
	}
	slices.Sort(times)
	g.stepTime = times[len(times)/2]
	if g.job.guided {
		g.guidanceBatch = d.batch
	}
	g.times["denoise_host"] = time.Since(start) - d.infer - d.other
	return nil
}

// stageOf names the stage of call i of so many.
func stageOf(i, calls int) string {
	return fmt.Sprintf("%s step %d of %d", events.StageDenoise, i+1, calls)
}

func (g *generation[V]) newDenoiser() (*denoiser[V], error) {
	j, p, a, unet := g.job, g.p, g.arrays, g.nets.unet
	d := &denoiser[V]{
		g: g, unet: unet, source: p.kernels.TorchNormal(j.Seed), input: a.Of(unet, "sample"), output: a.Of(unet, p.noise),
		states: a.Of(unet, "encoder_hidden_states"), timestep: a.Of(unet, "timestep"), batch: int(unet.Shape("sample")[0]), counting: -1,
	}
	var err error
	if d.sample, err = a.Make(j.Count * j.elements); err != nil {
		return nil, err
	}
	if d.run, err = diffusion.Start(j.scheduler, a); err != nil {
		return nil, err
	}
	if err := d.allocate(); err != nil {
		return nil, err
	}
	if err := d.begin(); err != nil {
		return nil, err
	}
	if err := d.condition(); err != nil {
		return nil, err
	}
	return d, d.feed(0, 0)
}

// allocate sets up noise, timesteps and outputs.
func (d *denoiser[V]) allocate() (err error) {
	j, a := d.g.job, d.g.arrays
	n := j.Count * j.elements
	for i := range j.scheduler.Timesteps() {
		if j.scheduler.NeedsNoise(i) {
			d.drawn = make([]float32, n)
			if d.noise, err = a.Make(n); err != nil {
				return err
			}
			break
		}
	}
	port, _ := d.g.p.unet.Input("timestep")
	encoded := encodeTimesteps(port.DType, j.scheduler.Timesteps())
	if d.timesteps, err = a.Make(len(encoded)); err != nil {
		return err
	}
	if err := a.Write(d.timesteps, encoded); err != nil {
		return err
	}
	switch {
	case j.Count == 1 && j.guided && d.batch == 2: // the output is already in the right order
		d.uncond, d.cond, d.direct = a.Slice(d.output, 0, j.elements), a.Slice(d.output, j.elements, j.elements), true
		return nil
	case j.Count == 1 && !j.guided && d.batch == 1:
		d.cond, d.direct = d.output, true
		return nil
	}
	if d.cond, err = a.Make(n); err == nil && j.guided {
		d.uncond, err = a.Make(n)
	}
	return err
}

// begin fills in the initial latents.
func (d *denoiser[V]) begin() error {
	j, a := d.g.job, d.g.arrays
	initial := make([]float32, j.Count*j.elements)
	if j.Latents != nil {
		copy(initial, j.Latents.Data)
	} else {
		d.source.Fill(initial)
	}
	if err := a.Write(d.sample, initial); err != nil {
		return err
	}
	if sigma := j.scheduler.InitNoiseSigma(); sigma != 1 {
		return a.Scale(d.sample, d.sample, float32(sigma), 0)
	}
	return nil
}

// condition fills in the UNet's inputs that stay the same in every inference.
func (d *denoiser[V]) condition() error {
	j, a, embeds := d.g.job, d.g.arrays, d.g.embeds
	width := a.Len(embeds[0])
	for row := range d.batch {
		if err := a.Copy(a.Slice(d.states, row*width, width), embeds[min(row, len(embeds)-1)]); err != nil {
			return err
		}
	}
	if !j.timestepCondition {
		return nil
	}
	width = d.g.p.model.TimeCondProjDim
	condition := make([]float32, d.batch*width)
	for row := range d.batch {
		timestepCond(condition[row*width:(row+1)*width], j.GuidanceScale)
	}
	return a.Write(a.Of(d.unet, "timestep_cond"), condition)
}

// step runs the UNet on every image and the scheduler on all. Nothing here waits for a device but the inferences, and
// fresh noise, which comes right after one. The first image's inputs were fed before.
func (d *denoiser[V]) step(ctx context.Context, i int) error {
	j, a := d.g.job, d.g.arrays
	if err := ctx.Err(); err != nil {
		return err
	}
	for image := range j.Count {
		if image > 0 {
			if err := a.Do(func() error { return d.feed(i, image) }); err != nil {
				return err
			}
		}
		if err := d.predict(ctx, image); err != nil {
			return err
		}
	}
	return a.Do(func() error {
		if err := d.advance(i); err != nil || i+1 == len(j.scheduler.Timesteps()) {
			return err
		}
		return d.feed(i+1, 0)
	})
}

// feed fills in the UNet's inputs for one image.
func (d *denoiser[V]) feed(i, image int) error {
	j, a, n := d.g.job, d.g.arrays, d.g.job.elements
	width := a.Len(d.timesteps) / len(j.scheduler.Timesteps())
	if err := a.Copy(d.timestep, a.Slice(d.timesteps, i*width, width)); err != nil {
		return err
	}
	first := a.Slice(d.input, 0, n)
	if err := a.Scale(first, a.Slice(d.sample, image*n, n), float32(j.scheduler.InputScale(i)), 0); err != nil || d.batch == 1 {
		return err
	}
	return a.Copy(a.Slice(d.input, n, n), first)
}

// advance runs the scheduler's step i, and looks at what the one before has given.
func (d *denoiser[V]) advance(i int) error {
	j, a := d.g.job, d.g.arrays
	if err := d.counted(true); err != nil {
		return err
	}
	if j.scheduler.NeedsNoise(i) {
		d.source.Fill(d.drawn)
		if err := a.Write(d.noise, d.drawn); err != nil {
			return err
		}
	}
	in := diffusion.StepInput[V]{Sample: d.sample, Cond: d.cond, Uncond: d.uncond, Noise: d.noise, Guidance: float32(j.GuidanceScale)}
	if err := d.run.Step(i, in); err != nil {
		return err
	}
	if err := a.Count(d.sample); err != nil {
		return err
	}
	d.counting = i
	return d.counted(false)
}

// counted returns numerical_error for the step after which the latents were counted, if some were not finite. Without
// wait it may have to be asked again.
func (d *denoiser[V]) counted(wait bool) error {
	if d.counting < 0 {
		return nil
	}
	n, known, err := d.g.arrays.Counted(wait)
	if err != nil || !known {
		return err
	}
	i := d.counting
	d.counting = -1
	if n == 0 {
		return nil
	}
	e := notFinite("the latents", n, d.g.arrays.Len(d.sample))
	e.Stage = stageOf(i, len(d.g.job.scheduler.Timesteps()))
	return e
}

// predict runs the UNet on one image: guided as one batch of two, unconditional first, or as two inferences if
// the network's batch is fixed at 1.
func (d *denoiser[V]) predict(ctx context.Context, image int) error {
	j, a, n := d.g.job, d.g.arrays, d.g.job.elements
	if j.guided && d.batch == 1 {
		return d.predictTwice(ctx, image)
	}
	if err := d.inference(ctx); err != nil || d.direct {
		return err
	}
	if err := a.Copy(a.Slice(d.cond, image*n, n), a.Slice(d.output, a.Len(d.output)-n, n)); err != nil || !j.guided {
		return err
	}
	return a.Copy(a.Slice(d.uncond, image*n, n), a.Slice(d.output, 0, n))
}

func (d *denoiser[V]) predictTwice(ctx context.Context, image int) error {
	a, n := d.g.arrays, d.g.job.elements
	for k, to := range []V{d.uncond, d.cond} {
		if err := a.Copy(d.states, d.g.embeds[k]); err != nil {
			return err
		}
		if err := d.inference(ctx); err != nil {
			return err
		}
		if err := a.Copy(a.Slice(to, image*n, n), d.output); err != nil {
			return err
		}
	}
	return nil
}

func (d *denoiser[V]) inference(ctx context.Context) error {
	start := time.Now()
	err := d.unet.Infer(ctx)
	d.infer += time.Since(start)
	return err
}

// preview decodes the denoised estimate of every image.
func (d *denoiser[V]) preview(ctx context.Context) error {
	g, estimate := d.g, d.run.Denoised()
	if err := d.counted(true); err != nil { // before something else is counted
		return err
	}
	n, err := g.count(estimate)
	if err != nil || n > 0 {
		return err
	}
	for i := range g.job.Count {
		img, err := g.decodeOne(ctx, g.arrays.Slice(estimate, i*g.job.elements, g.job.elements))
		if err != nil {
			return err
		}
		g.observer.Preview(i, img)
	}
	return nil
}
