package instance

import (
	"context"
	"errors"
	"time"

	"genfn/events"
	"genfn/events/broker"
)

const (
	divertInterval = time.Second
	divertAfter    = 3 * time.Second // how long a request waits for a GPU to come before a CPU takes it
	divertPause    = 2 * time.Second // until one that must wait on is looked at again: what is handed back is delivered first
)

// divert gives requests that wait for a GPU to the CPUs while no instance with a GPU serves their model, unless they
// forbid it. Only instances of CPUs do it.
func (i *Instance) divert(ctx context.Context) {
	queue, err := i.config.Broker.Subscribe(i.catalog.pools(), []broker.Lane{broker.LaneGPU}) //nolint:contextcheck // it waits for nothing
	if err != nil {
		i.log.Warn("requests for GPUs that are gone wait for them", "error", err)
		return
	}
	defer func() {
		closing, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer done()
		if err := queue.Close(closing); err != nil {
			i.log.Debug("queue of the GPUs not closed", "error", err)
		}
	}()
	for sleep(ctx, divertInterval) {
		if i.gpusServeAll() {
			continue
		}
		if err := i.divertAll(ctx, queue); !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			i.log.Debug("requests for GPUs cannot be looked at", "error", err)
		}
	}
}

// divertAll looks at what waits for a GPU until nothing more comes. It returns why it ended.
func (i *Instance) divertAll(ctx context.Context, queue *broker.Queue) error {
	for {
		wait, cancel := context.WithTimeout(ctx, divertInterval)
		job, err := queue.Next(wait)
		cancel()
		if err != nil {
			return err
		}
		i.diverted(ctx, job)
	}
}

// gpusServeAll reports whether every model of this instance is served by some GPU.
func (i *Instance) gpusServeAll() bool {
	for _, model := range i.catalog.names() {
		if !i.peers.serve(events.DeviceGPU, model) {
			return false
		}
	}
	return true
}

// diverted moves a request to the CPUs, or hands it back.
func (i *Instance) diverted(ctx context.Context, job *broker.Job) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	request, ok, err := job.Open(ctx)
	if err != nil || !ok {
		return // answered, or delivered again
	}
	asked, err := events.Payload[events.ImageGenerate](request)
	if err != nil || asked.Fallback == events.FallbackNever || i.peers.serve(events.DeviceGPU, asked.Model) || time.Since(job.Queued) < divertAfter {
		job.HandBackLater(divertPause)
		return
	}
	if err := job.Move(ctx, broker.LaneCPU); err != nil {
		i.log.Warn("request not moved to the CPUs, it is delivered again", "request", job.ID, "error", err)
		return
	}
	i.log.Warn("no GPU serves the model, the request goes to the CPUs", "request", job.ID, "model", asked.Model)
}
