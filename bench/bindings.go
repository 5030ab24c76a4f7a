package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"genfn/bench/measure"
	"genfn/bench/report"
	"genfn/bench/worker"
)

// hotCall is a native call that a generation makes again and again. Its names are those of the workers; without a peer it
// is measured alone.
type hotCall struct {
	ours, peer, about string
	n                 int    // calls in a row
	brief             bool   // it does next to nothing itself, so that the goal is for all of it
	library           string // that the worker may not have opened, and then says why under this name; "" of one that it needs
}

var hotCalls = []hotCall{
	{"scale", "scale", "kernels.Scale, 1 value", 20000, true, ""},
	{"step", "step", "kernels.Step, guided Euler, 1,024 values", 20000, false, ""},
	{"shape", "shape", "openvino Tensor.Shape", 5000, true, ""},
	{"set_input", "set_input", "openvino Request.SetInput", 5000, true, ""},
	{"infer", "infer", "openvino Request.Infer, two operations", 1000, false, ""},
	{"infer_cancellable", "infer", "openvino Request.Infer that a context can end", 1000, false, ""},
	{"ort_run", "", "onnxruntime Binding.Run, the demo model's text encoder", 100, false, "onnxruntime"},
	{"cuda_queue", "", "cuda Stream.Fill, 64 bytes, virtual device", 2000, true, "cuda"},
	{"cuda_malloc", "", "cuda Device.Malloc and Close, 64 bytes, virtual device", 1000, true, "cuda"},
}

// Goals of a hot call.
const (
	goalCall        = 150.0 // ns
	goalAllocations = 0.0
)

// kernelFloor is a kernel that touches every value once, beside a copy of as many float32 values. goal is of the larger
// arrays, as a part of that copy's bytes a second; 0: arithmetic takes longer than memory.
type kernelFloor struct {
	name, about string
	goal        float64
}

// The goals of values in float32 and float16.
const goalF32, goalF16 = 0.9, 0.8

var kernelFloors = []kernelFloor{
	{"scale", "Scale: reads 1, writes 1", goalF32},
	{"scale_f16", "ScaleF16: reads 1, writes 1", goalF16},
	{"step_euler", "Step, guided Euler in place: reads 3, writes 1", goalF32},
	{"step_euler_f16", "StepF16, guided Euler in place: reads 3, writes 1", goalF16},
	{"step_multistep", "Step, guided second order: reads 4, writes 2", goalF32},
	{"step_multistep_f16", "StepF16, guided second order: reads 4, writes 2", goalF16},
	{"mix", "Mix: reads 2, writes 1", goalF32},
	{"mix_f16", "MixF16: reads 2, writes 1", goalF16},
	{"composite", "Composite, 4 channels: reads 2 1/4, writes 1", goalF32},
	{"composite_f16", "CompositeF16, 4 channels: reads 2 1/4, writes 1", goalF16},
	{"composite_u8", "CompositeU8, 3 channels: reads 2 1/3, writes 1", 0},
	{"f16_to_f32", "F16ToF32: reads 2 bytes, writes 4", goalF16},
	{"f32_to_f16", "F32ToF16: reads 4 bytes, writes 2", goalF16},
	{"image_to_u8", "ImageToU8: reads 4 bytes, writes 1", 0},
	{"image_to_u8_f16", "ImageF16ToU8: reads 2 bytes, writes 1", 0},
	{"u8_to_image", "U8ToImage: reads 1 byte, writes 4", 0},
	{"u8_to_image_f16", "U8ToImageF16: reads 1 byte, writes 2", 0},
	{"count_non_finite", "CountNonFinite: reads 1", goalF32},
	{"count_non_finite_f16", "CountNonFiniteF16: reads 1", goalF16},
	{"checksum", "Checksum: reads 1", 0},
	{"difference", "Difference: reads 2", 0},
	{"resize_u8", "ResizeU8, bicubic, half the size: reads 1 byte, writes 1/4", 0},
	{"philox", "TorchCUDANormal: writes 1", 0},
	{"torch", "TorchNormal: writes 1", 0},
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

// bindingProcesses is how often the processes of both sides are started anew: where their code and data happen to lie
// makes some calls a fifth slower or faster, for as long as the process lives.
const bindingProcesses = 16

// turns are the samples of the sides by what was measured.
type turns map[string][]measure.Samples

func measureBindings(ctx context.Context, h *harness) (report.Group, error) {
	g := report.Group{About: fmt.Sprintf("Nanoseconds and allocations of one call through genfn's bindings (purego, no cgo, with their checks of handles and their error texts) "+
		"and of the bare C call through cgo. The goal of 150 ns is that of calls which do next to nothing; where it is out of reach the floor, the call through cgo, takes longer itself. CUDA's calls go to the virtual device of this project, "+
		"from a goroutine to the device's thread and back; a real device's calls take other times. Kernels: gigabytes read and written a second, beside Go's copy, whose ratio of 1 is the speed of memory, and beside numpy, where it has the means, with its results in arrays made before. "+
		"Kernels without a goal are bound by arithmetic, not by memory: images take a dozen instructions for 8 values of which 8 to 24 bytes move, "+
		"a checksum two products for a value, a difference sums of 64 bits, resizing a dozen products for a byte, noise ten rounds of a cipher and a logarithm. "+
		"StepF16 takes more instructions than Step for half of the bytes. "+
		"Processes of each side, one after the other: %d, for some calls depend on where a process lies in memory.", h.rounds(bindingProcesses, 1))}
	t, processes, kernels := turns{}, h.rounds(bindingProcesses, 1), turns{}
	for i := range processes {
		notRun, err := h.bindingsOnce(ctx, t, kernels)
		if err != nil {
			return g, err
		}
		if i == 0 {
			g.NotRun = append(g.NotRun, notRun...)
		}
	}
	if why := h.needPython(); why != "" {
		g.NotRun = append(g.NotRun, "kernels beside numpy: "+why)
	}
	g.Rows = append(callRows(t, processes), kernelRows(kernels, processes)...)
	return g, nil
}

// bindingsOnce adds what one process of each side gives: calls, or why some are not run, and kernels unless that is
// nil.
func (h *harness) bindingsOnce(ctx context.Context, calls, kernels turns) (notRun []string, err error) {
	self, err := h.build(ctx, "./bench", false)
	if err != nil {
		return nil, err
	}
	ours, err := worker.Start(ctx, "bindings worker", self, "worker", "calls", "--checkout", h.root, "--cache-dir", h.work)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.Close()) }()
	if notRun, err = h.bindingCalls(ctx, calls, ours); err != nil || kernels == nil {
		return notRun, err
	}
	return notRun, h.kernelBandwidth(ctx, kernels, ours)
}

