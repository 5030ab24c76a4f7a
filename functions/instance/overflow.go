package instance

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"genfn/events"
	"genfn/events/broker"
)

// GPU first, CPU overflow: the instance of a CPU takes a request of the any lane only if the GPUs that serve its model
// would be longer at those before it than the CPU at this one.

const (
	overflowInterval = time.Second
	// defaultRatio is how many times longer a CPU is taken to need than a GPU until both have measured the same work.
	defaultRatio = 10
	// comparedSteps is the number of denoising steps by which two kinds of device are compared.
	comparedSteps = 20
)

// overflow keeps the queue's limits up to date until ctx ends.
func (i *Instance) overflow(ctx context.Context, queue *broker.Queue) {
	ticker := time.NewTicker(overflowInterval) // for what was learned, and for GPUs that have gone silent
	defer ticker.Stop()
	for {
		select {
		case <-i.peers.changed:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		i.setLimits(queue)
	}
}

// setLimits computes the limits anew.
func (i *Instance) setLimits(queue *broker.Queue) {
	limits := map[string]int{}
	for _, model := range i.catalog.names() {
		n := i.minPending(model)
		queue.SetMinPending(events.PoolToken(events.KindImage, model), n)
		if n > 0 {
			limits[model] = n
		}
	}
	was := i.limits.Swap(&limits)
	if was == nil || !maps.Equal(*was, limits) {
		i.log.Debug("requests that must wait for the CPU to take one", "by_model", limits)
	}
	i.exposeLimits(limits)
}

// minPending is how many requests of a model must wait for a CPU to take one: as many as the GPUs do in the time that
// the CPU needs for one; 0, so none, while no GPU takes requests.
func (i *Instance) minPending(model string) int {
	var n float64
	for _, s := range i.peers.serving(events.DeviceGPU, model) {
		ratio, ok := i.learned.figures.ratio(model, i.learned.kind(), s.Kind)
		if !ok {
			ratio = defaultRatio
		}
		n += float64(s.Slots) * ratio
	}
	return int(math.Ceil(n))
}

// ratio is how many times longer a generation of a model takes on one kind of device than on another, by the work that
// was measured most often on both; ok is false if there is none.
func (f *Figures) ratio(model, slow, fast string) (ratio float64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	most, by := int64(-1), ""
	for key, there := range f.entries {
		if key.kind != fast || !strings.HasPrefix(key.work, model+" ") {
			continue
		}
		here := f.entries[figure{slow, key.work}]
		long, measured := predicted(here.TimesMS, comparedSteps)
		short, also := predicted(there.TimesMS, comparedSteps)
		if !measured || !also || short <= 0 {
			continue
		}
		if runs := min(here.Runs, there.Runs); runs > most || runs == most && key.work < by {
			most, by, ratio, ok = runs, key.work, long/short, true
		}
	}
	return ratio, ok
}

// serving lists the instances of a class that take requests for a model now.
func (p *peers) serving(class, model string) (list []events.DeviceStatus) {
	p.any(func(s events.DeviceStatus) bool {
		if s.Class == class && s.State == events.StateReady && s.Admitted() && slices.Contains(s.Models, model) {
			list = append(list, s)
		}
		return false
	})
	return list
}
