package instance

import (
	"fmt"
	"runtime"
	"time"

	"genfn/events"
	"genfn/functions/hostcpu"
	"genfn/functions/model"
)

// timeFits refuses a request that can never succeed on this machine, before it holds a slot until attempts have failed:
// one whose single step takes longer than a runner may be silent. It knows CPUs only.
func (c Config) timeFits(m Model, w model.Workload) error {
	if m.Folder == nil || c.class() != events.DeviceCPU {
		return nil
	}
	cores := runtime.NumCPU()
	if allowed, err := hostcpu.Read(); err == nil {
		cores = allowed.Whole()
	}
	if n := c.Runner.Hello.Threads; n > 0 {
		cores = min(cores, n)
	}
	fits := func(w model.Workload) bool { return m.Folder.MinStepSeconds(w, cores) <= c.Budgets.Stage.Seconds() }
	if fits(w) {
		return nil
	}
	size := model.Size{Width: w.Width, Height: w.Height}
	least := time.Duration(m.Folder.MinStepSeconds(w, cores) * float64(time.Second)).Round(time.Second)
	e := events.Errorf(events.CodeInvalidRequest, "one step of %s takes at least %s on %d cores, and a runner may be silent for %s", size, least, cores, c.Budgets.Stage)
	e.Field, e.Expected = "/width", "a smaller size or fewer pictures"
	if largest, ok := m.Folder.Largest(w, fits); ok {
		e.Expected = fmt.Sprintf("at most %s for %d in these proportions", largest, w.Count)
	}
	return e
}
