package instance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/device/memory"
	"genfn/functions/model"
	"genfn/functions/runner/protocol"
)

// Memory admission: before a model is loaded and before each generation, what the generation is predicted to need is
// compared with what the device has. It is learned from generations of the same kind; before there were any it is
// estimated from the model's files.

// demand is a request as a rung makes it, and what it is predicted to need.
type demand struct {
	rung    string
	request events.ImageGenerate
	given   []string // what the rung gives up of the picture
	shape   string
	work    model.Workload
	peak    int64 // bytes of a process that holds nothing else; 0: not known
	refused int64 // bytes there were when memory ran out for it lately; 0: it did not
}

// fits reports whether the demand is expected to succeed where nothing else is held.
func (d demand) fits(r memory.Room) bool {
	if capacity, ok := r.Capacity(); ok && d.refused > 0 && capacity <= d.refused {
		return false
	}
	return d.peak == 0 || r.Fits(d.peak)
}

// notAdmittedError is a request that is expected to fit on no rung.
type notAdmittedError struct{ err *events.Error }

func (e notAdmittedError) Error() string { return e.err.Error() }
func (e notAdmittedError) Unwrap() error { return e.err }

// demand makes the demand of a request, with its defaults, on a rung.
func (i *Instance) demand(m Model, whole events.ImageGenerate, rung string) demand {
	e := economyOf(rung)
	d := demand{rung: rung}
	d.request, d.given = reduced(whole, m, rung)
	d.shape = shapeOf(d.request, e)
	r := d.request
	d.work = model.Workload{Width: *r.Width, Height: *r.Height, Count: *r.Count, Guided: *r.GuidanceScale > 1, Economy: e}
	d.peak, d.refused = i.learned.figures.peak(i.learned.kind(), d.shape, time.Now())
	if d.peak == 0 {
		d.peak = i.estimate(m, d.work)
	}
	return d
}

// estimate is what the files of a model say of its need of the device's memory, 0 if nothing.
func (i *Instance) estimate(m Model, w model.Workload) int64 {
	switch {
	case m.Folder == nil:
		return 0
	case i.health.Status().Class == events.DeviceCPU:
		return m.Folder.PeakBytes(w)
	}
	// GPUs compute in f16 unless they are told otherwise, CUDA's in the precision of the files.
	hello, bytes := i.config.Runner.Hello, 2
	if hello.Precision == "f32" || hello.Runtime == protocol.RuntimeCUDA && hello.Precision != "f16" {
		bytes = 4
	}
	return m.Folder.DeviceBytes(w, bytes)
}

// demands lists the demands of a plan from the rung it stands on upwards. None is predicted to need more than the one
// before it, of which it gives something up.
func (i *Instance) demands(p *plan, from string) []demand {
	list := []demand{i.demand(p.model, p.whole, from)}
	for _, rung := range p.rungs[slices.Index(p.rungs, from)+1:] {
		if rung == rungFreshProcess { // the same demand
			continue
		}
		d := i.demand(p.model, p.whole, rung)
		if last := list[len(list)-1].peak; last > 0 && d.peak > last {
			d.peak = last
		}
		list = append(list, d)
	}
	return list
}

// take makes a demand the plan's.
func (p *plan) take(d demand) { p.request, p.given, p.shape, p.demand = d.request, d.given, d.shape, d }

// admit has the request start at the first rung that it is expected to fit on, and makes room for it: idle models are
// unloaded first, then the process is replaced by a fresh one.
func (a *attempt) admit(ctx context.Context, p *plan) error {
	if p.model.Dir == "" {
		return nil
	}
	s := a.slot
	room := s.room()
	list := s.instance.demands(p, a.work.rung)
	at := slices.IndexFunc(list, func(d demand) bool { return d.fits(room) })
	if at < 0 {
		return notAdmittedError{s.refusal(p, list, room)}
	}
	if err := s.config.timeFits(p.model, list[at].work); err != nil {
		return err
	}
	a.tellRungs(ctx, list[:at+1], room)
	a.work.rung = list[at].rung
	a.begun.Stand(a.work.rung)
	p.take(list[at])
	a.track.shape = p.shape
	return a.makeRoom(ctx, p, room)
}

