package instance

import (
	"fmt"
	"runtime"
	"time"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/hostcpu"
	"genfn/functions/hostmemory"
	"genfn/functions/model"
)

// fits refuses a request that can never succeed on this machine, before it holds a slot until attempts have failed: one
// that needs more memory than there is even with every economy, or one whose single step takes longer than a runner
// may be silent. It knows CPUs only; what a GPU's memory holds is its runner's business.
func (c Config) fits(m Model, r events.ImageGenerate) error {
	if m.Folder == nil || c.class() == broker.LaneGPU {
		return nil
	}
	memory, err := c.HostMemory()
	if err != nil {
		c.Logger.Warn("it is not known how much memory there is, so nothing is refused for it", "error", err)
	}
	h := host{model: m.Folder, memory: memory, cores: runtime.NumCPU(), budget: c.Budgets.Stage}
	if cores, err := hostcpu.Read(); err == nil {
		h.cores = cores.Whole()
	}
	if n := c.Runner.Hello.Threads; n > 0 {
		h.cores = min(h.cores, n)
	}
	return h.check(model.Workload{
		Width: *r.Width, Height: *r.Height, Count: *r.Count, Guided: *r.GuidanceScale > 1,
		Economy: model.Economy{SequentialGuidance: true, TiledVAE: true, OffloadModels: true},
	})
}

// host is what a machine can do for a model.
type host struct {
	model  *model.Model
	memory hostmemory.Limit // zero: not known
	cores  int
	budget time.Duration // of one step
}

func (h host) memoryFits(w model.Workload) bool {
	return h.memory.Bytes == 0 || h.model.PeakBytes(w) <= h.memory.Bytes
}

func (h host) timeFits(w model.Workload) bool {
	return h.model.MinStepSeconds(w, h.cores) <= h.budget.Seconds()
}

func (h host) check(w model.Workload) error {
	var e *events.Error
	size := model.Size{Width: w.Width, Height: w.Height}
	switch {
	case !h.memoryFits(w):
		e = events.Errorf(events.CodeHostOutOfMemory, "%d x %s needs about %s of memory at its most economical, and %s has %s",
			w.Count, size, gib(h.model.PeakBytes(w)), h.memory.Source, gib(h.memory.Bytes))
		e.Retriable = false // this machine does not grow
	case !h.timeFits(w):
		least := time.Duration(h.model.MinStepSeconds(w, h.cores) * float64(time.Second)).Round(time.Second)
		e = events.Errorf(events.CodeInvalidRequest, "one step of %s takes at least %s on %d cores, and a runner may be silent for %s", size, least, h.cores, h.budget)
	default:
		return nil
	}
	e.Field, e.Expected = "/width", "a smaller size or fewer pictures"
	fits := func(w model.Workload) bool { return h.memoryFits(w) && h.timeFits(w) }
	if largest, ok := h.model.Largest(w, fits); ok {
		e.Expected = fmt.Sprintf("at most %s for %d in these proportions", largest, w.Count)
	}
	return e
}

// gib writes bytes for people.
func gib(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }
