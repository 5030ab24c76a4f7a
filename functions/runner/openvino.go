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
	"sync"
	"time"

	"genfn/bindings/kernels"
	"genfn/bindings/libc"
	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/device/tuning"
	"genfn/functions/model"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
	"genfn/functions/runner/protocol"
)

// openVINO is the engine over the OpenVINO runtime.
type openVINO struct {
	log     *slog.Logger
	hello   *protocol.Hello
	info    Info
	ledger  *tensor.Ledger
	runtime *openvino.Runtime
	kernels *kernels.Set
	loader  *session.Loader
	models  []*loaded   // the one used last comes last
	shared  func() bool // the device uses the host's memory; asked once
	trials  *tuning.Trials
	uses    map[string]string // properties that are set
}

var _ Engine = (*openVINO)(nil)

// loaded is a model that is ready to generate.
type loaded struct {
	name, dir string
	model     *model.Model
	pipeline  *pipeline.TextToImage
	compiled  time.Duration // of the last load stage, all networks together; 0: nothing was compiled yet
}

// OpenOpenVINO loads OpenVINO and looks for the device. Without a device in hello the engine only lists devices.
func OpenOpenVINO(_ context.Context, hello *protocol.Hello, log *slog.Logger) (Engine, error) {
	e := &openVINO{log: log, hello: hello, ledger: tensor.NewLedger()}
	e.shared = sync.OnceValue(e.integrated)
	if err := e.open(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *openVINO) open() (err error) {
	e.runtime, err = openvino.Open(openvino.Options{LibraryDir: e.hello.LibraryDir, TokenizersLibrary: e.hello.TokenizersLibrary, Ledger: e.ledger})
	if err != nil {
		return events.Errorf(events.CodeDeviceUnavailable, "OpenVINO cannot be loaded: %w", err)
	}
	e.info.Versions = map[string]string{"openvino": e.runtime.Version()}
	if e.hello.Device == "" {
		return nil
	}
	if err := e.openKernels(); err != nil {
		return err
	}
	if e.hello.Validate { // before any model is loaded: it decides how the device is used
		if err := e.findDevice(); err != nil {
			return err
		}
	}
	e.loader = session.NewLoader(e.runtime, session.Options{
		Device: e.hello.Device, CacheDir: e.hello.CacheDir, CacheCompiled: e.hello.CacheCompiled, Logger: e.log,
	})
	e.loader.Prepare()
	if !e.hello.Validate {
		var failed error
		if e.info.DeviceName, failed = e.loader.DeviceName(); failed != nil {
			return errors.Join(e.findDevice(), failed)
		}
	}
	return e.tune()
}

// openKernels takes the C kernels, or the Go reference in a binary that was built without them.
func (e *openVINO) openKernels() (err error) {
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

// findDevice checks that OpenVINO has the device, and validates it if it is to be. To list the devices there are takes
// the plugins of all of them, which a device that is not validated is spared unless it cannot be asked its name.
func (e *openVINO) findDevice() (err error) {
	core, err := e.runtime.NewCore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, core.Close()) }()
	devices, err := core.Devices()
	if err != nil {
		return err
	}
	device := e.hello.Device
	// "GPU" is a name of "GPU.0", the first of several.
	if !slices.Contains(devices, device) && !slices.Contains(devices, device+".0") {
		f := events.Errorf(events.CodeDeviceUnavailable, "OpenVINO sees no device %s here", device)
		f.Device, f.Expected = device, "one of "+strings.Join(devices, ", ")
		f.Advice = "Choose another device, or install its driver: genfn devices lists what there is."
		return f
	}
	if !e.hello.Validate {
		return nil
	}
	v := e.validate(core, device)
	e.info.Validation, e.info.DeviceName = v, v.Name
	if d := v.Driver; d != nil && d.Version != "" {
		e.info.Versions["driver"] = d.Version
	}
	if v.Error != nil {
		return v.Error
	}
	return nil
}

// integrated asks once whether the device is integrated: its memory is the host's then.
func (e *openVINO) integrated() bool {
	kind, err := e.loader.Property(e.hello.Device, "DEVICE_TYPE")
	return err == nil && strings.EqualFold(strings.TrimSpace(kind), "integrated")
}