// tellRungs tells of each rung that is not even tried, and of the one that is.
func (a *attempt) tellRungs(ctx context.Context, list []demand, room memory.Room) {
	capacity, _ := room.Capacity()
	for n, d := range list[:len(list)-1] {
		next := list[n+1]
		why := sayBytes(d.peak) + " is expected to be needed"
		if d.refused > 0 && capacity <= d.refused {
			why = "memory ran out for it lately, with " + sayBytes(d.refused)
		}
		words := fmt.Sprintf("not tried %s on %s: %s, and there are %s; next %s", describeTry(d.rung), a.slot.device(), why, sayBytes(capacity), describeRung(next.rung))
		a.log.Warn(a.slot.field("less memory from the start"), "rung", next.rung, "predicted", d.peak, "available", capacity)
		a.notice(ctx, events.Notice{Code: events.NoticeDegraded, Message: words, PredictedBytes: d.peak, AvailableBytes: capacity})
	}
}

// describeTry says how a try that is left out would have been.
func describeTry(rung string) string {
	if rung == "" || rung == rungFreshProcess {
		return "as asked for"
	}
	return describeRung(rung)
}

// makeRoom frees what the runner holds for other work, if the plan's would not fit beside it.
func (a *attempt) makeRoom(ctx context.Context, p *plan, room memory.Room) error {
	s, peak := a.slot, p.demand.peak
	if peak == 0 || room.FitsBeside(peak, s.shapes[p.shape]) || len(s.models) == 0 {
		return nil
	}
	before := s.instance.usage.of(s.runner.PID())
	a.lease.Progress(s.config.Budgets.Stage)
	unloaded := slices.DeleteFunc(slices.Clone(s.models), func(m string) bool { return m == p.model.Name })
	if err := s.unload(ctx, unloaded); err != nil {
		return a.warmFailed(err)
	}
	room = s.room()
	after := s.instance.usage.of(s.runner.PID())
	capacity, _ := room.Capacity()
	a.log.Info(s.field("idle models unloaded"), "models", unloaded, "rss_before", before.RSS, "rss_after", after.RSS)
	a.notice(ctx, events.Notice{
		Code: events.NoticeUnloaded, Message: "room is made on " + s.device() + ": " + sayUnloaded(unloaded), Memory: memoryBetween(before, after),
		PredictedBytes: peak, AvailableBytes: capacity,
	})
	if room.FitsBeside(peak, false) {
		return nil
	}
	a.notice(ctx, events.Notice{Code: events.NoticeFreshRunner, Message: "the device " + s.device() + " gets a fresh process, which holds nothing else", PredictedBytes: peak, AvailableBytes: capacity})
	if err := s.kill(fault.KilledForShutdown); err != nil {
		return err
	}
	a.lease.Progress(s.config.Budgets.Load)
	if err := s.start(ctx); err != nil {
		return unavailableError{err}
	}
	return nil
}

func sayUnloaded(models []string) string {
	if len(models) == 0 {
		return "compiled shapes of other requests are freed"
	}
	return "idle models are unloaded: " + list(models)
}

