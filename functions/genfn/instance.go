package main

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/tuning"
	"genfn/functions/instance"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// instanceFlags are what `instance`, `up` and `demo` say about an instance.
type instanceFlags struct {
	name      string
	device    string
	runtime   string
	slots     int
	threads   int
	streams   int
	guidance  string
	maxModels int
	preload   string
	grace     time.Duration
	serveNoop bool
	compiled  bool
	cleanup   int
	batch     int
	canary    time.Duration
	idle      struct{ models, runner time.Duration }
	memory    memoryFlags

	properties map[string]string
	precision  string
	virtual    virtualFlags
	cuda       cudaFlags
	metrics    string
	topology   streamFlags
}

// maxSlots bounds the processes that a mistyped --slots starts.
const maxSlots = 256

// check finds values that make no instance.
func (f *instanceFlags) check() error {
	switch {
	case f.slots < 1 || f.slots > maxSlots:
		return usageError{fmt.Errorf("--slots %d: expected 1 to %d", f.slots, maxSlots)}
	case f.threads < 0:
		return usageError{fmt.Errorf("--threads %d: expected 1 or more, or 0 for the cores that there are", f.threads)}
	case f.streams < 0:
		return usageError{fmt.Errorf("--streams %d: expected 1 or more, or 0 for 1", f.streams)}
	case f.maxModels < 1:
		return usageError{fmt.Errorf("--max-models %d: expected 1 or more", f.maxModels)}
	case f.cleanup < 0:
		return usageError{fmt.Errorf("--cleanup-every %d: expected 1 or more, or 0 for none", f.cleanup)}
	case f.batch < 0 || f.batch == 1:
		return usageError{fmt.Errorf("--batch-every %d: expected 2 or more, or 0 for no share", f.batch)}
	case f.canary < 0:
		return usageError{fmt.Errorf("--canary-every %s: expected no negative duration", f.canary)}
	case f.idle.models < 0:
		return usageError{fmt.Errorf("--idle-models %s: expected no negative duration", f.idle.models)}
	case f.idle.runner < 0:
		return usageError{fmt.Errorf("--idle-runner %s: expected no negative duration", f.idle.runner)}
	case f.grace < 0:
		return usageError{fmt.Errorf("--grace %s: expected no negative duration", f.grace)}
	case f.precision != "" && !slices.Contains(tuning.Precisions, f.precision):
		return usageError{fmt.Errorf("--precision %q: expected one of %s", f.precision, strings.Join(tuning.Precisions, ", "))}
	}
	if _, err := f.guidanceBatch(); err != nil {
		return err
	}
	if err := f.checkRuntime(); err != nil {
		return err
	}
	return f.topology.check()
}

// openvinoRuntime as --runtime is what serves unless something else is asked for.
const openvinoRuntime = "openvino"

// checkRuntime refuses what only OpenVINO can do.
func (f *instanceFlags) checkRuntime() error {
	switch f.runtime {
	case "", openvinoRuntime:
		return nil
	case protocol.RuntimeONNXRuntime:
	default:
		return usageError{fmt.Errorf("--runtime %q: expected %s or %s", f.runtime, openvinoRuntime, protocol.RuntimeONNXRuntime)}
	}
	switch {
	case isCUDA(f.device): // it is what runs there
	case f.device != "CPU":
		return usageError{fmt.Errorf("--runtime %s --device %s: ONNX Runtime serves the CPU and CUDA devices only", f.runtime, f.device)}
	case !slices.Contains([]string{"", "f32", "f16"}, f.precision):
		return usageError{fmt.Errorf("--runtime %s --precision %s: ONNX Runtime computes in f32, or in f16 with the model_fp16.onnx of each network", f.runtime, f.precision)}
	case f.streams > 1:
		return usageError{fmt.Errorf("--runtime %s --streams %d: ONNX Runtime has no streams on the CPU", f.runtime, f.streams)}
	}
	return nil
}

// shared is what the instances of one process have in common.
type shared struct {
	figures *instance.Figures
	metrics *instance.Metrics
	cpus    int // instances on the CPU; 0: 1
}

