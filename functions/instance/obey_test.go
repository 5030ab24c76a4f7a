package instance_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/controller"
	"genfn/functions/runner/runnertest"
)

// controller runs a health controller until the test ends.
func (r *rig) controller() {
	r.t.Helper()
	c, err := controller.New(controller.Config{Name: "boss", Broker: r.broker, BrokerConfig: r.set.brokerConfig()})
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		require.NoError(r.t, <-done)
	})
}

// order asks the controller for a decision on an instance once it knows it, and returns when the instance obeys it.
func (r *rig) order(run *running, instance, command string) events.Decision {
	r.t.Helper()
	d, err := r.broker.Command(r.context(), instance, events.Command{Command: command, Reason: "a test", By: "ada"})
	require.NoError(r.t, err)
	run.waitLog(r.t.(*testing.T), "decision heard\" instance="+instance+" state="+d.State)
	return d
}

// TestDrainAndAdmit: an instance that is drained finishes its work and takes no more until it is admitted.
func TestDrainAndAdmit(t *testing.T) {
	r := newRig(t)
	r.controller()
	run := r.start(nil)
	run.waitLog(t, "decision heard")
	g := r.gate()
	running := r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1, File: g.path}))
	f := r.follow(running)
	r.until(f, r.inStage(events.StageDenoise))
	r.order(run, "one", events.CommandDrain)
	waits := r.publish(request(runnertest.Script{}))
	g.open(t)
	r.succeeded(running)
	_, answered, err := r.broker.Terminal(r.context(), broker.DefaultTenant, waits)
	require.NoError(t, err)
	require.False(t, answered)
	r.order(run, "one", events.CommandAdmit)
	s := r.succeeded(waits)
	require.Empty(t, causes(s.Attempts), "nobody is charged for the wait")
	r.settled(running, waits)
}
