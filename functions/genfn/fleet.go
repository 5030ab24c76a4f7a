package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/instance"
	"genfn/functions/runner"
	"genfn/functions/runner/process"
)

// fleet is the instances of one process: some for the CPU, and one for each other device.
type fleet struct {
	settings *settings
	flags    *upFlags
	broker   *broker.Broker
	shared   shared
	log      *slog.Logger
	others   sync.WaitGroup
}

// instance makes the n-th instance of a device, from 1.
func (f *fleet) instance(device string, n int) (*instance.Instance, error) {
	flags := f.flags.instanceFlags
	flags.device = device
	with := f.shared
	if device != "CPU" {
		flags.slots, flags.threads, flags.serveNoop, with.cpus = 1, 0, false, 0
		flags.name += "-" + strings.ToLower(strings.NewReplacer(".", "-", ":", "-").Replace(device))
		if isCUDA(device) { // these are for OpenVINO's GPUs
			flags.properties, flags.precision, flags.streams = nil, "", 0
		}
	} else {
		flags.properties, flags.precision, flags.virtual = nil, "", virtualFlags{}
		if n > 1 {
			flags.name += "-cpu-" + strconv.Itoa(n)
		}
	}
	return f.settings.newInstance(f.broker, &flags, with, f.log)
}

// addOthers serves with the other instances of the CPU, and with the devices beside it, in the background: a driver that
// is slow to answer keeps nobody waiting, and one that fails costs its own device only.
func (f *fleet) addOthers(soft, hard context.Context) {
	for n := 2; n <= f.shared.cpus; n++ {
		f.others.Go(func() { f.serveAgain(soft, hard, "CPU", n) })
	}
	if slices.Equal(f.flags.devices, []string{"CPU"}) && !f.virtual() {
		return
	}
	f.others.Go(func() {
		devices := f.find(soft)
		if n, ok := f.flags.count.gpus(); ok {
			if len(devices) < n && soft.Err() == nil {
				f.log.Error("[GPU] fewer GPUs than asked for are well", "asked_for", n, "well", len(devices))
			}
			devices = devices[:min(n, len(devices))]
		}
		for _, device := range devices {
			f.others.Go(func() { f.serveAgain(soft, hard, device, 1) })
		}
	})
}

// virtual reports whether there are virtual GPUs, which are there to serve.
func (f *fleet) virtual() bool { return f.flags.virtual.on || f.flags.cuda.virtual.on }

// wait waits until the instances that addOthers started have ended.
func (f *fleet) wait() { f.others.Wait() }

// Pauses between tries of a device that does not begin to serve.
const (
	minServePause = 30 * time.Second
	maxServePause = 10 * time.Minute
)

// serveAgain serves a device until soft ends, with pauses that double after each failure to begin.
func (f *fleet) serveAgain(soft, hard context.Context, device string, n int) {
	pause := minServePause
	for failures := 1; ; failures++ {
		err := f.serve(soft, hard, device, n)
		if err == nil || soft.Err() != nil {
			return
		}
		e := events.AsError(err)
		log := f.log.With("device", device, "advice", e.Advice, "error", err)
		words := "[" + strings.ToUpper(events.ClassOf(device)) + "] device does not serve, its work goes to the CPU"
		if e.Code == events.CodeInvalidRequest { // a mistake in the command line, which does not go away
			log.Error(words)
			return
		}
		log.Error(words, "failures_in_a_row", failures, "next_try_in", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-soft.Done():
			timer.Stop()
			return
		}
		pause = min(2*pause, maxServePause)
	}
}

func (f *fleet) serve(soft, hard context.Context, device string, n int) error {
	serve, err := f.instance(device, n)
	if err != nil {
		return err
	}
	return serve.Run(soft, hard)
}

// find returns the devices beside the CPU that are to serve. All are validated by a process of their own first;
// one that is not well is logged with its reason.
func (f *fleet) find(ctx context.Context) (devices []string) {
	var ofCUDA []process.Found
	var both sync.WaitGroup
	both.Go(func() { ofCUDA = f.flags.cuda.discover(ctx, f.settings, f.log) })
	found, err := f.settings.discover(ctx, &f.flags.virtual, f.log)
	both.Wait()
	found = append(found, ofCUDA...)
	if err != nil && ctx.Err() == nil {
		f.log.Warn("[GPU] devices cannot be looked for", "error", err)
	}
	wanted := func(name string) bool {
		return slices.Contains(f.flags.devices, allDevices) || slices.Contains(f.flags.devices, name) || f.virtual() && slices.Equal(f.flags.devices, []string{"CPU"})
	}
	for _, d := range found {
		switch {
		case d.Name == "CPU" || !wanted(d.Name):
		case d.Error != nil:
			f.log.Error("[GPU] GPU validation failed", "device", d.Name, "instead", "the CPU, the default device, does its work", "error", d.Error, "driver_text", d.Error.DriverText, "advice", d.Error.Advice)
		case whyNoModels(d) != "":
			f.log.Warn("[GPU] the GPU is well, but no model runs on it here", "device", d.Name, "instead", "the CPU does its work", "reason", whyNoModels(d))
		default:
			f.log.Info("[GPU] GPU validated", "device", d.Name, "name", d.Validation.Name)
			devices = append(devices, d.Name)
		}
	}
	if len(devices) == 0 && ctx.Err() == nil {
		f.log.Info("no GPU is validated: the CPU is the default device and does all requests")
		if len(f.flags.properties) > 0 {
			f.log.Warn("--property is for GPUs here, and there is none", "property", pairs(f.flags.properties))
		}
	}
	for _, name := range f.flags.devices {
		known := slices.ContainsFunc(found, func(d process.Found) bool { return d.Name == name })
		if !known && name != allDevices && name != "CPU" && ctx.Err() == nil {
			f.log.Error("[GPU] no such device", "device", name)
		}
	}
	return devices
}

// whyNoModels says why no model runs on a device that is well; "" if models do.
func whyNoModels(d process.Found) string {
	for _, s := range d.Validation.Tuning {
		if s.Name == runner.SettingModels && s.Value == runner.NoModels {
			return s.Reason
		}
	}
	return ""
}

// discover looks at every device of this machine.
func (s *settings) discover(ctx context.Context, virtual *virtualFlags, log *slog.Logger) ([]process.Found, error) {
	hello := s.hello("")
	env, err := virtual.apply(s, &hello)
	if err != nil {
		return nil, err
	}
	found, err := process.Discover(ctx, process.Config{Hello: hello, Env: env, Stderr: os.Stderr, Logger: log})
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return found, err
}

// problem is what is wrong with a device, in one line.
func problem(e *events.Error) string {
	if e == nil {
		return ""
	}
	return cmp.Or(e.Title, e.Code.Title()) + ": " + e.Message
}
