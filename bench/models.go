package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
)

// imageModel is a model folder and the picture that is measured with it.
type imageModel struct {
	name, dir string
	side      int // pixels
	steps     int
	guidance  float64
	hostGoal  float64 // milliseconds of the host's own work in a step; 0: no goal
	onnx      bool    // the folder has ONNX files too
}

// imageModels are the demo model and the tiny Stable Diffusion of the conformance tests. A missing one is told in
// notRun.
func (h *harness) imageModels() (found []imageModel, notRun []string) {
	for _, m := range []imageModel{
		{name: "demo model", dir: h.demo, side: 64, steps: 25, guidance: 4, hostGoal: 0.1, onnx: true},
		{name: "tiny SD", dir: h.path("functions", "pipeline", "testdata", "tiny-sd"), side: 256, steps: 20, guidance: 7.5},
	} {
		if _, err := os.Stat(filepath.Join(m.dir, "model_index.json")); err != nil {
			notRun = append(notRun, fmt.Sprintf("%s: no model_index.json in %s: run `make model`, or name the folder with --demo-model", m.name, m.dir))
			continue
		}
		found = append(found, m)
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

// needPython says why the Python peers cannot run; "" if they can.
func (h *harness) needPython() string {
	if _, err := os.Stat(h.python); err != nil {
		return h.python + " is not there: run `bench/peers/install.sh .runtime/peers` (`make bench` does), or name a Python that has openvino-genai with --python"
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
