package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"genfn/bindings/kernels"
	"genfn/bindings/libc"
	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/device/tuning"
	"genfn/functions/model"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
	"genfn/functions/runner/protocol"
)

// generator is what the engines that run models have in common: models, and generations with them.
type generator struct {
	log     *slog.Logger
	hello   *protocol.Hello
	info    Info
	ledger  *tensor.Ledger
	kernels *kernels.Set
	loader  *session.Loader
	version string                        // of the runtime that runs networks: measured times are of one
	memory  func() *protocol.DeviceMemory // the engine's
	models  []*loaded                     // the one used last comes last
	trials  *tuning.Trials
	uses    map[string]string // properties that are set
}

func newGenerator(hello *protocol.Hello, log *slog.Logger) generator {
	return generator{hello: hello, log: log, ledger: tensor.NewLedger()}
}

// loaded is a model that is ready to generate.
type loaded struct {
	name, dir string
	model     *model.Model
	pipeline  *pipeline.TextToImage
	compiled  time.Duration // of the last load stage, all networks together; 0: nothing was compiled yet
}

// openKernels takes the C kernels, or the Go reference in a binary that was built without them.
func (e *generator) openKernels() (err error) {
	dir := e.hello.CacheDir
	if dir == "" {
		dir = filepath.Join(e.hello.RuntimeDir, "kernels")
	}
	e.kernels, err = kernels.Open(dir)
	if errors.Is(err, kernels.ErrNotBuilt) {
		e.log.Warn("numeric kernels run in Go", "reason", err)
		e.kernels, err = kernels.Reference(), nil
	}
	if err != nil {
		return fmt.Errorf("numeric kernels: %w", err)
	}
	info := e.kernels.Info()
	e.info.Kernels = strings.TrimSpace(info.Backend + " " + info.ISA)
	return nil
}

// Info implements Engine.
func (e *generator) Info() Info { return e.info }

// Load opens the model and compiles its networks for the default size.
func (e *generator) Load(ctx context.Context, m protocol.Model, o Observer) error {
	l, err := e.use(ctx, m, ownForm, o)
	if err != nil {
		return err
	}
	return l.pipeline.Prepare(ctx, *ownForm(l.model))
}

// ownForm is what a model is compiled for before there is a request.
func ownForm(m *model.Model) *pipeline.Form { return &pipeline.Form{Guided: m.DefaultGuidance > 1} }