// refusal is the error of a request that is expected to fit on no rung. It names what the most economical needs.
func (s *slot) refusal(p *plan, demands []demand, room memory.Room) *events.Error {
	d := demands[len(demands)-1]
	capacity, _ := room.Capacity()
	size := model.Size{Width: d.work.Width, Height: d.work.Height}
	needs := fmt.Sprintf("%d x %s needs about %s of memory at its most economical", d.work.Count, size, sayBytes(d.peak))
	if d.peak == 0 || d.peak <= capacity { // it was refused before
		needs = fmt.Sprintf("memory ran out for %d x %s at its most economical lately, with %s", d.work.Count, size, sayBytes(d.refused))
	}
	code, where := events.CodeGPUOutOfMemory, s.device()
	if s.class() == events.DeviceCPU {
		code, where = events.CodeHostOutOfMemory, s.instance.host().Source
	}
	var e *events.Error
	if d.peak > room.Total && room.Total > 0 {
		e = events.Errorf(code, "%s, and %s has %s", needs, where, sayBytes(room.Total))
		e.Retriable = false // it does not grow
	} else {
		e = events.Errorf(code, "%s, and of the %s that %s has there are %s for it (%s are kept in reserve)", needs, sayBytes(room.Total), where, sayBytes(capacity), sayBytes(room.Reserve))
	}
	e.Device, e.PredictedBytes, e.AvailableBytes = s.device(), d.peak, capacity
	e.Field, e.Expected = "/width", "a smaller size or fewer pictures"
	e.Advice = "Try a smaller size or fewer images, or end other work on the device."
	if code == events.CodeGPUOutOfMemory {
		e.Advice = "Try a smaller size or fewer images, end other work on the device, or allow another class of device (fallback: allowed)."
	}
	if p.model.Folder != nil {
		fits := func(w model.Workload) bool {
			return room.Fits(s.instance.estimate(p.model, w)) && s.config.timeFits(p.model, w) == nil
		}
		if largest, ok := p.model.Folder.Largest(d.work, fits); ok {
			e.Expected = fmt.Sprintf("at most %s for %d in these proportions", largest, d.work.Count)
		}
	}
	return e
}

// room is the memory that the slot's runner works in.
func (s *slot) room() memory.Room {
	i := s.instance
	pid := s.runner.PID()
	i.usage.sample()
	held, base := i.usage.of(pid), s.runner.Ready().Memory
	host := i.host()
	if host.Free >= 0 {
		host.Free = max(0, host.Free-i.usage.outstanding(pid))
	}
	r := memory.Room{Total: host.Total, Free: host.Free, Held: held.RSS, Base: base.RSS}
	if s.class() != events.DeviceCPU {
		r = deviceRoom(held.Device, base.Device)
		if d := held.Device; d != nil && d.Shared && host.Free >= 0 && r.Free >= 0 {
			r.Free = min(r.Free, host.Free)
		}
	}
	r.Usable, r.Reserve = i.limit.Usable(r.Total), i.config.MemoryReserve.Of(r.Total)
	return r
}

// deviceRoom is the memory of a device of its own. Where the driver tells no free count, what the process does not
// hold counts as free.
func deviceRoom(now, base *protocol.DeviceMemory) memory.Room {
	r := memory.Room{Total: memory.Unknown, Free: memory.Unknown}
	if now == nil {
		return r
	}
	r.Total, r.Free, r.Held = now.Total, now.Free, max(0, now.Used)
	if r.Free < 0 && now.Total >= 0 && now.Used >= 0 {
		r.Free = max(0, now.Total-now.Used)
	}
	if base != nil {
		r.Base = max(0, base.Used)
	}
	return r
}

// uses notes that the runner does work of a shape with a model, of which it keeps so many as it is allowed to.
func (s *slot) uses(name, shape string) {
	if s.shapes == nil {
		s.shapes = map[string]bool{}
	}
	s.shapes[shape] = true
	s.models = append(slices.DeleteFunc(s.models, func(m string) bool { return m == name }), name)
	s.models = s.models[max(0, len(s.models)-max(1, s.config.Runner.Hello.MaxModels)):]
}

// unload has the runner unload models, and free compiled shapes of the others that were not used last.
func (s *slot) unload(ctx context.Context, models []string) error {
	for _, name := range models {
		s.jobs++
		if _, err := s.ask(ctx, &protocol.Unload{Job: s.jobs, Name: name}, s.jobs); err != nil {
			return err
		}
	}
	s.jobs++
	cleaned, err := s.ask(ctx, &protocol.Cleanup{Job: s.jobs}, s.jobs)
	if err != nil {
		return err
	}
	s.models = slices.DeleteFunc(s.models, func(m string) bool { return slices.Contains(models, m) })
	clear(s.shapes)
	if c, ok := cleaned.(*protocol.Cleaned); ok {
		s.instance.usage.measured(s.runner.PID(), s.made, c.After)
	}
	return nil
}

