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
	g := report.Group{About: "Wall and CPU seconds for one picture, everything loaded and compiled: genfn's pipeline and OpenVINO GenAI's Text2ImagePipeline (release in bench/peers/requirements.txt), each in a process of its own, started anew again and again, " +
		"same folder, size, steps, guidance, seed and number of threads (" + threads() + "). \"GenAI\" is its default (open shapes), \"GenAI reshaped\" after its reshape() to the size. " +
		"diffusers: its StableDiffusionPipeline with PyTorch on the CPU, of the checkpoint that the demo model was exported from, and of the tiny SD's configurations with other random weights. " +
		"stable-diffusion.cpp: its Python package, on the same. " +
		"All compute in f32; where the CPU would choose another precision by itself, rows with all sides in that one follow. The host's time is genfn's own work in the denoising loop outside of the UNet's inferences. " +
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

// cudaHostProcesses is in how many processes it is measured.
const cudaHostProcesses = 4

// cudaHost measures what the path over a CUDA device costs the host, beside the networks.
func (h *harness) cudaHost(ctx context.Context, g *report.Group, self string, m imageModel) (err error) {
	libraries, onnx := h.path(".runtime", "vcuda", "lib"), h.path(".runtime", "onnxruntime")
	for dir, target := range map[string]string{libraries: "vcuda", onnx: "onnxruntime"} {
		if !isThere(dir) {
			g.NotRun = append(g.NotRun, fmt.Sprintf("%s on the virtual CUDA device: %s is not there: run `make %s`", m, dir, target))
			return nil
		}
	}
	c := h.contender(self, m, fullPrecision)
	c.command = append(c.command, "--onnxruntime-dir", onnx, "--cuda-dir", libraries)
	p := &pictures{h: h, about: m.String() + ", ONNX over the virtual CUDA device", sides: []contender{c}}
	if err := p.measure(ctx, g, cudaHostProcesses); err != nil {
		return err
	}
	row := report.Alone(p.about+": host's time per step", "ms", p.samples[0]["host_per_step"]).AtMost(goalCUDAHost)
	g.Rows = append(g.Rows, row.FromProcesses(p.processes))
	return nil
}

// contender is a pipeline that is measured, genfn's or a peer's.
type contender struct {
	name    string
	command []string // of its worker
	goal    float64  // of genfn's ratio to it; 0: none
}

// How often the processes of all sides are started anew: of peers that are as fast as genfn, and of others, to which
// its ratio has no goal.
const (
	pictureProcesses     = 12
	slowPictureProcesses = 3
)

// picture measures one model in one precision and returns the CPU's own choice.
func (h *harness) picture(ctx context.Context, g *report.Group, self string, m imageModel, precision string) (cpuPrecision string, err error) {
	if cpuPrecision, err = h.fastPictures(ctx, g, self, m, precision); err != nil {
		return "", err
	}
	for _, peer := range h.slowPeers(g, m, precision) {
		p := &pictures{h: h, about: m.in(precision), sides: []contender{h.contender(self, m, precision), peer}, peersOnly: true}
		if err := p.measure(ctx, g, slowPictureProcesses); err != nil {
			return "", err
		}
		g.Rows = append(g.Rows, p.ratios()...)
	}
	return cpuPrecision, nil
}

// fastPictures measures genfn beside GenAI.
func (h *harness) fastPictures(ctx context.Context, g *report.Group, self string, m imageModel, precision string) (cpuPrecision string, err error) {
	p := &pictures{h: h, about: m.in(precision), sides: append([]contender{h.contender(self, m, precision)}, h.genai(g, m, precision)...)}
	if err := p.measure(ctx, g, pictureProcesses); err != nil {
		return "", err
	}
	g.Rows = append(append(g.Rows, p.ratios()...), p.alone(m)...)
	return p.cpuPrecision, nil
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// contender is genfn's pipeline.
func (h *harness) contender(self string, m imageModel, precision string) contender {
	return contender{name: "genfn", command: slices.Concat([]string{
		self, "worker", "pipeline", "--model", m.dir, "--openvino-dir", h.openvinoDir(), "--cache-dir", h.work,
	}, m.workerFlags(precision))}
}

// genai are GenAI's pipelines.
func (h *harness) genai(g *report.Group, m imageModel, precision string) []contender {
	if why := h.needPython(); why != "" {
		g.NotRun = append(g.NotRun, m.String()+" beside GenAI: "+why)
		return nil
	}
	command := slices.Concat([]string{h.python, h.path("bench", "peers", "genai.py"), m.dir}, m.workerFlags(precision))
	return []contender{
		{name: "GenAI", command: command, goal: goalDefault},
		{name: "GenAI reshaped", command: slices.Concat(command, []string{"--reshape"}), goal: goalReshaped},
	}
}

// slowPeers are the pipelines of others than OpenVINO.
func (h *harness) slowPeers(g *report.Group, m imageModel, precision string) (peers []contender) {
	for _, p := range []struct{ name, python, flag, script string }{
		{"diffusers", h.torchPython, "--torch-python", "diffusers_worker.py"},
		{"stable-diffusion.cpp", h.sdcppPython, "--sdcpp-python", "sdcpp_worker.py"},
	} {
		if !isThere(p.python) {
			g.NotRun = append(g.NotRun, fmt.Sprintf("%s beside %s: %s is not there: run `make peers`, or name a Python that has it with %s", m, p.name, p.python, p.flag))
			continue
		}
		peers = append(peers, contender{name: p.name, command: slices.Concat([]string{p.python, "-B", h.path("bench", "peers", p.script), m.weights}, m.workerFlags(precision))})
	}
	return peers
}

// pictures are the same pictures made by several sides in turn, genfn first.
type pictures struct {
	h            *harness
	about        string
	sides        []contender
	peersOnly    bool // what genfn does alone is of no use
	processes    int
	samples      []measure.Samples // by side, of all processes one after the other
	cpuPrecision string
}

// measure starts the processes of all sides again and again. A peer that cannot be loaded is told in the group, and left
// out.
func (p *pictures) measure(ctx context.Context, g *report.Group, processes int) error {
	t := turns{}
	for p.processes = 0; p.processes < p.h.rounds(processes, 1); p.processes++ {
		if err := p.once(ctx, g, t); err != nil {
			return err
		}
		if p.peersOnly && len(p.sides) == 1 {
			break
		}
	}
	p.samples = t[p.about]
	return nil
}

// once adds what one process of each side gives.
func (p *pictures) once(ctx context.Context, g *report.Group, t turns) (err error) {
	var loaded []*worker.Process
	defer func() {
		for _, w := range loaded {
			err = errors.Join(err, w.Close())
		}
	}()
	for i := 0; i < len(p.sides); {
		side := p.sides[i]
		w, err := worker.Start(ctx, side.name, side.command...)
		switch {
		case err == nil:
			loaded = append(loaded, w)
			i++
		case i == 0 || p.processes > 0:
			return err
		default:
			g.NotRun = append(g.NotRun, fmt.Sprintf("%s beside %s: %v", p.about, side.name, err))
			p.sides = slices.Delete(p.sides, i, i+1)
		}
	}
	if p.peersOnly && len(p.sides) == 1 {
		return nil
	}
	p.cpuPrecision = loaded[0].Ready().Texts["cpu_precision"]
	var sides []measure.Side
	for i, side := range p.sides {
		seed := uint64(0) // all sides of a round make the same picture
		sides = append(sides, measure.Side{Name: side.name, Run: func(context.Context) (map[string]float64, error) {
			seed++
			return loaded[i].Ask(pipelineRequest{Prompt: "a red apple", Seed: seed})
		}})
	}
	return p.h.inTurn(ctx, t, p.about, 1, p.h.rounds(3, 2), sides...)
}

// ratios are the rows beside the peers.
func (p *pictures) ratios() (rows []report.Row) {
	for i, peer := range p.sides[1:] {
		for _, clock := range []string{"wall", "cpu"} {
			row := report.Against(p.about+": "+clock+" per picture", "s", p.samples[0][clock], peer.name, p.samples[1+i][clock]).FromProcesses(p.processes)
			if peer.goal > 0 {
				row = row.RatioAtMost(peer.goal)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// alone are the rows of genfn alone: of its host's time, and of the whole if no peer is there.
func (p *pictures) alone(m imageModel) (rows []report.Row) {
	ours := p.samples[0]
	if len(p.sides) == 1 {
		rows = append(rows, report.Alone(p.about+": wall per picture", "s", ours["wall"]), report.Alone(p.about+": cpu per picture", "s", ours["cpu"]))
	}
	host := report.Alone(p.about+": host's time per step", "ms", ours["host_per_step"])
	if m.hostGoal > 0 {
		host = host.AtMost(m.hostGoal)
	}
	rows = append(rows, host)
	for i := range rows {
		rows[i] = rows[i].FromProcesses(p.processes)
	}
	return rows
}
