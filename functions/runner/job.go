package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"genfn/events"
	"genfn/functions/imagefile"
	"genfn/functions/runner/protocol"
)

// job is one message that wants an answer.
type job struct {
	id      uint64
	message protocol.Message
	ctx     context.Context
	cancel  context.CancelFunc
	taken   chan struct{} // holds one token: the preview area is free
}

func newJob(ctx context.Context, id uint64, m protocol.Message) *job {
	ctx, cancel := context.WithCancel(ctx)
	j := &job{id: id, message: m, ctx: ctx, cancel: cancel, taken: make(chan struct{}, 1)}
	j.previewRead()
	return j
}

// previewRead frees the preview area.
func (j *job) previewRead() {
	select {
	case j.taken <- struct{}{}:
	default:
	}
}

// do does a job and returns its answer. A panic of the engine becomes an internal error.
func (r *runner) do(j *job) (answer protocol.Message) {
	o := &observer{runner: r, job: j}
	defer func() {
		if v := recover(); v != nil {
			err := events.Errorf(events.CodeInternal, "the generation function ended over a mistake in this program")
			err.Detail = fmt.Sprintf("panic: %v\n%s", v, debug.Stack())
			f := classify(err, o.describe(), r.device)
			r.log.Error("panic in a job", "job", j.id, "panic", v, "stage", f.Err.Stage)
			answer = protocol.NewFailed(j.id, f, r.memory())
		}
	}()
	answer, err := r.try(j, o)
	if err != nil {
		return r.failed(j, o, err)
	}
	return answer
}

// failed turns err into the job's answer. A job that was cancelled ends as such, but a fault of the device in the
// same moment is one nevertheless.
func (r *runner) failed(j *job, o *observer, err error) *protocol.Failed {
	f := classify(err, o.describe(), r.device)
	if cause := j.ctx.Err(); cause != nil {
		replace := f.Replace && !errors.Is(err, cause)
		f = classify(events.Errorf(events.CodeCancelled, "the generation was cancelled"), o.describe(), r.device)
		f.Replace = replace
	}
	return protocol.NewFailed(j.id, f, r.memory())
}

func (r *runner) try(j *job, o *observer) (protocol.Message, error) {
	began := time.Now()
	switch m := j.message.(type) {
	case *protocol.Devices:
		devices, err := r.engine.Devices(j.ctx, m.Validate)
		return &protocol.DeviceList{Job: j.id, Devices: devices, Versions: r.engine.Info().Versions}, err
	case *protocol.Load:
		err := r.load(j.ctx, m.Model, o)
		return &protocol.Loaded{Job: j.id, Model: m.Model.Name, ElapsedMS: time.Since(began).Milliseconds(), Memory: r.memory()}, err
	case *protocol.Unload:
		err := r.engine.Unload(m.Name)
		return &protocol.Unloaded{Job: j.id, Memory: r.memory()}, err
	case *protocol.Cleanup:
		before, err := r.cleanup(j.ctx)
		return &protocol.Cleaned{Job: j.id, Before: before, After: r.memory()}, err
	case *protocol.Generate:
		return r.generate(j, m, o)
	}
	return nil, fmt.Errorf("%s is not a job", protocol.KindOf(j.message))
}

func (r *runner) load(ctx context.Context, m protocol.Model, o Observer) error {
	if r.isNoop(m) {
		return nil
	}
	return r.engine.Load(ctx, m, o)
}

func (r *runner) generate(j *job, m *protocol.Generate, o *observer) (protocol.Message, error) {
	in := Input{Model: m.Model, Request: m.Request}
	if m.Latents != nil { // read before anything is written: from now on the memory file is the runner's
		data, err := r.bulk.ReadF32(m.Latents.Block)
		if err != nil {
			return nil, err
		}
		in.Latents = &imagefile.Array{Shape: m.Latents.Shape, Data: data}
	}
	resetPeakRSS()
	r.devicePeak.reset()
	before := r.memory()
	r.house.before = before
	generate := r.engine.Generate
	if r.isNoop(m.Model) {
		generate = generateNoop
	}
	defer r.watchMemory(j.id)()
	out, err := generate(j.ctx, in, o)
	if err != nil {
		return nil, err
	}
	return r.result(j, out, before, o.end)
}

// result writes the pictures to the memory file, behind the last preview, which may not be read yet.
func (r *runner) result(j *job, out *Output, before protocol.Memory, offset int64) (*protocol.Result, error) {
	res := &protocol.Result{
		Job: j.id, Scheduler: out.Scheduler, Precision: out.Precision,
		PromptTruncated: out.PromptTruncated, Degradations: out.Degradations, Guidance: out.Guidance, TimingsMS: out.TimingsMS, Before: before,
	}
	for _, image := range out.Images {
		block, err := r.bulk.Write(offset, image.Pix)
		if err != nil {
			return nil, err
		}
		offset = end(block)
		res.Images = append(res.Images, protocol.Image{Width: image.Width, Height: image.Height, Block: block})
	}
	if out.Latents != nil {
		block, err := r.bulk.WriteF32(offset, out.Latents.Data)
		if err != nil {
			return nil, err
		}
		res.Latents = &protocol.Array{Shape: out.Latents.Shape, Block: block}
	}
	res.After = r.memory()
	return res, nil
}

func end(b protocol.Block) int64 { return b.Offset + b.Size }

// observer sends a job's progress. Lost messages mean a lost parent, which receive sees too.
type observer struct {
	runner      *runner
	job         *job
	stage       string
	step, steps int
	end         int64 // of the preview area in the memory file
}

func (o *observer) Stage(name string) {
	o.stage, o.step, o.steps = name, 0, 0
	if r := o.runner; r.engine != nil { // what the last stage has left, and what was loaded for this one
		r.devicePeak.note(r.engine.DeviceMemory())
	}
	o.send(&protocol.Stage{Job: o.job.id, Name: name})
}

func (o *observer) Step(step, steps int) {
	o.step, o.steps = step, steps
	o.send(&protocol.Step{Job: o.job.id, Step: step, Steps: steps})
}

func (o *observer) Preview(index int, image imagefile.Image) {
	select {
	case <-o.job.taken:
	case <-o.job.ctx.Done():
		return
	}
	block, err := o.runner.bulk.Write(0, image.Pix)
	if err != nil {
		o.runner.log.Error("preview lost", "job", o.job.id, "error", err)
		o.job.previewRead()
		return
	}
	o.end = max(o.end, end(block))
	o.send(&protocol.Preview{Job: o.job.id, Index: index, Image: protocol.Image{Width: image.Width, Height: image.Height, Block: block}})
}

func (o *observer) send(m protocol.Message) {
	if err := o.runner.conn.Send(m); err != nil && o.job.ctx.Err() == nil {
		o.runner.log.Error("progress lost", "job", o.job.id, "kind", string(protocol.KindOf(m)), "error", err)
	}
}

// describe says where the job is: "denoise step 3 of 20" while the third step is being done.
func (o *observer) describe() string {
	if o.steps > 0 && o.step < o.steps {
		return fmt.Sprintf("%s step %d of %d", o.stage, o.step+1, o.steps)
	}
	return o.stage
}
