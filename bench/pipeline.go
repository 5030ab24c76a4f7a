package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"genfn/bench/measure"
	"genfn/bench/report"
	"genfn/bench/worker"
)

// Goals as ratios to GenAI's figures.
const (
	goalDefault  = 0.85
	goalReshaped = 1.0
)

// fullPrecision is what genfn computes in unless it is told otherwise.
const fullPrecision = "f32"

func measurePipeline(ctx context.Context, h *harness) (report.Group, error) {
	g := report.Group{About: "Wall and CPU seconds for one picture, everything loaded and compiled: genfn's pipeline and OpenVINO GenAI's Text2ImagePipeline (release in bench/peers/requirements.txt), each in a process of its own, " +
		"same folder, size, steps, guidance, seed and number of threads (" + threads() + "). \"GenAI\" is its default (open shapes), \"GenAI reshaped\" after its reshape() to the size. " +
		"Both compute in f32; where the CPU would choose another precision by itself, rows with both sides in that one follow. The host's time is genfn's own work in the denoising loop outside of the UNet's inferences. " +
		"Over the virtual CUDA device that is the calls of CUDA, its copies and waits: what a GPU would compute, threads of the device do on the same processors, and what is left of it when an inference begins counts as the inference's."}
	models, notRun := h.imageModels()
	g.NotRun = notRun
	self, err := h.build(ctx, "./bench", false)
	if err != nil {
		return g, err
	}
	for _, m := range models {
		precision, err := h.picture(ctx, &g, self, m, fullPrecision)
		if err != nil {
			return g, fmt.Errorf("%s: %w", m, err)
		}
		if precision != fullPrecision && precision != "" {
			if _, err := h.picture(ctx, &g, self, m, precision); err != nil {
				return g, fmt.Errorf("%s: %w", m, err)
			}
		}
		if m.onnx {
			if err := h.cudaHost(ctx, &g, self, m); err != nil {
				return g, fmt.Errorf("%s on the virtual CUDA device: %w", m, err)
			}
		}
	}
	return g, nil
}

// goalCUDAHost is in milliseconds.
const goalCUDAHost = 0.2

// cudaHost measures what the path over a CUDA device costs the host, beside the networks.
func (h *harness) cudaHost(ctx context.Context, g *report.Group, self string, m imageModel) (err error) {
	libraries, onnx := h.path(".runtime", "vcuda", "lib"), h.path(".runtime", "onnxruntime")
	for dir, target := range map[string]string{libraries: "vcuda", onnx: "onnxruntime"} {
		if _, err := os.Stat(dir); err != nil {
			g.NotRun = append(g.NotRun, fmt.Sprintf("%s on the virtual CUDA device: %s is not there: run `make %s`", m, dir, target))
			return nil
		}
	}
	p, err := worker.Start(ctx, "genfn on CUDA", slices.Concat([]string{
		self, "worker", "pipeline", "--model", m.dir, "--openvino-dir", h.openvinoDir(), "--cache-dir", h.work,
		"--onnxruntime-dir", onnx, "--cuda-dir", libraries,
	}, m.flags(), []string{"--threads", threads()})...)
	if err != nil {
		return err
	}
	c := &contender{name: "genfn on CUDA", process: p}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := h.generateInTurn(ctx, m, "ONNX over the virtual CUDA device", []*contender{c}); err != nil {
		return err
	}
	g.Rows = append(g.Rows, report.Alone(m.String()+", ONNX over the virtual CUDA device: host's time per step", "ms", c.samples["host_per_step"]).AtMost(goalCUDAHost))
	return nil
}

// contender is a loaded pipeline.
type contender struct {
	name    string
	process *worker.Process
	samples measure.Samples
}

// picture measures one model in one precision and returns the CPU's own choice.
func (h *harness) picture(ctx context.Context, g *report.Group, self string, m imageModel, precision string) (cpuPrecision string, err error) {
	var contenders []*contender
	defer func() {
		for _, c := range contenders {
			err = errors.Join(err, c.process.Close())
		}
	}()
	common := append(m.flags(), "--threads", threads(), "--precision", precision)
	ours, err := worker.Start(ctx, "genfn", slices.Concat([]string{
		self, "worker", "pipeline", "--model", m.dir, "--openvino-dir", h.openvinoDir(), "--cache-dir", h.work,
	}, common)...)
	if err != nil {
		return "", err
	}
	contenders = append(contenders, &contender{name: "genfn", process: ours})
	contenders = append(contenders, h.genai(ctx, g, m, common)...)
	if err := h.generateInTurn(ctx, m, precision, contenders); err != nil {
		return "", err
	}
	g.Rows = append(g.Rows, pictureRows(m, precision, contenders)...)
	return ours.Ready().Texts["cpu_precision"], nil
}

// genai starts GenAI's pipelines. One that cannot be loaded is told in the group.
func (h *harness) genai(ctx context.Context, g *report.Group, m imageModel, flags []string) (started []*contender) {
	if why := h.needPython(); why != "" {
		g.NotRun = append(g.NotRun, m.String()+" beside GenAI: "+why)
		return nil
	}
	for _, peer := range []struct {
		name  string
		flags []string
	}{{"GenAI", nil}, {"GenAI reshaped", []string{"--reshape"}}} {
		command := slices.Concat([]string{h.python, h.path("bench", "peers", "genai.py"), m.dir}, flags, peer.flags)
		p, err := worker.Start(ctx, peer.name, command...)
		if err != nil {
			g.NotRun = append(g.NotRun, fmt.Sprintf("%s beside %s: %v", m, peer.name, err))
			continue
		}
		started = append(started, &contender{name: peer.name, process: p})
	}
	return started
}

func (h *harness) generateInTurn(ctx context.Context, m imageModel, precision string, contenders []*contender) error {
	seed := uint64(0)
	var sides []measure.Side
	for i, c := range contenders {
		sides = append(sides, measure.Side{Name: c.name, Run: func(context.Context) (map[string]float64, error) {
			if i == 0 { // all sides of a round make the same picture
				seed++
			}
			return c.process.Ask(pipelineRequest{Prompt: "a red apple", Seed: seed})
		}})
	}
	samples, err := h.compare(ctx, m.String()+" in "+precision, h.rounds(3, 1), h.rounds(25, 2), sides...)
	for i := range samples {
		contenders[i].samples = samples[i]
	}
	return err
}

func pictureRows(m imageModel, precision string, contenders []*contender) (rows []report.Row) {
	about := fmt.Sprintf("%s, %s", m, precision)
	ours := contenders[0].samples
	for _, peer := range contenders[1:] {
		goal := goalDefault
		if peer.name == "GenAI reshaped" {
			goal = goalReshaped
		}
		for _, clock := range []string{"wall", "cpu"} {
			rows = append(rows, report.Against(about+": "+clock+" per picture", "s", ours[clock], peer.name, peer.samples[clock]).RatioAtMost(goal))
		}
	}
	if len(rows) == 0 {
		rows = append(rows, report.Alone(about+": wall per picture", "s", ours["wall"]), report.Alone(about+": cpu per picture", "s", ours["cpu"]))
	}
	host := report.Alone(about+": host's time per step", "ms", ours["host_per_step"])
	if m.hostGoal > 0 {
		host = host.AtMost(m.hostGoal)
	}
	return append(rows, host)
}