// inTurn adds the samples of sides measured in turn, the same ones at each call.
func (h *harness) inTurn(ctx context.Context, t turns, what string, warmup, rounds int, sides ...measure.Side) error {
	s, err := h.compare(ctx, what, warmup, rounds, sides...)
	if err != nil {
		return err
	}
	if t[what] == nil {
		t[what] = s
		return nil
	}
	for side, samples := range s {
		for name, values := range samples {
			t[what][side][name] = append(t[what][side][name], values...)
		}
	}
	return nil
}

func (h *harness) bindingCalls(ctx context.Context, t turns, ours *worker.Process) (notRun []string, err error) {
	texts := ours.Ready().Texts
	if texts["kernels"] == "" {
		return []string{"calls beside cgo: the binary was built without the C kernels: run `make native` with a C compiler"}, nil
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		return []string{"calls beside cgo: cgo needs a C compiler: install gcc"}, nil
	}
	bin, err := h.build(ctx, "./bench/cgopeer", true)
	if err != nil {
		return nil, err
	}
	peer, err := worker.Start(ctx, "cgo worker", bin, texts["kernels"], texts["openvino"], texts["model"])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, peer.Close()) }()
	for _, c := range hotCalls {
		if why := texts[c.library]; why != "" {
			notRun = append(notRun, c.about+": "+why)
			continue
		}
		sides := []measure.Side{{Name: "genfn", Run: ask(ours, callRequest{Call: c.ours, N: c.n})}}
		if c.peer != "" {
			sides = append(sides, measure.Side{Name: "cgo", Run: ask(peer, callRequest{Call: c.peer, N: c.n})})
		}
		if err := h.inTurn(ctx, t, c.about, 1, h.rounds(4, 2), sides...); err != nil {
			return nil, err
		}
	}
	return notRun, nil
}

func callRows(t turns, processes int) (rows []report.Row) {
	for _, c := range hotCalls {
		s := t[c.about]
		if s == nil {
			continue
		}
		time, allocations := report.Alone(c.about, "ns", s[0]["ns"]), report.Alone(c.about, "allocations", s[0]["allocs"])
		if len(s) > 1 {
			time = report.Against(c.about, "ns", s[0]["ns"], "cgo", s[1]["ns"])
			allocations = report.Beside(c.about, "allocations", s[0]["allocs"], "cgo", s[1]["allocs"])
		}
		if c.brief {
			time = time.AtMost(goalCall)
			if len(s) > 1 {
				time = time.OnFloor("the call by cgo", s[1]["ns"])
			}
		}
		rows = append(rows, time.FromProcesses(processes), allocations.AtMost(goalAllocations).FromProcesses(processes))
	}
	return rows
}

func (h *harness) kernelBandwidth(ctx context.Context, t turns, ours *worker.Process) (err error) {
	var numpy *worker.Process
	if h.needPython() == "" {
		if numpy, err = worker.Start(ctx, "numpy worker", h.python, h.path("bench", "peers", "numpy_kernels.py")); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, numpy.Close()) }()
	}
	for _, values := range kernelValues {
		for _, k := range kernelFloors {
			request := callRequest{Call: "bandwidth_" + k.name, N: 20_000_000 / values, Values: values}
			if k.goal == 0 {
				request.N /= 10
			}
			sides := []measure.Side{
				{Name: k.name, Run: ask(ours, request)},
				{Name: "memcpy", Run: ask(ours, callRequest{Call: "bandwidth_memcpy", N: request.N, Values: values})},
			}
			if numpy != nil && slices.Contains(strings.Fields(numpy.Ready().Texts["calls"]), request.Call) {
				sides = append(sides, measure.Side{Name: "numpy", Run: ask(numpy, request)})
			}
			if err := h.inTurn(ctx, t, bandwidthName(k.about, values), 1, h.rounds(4, 2), sides...); err != nil {
				return err
			}
		}
	}
	return nil
}

func kernelRows(t turns, processes int) (rows []report.Row) {
	for _, values := range kernelValues {
		for _, k := range kernelFloors {
			about := bandwidthName(k.about, values)
			s := t[about]
			row := report.Against(about, "GB/s", s[0]["gb_per_s"], "memcpy", s[1]["gb_per_s"]).HigherIsBetter().FromProcesses(processes)
			if values == kernelValues[len(kernelValues)-1] && k.goal > 0 {
				row = row.RatioAtLeast(k.goal)
			}
			rows = append(rows, row)
			if len(s) > 2 {
				rows = append(rows, report.Against(about, "GB/s", s[0]["gb_per_s"], "numpy", s[2]["gb_per_s"]).HigherIsBetter().FromProcesses(processes))
			}
		}
	}
	return rows
}

func bandwidthName(about string, values int) string {
	return fmt.Sprintf("%s, %d values", about, values)
}
