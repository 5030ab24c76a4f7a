package instance

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"genfn/events"
	"genfn/functions/model"
)

// Budgets say how long a runner may be silent before it counts as hung.
type Budgets struct {
	Load   time.Duration // for loading and compiling a model; 0: 10 minutes
	Begin  time.Duration // for the first word of a runner that was given a job; it may have to finish a clean-up first. 0: 1 minute
	Stage  time.Duration // for a stage or a step that has no learned time yet; 0: 5 minutes
	Floor  time.Duration // least budget of a stage or a step with a learned time; 0: 10 seconds
	Factor float64       // budget as a multiple of the learned time; 0: 10
	Store  time.Duration // for storing the results and the terminal event; 0: 2 minutes
}

func (b Budgets) withDefaults() Budgets {
	if b.Load <= 0 {
		b.Load = 10 * time.Minute
	}
	if b.Begin <= 0 {
		b.Begin = time.Minute
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

// learned is what one instance makes of the figures of its kind of device.
type learned struct {
	budgets Budgets
	figures *Figures
	device  atomic.Pointer[string] // the kind
}

func newLearned(b Budgets, kind string, f *Figures) *learned {
	if f == nil {
		f = NewFigures()
	}
	l := &learned{budgets: b.withDefaults(), figures: f}
	l.device.Store(&kind)
	return l
}

// kind is what devices have in common that share their figures.
func (l *learned) kind() string { return *l.device.Load() }

// kindOfDevice names the kind of a device: its class and name, and how it is used, as far as time and memory depend on
// that.
func kindOfDevice(class, name, precision string, threads int) string {
	words := []string{class}
	for _, word := range []string{name, precision} {
		if word != "" {
			words = append(words, word)
		}
	}
	if class == events.DeviceCPU {
		if threads == 0 {
			threads = runtime.NumCPU()
		}
		words = append(words, strconv.Itoa(threads)+" threads")
	}
	return strings.Join(words, " ")
}

// shapeKey is what the times and the memory of a generation depend on, beside the device.
func shapeKey(name string, width, height, count int, guided bool, e model.Economy) string {
	words := []string{fmt.Sprintf("%s %dx%d x%d", name, width, height, count)}
	for _, w := range []struct {
		on   bool
		word string
	}{{guided, "guided"}, {e.SequentialGuidance, events.DegradationSequentialGuidance}, {e.TiledVAE, events.DegradationTiledVAE}, {e.OffloadModels, events.DegradationModelOffload}} {
		if w.on {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, " ")
}

func (l *learned) note(shape, stage string, took time.Duration) {
	l.figures.note(l.kind(), shape, stage, took)
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
	took, ok := l.figures.of(l.kind(), shape)[stage]
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
	took, ok := l.figures.of(l.kind(), shape)[stage]
	return ok && took < briefStage
}

// after returns the learned times of the stages that come after denoising.
func (l *learned) after(shape string) time.Duration {
	stages := l.figures.of(l.kind(), shape)
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

	measured map[string]float64 // milliseconds by stage, of denoising of a step: what is to be learned
}

func newTracker(l *learned, shape string, began time.Time) *tracker {
	return &tracker{learned: l, shape: shape, began: began, timings: map[string]float64{}, measured: map[string]float64{}}
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
	t.timings[t.stage] += milliseconds(took)
	if t.stage != events.StageDenoise && t.stage != events.StageLoad {
		t.learned.note(t.shape, t.stage, took)
		t.measured[t.stage] = milliseconds(took)
	}
	t.stage = ""
}

// done notes a finished step and returns the budget of the next.
func (t *tracker) done(step, steps int, now time.Time) time.Duration {
	took := now.Sub(t.since)
	t.learned.note(t.shape, stageStep, took)
	t.step, t.steps, t.since, t.stepped = step, steps, now, t.stepped+took
	t.measured[stageStep] = milliseconds(t.stepped) / float64(step)
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
