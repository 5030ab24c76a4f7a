package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
)

// imageModel is a model folder and the picture that is measured with it.
type imageModel struct {
	name, dir string
	weights   string // folder in diffusers' layout that the peers of other runtimes load
	side      int    // pixels
	steps     int
	guidance  float64
	hostGoal  float64 // milliseconds of the host's own work in a step; 0: no goal
	onnx      bool    // the folder has ONNX files too
}

// imageModels are the demo model and, but in a short run, the tiny Stable Diffusion of the conformance tests. A missing one
// is told in notRun.
func (h *harness) imageModels() (found []imageModel, notRun []string) {
	tiny := h.path("functions", "pipeline", "testdata", "tiny-sd")
	for _, m := range []imageModel{
		{name: "demo model", dir: h.demo, weights: h.path("deploy", "models", "train", "checkpoint"), side: 64, steps: 25, guidance: 4, hostGoal: 0.1, onnx: true},
		{name: "tiny SD", dir: tiny, weights: tiny, side: 256, steps: 20, guidance: 7.5},
	} {
		if _, err := os.Stat(filepath.Join(m.dir, "model_index.json")); err != nil {
			notRun = append(notRun, fmt.Sprintf("%s: no model_index.json in %s: run `make model`, or name the folder with --demo-model", m.name, m.dir))
			continue
		}
		found = append(found, m)
	}
	if h.short {
		found = found[:min(1, len(found))]
	}
	return found, notRun
}

func (m imageModel) String() string {
	return fmt.Sprintf("%s, %d px, %d steps", m.name, m.side, m.steps)
}

// flags are the arguments that say which picture to make; the workers of both sides and genfn share them.
func (m imageModel) flags() []string {
	return []string{
		"--width", strconv.Itoa(m.side), "--height", strconv.Itoa(m.side),
		"--steps", strconv.Itoa(m.steps), "--guidance", strconv.FormatFloat(m.guidance, 'g', -1, 64),
	}
}

// workerFlags are those of the pipeline workers of all sides.
func (m imageModel) workerFlags(precision string) []string {
	return append(m.flags(), "--threads", threads(), "--precision", precision)
}

// in names the figures of the model in a precision.
func (m imageModel) in(precision string) string { return fmt.Sprintf("%s, %s", m, precision) }

// needPython says why the Python peers cannot run; "" if they can.
func (h *harness) needPython() string {
	if _, err := os.Stat(h.python); err != nil {
		return h.python + " is not there: run `make peers`, or name a Python that has openvino-genai with --python"
	}
	return ""
}

// needNATS says why the Python worker cannot run; "" if it can.
func (h *harness) needNATS(ctx context.Context) string {
	if why := h.needPython(); why != "" {
		return why
	}
	if text, err := exec.CommandContext(ctx, h.python, "-c", "import nats").CombinedOutput(); err != nil {
		return fmt.Sprintf("%s: %v: %s", h.python, err, bytes.TrimSpace(text))
	}
	return ""
}

// threads are those of an inference, on both sides.
func threads() string { return strconv.Itoa(runtime.NumCPU()) }

// openvinoDir is where the workers find OpenVINO.
func (h *harness) openvinoDir() string {
	if dir := os.Getenv("GENFN_OPENVINO_DIR"); dir != "" {
		return dir
	}
	return h.path(".runtime", "openvino")
}
