package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/imagefile"
	"genfn/functions/model/session"
)

// generation is one run of a job. V is how arrays are named in the memory where the networks are.
type generation[V any] struct {
	p        *TextToImage
	arrays   arrays[V]
	job      *job
	observer Observer
	times    map[string]time.Duration
	nets     *networks

	ids       [][]int64 // token ids: unconditional first if guided, then conditional
	embeds    []V       // the same order; each MaxTokens x HiddenSize
	truncated bool
	sample    V // [count, channels, height, width]
	images    []imagefile.Image

	guidanceBatch int           // of the UNet; 0: no guidance
	stepTime      time.Duration // median
}

func newGeneration[V any](p *TextToImage, j *job, o Observer, in arrays[V]) *generation[V] {
	return &generation[V]{p: p, arrays: in, job: j, observer: o, times: map[string]time.Duration{}}
}

// generate runs a job in arrays, which it closes.
func generate[V any](ctx context.Context, p *TextToImage, j *job, o Observer, in arrays[V]) (result *ImageResult, err error) {
	defer func() {
		if closed := in.Close(); closed != nil {
			err = errors.Join(err, closed)
		}
	}()
	g := newGeneration(p, j, o, in)
	if err := g.run(ctx); err != nil {
		return nil, err
	}
	return g.result()
}

// run does the stages in order and gives the networks back.
func (g *generation[V]) run(ctx context.Context) error {
	if err := g.stage(ctx, events.StageTokenize, g.tokenize); err != nil {
		return err
	}
	if g.job.Economy.OffloadModels {
		return g.runOffloaded(ctx)
	}
	load := g.load
	if g.p.ready(g.job) {
		// Nothing is to be compiled: not worth telling.
		if err := load(ctx); err != nil {
			return staged(ctx, events.StageLoad, err)
		}
	} else if err := g.stage(ctx, events.StageLoad, load); err != nil {
		return err
	}
	defer g.nets.release()
	if g.job.tile > 0 {
		return g.runTiled(ctx)
	}
	for _, s := range []struct {
		name string
		run  func(context.Context) error
	}{{events.StageTextEncoder, g.encodeText}, {events.StageDenoise, g.denoise}, {events.StageVAEDecode, g.decode}} {
		if err := g.stage(ctx, s.name, s.run); err != nil {
			return err
		}
	}
	return nil
}

func (g *generation[V]) stage(ctx context.Context, name string, run func(context.Context) error) error {
	if ctx.Err() != nil {
		return stopped(ctx, name)
	}
	g.observer.Stage(name)
	start := time.Now()
	err := run(ctx)
	g.times[name] += time.Since(start)
	return staged(ctx, name, err)
}

func (g *generation[V]) load(ctx context.Context) (err error) {
	g.nets, err = g.p.acquire(ctx, g.job)
	return err
}

func (g *generation[V]) tokenize(ctx context.Context) error {
	prompts := []string{g.job.Prompt}
	if g.job.guided {
		prompts = []string{g.job.NegativePrompt, g.job.Prompt}
	}
	for _, prompt := range prompts {
		tokens, err := g.p.tokenizer.Tokenize(ctx, prompt)
		if err != nil {
			return err
		}
		g.ids = append(g.ids, tokens.IDs)
		g.truncated = g.truncated || tokens.Truncated
	}
	return nil
}

// encodeText runs both prompts as one batch, or one after the other where the network's batch is fixed.
func (g *generation[V]) encodeText(ctx context.Context) error {
	text, a := g.nets.text, g.arrays
	in, out := a.Of(text, "input_ids"), a.Of(text, g.p.embeddings)
	port, _ := g.p.textEncoder.Input("input_ids")
	batch, width := int(text.Shape("input_ids")[0]), g.p.model.MaxTokens*g.p.model.HiddenSize
	for first := 0; first < len(g.ids); first += batch {
		var ids []int64
		for row := range batch {
			ids = append(ids, g.ids[min(first+row, len(g.ids)-1)]...)
		}
		if err := a.Write(in, wholes(port.DType, ids)); err != nil {
			return err
		}
		if err := text.Infer(ctx); err != nil {
			return err
		}
		for row := 0; row < batch && first+row < len(g.ids); row++ {
			embeds, err := a.Make(width)
			if err != nil {
				return err
			}
			if err := a.Copy(embeds, a.Slice(out, row*width, width)); err != nil {
				return err
			}
			g.embeds = append(g.embeds, embeds)
		}
	}
	return nil
}

// decode turns the final latents into pictures.
func (g *generation[V]) decode(ctx context.Context) error {
	for i := range g.job.Count {
		img, err := g.decodeOne(ctx, g.arrays.Slice(g.sample, i*g.job.elements, g.job.elements))
		if err != nil {
			return err
		}
		g.images = append(g.images, img)
	}
	return nil
}

