package instance

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/fault"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/runner/crashreport"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// modeTextToImage is the only mode so far, for logs.
const modeTextToImage = "text_to_image"

// plan is a request with every default filled in.
type plan struct {
	model   Model
	whole   events.ImageGenerate // as it was asked for
	asked   string               // the shape of that
	request events.ImageGenerate // as it runs
	demand  demand               // what that is expected to need
	rungs   []string             // of the ladder of memory that the request has
	given   []string             // what the rung gives up of the picture
	shape   string               // what its times are learned by
	latents *imagefile.Array     // nil: drawn from the seed
	sum     <-chan checksum
}

// run does the attempt's work. It returns nil when the request is answered and acknowledged; what else to do is
// for end to decide.
func (a *attempt) run(ctx context.Context) error {
	if enough := a.exhausted(a.begun.Records()); enough != nil {
		return enough
	}
	a.publish(ctx, broker.KindAccepted, events.TypeAccepted, events.Accepted{Instance: a.slot.config.Name, Attempt: a.begun.Number})
	p, err := a.makePlan(ctx)
	if err != nil {
		return err
	}
	a.plan = p
	a.track = newTracker(a.slot.instance.learned, p.shape, a.began)
	result, err := a.generate(ctx, p)
	if err != nil {
		return err
	}
	return a.deliver(ctx, p, result)
}

