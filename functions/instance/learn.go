package instance

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"genfn/events"
)

// Budgets say how long a runner may be silent before it counts as hung.
type Budgets struct {
	Load   time.Duration // for loading and compiling a model; 0: 10 minutes
	Stage  time.Duration // for a stage or a step that has no learned time yet; 0: 5 minutes
	Floor  time.Duration // least budget of a stage or a step with a learned time; 0: 10 seconds
	Factor float64       // budget as a multiple of the learned time; 0: 10
	Store  time.Duration // for storing the results and the terminal event; 0: 2 minutes
}

func (b Budgets) withDefaults() Budgets {
	if b.Load <= 0 {
		b.Load = 10 * time.Minute
	}
	if b.Stage <= 0 {
		b.Stage = 5 * time.Minute
	}
	if b.Floor <= 0 {
		b.Floor = 10 * time.Second
	}
	if b.Factor <= 0 {
		b.Factor = 10
	}
	if b.Store <= 0 {
		b.Store = 2 * time.Minute
	}
	return b
}

// stageStep is the name under which the time of one denoising step is learned.
const stageStep = "step"

// briefStage is the time below which the start of a stage is not worth an event.
const briefStage = 10 * time.Millisecond

// maxLearned bounds the shapes whose times are remembered.
const maxLearned = 1024

// newWeight is the weight of a new measurement against the learned time.
const newWeight = 0.3

// Times are the learned times of stages and steps by class of device and shape of the request. Instances of one
// process share them. Safe for concurrent use.
type Times struct {
	mu    sync.Mutex
	times map[string]map[string]time.Duration // class and shape -> stage -> time
}

// NewTimes returns times that know nothing yet.
func NewTimes() *Times { return &Times{times: map[string]map[string]time.Duration{}} }

// note mixes a measurement into the learned time.
func (t *Times) note(class, shape, stage string, took time.Duration) {
	key := class + " " + shape
	t.mu.Lock()
	defer t.mu.Unlock()
	stages := t.times[key]
	if stages == nil {
		if len(t.times) >= maxLearned {
			clear(t.times)
		}
		stages = map[string]time.Duration{}
		t.times[key] = stages
	}
	if old, ok := stages[stage]; ok {
		took = time.Duration((1-newWeight)*float64(old) + newWeight*float64(took))
	}
	stages[stage] = took
}

// of returns a copy of the learned times of a shape on a class of device, nil if there are none.
func (t *Times) of(class, shape string) map[string]time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.times[class+" "+shape])
}

// total predicts the time of a whole generation; ok is false if its steps were never measured. Loading a model is
// not in it.
func (t *Times) total(class, shape string, steps int) (total time.Duration, ok bool) {
	stages := t.of(class, shape)
	step, ok := stages[stageStep]
	for stage, took := range stages {
		if stage != stageStep {
			total += took
		}
	}
	return total + time.Duration(steps)*step, ok
}

// learned is what one instance makes of the times of its class of device.
type learned struct {
	budgets Budgets
	class   string
	times   *Times
}

func newLearned(b Budgets, class string, t *Times) *learned {
	if t == nil {
		t = NewTimes()
	}
	return &learned{budgets: b.withDefaults(), class: class, times: t}
}

// shapeKey is what the times of a generation depend on, beside the device.
func shapeKey(model string, width, height, count int, guided bool) string {
	return fmt.Sprintf("%s %dx%d x%d %t", model, width, height, count, guided)
}

func (l *learned) note(shape, stage string, took time.Duration) {
	l.times.note(l.class, shape, stage, took)
}

// budget returns how long a stage or step may take until the next sign of life. Loading is never learned: a
// model that was loaded fast from a warm cache may be compiled the next time. Nor is storing: a broker that
// restarts says nothing about the work.
func (l *learned) budget(shape, stage string) time.Duration {
	switch stage {
	case events.StageLoad:
		return l.budgets.Load
	case events.StageStore:
		return l.budgets.Store
	}
	took, ok := l.times.of(l.class, shape)[stage]
	if !ok {
		return l.budgets.Stage
	}
	return max(l.budgets.Floor, time.Duration(l.budgets.Factor*float64(took)))
}

// brief reports whether a stage, or the first step of denoising, is known to be over before anybody could read
// that it has begun.
func (l *learned) brief(shape, stage string) bool {
	if stage == events.StageDenoise {
		stage = stageStep
	}
	took, ok := l.times.of(l.class, shape)[stage]
	return ok && took < briefStage
}

// after returns the learned times of the stages that come after denoising.
func (l *learned) after(shape string) time.Duration {
	stages := l.times.of(l.class, shape)
	return stages[events.StageVAEDecode] + stages[events.StageEncode] + stages[events.StageStore]
}

// tracker follows one generation: it says how long the next silence may be and how long the rest will take.
type tracker struct {
	learned *learned
	shape   string
	began   time.Time // of the attempt
	stage   string
	since   time.Time // when the stage or the last step began
	step    int
	steps   int
	stepped time.Duration // all steps so far
	timings map[string]float64
}

func newTracker(l *learned, shape string, began time.Time) *tracker {
	return &tracker{learned: l, shape: shape, began: began, timings: map[string]float64{}}
}

// enter notes the start of a stage, and with it the end of the one before, and returns the stage's budget.
// During denoising the budget is that of one step.
func (t *tracker) enter(stage string, now time.Time) time.Duration {
	t.leave(now)
	t.stage, t.since, t.step, t.steps, t.stepped = stage, now, 0, 0, 0
	if stage == events.StageDenoise {
		return t.learned.budget(t.shape, stageStep)
	}
	return t.learned.budget(t.shape, stage)
}

// leave ends the current stage.
func (t *tracker) leave(now time.Time) {
	if t.stage == "" {
		return
	}
	took := t.stepped + now.Sub(t.since)
	t.timings[t.stage] += float64(took) / float64(time.Millisecond)
	if t.stage != events.StageDenoise && t.stage != events.StageLoad {
		t.learned.note(t.shape, t.stage, took)
	}
	t.stage = ""
}

// done notes a finished step and returns the budget of the next.
func (t *tracker) done(step, steps int, now time.Time) time.Duration {
	took := now.Sub(t.since)
	t.learned.note(t.shape, stageStep, took)
	t.step, t.steps, t.since, t.stepped = step, steps, now, t.stepped+took
	return t.learned.budget(t.shape, stageStep)
}

// eta estimates the time until the end, 0 if nothing is known yet.
func (t *tracker) eta() time.Duration {
	if t.steps == 0 {
		return 0
	}
	return time.Duration(t.steps-t.step)*(t.stepped/time.Duration(t.step)) + t.learned.after(t.shape)
}

// progress is the tracker as an event's data.
func (t *tracker) progress(now time.Time) events.Progress {
	return events.Progress{
		Stage: t.stage, Step: t.step, Steps: t.steps,
		ElapsedMS: now.Sub(t.began).Milliseconds(), EtaMS: t.eta().Milliseconds(),
	}
}
