package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/events"
	"genfn/events/broker"
	"genfn/events/eventstest"
	"genfn/functions/controller"
)

// TestOperators: what operators decide from the command line is in force when the command ends, is shown with its author
// and reason, and is refused in words where it cannot be.
func TestOperators(t *testing.T) {
	up := startUp(t, checkout.Path(t, "deploy", "models"), "--name", "one", "--devices", "CPU")
	decision(t, up.URL, "one")
	out, err := command(t, os.Args[0], "drain", "one", "--nats", up.URL, "--reason", "a new fan", "--by", "ada")
	require.NoError(t, err, out)
	require.Equal(t, "one: draining by ada (operator): a new fan\n", out)
	require.Equal(t, events.StateDraining, decision(t, up.URL, "one").State)

	out, err = command(t, os.Args[0], "devices", "--nats", up.URL)
	require.NoError(t, err, out)
	require.Regexp(t, `(?m)^one +draining +\S+ \S+ +ada +operator +a new fan`, out)
	out, err = command(t, os.Args[0], "devices", "--json", "--nats", up.URL)
	require.NoError(t, err, out)
	var report deviceReport
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, []string{"one", events.StateDraining, "ada", "a new fan"}, []string{report.Decisions[0].Instance, report.Decisions[0].State, report.Decisions[0].DecidedBy, report.Decisions[0].Message})

	out, err = command(t, os.Args[0], "admit", "one", "--json", "--nats", up.URL, "--reason", "it turns")
	require.NoError(t, err, out)
	var d events.Decision
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	require.Equal(t, []string{events.StateReady, events.StateDraining, controller.ReasonOperator}, []string{d.State, d.Previous, d.Reason})
	require.NotEmpty(t, d.DecidedBy, "the user, when nobody is named")

	out, err = command(t, os.Args[0], "shed", "two", "--nats", up.URL, "--reason", "x")
	require.Error(t, err)
	require.Contains(t, out, `no living instance has the name "two"`)
	require.Contains(t, out, "one of one")
	out, err = command(t, os.Args[0], "quarantine", "a.b", "--nats", up.URL, "--reason", "x")
	require.Error(t, err)
	require.Contains(t, out, "a.b")
}

// decision waits until something is decided on an instance.
func decision(t *testing.T, url, instance string) (d events.Decision) {
	t.Helper()
	b, err := broker.Connect(url, broker.Options{})
	require.NoError(t, err)
	defer b.Close()
	require.Eventually(t, func() bool {
		stored, err := b.Decision(t.Context(), instance)
		require.NoError(t, err)
		if stored != nil {
			d = stored.Decision
		}
		return stored != nil
	}, time.Minute, 10*time.Millisecond, "a decision on %s", instance)
	return d
}

// TestNoController: who asks where nobody decides is told what to start.
func TestNoController(t *testing.T) {
	server := eventstest.Start(t)
	out, err := command(t, os.Args[0], "drain", "one", "--nats", server.URL(), "--reason", "x")
	require.Error(t, err)
	require.Contains(t, out, "no health controller at "+server.URL()+" is there to decide")
	require.Contains(t, out, "genfn controller")
}

// TestControllerLog: what a controller has logged leads to the same decisions again, and a log that somebody has changed
// does not pass.
func TestControllerLog(t *testing.T) {
	server := eventstest.Start(t)
	log := filepath.Join(t.TempDir(), "decisions.log")
	c, _ := startCommand(t, "controller", "--nats", server.URL(), "--name", "boss", "--log", log)
	b, err := broker.Connect(server.URL(), broker.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	status := events.DeviceStatus{Instance: "one", Device: "CPU", Class: events.DeviceCPU, State: events.StateReady, Reason: "validated", Since: time.Now(), Slots: 1, Models: []string{"m"}, Incarnation: "x"}
	require.Eventually(t, func() bool {
		status.Sequence++
		require.NoError(t, b.PublishStatus(status, true, "/test"))
		stored, err := b.Decision(t.Context(), "one")
		return err == nil && stored != nil
	}, time.Minute, 20*time.Millisecond)
	c.stop(t)

	out, err := command(t, os.Args[0], "controller", "--replay", log)
	require.NoError(t, err, out)
	require.Contains(t, out, "one: ready by controller boss (joined)")
	raw, err := os.ReadFile(log)
	require.NoError(t, err)
	changed := filepath.Join(t.TempDir(), "changed.log")
	require.NoError(t, os.WriteFile(changed, bytes.Replace(raw, []byte(`"reason":"joined"`), []byte(`"reason":"liked"`), 1), 0o600))
	out, err = command(t, os.Args[0], "controller", "--replay", changed)
	require.Error(t, err)
	require.Contains(t, out, "does not follow from what is before it")
}
