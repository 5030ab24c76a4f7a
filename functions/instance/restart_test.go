package instance_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"genfn/events"
	"genfn/events/client"
	"genfn/functions/controller"
	"genfn/functions/runner/runnertest"
)

// TestRollingRestart restarts every process, one after the other, while requests come without a pause: all succeed, no
// attempt ends for want of its holder, and none waits for a lease to run out, which here takes longer than the test
// may.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.set.AckWait = 2 * patience
	leader := r.controller(nil)
	r.controller(func(c *controller.Config) { c.Name = "deputy" })
	finishes := func(s *settings) { s.Name = "finishes" }
	handsBack := func(s *settings) { s.Name, s.Grace = "hands-back", -1 }
	first, second := r.spawn(finishes), r.spawn(handsBack)

	load := r.load(4)
	load.wait(t, 20)
	for range 2 {
		first.restart(t, func() { first = r.spawn(finishes) })
		load.wait(t, 20)
		second.restart(t, func() { second = r.spawn(handsBack) })
		load.wait(t, 20)
	}
	leader()
	require.Eventually(t, func() bool {
		_, err := r.broker.Command(r.context(), "hands-back", events.Command{Command: events.CommandAdmit, Reason: "a test", By: "ada"})
		return err == nil
	}, patience, 20*time.Millisecond, "the deputy leads")
	load.wait(t, 20)
	r.settled(load.stop(t)...)
}

// restart ends an instance in peace and has the next begin.
func (c *child) restart(t *testing.T, next func()) {
	t.Helper()
	c.signal(t, syscall.SIGTERM)
	require.NoError(t, c.cmd.Wait(), "it ends in peace")
	next()
}

// load is requests that come without a pause.
type load struct {
	group *errgroup.Group
	hurt  <-chan struct{} // closed when one does not succeed as it must
	ended atomic.Bool
	done  chan string // ids of those that have succeeded
	ids   []string    // those that were waited for
}

// load has so many clients ask for one picture after the other.
func (r *rig) load(clients int) *load {
	group, ctx := errgroup.WithContext(r.context())
	l := &load{group: group, hurt: ctx.Done(), done: make(chan string, 10_000)}
	for range clients {
		group.Go(func() error {
			for !l.ended.Load() {
				id, err := r.client.Publish(ctx, client.Request{Data: request(runnertest.Script{})})
				if err != nil {
					return err
				}
				if err := r.onlyShutdowns(ctx, id); err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				l.done <- id
			}
			return nil
		})
	}
	return l
}

// onlyShutdowns waits until a request has succeeded, and reports attempts that did not end with a shutdown.
func (r *rig) onlyShutdowns(ctx context.Context, id string) error {
	e, err := r.client.Wait(ctx, id)
	if err != nil {
		return err
	}
	s, err := events.Payload[events.Succeeded](e)
	if err != nil || e.Type() != events.TypeSucceeded {
		return fmt.Errorf("it ended with %s: %s", e.Type(), e.Data())
	}
	for _, a := range s.Attempts[1:] {
		if a.Cause != "shutdown" {
			return fmt.Errorf("attempt %d follows one that ended with %q", a.Number, a.Cause)
		}
	}
	return nil
}

// wait waits until n more requests have succeeded.
func (l *load) wait(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case id := <-l.done:
			l.ids = append(l.ids, id)
		case <-l.hurt:
			require.NoError(t, l.group.Wait())
		}
	}
}

// stop ends the load and returns the ids of all requests.
func (l *load) stop(t *testing.T) []string {
	t.Helper()
	l.ended.Store(true)
	require.NoError(t, l.group.Wait())
	close(l.done)
	for id := range l.done {
		l.ids = append(l.ids, id)
	}
	return l.ids
}