func (a *attempt) makePlan(ctx context.Context) (*plan, error) {
	m, err := a.slot.instance.catalog.get(a.work.asked.Model)
	if err != nil {
		return nil, err
	}
	p := &plan{model: m, request: withDefaults(a.work.asked, m), sum: a.slot.instance.catalog.sum(ctx, m)}
	p.whole, p.asked = p.request, shapeOf(p.request, model.Economy{})
	p.rungs = rungs(p.request, m, a.slot.made > 0, a.slot.sequential(p.request, m))
	p.take(a.slot.instance.demand(m, p.whole, a.work.rung))
	if ref := p.request.Latents; ref != nil {
		if p.latents, err = a.fetchLatents(ctx, *ref); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// shapeOf is the shape key of a request with its defaults.
func shapeOf(r events.ImageGenerate, e model.Economy) string {
	return shapeKey(r.Model, *r.Width, *r.Height, *r.Count, *r.GuidanceScale > 1, e)
}

// withDefaults fills in what a request leaves open. A seed is drawn, so that the answer can tell it.
func withDefaults(r events.ImageGenerate, m Model) events.ImageGenerate {
	r.Width, r.Height, r.Steps = or(r.Width, m.Width), or(r.Height, m.Height), or(r.Steps, m.Steps)
	r.Count = or(r.Count, 1)
	if r.GuidanceScale == nil {
		r.GuidanceScale = &m.GuidanceScale
	}
	if r.Seed == nil {
		seed := rand.Uint64N(events.MaxSeed + 1)
		r.Seed = &seed
	}
	if r.Format == "" {
		r.Format = events.FormatPNG
	}
	if r.Device == "" {
		r.Device = events.DeviceAuto
	}
	if r.Fallback == "" {
		r.Fallback = events.FallbackAllowed
	}
	if r.Degrade == "" {
		r.Degrade = events.DegradeNever
	}
	return r
}

func or(v *int, def int) *int {
	if v == nil || *v == 0 {
		return &def
	}
	return v
}

// generate has the runner make the pictures.
func (a *attempt) generate(ctx context.Context, p *plan) (*protocol.Result, error) {
	a.note(events.StageLoad)
	told := !a.slot.ready()
	if told { // starting a runner takes time
		a.publishProgress(ctx, nil)
	}
	if err := a.slot.start(ctx); err != nil {
		return nil, unavailableError{err}
	}
	if err := a.admit(ctx, p); err != nil {
		return nil, err
	}
	a.slot.instance.usage.claim(a.slot.runner.PID(), p.demand.peak)
	defer a.release()
	if err := a.slot.warm(ctx, p.model, economyOf(a.work.rung)); err != nil {
		return nil, a.warmFailed(err)
	}
	message, err := a.message(p)
	if err != nil {
		return nil, err
	}
	runner := a.slot.runner
	runner.SetWork(crashreport.Work{Request: a.work.job.ID, Attempt: a.begun.Number, Model: p.model.Name})
	r := message.Request
	a.log.Info("generation begins", "mode", modeTextToImage, "seed", r.Seed, "model", p.model.Name, "device", a.slot.device(),
		"width", r.Width, "height", r.Height, "steps", r.Steps, "count", r.Count, "guidance_scale", r.GuidanceScale, "latents", message.Latents != nil)
	switch err := runner.Send(message); {
	case errors.Is(err, process.ErrHung):
		return nil, errors.Join(errHang, err)
	case err != nil:
		return nil, errors.Join(errRunnerDied, err)
	}
	a.job = message.Job
	a.lease.Progress(a.slot.config.Budgets.Begin)
	known := a.slot.shapes[p.shape]
	a.slot.uses(p.model.Name, p.shape)
	if !told && !known { // by now, so that the runner lost no time; where all is loaded, that it has started says it all
		a.publishProgress(ctx, nil)
	}
	c := a.slot.config
	a.publish(ctx, broker.KindStarted, events.TypeStarted, events.Started{
		Instance: c.Name, Device: c.Runner.Hello.Device, Attempt: a.begun.Number, Model: p.model.Name, Process: a.slot.instance.usage.process(runner.PID()),
	})
	a.host = a.slot.instance.host() // while the runner works
	for {
		select {
		case m, ok := <-runner.Messages():
			if !ok {
				return nil, errRunnerDied
			}
			result, err := a.handle(ctx, runner, m)
			if result != nil || err != nil {
				return result, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// release ends the claim of the attempt's runner to memory.
func (a *attempt) release() {
	if r := a.slot.runner; r != nil {
		a.slot.instance.usage.claim(r.PID(), 0)
	}
}

// warmFailed is how an attempt ends whose warm-up failed: as if the generation itself had.
func (a *attempt) warmFailed(err error) error {
	var told runnerFault
	var e *events.Error
	if errors.As(err, &told) || !errors.As(err, &e) {
		return err
	}
	f := fault.Of(e)
	f.Replace = f.Replace || a.slot.runner == nil || a.slot.condemned
	return runnerFault{f}
}

// message is the job for the runner, with the latents put where it finds them.
func (a *attempt) message(p *plan) (*protocol.Generate, error) {
	a.slot.jobs++
	r := p.request
	g := &protocol.Generate{
		Job: a.slot.jobs, Model: p.model.protocol(),
		Request: protocol.Request{
			Prompt: r.Prompt, NegativePrompt: r.NegativePrompt, Width: *r.Width, Height: *r.Height, Steps: *r.Steps,
			GuidanceScale: *r.GuidanceScale, Seed: *r.Seed, Scheduler: r.Scheduler, Count: *r.Count,
			PreviewEvery: r.PreviewEvery, OutputLatents: r.OutputLatents, Economy: economyOf(a.work.rung),
		},
	}
	if p.latents == nil {
		return g, nil
	}
	block, err := a.slot.runner.Bulk().WriteF32(0, p.latents.Data)
	if err != nil {
		return nil, err
	}
	g.Latents = &protocol.Array{Shape: p.latents.Shape, Block: block}
	return g, nil
}

// handle takes one message of the runner. A result or an error ends the job.
func (a *attempt) handle(ctx context.Context, runner *process.Process, m protocol.Message) (*protocol.Result, error) {
	now := time.Now()
	switch m := m.(type) {
	case *protocol.Stage:
		if m.Job == a.job {
			a.enter(ctx, m.Name)
		}
	case *protocol.Step:
		if m.Job == a.job {
			a.lease.Progress(a.track.done(m.Step, m.Steps, now))
			a.publishProgress(ctx, nil)
		}
	case *protocol.Preview:
		if m.Job == a.job {
			a.preview(ctx, runner, m)
		}
	case *protocol.Usage: // no sign of progress
		a.slot.instance.usage.seen(runner.PID(), m.Memory)
		if m.Job == a.job {
			a.sampled(ctx, m.Memory)
		}
	case *protocol.Result:
		if m.Job == a.job {
			a.job = 0
			a.slot.made++
			a.slot.instance.usage.measured(runner.PID(), a.slot.made, m.After)
			a.slot.instance.usage.tuned(m.Guidance)
			return m, nil
		}
	case *protocol.Failed:
		if m.Job != a.job {
			break
		}
		a.job = 0
		a.slot.instance.usage.measured(runner.PID(), a.slot.made, m.Memory)
		a.left = &m.Memory
		return nil, runnerFault{m.Fault()}
	}
	return nil, nil
}

// enter notes and tells a new stage. Loading begins before the runner says so.
func (a *attempt) enter(ctx context.Context, stage string) {
	if stage == a.stage {
		a.lease.Progress(a.slot.instance.learned.budget(a.track.shape, stage))
		return
	}
	a.note(stage)
	if !a.slot.instance.learned.brief(a.track.shape, stage) {
		a.publishProgress(ctx, nil)
	}
}

// note takes up a new stage.
func (a *attempt) note(stage string) {
	a.stage = stage
	a.log.Debug("stage begins", "stage", stage)
	a.lease.Progress(a.track.enter(stage, time.Now()))
}

// cancelRunner ends the job that is in flight, if there is one, and the runner with it if it does not obey.
func (a *attempt) cancelRunner(why fault.KillReason) {
	if a.job == 0 || a.slot.runner == nil {
		return
	}
	timer := time.NewTimer(a.slot.config.CancelTimeout)
	defer timer.Stop()
	if err := a.slot.runner.Send(&protocol.Cancel{Job: a.job}); err != nil {
		a.killRunner(why)
		return
	}
	for {
		select {
		case m, ok := <-a.slot.runner.Messages():
			if !ok {
				a.killRunner(why)
				return
			}
			if !answers(m, a.job) {
				continue
			}
			a.job = 0
			a.remember(m)
			if f, ok := m.(*protocol.Failed); ok && f.Fatal {
				a.killRunner(why)
			}
			return
		case <-timer.C:
			a.killRunner(why)
			return
		}
	}
}

// remember notes the memory that the answer to a job tells of which nobody waits for.
func (a *attempt) remember(m protocol.Message) {
	pid := a.slot.runner.PID()
	switch m := m.(type) {
	case *protocol.Result:
		a.slot.made++
		a.slot.instance.usage.measured(pid, a.slot.made, m.After)
	case *protocol.Failed:
		a.slot.instance.usage.measured(pid, a.slot.made, m.Memory)
	}
}

func answers(m protocol.Message, job uint64) bool {
	switch m := m.(type) {
	case *protocol.Result:
		return m.Job == job
	case *protocol.Failed:
		return m.Job == job
	case *protocol.Unloaded:
		return m.Job == job
	case *protocol.Cleaned:
		return m.Job == job
	}
	return false
}

// publish emits a live event. One that is lost does not stop the work.
func (a *attempt) publish(ctx context.Context, kind, typ string, data any) {
	e, err := a.event(typ, data)
	if err == nil {
		err = a.begun.Publish(ctx, kind, e)
	}
	if err != nil {
		a.log.Debug("live event lost", "kind", kind, "error", err)
	}
}

func (a *attempt) publishProgress(ctx context.Context, preview *events.Preview) {
	p := a.track.progress(time.Now())
	p.Instance, p.Device, p.Preview = a.slot.config.Name, a.slot.config.Runner.Hello.Device, preview
	a.publish(ctx, broker.KindProgress, events.TypeProgress, p)
}

// event makes an answer event of this attempt.
func (a *attempt) event(typ string, data any) (events.Event, error) {
	a.sent++
	return events.NewAnswer(typ, a.meta(), data)
}

func (a *attempt) meta() events.Meta {
	meta := events.AnswerTo(a.work.event, a.work.job.ID, "/genfn/instance/"+a.slot.config.Name)
	meta.ID = a.work.job.ID + "-" + strconv.Itoa(a.begun.Number) + "-" + strconv.Itoa(a.sent)
	return meta
}