// ask has the runner do a job that is no request's.
func (s *slot) ask(ctx context.Context, m protocol.Message, job uint64) (protocol.Message, error) {
	if err := s.runner.Send(m); err != nil {
		return nil, s.died(string(protocol.KindOf(m)), err)
	}
	return s.await(ctx, job, string(protocol.KindOf(m)))
}

// fitsAhead reports what speaks against loading a model before anybody has asked for it.
func (s *slot) fitsAhead(m Model) error {
	d := s.instance.demand(m, withDefaults(events.ImageGenerate{Model: m.Name}, m), "")
	if room := s.room(); !d.fits(room) {
		capacity, _ := room.Capacity()
		return fmt.Errorf("it is expected to need %s, and there are %s: its first request will choose how it is loaded", sayBytes(d.peak), sayBytes(capacity))
	}
	return nil
}

// refused learns from memory that ran out, and completes the error with what was known: what was expected to be
// needed, what there was, and which models go with the process.
func (a *attempt) refused(e *events.Error) {
	s := a.slot
	e.UnloadedModels = slices.Clone(s.models)
	if len(s.models) > 0 {
		e.Message += "; all models of the process are unloaded to free memory: " + list(s.models)
	}
	if a.plan == nil {
		return
	}
	d := a.plan.demand
	e.PredictedBytes = d.peak
	if e.RequestedBytes == 0 && d.peak > 0 {
		e.Message += fmt.Sprintf("; the work is expected to need %s in all", sayBytes(d.peak))
	}
	if s.runner == nil || a.plan.model.Dir == "" { // it is gone: what it held is not known any more
		return
	}
	capacity, known := s.room().Capacity()
	e.AvailableBytes = capacity
	held := s.held(a.left)
	if !known || capacity == 0 {
		return
	}
	tooMuch := e.RequestedBytes > 0 && held+e.RequestedBytes >= capacity // else there was less than there should have been
	far := max(held+e.RequestedBytes, d.peak) < capacity/2
	if !tooMuch && !s.instance.limit.Refused(held, e.RequestedBytes, far) {
		return
	}
	s.instance.learned.figures.add(s.instance.learned.kind(), a.plan.shape, sample{refused: capacity, at: time.Now()})
}

// held is the highest use of the device's memory, or of the host's, that a runner told of.
func (s *slot) held(m *protocol.Memory) int64 {
	if m == nil {
		last := s.instance.usage.of(s.runner.PID())
		m = &last
	}
	if s.class() == events.DeviceCPU {
		return max(m.RSS, m.PeakRSS)
	}
	if m.Device == nil {
		return 0
	}
	return max(0, m.Device.Used, m.Device.Peak)
}

// learn takes what a successful generation took.
func (a *attempt) learn(p *plan, result *protocol.Result) {
	if p.model.Dir == "" {
		return
	}
	s := a.slot
	one := sample{times: a.track.measured, at: time.Now()}
	if peak := s.held(&result.After); peak > 0 {
		s.instance.limit.Given(peak)
		one.peak, one.alone = peak, len(s.shapes) == 1
		if !one.alone {
			one.bound = peak
			// What it added to the process, and what every process has.
			base := s.runner.Ready().Memory
			before, fresh := result.Before.RSS, base.RSS
			if s.class() != events.DeviceCPU {
				before, fresh = deviceHeld(result.Before), deviceHeld(base)
			}
			one.peak = max(0, peak-before) + fresh
		}
	}
	s.instance.learned.figures.add(s.instance.learned.kind(), p.shape, one)
}

func deviceHeld(m protocol.Memory) int64 {
	if m.Device == nil {
		return 0
	}
	return max(0, m.Device.Used)
}