func (f *instanceFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "name of the instance, unique among those alive (default: host name and a random part)")
	flags.IntVar(&f.slots, "slots", 1, "runner processes of the CPU, each with one request at a time; a GPU has one")
	flags.IntVar(&f.threads, "threads", 0, "inference threads of a runner on the CPU (default: the cores that affinity and control group allow, shared by the slots)")
	flags.IntVar(&f.streams, "streams", 0, "streams of the device (default: 1, as a runner has one request at a time)")
	flags.StringVar(&f.guidance, "guidance-batch", "auto", "batch of classifier-free guidance: 2 (both halves in one pass), 1 (one after the other, in less memory), or auto: what memory and measured steps say")
	flags.IntVar(&f.maxModels, "max-models", 1, "models a runner keeps loaded")
	flags.StringVar(&f.preload, "preload", "", "model to load before the first request")
	flags.BoolVar(&f.compiled, "cache-compiled", true, "keep compiled networks in --cache-dir: later starts are faster")
	flags.IntVar(&f.cleanup, "cleanup-every", protocol.DefaultCleanupEvery, "generations between forced memory clean-ups of a runner; 0: none")
	flags.DurationVar(&f.canary, "canary-every", 5*time.Minute, "time between canaries of an idle device, small generations whose numbers are known; it grows so that they take 1 % of its time at most. 0: none")
	flags.DurationVar(&f.idle.models, "idle-models", 15*time.Minute, "unload a model that no request has used for so long; the next loads it again. 0: never; that of --preload stays")
	flags.DurationVar(&f.idle.runner, "idle-runner", time.Hour, "end a runner process that had no request for so long, so that it holds nothing of the device or the host; the next request starts one. 0: never; with --preload it stays")
	flags.IntVar(&f.batch, "batch-every", broker.DefaultBatchEvery, "of so many requests taken while interactive and batch ones wait, one is a batch one; 0: batch requests wait until no interactive one does")
	f.memory.add(cmd)
	flags.DurationVar(&f.grace, "grace", 30*time.Second, "how long running work may go on after SIGTERM before it is handed back")
	flags.StringToStringVar(&f.properties, "property", nil, "OpenVINO property of the device (of up: of its GPUs), KEY=VALUE; several times. genfn devices --properties lists what a device has")
	flags.StringVar(&f.precision, "precision", "", "inference precision: f32, f16, bf16, or auto for the fastest that the device has in hardware (default: f32 on the CPU, auto elsewhere)")
	flags.StringVar(&f.metrics, "metrics", "", "address that serves Prometheus metrics under /metrics, such as 127.0.0.1:9464 (default: none)")
	f.virtual.add(cmd)
	f.cuda.add(cmd)
	f.topology.add(cmd)
	flags.BoolVar(&f.serveNoop, "serve-noop", false, "also serve the built-in model \"noop\", which makes a plain picture without native code, to measure overhead")
}

func newInstance(s *settings, signals *signals) *cobra.Command {
	flags := &instanceFlags{}
	cmd := &cobra.Command{
		Use:   "instance",
		Short: "Serve requests from a NATS server or cluster",
		Long:  "Serve requests from a NATS server or cluster until SIGTERM: then running work may finish within --grace and the rest is handed back. A second signal hands back at once.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			if err := flags.check(); err != nil {
				return err
			}
			flags.device = cudaDevice(flags.device)
			if flags.cuda.virtual.on && !isCUDA(flags.device) {
				return usageError{fmt.Errorf("--virtual-cuda --device %s: expected a device such as cuda:0", flags.device)}
			}
			b, err := broker.Connect(s.nats, broker.Options{Name: "genfn instance", Credentials: s.creds, Logger: log})
			if err != nil {
				return err
			}
			defer b.Close()
			metrics, stop, err := serveMetrics(signals.soft, flags.metrics, roles{instance: true}, log)
			if err != nil {
				return err
			}
			defer stop()
			serve, err := s.newInstance(b, flags, shared{metrics: metrics.instance}, log)
			if err != nil {
				return err
			}
			go func() {
				select {
				case <-serve.Ready():
					s.sayReady(cmd, readyLine{NATS: b.URL(), Models: s.models, Device: flags.device})
				case <-signals.soft.Done():
				}
			}()
			return s.runInstance(signals.soft, signals.hard, serve, flags.device, log)
		},
	}
	s.addNATS(cmd)
	s.addModels(cmd)
	s.addRuntime(cmd)
	flags.add(cmd)
	s.addONNXRuntime(cmd)
	cmd.Flags().StringVar(&flags.device, "device", "CPU", "device as the command devices lists them: CPU, GPU, or cuda:0, which runs the ONNX files of the networks")
	cmd.Flags().StringVar(&flags.runtime, "runtime", openvinoRuntime, "what runs the networks on the CPU: openvino, or onnxruntime for their ONNX files")
	return cmd
}

