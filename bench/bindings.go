package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"genfn/bench/measure"
	"genfn/bench/report"
	"genfn/bench/worker"
)

// hotCall is a native call that a generation makes again and again. Its names are those of the workers.
type hotCall struct {
	ours, peer, about string
	n                 int // calls in a row
}

var hotCalls = []hotCall{
	{"scale", "scale", "kernels.Scale, 1 value", 20000},
	{"step", "step", "kernels.Step, guided Euler, 1,024 values", 20000},
	{"shape", "shape", "openvino Tensor.Shape", 5000},
	{"set_input", "set_input", "openvino Request.SetInput", 5000},
	{"infer", "infer", "openvino Request.Infer, two operations", 1000},
	{"infer_cancellable", "infer", "openvino Request.Infer that a context can end", 1000},
}

// kernelFloors are the kernels that touch every value once, beside a copy of as many bytes.
var kernelFloors = []struct{ name, about string }{
	{"scale", "Scale: reads 1, writes 1"},
	{"step_euler", "Step, guided Euler in place: reads 3, writes 1"},
	{"step_multistep", "Step, guided second order: reads 4, writes 2"},
	{"count_non_finite", "CountNonFinite: reads 1"},
	{"image_to_u8", "ImageToU8: reads 4 bytes, writes 1"},
}

// kernelValues is the size of the arrays: the latents of a 512 px image, which fit the second-level cache, and
// arrays of a clip, which do not.
var kernelValues = []int{4 * 64 * 64, 16 * 128 * 128}

// callRequest asks a worker for n calls in a row, on arrays of so many values where that matters.
type callRequest struct {
	Call   string `json:"call"`
	N      int    `json:"n"`
	Values int    `json:"values,omitempty"`
}

func ask(p *worker.Process, r any) measure.Func {
	return func(context.Context) (map[string]float64, error) { return p.Ask(r) }
}

func measureBindings(ctx context.Context, h *harness) (g report.Group, err error) {
	g.About = "Nanoseconds and allocations of one call through genfn's bindings (purego, no cgo, with their checks of handles and their error texts) " +
		"and of the bare C call through cgo. Kernels: gigabytes read and written a second, beside Go's copy; a ratio of 1 is the speed of memory."
	self, err := h.build(ctx, "./bench", false)
	if err != nil {
		return g, err
	}
	ours, err := worker.Start(ctx, "bindings worker", self, "worker", "calls", "--checkout", h.root, "--cache-dir", h.work)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, ours.Close()) }()
	if err := h.bindingCalls(ctx, &g, ours); err != nil {
		return g, err
	}
	return g, h.kernelBandwidth(ctx, &g, ours)
}

func (h *harness) bindingCalls(ctx context.Context, g *report.Group, ours *worker.Process) (err error) {
	texts := ours.Ready().Texts
	if texts["kernels"] == "" {
		g.NotRun = append(g.NotRun, "calls beside cgo: the binary was built without the C kernels: run `make native` with a C compiler")
		return nil
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		g.NotRun = append(g.NotRun, "calls beside cgo: cgo needs a C compiler: install gcc")
		return nil
	}
	bin, err := h.build(ctx, "./bench/cgopeer", true)
	if err != nil {
		return err
	}
	peer, err := worker.Start(ctx, "cgo worker", bin, texts["kernels"], texts["openvino"], texts["model"])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.Close()) }()
	for _, c := range hotCalls {
		s, err := h.compare(ctx, c.about, 2, h.rounds(40, 5),
			measure.Side{Name: "genfn", Run: ask(ours, callRequest{Call: c.ours, N: c.n})},
			measure.Side{Name: "cgo", Run: ask(peer, callRequest{Call: c.peer, N: c.n})})
		if err != nil {
			return err
		}
		g.Rows = append(g.Rows,
			report.Against(c.about, "ns", s[0]["ns"], "cgo", s[1]["ns"]),
			report.Beside(c.about, "allocations", s[0]["allocs"], "cgo", s[1]["allocs"]))
	}
	return nil
}

func (h *harness) kernelBandwidth(ctx context.Context, g *report.Group, ours *worker.Process) error {
	for _, values := range kernelValues {
		for _, k := range kernelFloors {
			about := bandwidthName(k.about, values)
			n := 40_000_000 / values
			s, err := h.compare(ctx, about, 1, h.rounds(20, 3),
				measure.Side{Name: k.name, Run: ask(ours, callRequest{Call: "bandwidth_" + k.name, N: n, Values: values})},
				measure.Side{Name: "memcpy", Run: ask(ours, callRequest{Call: "bandwidth_memcpy", N: n, Values: values})})
			if err != nil {
				return err
			}
			g.Rows = append(g.Rows, report.Against(about, "GB/s", s[0]["gb_per_s"], "memcpy", s[1]["gb_per_s"]).HigherIsBetter())
		}
	}
	return nil
}

func bandwidthName(about string, values int) string {
	return fmt.Sprintf("%s, %d values", about, values)
}
