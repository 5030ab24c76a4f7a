package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"genfn/bench/chaos"
	"genfn/bench/report"
	"genfn/functions/device/virtualgpu"
)

// goalElsewhere is in milliseconds, p99.
const goalElsewhere = 250.0

// chaosFlags say what the storm is like.
type chaosFlags struct {
	requests int
	seed     uint64
	replicas []int
	strikes  int
	actions  []string
	duration time.Duration
	compute  bool
	gpuShare float64

	broken error // the promises that were broken
}

// newChaos is a part with flags of its own. It is not one of all: it takes long, and it fails if a promise is broken.
func newChaos(h *harness) *cobra.Command {
	f := &chaosFlags{}
	p := part{"chaos", "requests through a storm of killed, stopped and cut off processes: lost, answered twice", f.measure}
	var names []string
	for _, a := range chaos.Actions() {
		names = append(names, string(a))
	}
	cmd := &cobra.Command{
		Use: p.name, Short: p.short, Args: cobra.NoArgs,
		Long: "Real servers of NATS, instances and controllers serve requests while they are killed, stopped and cut off. Afterwards what the streams hold is checked. It fails if a request was lost, answered twice, or broke another promise, and prints its history.\n\nActions: " + strings.Join(names, ", ") + ".",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(h.run(cmd, p), f.broken)
		},
	}
	flags := cmd.Flags()
	flags.IntVarP(&f.requests, "requests", "n", 10_000, "requests for each number of replicas (short: 300)")
	flags.Uint64Var(&f.seed, "seed", 1, "of requests and actions: the same seed gives the same plan")
	flags.IntSliceVar(&f.replicas, "replicas", []int{1, 3}, "copies of the streams: 1 is a single node, 3 a cluster of three; several: one storm after the other")
	flags.IntVar(&f.strikes, "strikes", 0, "actions (default: one for each hundred requests, at least 24; short: 12)")
	flags.StringSliceVar(&f.actions, "actions", nil, "only these actions, separated by commas (default: all)")
	flags.DurationVar(&f.duration, "duration", 0, "time over which the requests are spread (default: 20 ms for each)")
	flags.BoolVar(&f.compute, "models", true, "a few requests for models that compute: the demo model, and one on the virtual GPU, which then has faults")
	flags.Float64Var(&f.gpuShare, "gpu-share", 0.02, "share of the requests that are for the model on the virtual GPU")
	return cmd
}

// config is that of one storm.
func (f *chaosFlags) config(h *harness, replicas int) (chaos.Config, error) {
	c := chaos.Config{
		Genfn: h.genfn, Dir: filepath.Join(h.out, fmt.Sprintf("chaos-%d-r%d", f.seed, replicas)),
		Seed: f.seed, Requests: f.requests, Replicas: replicas, Strikes: f.strikes, Duration: f.duration, Log: h.stderr,
	}
	if h.short {
		c.Requests, c.Strikes = min(c.Requests, shortRequests), shortStrikes
	}
	if c.Strikes == 0 {
		c.Strikes = max(24, c.Requests/100)
	}
	if c.Duration == 0 {
		c.Duration = time.Duration(c.Requests) * 20 * time.Millisecond
	}
	switch {
	case f.gpuShare < 0 || f.gpuShare > 0.9:
		return c, fmt.Errorf("--gpu-share %g: expected 0 to 0.9", f.gpuShare)
	case c.Requests < 1 || c.Strikes < 1:
		return c, fmt.Errorf("%d requests and %d strikes: expected 1 or more of each", c.Requests, c.Strikes)
	case replicas != 1 && replicas != 3:
		return c, fmt.Errorf("--replicas %d: expected 1 or 3", replicas)
	}
	c.Actions = chaos.Actions()
	if h.short {
		c.Actions = shortActions
	}
	if f.actions != nil {
		c.Actions = nil
		for _, name := range f.actions {
			if !slices.Contains(chaos.Actions(), chaos.Action(name)) {
				return c, fmt.Errorf("--actions %q: expected some of %v", name, chaos.Actions())
			}
			c.Actions = append(c.Actions, chaos.Action(name))
		}
	}
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	c.Node = []string{self, "worker", "node"}
	if f.compute && !h.short {
		c.Demo = h.demo
		if _, err := virtualgpu.Find(""); err == nil {
			c.GPU = &chaos.GPU{Model: h.path("functions", "instance", "testdata", "nano-sd"), Share: f.gpuShare, Kernels: h.path(".cache", "genfn", "vgpu")}
		}
	}
	return c, os.RemoveAll(c.Dir)
}

// A short storm is one of a dozen actions that need neither root nor a model.
const (
	shortRequests = 300
	shortStrikes  = 12
)

