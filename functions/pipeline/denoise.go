package pipeline

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"genfn/bindings/kernels"
	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/diffusion"
	"genfn/functions/model/session"
)

// denoiser is the loop's state. All its memory is there before the first step.
type denoiser struct {
	g             *generation
	unet          *session.Executable
	source        kernels.NormalSource
	sample        []float32 // [count, elements]
	noise         []float32 // the same, nil if the scheduler takes none
	cond, uncond  []float32 // the UNet's outputs, the same; uncond nil: no guidance
	input, output []float32 // the UNet's buffers
	states        []float32 // encoder_hidden_states
	timestep      *tensor.Buffer
	batch         int // of an inference
	infer, other  time.Duration
}

// denoise runs the scheduler's steps over all images of the request together: noise is drawn for all of them at
// once, as diffusers does, so that one seed gives the same images.
func (g *generation) denoise(ctx context.Context) error {
	start := time.Now()
	d, err := g.newDenoiser()
	if err != nil {
		return err
	}
	g.sample = d.sample
	timesteps := g.job.scheduler.Timesteps()
	times := make([]time.Duration, len(timesteps))
	for i, t := range timesteps {
		stage := fmt.Sprintf("%s step %d of %d", events.StageDenoise, i+1, len(timesteps))
		inferred := d.infer
		if err := d.step(ctx, i, t); err != nil {
			return staged(ctx, stage, err)
		}
		times[i] = d.infer - inferred
		before := time.Now()
		g.observer.Step(i+1, len(timesteps))
		if g.nets.decodes() && g.job.PreviewEvery > 0 && (i+1)%g.job.PreviewEvery == 0 && i+1 < len(timesteps) {
			if err := g.preview(ctx); err != nil {
				return staged(ctx, stage, err)
			}
		}
		d.other += time.Since(before)
	}
	slices.Sort(times)
	g.stepTime = times[len(times)/2]
	if g.job.guided {
		g.guidanceBatch = d.batch
	}
	g.times["denoise_host"] = time.Since(start) - d.infer - d.other
	return nil
}

func (g *generation) newDenoiser() (*denoiser, error) {
	j, p := g.job, g.p
	unet := g.nets.unet
	n := j.Count * j.elements
	d := &denoiser{
		g: g, unet: unet, source: p.kernels.TorchNormal(j.Seed), sample: make([]float32, n),
		input: unet.Buffer("sample").F32(), output: unet.Buffer(p.noise).F32(), states: unet.Buffer("encoder_hidden_states").F32(),
		timestep: unet.Buffer("timestep"), batch: int(unet.Buffer("sample").Shape()[0]),
	}
	if j.Latents != nil {
		copy(d.sample, j.Latents.Data)
	} else {
		d.source.Fill(d.sample)
	}
	if sigma := j.scheduler.InitNoiseSigma(); sigma != 1 {
		if err := p.kernels.Scale(d.sample, d.sample, float32(sigma), 0); err != nil {
			return nil, err
		}
	}
	d.allocate()
	return d, nil
}

// allocate sets up the outputs and what stays the same in every inference.
func (d *denoiser) allocate() {
	j := d.g.job
	for i := range j.scheduler.Timesteps() {
		if j.scheduler.NeedsNoise(i) {
			d.noise = make([]float32, len(d.sample))
			break
		}
	}
	switch {
	case j.Count == 1 && j.guided && d.batch == 2: // the output buffer is already in the right order
		d.uncond, d.cond = d.output[:j.elements], d.output[j.elements:]
	case j.Count == 1 && !j.guided && d.batch == 1:
		d.cond = d.output
	default:
		d.cond = make([]float32, len(d.sample))
		if j.guided {
			d.uncond = make([]float32, len(d.sample))
		}
	}
	width := len(d.g.embeds[0])
	for row := range d.batch {
		copy(d.states[row*width:], d.g.embeds[min(row, len(d.g.embeds)-1)])
	}
	if j.timestepCondition {
		condition := d.unet.Buffer("timestep_cond").F32()
		width := d.g.p.model.TimeCondProjDim
		for row := range d.batch {
			timestepCond(condition[row*width:(row+1)*width], j.GuidanceScale)
		}
	}
}

// step runs the UNet on every image and the scheduler on all.
func (d *denoiser) step(ctx context.Context, i int, t float64) error {
	g := d.g
	if err := ctx.Err(); err != nil {
		return err
	}
	d.setTimestep(t)
	scale := float32(g.job.scheduler.InputScale(i))
	for image := range g.job.Count {
		if err := d.predict(ctx, image, scale); err != nil {
			return err
		}
	}
	if g.job.scheduler.NeedsNoise(i) {
		d.source.Fill(d.noise)
	}
	in := diffusion.StepInput{Sample: d.sample, Cond: d.cond, Uncond: d.uncond, Noise: d.noise, Guidance: float32(g.job.GuidanceScale)}
	if err := g.job.scheduler.Step(g.p.kernels, i, in); err != nil {
		return err
	}
	if n := g.p.kernels.CountNonFinite(d.sample); n > 0 {
		return notFinite("the latents", n, len(d.sample))
	}
	return nil
}

// setTimestep writes the timestep. Most exported UNets take whole numbers; some schedules have fractions.
func (d *denoiser) setTimestep(t float64) {
	switch d.timestep.DType() {
	case tensor.I64:
		d.timestep.I64()[0] = int64(math.RoundToEven(t))
	case tensor.I32:
		d.timestep.I32()[0] = int32(math.RoundToEven(t))
	default:
		d.timestep.F32()[0] = float32(t)
	}
}

// predict runs the UNet on one image: guided as one batch of two, unconditional first, or as two inferences if
// the network's batch is fixed at 1.
func (d *denoiser) predict(ctx context.Context, image int, scale float32) error {
	j, n := d.g.job, d.g.job.elements
	first := d.input[:n]
	if err := d.g.p.kernels.Scale(first, d.sample[image*n:(image+1)*n], scale, 0); err != nil {
		return err
	}
	if d.batch == 2 {
		copy(d.input[n:], first)
	}
	if j.guided && d.batch == 1 {
		return d.predictTwice(ctx, image)
	}
	if err := d.run(ctx); err != nil {
		return err
	}
	last := d.output[len(d.output)-n:]
	if &d.cond[0] != &last[0] {
		copy(d.cond[image*n:], last)
		if j.guided {
			copy(d.uncond[image*n:], d.output[:n])
		}
	}
	return nil
}

func (d *denoiser) predictTwice(ctx context.Context, image int) error {
	n := d.g.job.elements
	for k, to := range [][]float32{d.uncond, d.cond} {
		copy(d.states, d.g.embeds[k])
		if err := d.run(ctx); err != nil {
			return err
		}
		copy(to[image*n:(image+1)*n], d.output)
	}
	return nil
}

func (d *denoiser) run(ctx context.Context) error {
	start := time.Now()
	err := d.unet.Infer(ctx)
	d.infer += time.Since(start)
	return err
}

// preview decodes the denoised estimate of every image.
func (g *generation) preview(ctx context.Context) error {
	estimate := g.job.scheduler.Denoised()
	if estimate == nil || g.p.kernels.CountNonFinite(estimate) > 0 {
		return nil
	}
	for i := range g.job.Count {
		img, err := g.decodeOne(ctx, estimate[i*g.job.elements:(i+1)*g.job.elements])
		if err != nil {
			return err
		}
		g.observer.Preview(i, img)
	}
	return nil
}
