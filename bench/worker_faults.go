package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"genfn/bench/worker"
	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/functions/device"
	"genfn/functions/embedded"
	"genfn/functions/instance"
	"genfn/functions/runner/protocol"
	"genfn/functions/runner/runnertest"
)

// faultModel is the model that the scripted runners serve.
const faultModel = "scripted"

// hangBudget is how long a scripted runner of the GPU may be silent.
const hangBudget = 2 * time.Second

// scriptedModels are the models of scripted runners.
type scriptedModels struct{}

func (scriptedModels) Names() []string { return []string{faultModel} }

func (scriptedModels) Get(name string) (instance.Model, error) {
	return instance.Model{Name: name, Dir: "/models/" + name, Width: 16, Height: 8, Steps: 4, GuidanceScale: 7.5}, nil
}

func (scriptedModels) SHA256(context.Context, string) (string, error) {
	return strings.Repeat("ab", 32), nil
}

// faultRig is genfn as it is, with an instance for a GPU and one for a CPU, whose runner processes have a scripted
// engine in place of native code.
type faultRig struct {
	dir    string
	broker *broker.Broker
	client *client.Client
}

// newFaultsWorker serves requests with one fault each and tells how long what was done about it took.
func newFaultsWorker() *cobra.Command {
	var dir string
	cmd := &cobra.Command{Use: "faults", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		server := embedded.New(embedded.Config{Port: embedded.AnyPort, StoreDir: filepath.Join(dir, "js")})
		defer server.Close()
		if err := server.Start(); err != nil {
			return err
		}
		b, err := broker.Connect(server.URL(), broker.Options{Name: "genfn bench"})
		if err != nil {
			return err
		}
		defer b.Close()
		r := &faultRig{dir: dir, broker: b, client: client.New(b, client.Options{Source: "/genfn/bench"})}
		return r.serve(cmd.Context(), os.Stdin, os.Stdout)
	}}
	cmd.Flags().StringVar(&dir, "dir", "", "folder for everything it writes")
	return cmd
}

func (r *faultRig) serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	for _, name := range []string{"CPU", "GPU"} {
		i, err := instance.New(r.config(name))
		if err != nil {
			return err
		}
		go func() { ended <- i.Run(ctx, ctx) }()
		select {
		case <-i.Ready():
		case err := <-ended:
			return fmt.Errorf("the instance of the %s ended: %w", name, err)
		}
	}
	err := worker.Serve(in, out, worker.Answer{}, func(raw json.RawMessage) (map[string]float64, error) {
		var s runnertest.Script
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
		return r.fault(ctx, s)
	})
	cancel()
	return errors.Join(err, <-ended, <-ended)
}

// config is an instance as `genfn up` has it, but for the engine of its runner, a budget that does not make the
// harness wait long, and a device that is forgiven everything, at once.
func (r *faultRig) config(name string) instance.Config {
	c := instance.Config{
		Name: strings.ToLower(name), Version: "bench", Broker: r.broker, BrokerConfig: broker.DefaultConfig(), Models: scriptedModels{},
		Runner: runnertest.Config(filepath.Join(r.dir, "runtime")),
		Health: device.Policy{Backoff: time.Millisecond, MaxBackoff: time.Millisecond, ShedAfter: 1 << 20, QuarantineAfter: 1 << 20},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	c.Runner.Hello.Device, c.Runner.Hello.Slot = name, protocol.AnySlot
	if name == "GPU" {
		c.Budgets = instance.Budgets{Stage: hangBudget, Floor: hangBudget, Factor: 1}
	}
	return c
}

// fault has the GPU fail in the middle of a request and follows what is done. Milliseconds:
//
//	recovery  from the last native error, which comes right after a step, until the CPU works on the request
//	proving   from the first fault until the request is tried again there; absent: it was not
//	found     from the last sign of life until the fault is told, with its process ended and reaped
func (r *faultRig) fault(ctx context.Context, s runnertest.Script) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := r.gpuReady(ctx); err != nil {
		return nil, err
	}
	f, err := r.client.PublishAndFollow(ctx, client.Request{Data: events.ImageGenerate{Model: faultModel, Prompt: s.Prompt(), Device: events.DeviceGPU}})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	story := faultStory{}
	for e, err := range f.Events(ctx) {
		if err != nil {
			return nil, err
		}
		if err := story.hear(e); err != nil {
			return nil, err
		}
	}
	return story.figures()
}

// faultStory is when things happened, by the instances' clock.
type faultStory struct {
	lastStep, fault, firstFault, again, onCPU time.Time
	succeeded                                 bool
}

func (s *faultStory) hear(e events.Event) error {
	switch e.Type() {
	case events.TypeProgress:
		p, err := events.Payload[events.Progress](e)
		if err != nil || events.ClassOf(p.Device) != events.DeviceGPU {
			return err
		}
		if p.Notice == nil && p.Step > 0 {
			s.lastStep = e.Time()
		}
		if p.Notice != nil && p.Notice.Code == events.NoticeFault {
			s.fault = e.Time()
			if s.firstFault.IsZero() {
				s.firstFault = e.Time()
			}
		}
	case events.TypeStarted:
		started, err := events.Payload[events.Started](e)
		switch {
		case err != nil:
			return err
		case started.Device == "CPU":
			s.onCPU = e.Time()
		case !s.firstFault.IsZero():
			s.again = e.Time()
		}
	case events.TypeSucceeded:
		s.succeeded = true
	}
	return nil
}

func (s *faultStory) figures() (map[string]float64, error) {
	if !s.succeeded || s.lastStep.IsZero() || s.fault.IsZero() || s.onCPU.IsZero() {
		return nil, fmt.Errorf("the request was not made by the CPU after a fault of the GPU: %+v", *s)
	}
	figures := map[string]float64{"recovery": milliseconds(s.onCPU.Sub(s.lastStep)), "found": milliseconds(s.fault.Sub(s.lastStep))}
	if !s.again.IsZero() {
		figures["proving"] = milliseconds(s.again.Sub(s.firstFault))
	}
	return figures, nil
}

// gpuReady waits until the GPU takes requests.
func (r *faultRig) gpuReady(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		list, err := r.broker.DeviceHistory(ctx, "gpu")
		if err != nil {
			return err
		}
		if n := len(list); n > 0 && list[n-1].State == events.StateReady {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("the GPU does not get ready: %w", ctx.Err())
		}
	}
}

// quantileOf returns the value below which a share of the samples lie.
func quantileOf(samples []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}