// DeviceMemory asks the driver.
func (e *openVINO) DeviceMemory() *protocol.DeviceMemory {
	if e.loader == nil || events.ClassOf(e.hello.Device) != events.DeviceGPU {
		return nil
	}
	m, err := deviceMemory(e.loader.Property, e.hello.Device, events.DeviceGPU)
	if err != nil {
		e.log.Debug("device memory not known", "error", err)
		return nil
	}
	m.Shared = e.shared()
	return &m
}

func (e *openVINO) Info() Info { return e.info }

// Devices lists every device with the properties it can tell, or validates the one that is named.
func (e *openVINO) Devices(ctx context.Context, validate string) (list []protocol.Device, err error) {
	core, err := e.runtime.NewCore()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, core.Close()) }()
	names := []string{validate} // so that no other device's driver is loaded
	if validate == "" {
		if names, err = core.Devices(); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d := protocol.Device{Name: name, Properties: map[string]string{}}
		keys, err := core.SupportedProperties(name)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if value, err := core.Property(name, key); err == nil { // some can only be set
				d.Properties[key] = value
			}
		}
		d.FullName = d.Properties["FULL_DEVICE_NAME"]
		if name == validate {
			d.Validation = e.validate(core, name)
		}
		list = append(list, d)
	}
	return list, nil
}

// Load opens the model and compiles its networks for the default size.
func (e *openVINO) Load(ctx context.Context, m protocol.Model, o Observer) error {
	l, err := e.use(ctx, m, ownForm, o)
	if err != nil {
		return err
	}
	return l.pipeline.Prepare(ctx, *ownForm(l.model))
}

// ownForm is what a model is compiled for before there is a request.
func ownForm(m *model.Model) *pipeline.Form { return &pipeline.Form{Guided: m.DefaultGuidance > 1} }

// use returns the model, loaded and compiled for a form if it was not, and frees the ones that were not used for longest.
func (e *openVINO) use(ctx context.Context, want protocol.Model, form func(*model.Model) *pipeline.Form, o Observer) (*loaded, error) {
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
func (e *openVINO) Keep(ctx context.Context) error {
	for _, l := range e.models {
		if err := l.pipeline.Keep(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Unload frees a model. A failure to free is kept quiet by nobody: the process must end then.
func (e *openVINO) Unload(name string) error {
	i := slices.IndexFunc(e.models, func(l *loaded) bool { return l.name == name })
	if i < 0 {
		return nil
	}
	l := e.models[i]
	e.models = slices.Delete(e.models, i, i+1)
	return l.pipeline.Close()
}

// Cleanup implements Engine.
func (e *openVINO) Cleanup(ctx context.Context) error {
	var errs []error
	for _, l := range e.models {
		errs = append(errs, l.pipeline.Release(ctx), l.pipeline.Renew(ctx))
	}
	debug.FreeOSMemory()
	libc.TrimMalloc()
	return errors.Join(errs...)
}

// settle tells that a generation is over and what it left: nothing but what belongs to compiled networks.
func (e *openVINO) settle() {
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

func (e *openVINO) Ledger() (bytes, peak int64) { return e.ledger.Bytes(), e.ledger.Peak() }

func (e *openVINO) Resident() (bytes int64) {
	for _, l := range e.models {
		bytes += l.pipeline.Resident()
	}
	return bytes
}

func (e *openVINO) Close() error {
	var errs []error
	for len(e.models) > 0 {
		errs = append(errs, e.Unload(e.models[0].name))
	}
	if e.loader != nil {
		errs = append(errs, e.loader.Close())
		e.loader = nil
	}
	if e.runtime != nil {
		errs = append(errs, e.runtime.Close())
		e.runtime = nil
	}
	for _, entry := range e.ledger.Outstanding() {
		errs = append(errs, fmt.Errorf("native memory not freed: %s", entry))
	}
	return errors.Join(errs...)
}

// firstForm is what a model is compiled for while it is loaded for a request; nil: what the request needs is decided
// later.
func (e *openVINO) firstForm(m *model.Model, in Input) *pipeline.Form {
	l, r := &loaded{name: in.Model.Name, dir: in.Model.Dir, model: m}, in.Request
	if batch, _ := e.guidanceBatch(l, e.generation(l, r), r); batch == tuning.Sequential || r.Economy != (model.Economy{}) {
		return nil
	}
	return &pipeline.Form{Width: r.Width, Height: r.Height, Guided: guided(r)}
}

// Generate runs the model's pipeline.
func (e *openVINO) Generate(ctx context.Context, in Input, o Observer) (*Output, error) {
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