// guidanceBatch is --guidance-batch as a number; 0: auto.
func (f *instanceFlags) guidanceBatch() (int, error) {
	switch f.guidance {
	case "auto", "":
		return 0, nil
	case "1":
		return 1, nil
	case "2":
		return 2, nil
	}
	return 0, usageError{fmt.Errorf("--guidance-batch %q: expected 1, 2 or auto", f.guidance)}
}

// newInstance makes an instance that is ready to run. It shares what with holds with others.
func (s *settings) newInstance(b *broker.Broker, flags *instanceFlags, with shared, log *slog.Logger) (*instance.Instance, error) {
	models, err := s.openModels()
	if err != nil {
		return nil, err
	}
	name := flags.name
	if name == "" {
		name = defaultName()
	}
	hello := s.hello(flags.device)
	if flags.runtime == protocol.RuntimeONNXRuntime {
		hello.Runtime, hello.ONNXRuntimeDir = flags.runtime, s.onnx
	}
	hello.Threads, hello.MaxModels, hello.ServeNoop, hello.CacheCompiled = flags.threads, flags.maxModels, flags.serveNoop, flags.compiled
	hello.CleanupEvery = flags.cleanup
	if flags.cleanup == 0 {
		hello.CleanupEvery = -1 // Hello's zero is its default; the flag's zero means none
	}
	hello.Streams = flags.streams
	if hello.GuidanceBatch, err = flags.guidanceBatch(); err != nil {
		return nil, err
	}
	hello.Properties, hello.Precision, hello.Validate = flags.properties, flags.precision, len(flags.properties) > 0
	env, err := flags.prepare(s, &hello)
	if err != nil {
		return nil, err
	}
	reserve, thresholds, err := flags.memory.read()
	if err != nil {
		return nil, err
	}
	grace, batch := flags.grace, flags.batch
	if grace == 0 {
		grace = -1 // Config's zero is its default; the flag's zero means none
	}
	if batch == 0 {
		batch = -1
	}
	return instance.New(instance.Config{
		Name: name, Version: version, Broker: b, BrokerConfig: flags.topology.config, Models: models,
		Runner: process.Config{Hello: hello, Env: env, Stderr: os.Stderr, Reports: s.crashReports(), Logger: log}, Figures: with.figures, Metrics: with.metrics,
		MemoryReserve: reserve, Thresholds: thresholds, CanaryEvery: flags.canary, IdleModels: flags.idle.models, IdleRunner: flags.idle.runner,
		Slots: flags.slots, Sharers: with.cpus, Preload: flags.preload, BatchEvery: batch, Grace: grace, Logger: log,
	})
}

// prepare completes what a runner is told with what its device needs, and returns what to add to its environment.
func (f *instanceFlags) prepare(s *settings, hello *protocol.Hello) ([]string, error) {
	if !isCUDA(hello.Device) {
		return f.virtual.apply(s, hello)
	}
	if err := f.cuda.virtual.prepare(); err != nil {
		return nil, err
	}
	return f.cuda.apply(s, hello), nil
}

// hello is what every runner of this program is told.
func (s *settings) hello(device string) protocol.Hello {
	return protocol.Hello{Device: device, RuntimeDir: process.DefaultRuntimeDir(), CacheDir: s.cache, LibraryDir: s.openvino}
}

// defaultName is the host name, as far as it fits a subject token, and a random part.
func defaultName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "instance"
	}
	host = strings.Map(func(r rune) rune {
		if events.ValidID(string(r)) {
			return r
		}
		return '-'
	}, host)
	return host[:min(len(host), 40)] + "-" + strings.ToLower(rand.Text()[:8])
}

// readyLine says that a server takes requests.
type readyLine struct {
	NATS   string `json:"nats"`
	Models string `json:"models"`
	Device string `json:"device"`
	Store  string `json:"store,omitempty"`
}

// devices says who does the work.
func (r readyLine) devices() string {
	if r.Store == "" {
		return "device " + r.Device
	}
	return "default device " + r.Device + " (GPUs join once they are validated)"
}

func (s *settings) sayReady(cmd *cobra.Command, line readyLine) {
	if s.json {
		printJSON(cmd.OutOrStdout(), line)
		return
	}
	fmt.Fprintf(cmd.OutOrStdout(), "genfn is ready: NATS %s, %s, models of %s\n", line.NATS, line.devices(), line.Models)
	fmt.Fprintf(cmd.OutOrStdout(), "In another terminal: genfn generate --nats %s --prompt \"a red apple\" --out apple.png\n", line.NATS)
}
