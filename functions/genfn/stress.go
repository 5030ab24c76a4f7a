package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/stress"
)

// stressFlags are the flags of `stress`.
type stressFlags struct {
	config  stress.Config
	sizes   []string
	kinds   []string
	seed    int64
	picture string
	wait    time.Duration
}

func newStress(s *settings) *cobra.Command {
	flags := &stressFlags{}
	cmd := &cobra.Command{
		Use:   "stress",
		Short: "Try a running system: many requests with faults and cancels among them, and whether anything drifts",
		Long: "Try a running system: many requests of several sizes and devices, with faults and cancels among them in an order drawn from a seed. Every answer and the memory that the instances tell of are looked at.\n\n" +
			"Faults are requests that cannot succeed and deadlines that cannot be kept; with --kill-runners also signals to the runner processes, which must be on this machine; with --fault-file also those of a virtual GPU that reads this file (genfn up --virtual-gpu --virtual-gpu-faults @FILE).\n\n" +
			"The exit status is not 0 if anything drifted: a request lost, answered twice or otherwise than it may; a ledger that is not what the loaded models hold; device memory or swap that did not come back; resident memory that grows by 4 KiB a generation or more.",
		Example: "  genfn stress --n 200\n  genfn stress --n 2000 --parallel 2 --faults 0.1 --kill-runners --picture stress.svg",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			if err := flags.complete(); err != nil {
				return err
			}
			b, err := patiently(cmd.Context(), flags.wait, func() (*broker.Broker, error) {
				return broker.Connect(s.nats, broker.Options{Name: "genfn stress", Credentials: s.creds, Logger: log})
			})
			if err != nil {
				return err
			}
			defer b.Close()
			flags.config.Broker, flags.config.Logger = b, log
			return s.stress(cmd, flags)
		},
	}
	s.addNATS(cmd)
	flags.add(cmd)
	return cmd
}

func (f *stressFlags) add(cmd *cobra.Command) {
	flags, c := cmd.Flags(), &f.config
	flags.IntVarP(&c.Generations, "n", "n", 200, "requests")
	flags.IntVar(&c.Parallel, "parallel", 2, "requests at the same time")
	flags.Float64Var(&c.Faults, "faults", 0.1, "share of requests with a fault")
	flags.Float64Var(&c.Cancels, "cancels", 0.05, "share of requests that are cancelled")
	flags.StringSliceVar(&f.kinds, "kinds", nil, "kinds of faults, of "+kindWords()+" (default: all that are possible, without hang, each of which takes 10 s or more)")
	flags.BoolVar(&c.KillRunners, "kill-runners", false, "signal runner processes of this machine")
	flags.StringVar(&c.FaultFile, "fault-file", "", "file of the virtual GPU's faults, which is overwritten")
	flags.StringVar(&c.Model, "model", "emoji", "name of the model")
	flags.StringSliceVar(&f.sizes, "sizes", []string{"64x64", "96x64", "128x128"}, "sizes of the pictures, WIDTHxHEIGHT")
	flags.IntSliceVar(&c.Steps, "steps", []int{1, 2}, "denoising steps, one of these for each request")
	flags.StringSliceVar(&c.Devices, "devices", []string{events.DeviceAuto}, "where the work is to begin, one of these for each request: auto, cpu, gpu or a device's name")
	flags.StringVar(&c.Tenant, "tenant", broker.DefaultTenant, "tenant of the requests")
	flags.DurationVar(&c.Deadline, "deadline", 30*time.Millisecond, "time of the requests that have too little of it")
	flags.DurationVar(&c.Patience, "patience", 5*time.Minute, "when a request without an answer counts as lost")
	flags.IntVar(&c.Warmup, "warmup", 200, "generations of a process before the trend of its memory is looked at: until its heap has its size")
	flags.Int64Var(&f.seed, "seed", -1, "seed of the order, to repeat it (default: drawn, and told)")
	flags.StringVar(&f.picture, "picture", "", "draw the memory over time into this file, .svg or .png")
	flags.DurationVar(&f.wait, "wait", 0, "how long to wait for a server that is not up yet")
}

