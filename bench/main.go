// Command bench measures genfn, each figure beside its peer in the same run:
//
//	go run ./bench pipeline|events|bindings|startup|memory|faults|controller|all|chaos
//	go run ./bench compare OLD.json NEW.json
//	go run ./bench render REPORT.json --out DIR
//	go run ./bench aa
//
// The figures go to a folder as JSON, as charts and as a Markdown table, which is printed too. What cannot be measured on
// this machine is said as such. Nothing here fails because a figure is bad, but chaos does if a promise is broken.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"genfn/bench/report"
	"genfn/functions/runner/runnertest"
)

func main() {
	runnertest.Main() // as the runner process of the faults worker it does not return
	if err := interruptible(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func interruptible() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// part is a group of figures.
type part struct {
	name, short string
	measure     func(context.Context, *harness) (report.Group, error)
}

var parts = []part{
	{"pipeline", "wall and CPU time per picture beside OpenVINO GenAI, diffusers and stable-diffusion.cpp", measurePipeline},
	{"bindings", "calls into native code beside cgo, kernels beside memcpy", measureBindings},
	{"events", "the way of a request through broker, instance and runner beside raw JetStream", measureEvents},
	{"startup", "process start to PNG beside a Python script", measureStartup},
	{"memory", "resident memory of the runner over many generations", measureMemory},
	{"faults", "time from a fault to the device that takes over, hangs, the fault matrix; overhead when nothing fails", measureFaults},
	{"controller", "time of a decision and memory of the health controller with 1,000 instances", measureController},
}

func newRoot() *cobra.Command {
	h := &harness{}
	root := &cobra.Command{
		Use:           "bench",
		Short:         "Measure genfn beside its peers",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	flags := root.PersistentFlags()
	flags.BoolVar(&h.short, "short", false, "few rounds, to prove that the harness works")
	flags.StringVar(&h.out, "out", "", "folder of the report (default .cache/bench in the checkout)")
	flags.StringVar(&h.genfn, "genfn", "", "the program under test (default bin/genfn in the checkout)")
	flags.StringVar(&h.python, "python", "", "Python with the packages of bench/peers/requirements.txt (default .runtime/peers/bin/python in the checkout)")
	flags.StringVar(&h.torchPython, "torch-python", "", "Python with diffusers and PyTorch (default .runtime/train/bin/python in the checkout)")
	flags.StringVar(&h.sdcppPython, "sdcpp-python", "", "Python with the packages of bench/peers/requirements-sdcpp.txt (default .runtime/sdcpp/bin/python in the checkout)")
	flags.StringVar(&h.demo, "demo-model", "", "folder of the demo model (default deploy/models/emoji in the checkout)")
	for _, p := range parts {
		root.AddCommand(&cobra.Command{Use: p.name, Short: p.short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return h.run(cmd, p)
		}})
	}
	root.AddCommand(
		&cobra.Command{Use: "all", Short: "everything", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return h.run(cmd, parts...)
		}},
		newChaos(h),
		newCompare(),
		newRender(h),
		newAA(h),
		newWorker(),
	)
	return root
}

// run measures the parts and reports them. A part that breaks leaves its error in the report, and the others go on.
func (h *harness) run(cmd *cobra.Command, chosen ...part) error {
	if err := h.prepare(cmd.ErrOrStderr()); err != nil {
		return err
	}
	defer h.clean()
	r := report.Report{
		Schema: report.SchemaVersion, Time: time.Now(), Short: h.short,
		Machine: report.ThisMachine(h.versions(cmd.Context())),
	}
	var errs []error
	for _, p := range chosen {
		fmt.Fprintf(h.stderr, "%s: %s\n", p.name, p.short)
		g, err := p.measure(cmd.Context(), h)
		if g.Name = p.name; err != nil {
			g.NotRun = append(g.NotRun, err.Error())
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
		r.Groups = append(r.Groups, g)
		if cmd.Context().Err() != nil {
			break
		}
	}
	if err := r.Write(h.out); err != nil {
		return err
	}
	r.Markdown(cmd.OutOrStdout())
	fmt.Fprintf(h.stderr, "written to %s\n", h.out)
	return errors.Join(errs...)
}

// newWorker are the measuring processes of the harness itself.
func newWorker() *cobra.Command {
	root := &cobra.Command{Use: "worker", Short: "a measuring process of the harness", Hidden: true}
	root.AddCommand(newCallsWorker(), newBrokerWorker(), newPipelineWorker(), newPictureWorker(), newFaultsWorker(), newSupervisionWorker(), newNodeWorker())
	return root
}
