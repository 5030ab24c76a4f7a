package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"genfn/events/broker"
	"genfn/functions/embedded"
	"genfn/functions/instance"
)

// upFlags are what `up` and `demo` say about the server.
type upFlags struct {
	instanceFlags
	host     string
	port     int
	storeDir string
	sync     bool
	devices  []string
	count    instanceCounts
}

// allDevices as --devices is the CPU and every other device that is found well.
const allDevices = "auto"

func (f *upFlags) add(cmd *cobra.Command, port int, store, devices string) {
	f.instanceFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&f.devices, "devices", []string{devices}, "devices that serve beside the CPU, which always does: names as genfn devices lists them, CPU for no other, or auto for all that are found well")
	flags.Var(&f.count, "instances", "how many instances of each class, such as gpu=2,cpu=2: GPUs as they are found, or virtual ones (default: one on the CPU, and one on each GPU)")
	flags.StringVar(&f.host, "host", "127.0.0.1", "address the NATS server listens on")
	flags.IntVar(&f.port, "port", port, "port of the NATS server; 0 takes a free one")
	flags.StringVar(&f.storeDir, "store-dir", store, "folder of JetStream's files")
	flags.BoolVar(&f.sync, "sync", true, "sync every write to disk, so that not even a power cut loses a request")
}

func (f *upFlags) check() error {
	if f.port < 0 || f.port > math.MaxUint16 {
		return usageError{fmt.Errorf("--port %d: expected 1 to %d, or 0 for a free one", f.port, math.MaxUint16)}
	}
	for i, device := range f.devices {
		f.devices[i] = cudaDevice(device)
		if strings.EqualFold(device, "CPU") {
			f.devices[i] = "CPU"
		}
	}
	if err := f.instanceFlags.check(); err != nil {
		return err
	}
	return f.wantGPUs()
}

func newUp(s *settings, signals *signals) *cobra.Command {
	flags := &upFlags{}
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "NATS with JetStream on disk, and an instance for the CPU and each GPU, in one process",
		Long:    "NATS with JetStream on disk, a health controller, and an instance for the CPU and for each GPU that is found well, in one process, until SIGTERM. For development; in production run `genfn instance` and `genfn controller` against a NATS cluster.\n\nWith more instances, on virtual GPUs, it shows what happens when one falls ill: see genfn top.",
		Example: "  genfn up --instances gpu=2,cpu=2 --virtual-gpu --virtual-gpu-faults @/tmp/faults",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			return s.up(signals, flags, log, func(ctx context.Context, b *broker.Broker, serve *instance.Instance) error {
				if waitFor(ctx, serve.Ready()) {
					s.sayReady(cmd, readyLine{NATS: b.URL(), Models: s.models, Device: "CPU", Store: flags.storeDir})
					<-ctx.Done()
				}
				return nil
			})
		},
	}
	s.addModels(cmd)
	s.addRuntime(cmd)
	s.addONNXRuntime(cmd)
	flags.add(cmd, 4222, filepath.Join(dataDir(), "jetstream"), allDevices)
	return cmd
}

func newDemo(s *settings, signals *signals) *cobra.Command {
	server, request := &upFlags{}, &requestFlags{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "up and one generate in one go, then exit",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("log-level") {
				s.logLevel = "warn" // the progress of the one request says enough
			}
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			if request.prompt == "" {
				request.prompt = "a red apple"
			}
			if err := request.check(); err != nil {
				return err
			}
			temporary := server.storeDir == ""
			if temporary {
				dir, err := os.MkdirTemp("", "genfn-demo-")
				if err != nil {
					return fmt.Errorf("folder for JetStream: %w", err)
				}
				defer os.RemoveAll(dir)
				server.storeDir = dir
				server.sync = server.sync && cmd.Flags().Changed("sync") // it does not outlive this process
			}
			return s.up(signals, server, log, func(ctx context.Context, b *broker.Broker, serve *instance.Instance) error {
				published := serve.Ready()
				if temporary { // a store that stays would keep the request if the instance cannot start
					published = serve.Streams()
				}
				if !waitFor(ctx, published) {
					return nil
				}
				cmd.SetContext(ctx)
				return s.generate(cmd, signals.hard, request, b)
			})
		},
	}
	s.addModels(cmd)
	s.addRuntime(cmd)
	s.addONNXRuntime(cmd)
	server.add(cmd, 0, "", "CPU")
	request.add(cmd)
	return cmd
}

// waitFor reports false if ctx ended first.
func waitFor(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// up runs the server and an instance, and meanwhile calls use. It ends when use returns, whose context ends
// with the first signal, or if the instance cannot start.
func (s *settings) up(signals *signals, flags *upFlags, log *slog.Logger, use func(context.Context, *broker.Broker, *instance.Instance) error) error {
	if err := flags.check(); err != nil {
		return err
	}
	if flags.name == "" {
		flags.name = defaultName()
	}
	hello := s.hello("")
	if _, err := flags.virtual.apply(s, &hello); err != nil { // said before anything is started
		return err
	}
	if err := flags.cuda.virtual.prepare(); err != nil {
		return err
	}
	port := flags.port
	if port == 0 {
		port = embedded.AnyPort
	}
	server := embedded.New(embedded.Config{Host: flags.host, Port: port, StoreDir: flags.storeDir, NoSync: !flags.sync, Logger: log})
	defer server.Close()
	if err := server.Start(); err != nil {
		return err
	}
	b, err := broker.Connect(server.URL(), broker.Options{Name: "genfn up", Logger: log})
	if err != nil {
		return err
	}
	defer b.Close()
	soft, stop := context.WithCancel(signals.soft)
	defer stop()
	metrics, stopMetrics, err := serveMetrics(soft, flags.metrics, roles{instance: true, controller: true}, log)
	if err != nil {
		return err
	}
	defer stopMetrics()
	fleet := &fleet{settings: s, flags: flags, broker: b, shared: shared{instance.NewFigures(), metrics.instance, flags.count.cpus()}, log: log}
	serve, err := fleet.instance("CPU", 1)
	if err != nil {
		return err
	}
	health, err := s.newFleetController(b, flags, metrics.controller, log)
	if err != nil {
		return err
	}
	controlled := make(chan struct{})
	go func() {
		defer close(controlled)
		if err := health.Run(soft); err != nil {
			log.Error("the health controller has ended, instances keep to what was decided last", "error", err)
		}
	}()
	defer func() {
		stop()
		<-controlled
	}()
	ended := make(chan error, 1)
	go func() {
		ended <- s.runInstance(soft, signals.hard, serve, "CPU", log)
		stop()
	}()
	fleet.addOthers(soft, signals.hard)
	defer fleet.wait()
	used := make(chan error, 1)
	go func() {
		used <- use(soft, b, serve)
		stop()
	}()
	// If the instance fails, what used it fails of that too: the first cause is the one to tell.
	if err := <-ended; err != nil {
		return err
	}
	return <-used
}
