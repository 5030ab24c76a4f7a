// Package pipeline generates: a plan of stages over the networks of a model folder.
//
// TextToImage does what diffusers' StableDiffusionPipeline does, with the same results within the bounds that
// its tests state: prompts to token ids, token ids to embeddings, denoising with a scheduler and
// classifier-free guidance, latents to pictures. A safety checker in the folder is not run.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"genfn/bindings/cuda"
	"genfn/bindings/kernels"
	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/diffusion"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/model/session"
)

// Options for NewTextToImage.
type Options struct {
	// First, if not nil, is the size and guidance that the networks are compiled for at once, beside the tokenizer.
	// A size or guidance that is wrong is left to Prepare or Generate to tell.
	First  *Form
	Logger *slog.Logger // nil: none
}

// Form is what the networks are compiled for.
type Form struct {
	Width, Height int  // pixels; 0: the model's default
	Guided        bool // two noise predictions for each step
}

// TextToImage generates pictures with one model. Generate may be called concurrently; calls run one after the
// other.
type TextToImage struct {
	model   *model.Model
	loader  *session.Loader
	kernels *kernels.Set
	config  *diffusion.Config
	logger  *slog.Logger
	fixed   []model.Size // the only sizes; nil: any

	tokenizer                *session.Tokenizer
	textEncoder, unet, vae   *session.Network
	embeddings, noise, image string // names of the outputs
	textBatch, unetBatch     int    // fixed batch of the exported network, 0: free

	turn   chan struct{} // held during a generation
	mu     sync.Mutex    // guards closed
	closed bool
}

var errNeedsMu = errors.New("use_dynamic_shifting is not defined for this pipeline")