func (g *generation[V]) decodeOne(ctx context.Context, latents V) (imagefile.Image, error) {
	m, a := g.p.model, g.arrays
	img := imagefile.Image{Width: g.job.Width, Height: g.job.Height}
	vae, err := g.nets.decoder()
	if err != nil {
		return img, err
	}
	if err := a.Scale(a.Of(vae, "latent_sample"), latents, float32(1/m.ScalingFactor), float32(m.ShiftFactor)); err != nil {
		return img, err
	}
	if err := vae.Infer(ctx); err != nil {
		return img, err
	}
	pixels := a.Of(vae, g.p.image)
	n, err := g.count(pixels)
	if err != nil {
		return img, err
	}
	if n > 0 {
		return img, notFinite("the VAE decoder's picture", n, a.Len(pixels))
	}
	img.Pix, err = a.Image(pixels, img.Height, img.Width)
	return img, err
}

// count returns how many values of an array are NaN or infinite.
func (g *generation[V]) count(v V) (int, error) {
	if err := g.arrays.Count(v); err != nil {
		return 0, err
	}
	n, _, err := g.arrays.Counted(true)
	return n, err
}

func notFinite(what string, n, of int) *events.Error {
	return events.Errorf(events.CodeNumericalError, "%s: %d of %d values are NaN or infinite", what, n, of)
}

func (g *generation[V]) result() (*ImageResult, error) {
	r := &ImageResult{
		Images: g.images, PromptTruncated: g.truncated, Scheduler: g.job.scheduler.Class(), Width: g.job.Width, Height: g.job.Height, Steps: g.job.Steps,
		TimingsMS: map[string]float64{}, Degradations: g.degradations(), Precision: g.nets.unet.Precision(),
		GuidanceBatch: g.guidanceBatch, StepTime: g.stepTime,
	}
	for name, d := range g.times {
		r.TimingsMS[name] = float64(d.Microseconds()) / 1000
	}
	if g.job.OutputLatents {
		latents, err := g.arrays.Fetch(g.sample)
		if err != nil {
			return nil, staged(context.Background(), events.StageVAEDecode, err)
		}
		r.Latents = &imagefile.Array{Shape: []int{g.job.Count, g.p.model.LatentChannels, g.job.latentH, g.job.latentW}, Data: latents}
	}
	return r, nil
}

// networks are the compiled networks of a generation.
type networks struct {
	text, unet, vae *session.Executable // vae: once decoder has returned
	dynamic         bool                // one of them runs with open dimensions
	late            chan error          // how the acquisition of vae ended, once; nil: it is there
	lateErr         error
}

// decoder waits until the VAE decoder is there.
func (n *networks) decoder() (*session.Executable, error) {
	if n.late != nil {
		n.lateErr, n.late = <-n.late, nil
		n.note()
	}
	return n.vae, n.lateErr
}

// decodes reports whether decoder returns one: what decodes in tiles or alone has none yet.
func (n *networks) decodes() bool { return n.late != nil || n.vae != nil }

// note updates dynamic.
func (n *networks) note() {
	for _, e := range []*session.Executable{n.text, n.unet, n.vae} {
		n.dynamic = n.dynamic || e != nil && e.Dynamic() != ""
	}
}

func (n *networks) release() {
	_, _ = n.decoder()
	for _, e := range []*session.Executable{n.text, n.unet, n.vae} {
		if e != nil {
			e.Release()
		}
	}
}

// shapes are those of the networks for a job.
func (p *TextToImage) shapes(j *job) (text, unet, vae session.Shapes) {
	m := p.model
	textBatch, unetBatch := int64(1), int64(1)
	if j.guided {
		textBatch, unetBatch = 2, 2
	}
	if j.sequential {
		unetBatch = 1
	}
	if p.textBatch > 0 {
		textBatch = int64(p.textBatch)
	}
	if p.unetBatch > 0 {
		unetBatch = int64(p.unetBatch)
	}
	tokens, hidden, channels := int64(m.MaxTokens), int64(m.HiddenSize), int64(m.LatentChannels)
	latents := func(batch int64) tensor.Shape {
		return tensor.Shape{batch, channels, int64(j.latentH), int64(j.latentW)}
	}
	text = session.Shapes{
		Inputs:  map[string]tensor.Shape{"input_ids": {textBatch, tokens}},
		Outputs: map[string]tensor.Shape{p.embeddings: {textBatch, tokens, hidden}},
	}
	unet = session.Shapes{
		Inputs:  map[string]tensor.Shape{"sample": latents(unetBatch), "timestep": {1}, "encoder_hidden_states": {unetBatch, tokens, hidden}},
		Outputs: map[string]tensor.Shape{p.noise: latents(unetBatch)},
	}
	if t, _ := p.unet.Input("timestep"); t.Shape != nil && len(t.Shape) == 0 {
		unet.Inputs["timestep"] = tensor.Shape{}
	}
	if j.timestepCondition {
		unet.Inputs["timestep_cond"] = tensor.Shape{unetBatch, int64(m.TimeCondProjDim)}
	}
	vae = session.Shapes{
		Inputs:  map[string]tensor.Shape{"latent_sample": latents(1)},
		Outputs: map[string]tensor.Shape{p.image: {1, 3, int64(j.Height), int64(j.Width)}},
	}
	return text, unet, vae
}