// use returns the model, loaded and compiled for a form if it was not, and frees the ones that were not used for longest.
func (e *generator) use(ctx context.Context, want protocol.Model, form func(*model.Model) *pipeline.Form, o Observer) (*loaded, error) {
	i := slices.IndexFunc(e.models, func(l *loaded) bool { return l.name == want.Name && l.dir == want.Dir })
	if i >= 0 {
		l := e.models[i]
		e.models = append(slices.Delete(e.models, i, i+1), l)
		return l, nil
	}
	if e.loader == nil {
		return nil, events.Errorf(events.CodeDeviceUnavailable, "this runner was started without a device")
	}
	if err := e.Unload(want.Name); err != nil { // the same name in another folder
		return nil, err
	}
	for len(e.models) >= max(1, e.hello.MaxModels) {
		if err := e.Unload(e.models[0].name); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o.Stage(events.StageLoad)
	m, err := model.Open(want.Dir)
	if err != nil {
		return nil, err
	}
	p, err := pipeline.NewTextToImage(ctx, m, e.loader, e.kernels, pipeline.Options{First: form(m), Logger: e.log})
	if err != nil {
		return nil, err
	}
	l := &loaded{name: want.Name, dir: want.Dir, model: m, pipeline: p}
	e.models = append(e.models, l)
	return l, nil
}

// Keep writes what was compiled to the cache.
func (e *generator) Keep(ctx context.Context) error {
	for _, l := range e.models {
		if err := l.pipeline.Keep(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Unload frees a model. A failure to free is kept quiet by nobody: the process must end then.
func (e *generator) Unload(name string) error {
	i := slices.IndexFunc(e.models, func(l *loaded) bool { return l.name == name })
	if i < 0 {
		return nil
	}
	l := e.models[i]
	e.models = slices.Delete(e.models, i, i+1)
	return l.pipeline.Close()
}

// Cleanup implements Engine.
func (e *generator) Cleanup(ctx context.Context) error {
	var errs []error
	for _, l := range e.models {
		errs = append(errs, l.pipeline.Release(ctx), l.pipeline.Renew(ctx))
	}
	debug.FreeOSMemory()
	libc.TrimMalloc()
	return errors.Join(errs...)
}

// settle tells that a generation is over and what it left: nothing but what belongs to compiled networks.
func (e *generator) settle() {
	resident := e.Resident()
	class, level := deviceClass(e.hello.Device), slog.LevelDebug
	if class != "CPU" {
		level = slog.LevelInfo
	}
	left := e.ledger.Bytes()
	if left != resident {
		level = slog.LevelError
		for _, entry := range e.ledger.Outstanding() {
			e.log.Error("native memory outstanding", "entry", entry.String())
		}
	}
	e.log.Log(context.Background(), level, "["+class+"] Memory cleanup completed", "ledger", left, "baseline", resident)
}

// Ledger implements Engine.
func (e *generator) Ledger() (bytes, peak int64) { return e.ledger.Bytes(), e.ledger.Peak() }

// Resident implements Engine.
func (e *generator) Resident() (bytes int64) {
	for _, l := range e.models {
		bytes += l.pipeline.Resident()
	}
	return bytes
}

// firstForm is what a model is compiled for while it is loaded for a request; nil: what the request needs is decided
// later.
func (e *generator) firstForm(m *model.Model, in Input) *pipeline.Form {
	l, r := &loaded{name: in.Model.Name, dir: in.Model.Dir, model: m}, in.Request
	if batch, _ := e.guidanceBatch(l, e.generation(l, r), r); batch == tuning.Sequential || r.Economy != (model.Economy{}) {
		return nil
	}
	return &pipeline.Form{Width: r.Width, Height: r.Height, Guided: guided(r)}
}

// Generate runs the model's pipeline.
func (e *generator) Generate(ctx context.Context, in Input, o Observer) (*Output, error) {
	r := in.Request
	l, err := e.use(ctx, in.Model, func(m *model.Model) *pipeline.Form { return e.firstForm(m, in) }, o)
	if err != nil {
		return nil, err
	}
	e.ledger.ResetPeak()
	defer e.settle()
	g := e.generation(l, r)
	batch, guidance := e.guidanceBatch(l, g, r)
	result, err := l.pipeline.Generate(ctx, pipeline.ImageRequest{
		Prompt: r.Prompt, NegativePrompt: r.NegativePrompt, Width: r.Width, Height: r.Height, Steps: r.Steps, Count: r.Count,
		GuidanceScale: r.GuidanceScale, Seed: r.Seed, Scheduler: r.Scheduler, Latents: in.Latents,
		PreviewEvery: r.PreviewEvery, OutputLatents: r.OutputLatents, Economy: r.Economy, GuidanceBatch: batch,
	}, o)
	if err != nil {
		return nil, err
	}
	guidance = e.measured(l, g, batch, guidance, result)
	return &Output{
		Images: result.Images, Latents: result.Latents, Scheduler: result.Scheduler, Precision: result.Precision,
		PromptTruncated: result.PromptTruncated, Degradations: result.Degradations, Guidance: guidance, TimingsMS: result.TimingsMS,
	}, nil
}

// closeModels frees the models and the loader.
func (e *generator) closeModels() error {
	var errs []error
	for len(e.models) > 0 {
		errs = append(errs, e.Unload(e.models[0].name))
	}
	if e.loader != nil {
		errs = append(errs, e.loader.Close())
		e.loader = nil
	}
	return errors.Join(errs...)
}

// leaks is an error for each entry that is left in the ledger.
func (e *generator) leaks() error {
	var errs []error
	for _, entry := range e.ledger.Outstanding() {
		errs = append(errs, fmt.Errorf("native memory not freed: %s", entry))
	}
	return errors.Join(errs...)
}
