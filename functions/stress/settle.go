package stress

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"genfn/events"
	"genfn/events/client"
)

// settled is what instances hold after they have all made the same pictures, with nothing to do.
type settled struct {
	at        time.Time
	instances map[string]events.DeviceStatus
	unwell    []string // instances that took no requests, and why
}

// settle has every instance make the same few pictures and notes what it holds then.
func (s *Stress) settle(ctx context.Context, when string) (*settled, error) {
	if _, err := s.watch.until(ctx, s.config.Patience, well(time.Time{})); err != nil {
		return nil, err
	}
	out := &settled{instances: map[string]events.DeviceStatus{}}
	slots := map[string]int{} // by device
	for _, x := range s.watch.alive() {
		if x.status.State != events.StateReady {
			out.unwell = append(out.unwell, fmt.Sprintf("%s is %s: %s", x.status.Instance, x.status.State, x.status.Message))
			continue
		}
		slots[x.status.Device] += max(1, x.status.Slots)
	}
	for device, n := range slots {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(n)
		for i := range n * s.config.Settle {
			g.Go(func() error { return s.plain(ctx, s.id(when, device, i), device) })
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
	}
	out.at = time.Now()
	idle := func(alive []sample) bool {
		return len(alive) > 0 && !slices.ContainsFunc(alive, func(x sample) bool { return x.at.Before(out.at) || x.status.Busy > 0 })
	}
	switch ok, err := s.watch.until(ctx, s.config.Patience, idle); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, events.Errorf(events.CodeDeviceUnavailable, "the instances do not come to rest, or are not heard of, within %s", s.config.Patience)
	}
	for _, x := range s.watch.alive() {
		if slots[x.status.Device] > 0 {
			out.instances[x.status.Instance] = x.status
		}
	}
	return out, nil
}

// plain makes the picture that is the same each time, on one device.
func (s *Stress) plain(ctx context.Context, id, device string) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.Patience)
	defer cancel()
	size := s.config.Sizes[0]
	s.watch.published(id)
	if _, err := s.client.Publish(ctx, client.Request{ID: id, Data: events.ImageGenerate{
		Model: s.config.Model, Prompt: prompt, Width: &size.Width, Height: &size.Height, Steps: ptr(s.config.Steps[0]), Seed: ptr(uint64(0)),
		Device: device, Fallback: events.FallbackNever,
	}}); err != nil {
		return err
	}
	e, err := s.client.Wait(ctx, id)
	if err != nil {
		return fmt.Errorf("a plain request on %s: %w", device, err)
	}
	if e.Type() != events.TypeSucceeded {
		return fmt.Errorf("a plain request on %s ended with %s: %.500s", device, e.Type(), e.Data())
	}
	return nil
}