// ready reports whether acquire would find everything compiled.
func (p *TextToImage) ready(j *job) bool {
	text, unet, vae := p.shapes(j)
	return p.textEncoder.Ready(text) && p.unet.Ready(unet) && (j.tile > 0 || p.vae.Ready(vae))
}

// acquire compiles what is not compiled yet, concurrently. With two processors the UNet, which takes longest, has one
// of them to itself. A VAE decoder that only has to be fetched from the cache comes later: it is needed last, and
// OpenVINO's threads get in each other's way less. Measured on two cores, from the start of the process to the
// picture: 17 % less for the demo model, 10 % less for tiny-sd.
func (p *TextToImage) acquire(ctx context.Context, j *job) (*networks, error) {
	n := &networks{}
	all := p.wanted(j, n)
	vae := all[2]
	if err := p.makeRoom(j, all[0].shapes, vae.shapes); err != nil {
		return nil, err
	}
	late := j.tile == 0 && p.vae.Kept(vae.shapes)
	if late || j.tile > 0 { // tiles have shapes of their own, compiled one after the other
		all = all[:2]
	}
	if err := p.acquireAll(ctx, j, n, all); err != nil {
		return nil, err
	}
	if late {
		n.late = make(chan error, 1)
		go func(done chan<- error) { done <- vae.acquire(ctx) }(n.late)
	}
	return n, nil
}

// wanted is a network to acquire.
type wanted struct {
	network *session.Network
	shapes  session.Shapes
	to      **session.Executable
}

func (w wanted) acquire(ctx context.Context) (err error) {
	*w.to, err = w.network.Acquire(ctx, w.shapes)
	return err
}

// wanted lists what a job needs: UNet, text encoder, VAE decoder.
func (p *TextToImage) wanted(j *job, n *networks) []wanted {
	text, unet, vae := p.shapes(j)
	return []wanted{{p.unet, unet, &n.unet}, {p.textEncoder, text, &n.text}, {p.vae, vae, &n.vae}}
}

// acquireAll releases those that it got if it fails.
func (p *TextToImage) acquireAll(ctx context.Context, j *job, n *networks, all []wanted) error {
	var group errgroup.Group
	group.SetLimit(max(2, runtime.NumCPU()))
	for _, w := range all {
		if w.network == p.unet && !p.aligned(j) {
			if !p.loader.ChecksShapes() { // an inference would fail, like one on a device that fails
				return p.shapeError(j, session.ErrShapes)
			}
			if err := w.acquire(ctx); err != nil { // as is likely; nothing else is compiled then
				return p.shapeError(j, err)
			}
			continue
		}
		group.Go(func() error { return w.acquire(ctx) })
	}
	if err := group.Wait(); err != nil {
		n.release()
		return p.shapeError(j, err)
	}
	n.note()
	return nil
}

// aligned reports whether the UNet's halvings divide the size.
func (p *TextToImage) aligned(j *job) bool {
	return j.Width%p.model.SizeStep == 0 && j.Height%p.model.SizeStep == 0
}

// shapeError says what a network that cannot take the shapes of a job means for the request.
func (p *TextToImage) shapeError(j *job, err error) error {
	if !errors.Is(err, session.ErrShapes) {
		return err
	}
	var e *events.Error
	if !p.aligned(j) {
		e = bad("/width", fmt.Sprintf("width and height that are multiples of %d", p.model.SizeStep), "this model cannot make %dx%d", j.Width, j.Height)
	} else {
		e = events.Errorf(events.CodeModelInvalid, "the networks cannot be set to %dx%d", j.Width, j.Height)
	}
	e.Detail, e.Cause = err.Error(), err
	return e
}

// timestepCond is the embedding of the guidance scale that some distilled UNets take: get_guidance_scale_embedding
// of diffusers with w = scale - 1.
func timestepCond(dst []float32, scale float64) {
	w := float32(scale-1) * 1000
	half := len(dst) / 2
	step := float32(math.Log(10000) / float64(half-1))
	for i := range half {
		angle := float64(w * float32(math.Exp(float64(float32(i)*-step))))
		dst[i], dst[half+i] = float32(math.Sin(angle)), float32(math.Cos(angle))
	}
	if len(dst)%2 == 1 {
		dst[len(dst)-1] = 0
	}
}