var shortActions = []chaos.Action{
	chaos.KillRunner, chaos.CrashRunner, chaos.KillInstance, chaos.StopInstance, chaos.TermInstance, chaos.KillController,
	chaos.KillNode, chaos.StopNode, chaos.SlowNode, chaos.MoveLeader, chaos.CutClient, chaos.FreezeClient, chaos.CutNode, chaos.KillNodes,
}

func (f *chaosFlags) measure(ctx context.Context, h *harness) (report.Group, error) {
	g := report.Group{About: fmt.Sprintf("Requests through `genfn instance` and `genfn controller` against nats-server, all as processes of their own, each write synced, while a storm drawn from seed %d kills, stops and cuts them off. "+
		"R1 is a single node, R3 a cluster of three; where disks become full the nodes store on file systems in memory. Nearly all requests are for the model noop; one in fifty for the demo model, and one for a small one on the virtual GPU or the CPU. Afterwards what the streams and the object store hold is checked. "+
		"Elsewhere: milliseconds from a fault, by the time in its event, until a runner of another instance has the request, before that one loads the model. Before it is decided to give the request away the device has its tries: a fresh process, validated, and a canary. "+
		"A slow disk is a node that is stopped and continued ten times a second; clocks jump only as those of stopped processes do, other jumps are in the simulation of the controller's tests.", f.seed)}
	if err := h.needGenfn(); err != nil {
		return g, err
	}
	for _, replicas := range f.replicas {
		c, err := f.config(h, replicas)
		if err != nil {
			return g, err
		}
		r, err := chaos.Run(ctx, c)
		if err != nil {
			return g, err
		}
		r.Write(h.stderr)
		chaosRows(&g, r)
		if r.Broken() {
			f.broken = errors.Join(f.broken, fmt.Errorf("the storm over R%d broke the promises about %d requests, and %d processes panicked; the logs are in %s", replicas, r.Count(), len(r.Panics), c.Dir))
		} else if err := os.RemoveAll(c.Dir); err != nil {
			return g, err
		}
	}
	return g, nil
}

// chaosRows are the figures of one storm.
func chaosRows(g *report.Group, r *chaos.Result) {
	prefix := fmt.Sprintf("R%d, ", r.Replicas)
	count := func(name, unit string, n int) report.Row {
		return report.Alone(prefix+name, unit, []float64{float64(n)})
	}
	actions := 0
	for _, n := range r.Done {
		actions += n
	}
	waits := inMilliseconds(r.Waits)
	g.Rows = append(g.Rows,
		count("published", "requests", len(r.Published)).NoneIsBetter(),
		count("done to processes, network and disks", "actions", actions).NoneIsBetter(),
		count("lost", "requests", r.Lost()).AtMost(0),
		count("answered twice", "requests", r.Twice()).AtMost(0),
		count("with any broken promise", "requests", r.Count()).AtMost(0),
		count("with several attempts", "requests", r.Retried).NoneIsBetter(),
		report.Alone(prefix+"published → answered, of all", "ms", waits),
		report.Alone(prefix+"published → answered, the longest", "ms", []float64{milliseconds(r.Longest)}),
	)
	var first, decided []time.Duration
	for _, x := range r.Recoveries {
		first, decided = append(first, x.First), append(decided, x.Decided)
	}
	for _, side := range []struct {
		name string
		took []time.Duration
	}{{"first fault → elsewhere", first}, {"decision to give it away → elsewhere", decided}} {
		if len(side.took) == 0 {
			continue
		}
		ms := inMilliseconds(side.took)
		g.Rows = append(g.Rows,
			report.Alone(prefix+side.name, "ms", ms),
			report.Alone(fmt.Sprintf("%s%s: the same, p99 of %d (of fewer than 100: the longest)", prefix, side.name, len(ms)), "ms", []float64{quantileOf(ms, 0.99)}).AtMost(goalElsewhere))
	}
	if r.Faults > 0 {
		g.Rows = append(g.Rows, report.Alone(prefix+fmt.Sprintf("touched a sick GPU twice, for each of %d faults", r.Faults), "requests", []float64{float64(r.Touched) / float64(r.Faults)}).AtMost(1))
	}
	for _, line := range r.NotRun {
		g.NotRun = append(g.NotRun, prefix+line)
	}
}

func inMilliseconds(all []time.Duration) []float64 {
	out := make([]float64, len(all))
	for i, d := range all {
		out[i] = milliseconds(d)
	}
	return out
}

// newNodeWorker is a server of NATS for the storm.
func newNodeWorker() *cobra.Command {
	return &cobra.Command{Use: "node CONFIG", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return chaos.RunNode(cmd.Context(), args[0], os.Stdout)
	}}
}