func kindWords() string {
	var words []string
	for _, k := range stress.FaultKinds() {
		words = append(words, string(k))
	}
	return strings.Join(words, " ")
}

// complete reads what the flags say in words.
func (f *stressFlags) complete() error {
	for _, text := range f.sizes {
		width, height, ok := strings.Cut(text, "x")
		w, err1 := strconv.Atoi(width)
		h, err2 := strconv.Atoi(height)
		if !ok || err1 != nil || err2 != nil || w <= 0 || h <= 0 {
			return usageError{fmt.Errorf("--sizes %q: expected WIDTHxHEIGHT in pixels, such as 64x64", text)}
		}
		f.config.Sizes = append(f.config.Sizes, stress.Size{Width: w, Height: h})
	}
	for _, k := range f.kinds {
		f.config.Kinds = append(f.config.Kinds, stress.Kind(k))
	}
	if ext := strings.ToLower(filepath.Ext(f.picture)); f.picture != "" && ext != ".svg" && ext != ".png" {
		return usageError{fmt.Errorf("--picture %s: expected the ending .svg or .png", f.picture)}
	}
	if f.config.FaultFile != "" {
		path, err := filepath.Abs(f.config.FaultFile)
		if err != nil {
			return err
		}
		f.config.FaultFile = path
	}
	f.config.Seed = uint64(f.seed)
	if f.seed < 0 {
		f.config.Seed = rand.Uint64N(1 << 32)
	}
	return nil
}

// stress runs and tells of it.
func (s *settings) stress(cmd *cobra.Command, flags *stressFlags) error {
	if s.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		flags.config.Ended = func(r stress.Record) { _ = enc.Encode(r) } // a reader that has gone needs none
	}
	run, err := stress.New(flags.config)
	if err != nil {
		return usageError{err}
	}
	if !s.json {
		fmt.Fprintf(cmd.OutOrStdout(), "seed %d\n", flags.config.Seed)
	}
	show := newStressTable(cmd.ErrOrStderr(), s.json)
	stop := show.follow(cmd.Context(), run)
	summary, err := run.Run(cmd.Context())
	stop()
	if summary == nil {
		return err
	}
	if err := errors.Join(err, drawStress(flags.picture, summary)); err != nil {
		s.sayStress(cmd.OutOrStdout(), summary)
		return err
	}
	s.sayStress(cmd.OutOrStdout(), summary)
	if drift := summary.Drift(); len(drift) > 0 {
		return driftError(drift)
	}
	return nil
}

// driftError says what drifted.
func driftError(checks []stress.Check) error {
	var words []string
	for _, c := range checks {
		words = append(words, c.Name+": "+c.Detail)
	}
	e := events.Errorf(events.CodeInternal, "drift: %s", strings.Join(words, "; "))
	e.Advice = "Run it again with the same --seed. The log of the instances and genfn devices --crashes tell more."
	return e
}

func drawStress(path string, summary *stress.Summary) (err error) {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return summary.Draw(f, path)
}

func (s *settings) sayStress(w io.Writer, summary *stress.Summary) {
	if s.json {
		if raw, err := json.Marshal(map[string]any{"summary": summary}); err == nil { // one line, as the records before it
			fmt.Fprintf(w, "%s\n", raw)
		}
		return
	}
	printSummary(w, summary)
}

// interval between two looks at a run.
const (
	tableInterval = 500 * time.Millisecond
	lineInterval  = 10 * time.Second
)

// follow shows the run until stop is called.
func (t *stressTable) follow(ctx context.Context, run *stress.Stress) (stop func()) {
	if t == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(t.interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				t.show(run.Snapshot())
			case <-ctx.Done():
				t.show(run.Snapshot())
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}