// NewTextToImage reads the networks of a model and compiles its tokenizer; the others are compiled for Options.First,
// the shapes of the first request, or by Prepare. A scheduler or network that the pipeline cannot run is model_invalid.
func NewTextToImage(ctx context.Context, m *model.Model, loader *session.Loader, k *kernels.Set, o Options) (*TextToImage, error) {
	config, err := SchedulerConfig(m)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &TextToImage{model: m, loader: loader, kernels: k, config: config, logger: o.Logger, turn: make(chan struct{}, 1)}
	if err := p.open(ctx, o.First); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// SchedulerConfig reads the configuration of the model's own scheduler. One that cannot run is a model_invalid error.
func SchedulerConfig(m *model.Model) (*diffusion.Config, error) {
	config, err := diffusion.ParseConfig(m.SchedulerConfig)
	if err == nil {
		_, err = diffusion.New(config)
	}
	if err == nil && config.NeedsMu() {
		err = errNeedsMu
	}
	if err != nil {
		return nil, events.Errorf(events.CodeModelInvalid, "model %q: scheduler/scheduler_config.json: %w", m.Name, err)
	}
	return config, nil
}

// open makes the networks and the tokenizer, concurrently.
func (p *TextToImage) open(ctx context.Context, first *Form) error {
	var group errgroup.Group
	group.Go(func() (err error) {
		p.tokenizer, err = p.loader.OpenTokenizer(p.model)
		return err
	})
	group.Go(func() error {
		if err := p.openNetworks(); err != nil || first == nil {
			return err
		}
		err := p.prepare(ctx, *first, false)
		if e := (*events.Error)(nil); errors.As(err, &e) && (e.Code == events.CodeInvalidRequest || e.Code == events.CodeModelInvalid) {
			p.logger.Debug("not compiled ahead", "model", p.model.Name, "error", err)
			return nil
		}
		return err // a device that failed must not be asked again as if nothing had been
	})
	return group.Wait()
}

// openNetworks reads the networks, concurrently, and checks what they declare.
func (p *TextToImage) openNetworks() error {
	var group errgroup.Group
	for _, n := range []struct {
		network   **session.Network
		component model.Component
	}{{&p.textEncoder, p.model.TextEncoder}, {&p.unet, p.model.UNet}, {&p.vae, p.model.VAEDecoder}} {
		group.Go(func() (err error) {
			*n.network, err = p.loader.Open(n.component)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return p.inspect()
}

// network names what inspect checks of a network: its inputs, and its main output.
type network struct {
	name    string
	network *session.Network
	inputs  map[string][]tensor.DType
	output  string
	found   *string
}

// inspect checks the inputs and outputs of the networks, of which ONNX files tell only after reading, and takes
// over what they have fixed.
func (p *TextToImage) inspect() error {
	whole := []tensor.DType{tensor.I64, tensor.I32}
	real := []tensor.DType{tensor.F32}
	unet := map[string][]tensor.DType{"sample": real, "timestep": append(slices.Clone(whole), real...), "encoder_hidden_states": real}
	if p.model.TimeCondProjDim > 0 {
		unet["timestep_cond"] = real
	}
	for _, n := range []network{
		{"text_encoder", p.textEncoder, map[string][]tensor.DType{"input_ids": whole}, "last_hidden_state", &p.embeddings},
		{"unet", p.unet, unet, "out_sample", &p.noise},
		{"vae_decoder", p.vae, map[string][]tensor.DType{"latent_sample": real}, "sample", &p.image},
	} {
		if err := n.check(); err != nil {
			return err
		}
	}
	return p.inspectFixed()
}

func (n network) check() error {
	for _, in := range n.network.Inputs() {
		types, known := n.inputs[in.Name]
		if !known {
			return invalidNetwork(n.name, "it has an input %q that the pipeline does not feed", in.Name)
		}
		if !slices.Contains(types, in.DType) {
			return invalidNetwork(n.name, "its input %q has elements of type %s, expected one of %v", in.Name, in.DType, types)
		}
	}
	if len(n.network.Inputs()) != len(n.inputs) {
		return invalidNetwork(n.name, "it has %d inputs, expected %d", len(n.network.Inputs()), len(n.inputs))
	}
	out, ok := n.network.Output(n.output)
	if !ok || out.DType != tensor.F32 {
		return invalidNetwork(n.name, "its output %q is missing or not of float32", n.output)
	}
	*n.found = out.Name
	return nil
}

func invalidNetwork(name, format string, args ...any) error {
	return events.Errorf(events.CodeModelInvalid, "%s: %s", name, fmt.Sprintf(format, args...))
}

// inspectFixed finds the dimensions that the export has fixed.
func (p *TextToImage) inspectFixed() error {
	ids, _ := p.textEncoder.Input("input_ids")
	sample, _ := p.unet.Input("sample")
	latents, _ := p.vae.Input("latent_sample")
	if len(ids.Shape) != 2 || len(sample.Shape) != 4 || len(latents.Shape) != 4 {
		return invalidNetwork("model", "input_ids%s, sample%s, latent_sample%s, expected 2, 4 and 4 dimensions", ids.Shape, sample.Shape, latents.Shape)
	}
	if tokens := ids.Shape[1]; tokens.Static() && tokens.Min != int64(p.model.MaxTokens) {
		return invalidNetwork("text_encoder", "it takes %d tokens, expected %d", tokens.Min, p.model.MaxTokens)
	}
	p.textBatch, p.unetBatch = fixedExtent(ids.Shape[0]), fixedExtent(sample.Shape[0])
	if p.textBatch > 2 || p.unetBatch > 2 || fixedExtent(latents.Shape[0]) > 1 {
		return invalidNetwork("model", "a batch is fixed at %d, %d and %d, expected at most 2, 2 and 1", p.textBatch, p.unetBatch, fixedExtent(latents.Shape[0]))
	}
	if channels := fixedExtent(sample.Shape[1]); channels != 0 && channels != p.model.LatentChannels {
		return invalidNetwork("unet", "it takes %d latent channels, expected %d", channels, p.model.LatentChannels)
	}
	if h, w := max(fixedExtent(sample.Shape[2]), fixedExtent(latents.Shape[2])), max(fixedExtent(sample.Shape[3]), fixedExtent(latents.Shape[3])); h > 0 && w > 0 {
		p.fixed = []model.Size{{Width: w * p.model.VAEScale, Height: h * p.model.VAEScale}}
	}
	return nil
}

func fixedExtent(d tensor.Dim) int {
	if !d.Static() {
		return 0
	}
	return int(d.Min)
}

// Close frees everything once the generation in progress, if any, has ended. It may be called twice.
func (p *TextToImage) Close() error {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	if p.tokenizer != nil {
		errs = append(errs, p.tokenizer.Close())
	}
	for _, n := range []*session.Network{p.textEncoder, p.unet, p.vae} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(errs...)
}

// take waits for the generation in progress to end.
func (p *TextToImage) take(ctx context.Context) (release func(), err error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, stopped(ctx, events.StageQueue)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		<-p.turn
		return nil, errors.New("pipeline: it is closed")
	}
	return func() { <-p.turn }, nil
}

// stopped is the error of a generation whose context ended.
func stopped(ctx context.Context, stage string) error {
	cause := context.Cause(ctx)
	code := events.CodeCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = events.CodeDeadlineExceeded
	}
	e := events.Errorf(code, "the generation was stopped: %w", errors.Join(ctx.Err(), cause))
	e.Message, e.Stage = "the generation was stopped", stage
	return e
}

// staged fills the stage in and turns the end of the context into its error.
func staged(ctx context.Context, stage string, err error) error {
	if err == nil {
		return nil
	}
	var e *events.Error
	if !errors.As(err, &e) {
		e = events.Errorf(events.CodeInternal, "the stage %s failed", stage)
		e.Detail, e.Cause = err.Error(), err
	}
	if ctx.Err() != nil && e.Code != events.CodeCancelled && e.Code != events.CodeDeadlineExceeded {
		return stopped(ctx, stage)
	}
	if e.Stage == "" {
		e.Stage = stage
	}
	return e
}

// quiet is the Observer of who does not observe.
type quiet struct{}

func (quiet) Stage(string)                 {}
func (quiet) Step(int, int)                {}
func (quiet) Preview(int, imagefile.Image) {}

// Prepare compiles the networks, so that Generate need not.
func (p *TextToImage) Prepare(ctx context.Context, f Form) error {
	release, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	return p.prepare(ctx, f, true)
}

// prepare leaves out what Generate fetches while it denoises, unless all is asked for.
func (p *TextToImage) prepare(ctx context.Context, f Form, all bool) error {
	r := ImageRequest{Prompt: "x", Width: f.Width, Height: f.Height, GuidanceScale: 1}
	if f.Guided {
		r.GuidanceScale = 2
	}
	j, err := p.check(r)
	if err != nil {
		return err
	}
	n := &networks{}
	wanted := p.wanted(j, n)
	if !all && p.vae.Kept(wanted[2].shapes) {
		wanted = wanted[:2]
	}
	if err := p.acquireAll(ctx, j, n, wanted); err != nil {
		return staged(ctx, events.StageLoad, err)
	}
	n.release()
	return nil
}

// Keep writes what was compiled since to the loader's cache. It waits for the generation in progress.
func (p *TextToImage) Keep(ctx context.Context) error {
	release, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	p.tokenizer.Keep()
	for _, n := range []*session.Network{p.textEncoder, p.unet, p.vae} {
		n.Keep()
	}
	return nil
}

// Generate makes the pictures of a request. Errors are *events.Error: invalid_request with the field and what it
// may be, numerical_error with the step, cancelled or deadline_exceeded when ctx ends (it wraps ctx's error), or
// what loading says; a compilation is not interrupted. Whatever the outcome, nothing is held afterwards but the compiled networks.
func (p *TextToImage) Generate(ctx context.Context, r ImageRequest, o Observer) (*ImageResult, error) {
	if o == nil {
		o = quiet{}
	}
	j, err := p.check(r)
	if err != nil {
		return nil, err
	}
	release, err := p.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	var result *ImageResult
	if d := p.loader.CUDA(); d != nil {
		result, err = generate(ctx, p, j, o, arrays[cuda.View](deviceArrays{d.NewArrays()}))
	} else {
		result, err = generate(ctx, p, j, o, arrays[[]float32](newHostArrays(p.kernels)))
	}
	if err != nil {
		return nil, err
	}
	p.logger.Debug("generated", "model", p.model.Name, "images", j.Count, "width", j.Width, "height", j.Height, "milliseconds", result.TimingsMS)
	return result, nil
}
