package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"genfn/bench/measure"
	"genfn/bench/report"
)

// Goals as ratios to the Python script's time.
const (
	goalCold = 0.7
	goalWarm = 0.5
)

func measureStartup(ctx context.Context, h *harness) (report.Group, error) {
	g := report.Group{About: "Seconds from the start of the process until the picture is on disk: `genfn demo` with its broker, instance and runner, and a Python script that imports OpenVINO GenAI, loads the folder, generates and saves. " +
		"Same folder, size, steps and prompt, both in f32. Cold: no compiled models from an earlier run; warm: both have a folder of them. The files are in the page cache in either case. " +
		"Floor: genfn's pipeline alone in one process, from its start to the same picture on disk, as a ratio to the peer: what loading OpenVINO, its networks and the generation take without a broker, an instance and a runner. " +
		"The last row is genfn's time until the process has ended, which includes stopping broker and runner."}
	models, notRun := h.imageModels()
	g.NotRun = notRun
	if err := h.needGenfn(); err != nil {
		return g, err
	}
	self, err := h.build(ctx, "./bench", false)
	if err != nil {
		return g, err
	}
	for _, m := range models {
		for _, warm := range []bool{false, true} {
			rows, err := h.starts(ctx, &g, self, m, warm)
			if err != nil {
				return g, fmt.Errorf("%s: %w", m, err)
			}
			g.Rows = append(g.Rows, rows...)
		}
	}
	return g, nil
}

func (h *harness) starts(ctx context.Context, g *report.Group, self string, m imageModel, warm bool) ([]report.Row, error) {
	about, goal := m.String()+", cold", goalCold
	if warm {
		about, goal = m.String()+", warm", goalWarm
	}
	n := 0
	cache := func(side string) string { // warm: one for all runs, filled by the round that does not count
		if warm {
			return filepath.Join(h.work, "warm", side, filepath.Base(m.dir))
		}
		n++
		return filepath.Join(h.work, "cold", side+strconv.Itoa(n))
	}
	sides := []measure.Side{{Name: "genfn demo", Run: func(ctx context.Context) (map[string]float64, error) {
		return h.startGenfn(ctx, m, cache("genfn"))
	}}, {Name: "pipeline alone", Run: func(ctx context.Context) (map[string]float64, error) {
		return h.startPipeline(ctx, self, m, cache("alone"))
	}}}
	if why := h.needPython(); why != "" {
		g.NotRun = append(g.NotRun, about+" beside Python: "+why)
	} else {
		sides = append(sides, measure.Side{Name: "Python GenAI script", Run: func(ctx context.Context) (map[string]float64, error) {
			return h.startPython(ctx, m, warm, cache("python"))
		}})
	}
	warmup := 1
	if !warm {
		warmup = h.rounds(1, 0)
	}
	s, err := h.compare(ctx, about, warmup, h.rounds(15, 1), sides...)
	if err != nil {
		return nil, err
	}
	ended := report.Alone(about+": process start to exit", "s", s[0]["ended"]).FromProcesses(len(s[0]["ended"]))
	if len(s) == 2 {
		return []report.Row{report.Alone(about+": process start to PNG", "s", s[0]["png"]).FromProcesses(len(s[0]["png"])), ended}, nil
	}
	return []report.Row{report.Against(about+": process start to PNG", "s", s[0]["png"], "Python GenAI", s[2]["png"]).FromProcesses(len(s[0]["png"])).RatioAtMost(goal).OnFloor(sides[1].Name, measure.Ratios(s[1]["png"], s[2]["png"])), ended}, nil
}

func (h *harness) startGenfn(ctx context.Context, m imageModel, cacheDir string) (map[string]float64, error) {
	out := filepath.Join(h.work, "genfn.png")
	return h.untilPicture(ctx, out, []string{ // the size is the model's own, as most users leave it
		h.genfn, "demo", "--quiet", "--log-level", "warn", "--models", filepath.Dir(m.dir), "--model", filepath.Base(m.dir),
		"--prompt", "a red apple", "--seed", "1", "--steps", strconv.Itoa(m.steps), "--cache-dir", cacheDir, "--out", out,
	})
}

func (h *harness) startPipeline(ctx context.Context, self string, m imageModel, cacheDir string) (map[string]float64, error) {
	out := filepath.Join(h.work, "alone.png")
	return h.untilPicture(ctx, out, slices.Concat([]string{
		self, "worker", "picture", "--model", m.dir, "--out", out, "--openvino-dir", h.openvinoDir(), "--cache-dir", cacheDir, "--precision", "f32",
	}, m.flags()))
}

func (h *harness) startPython(ctx context.Context, m imageModel, warm bool, cacheDir string) (map[string]float64, error) {
	out := filepath.Join(h.work, "python.png")
	command := slices.Concat([]string{h.python, h.path("bench", "peers", "startup.py"), m.dir, out, "--prompt", "a red apple"}, m.flags())
	if warm {
		if err := os.MkdirAll(cacheDir, 0o755); err != nil {
			return nil, err
		}
		command = append(command, "--cache-dir", cacheDir)
	}
	return h.untilPicture(ctx, out, command)
}

// untilPicture runs a program that prints the name of the picture once it is written, and returns the seconds
// until it did and until it ended.
func (h *harness) untilPicture(ctx context.Context, picture string, command []string) (map[string]float64, error) {
	if err := os.RemoveAll(picture); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = h.root, &stderr
	printed := &awaited{words: []byte(picture)}
	cmd.Stdout = printed
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	ended := time.Since(began)
	if _, err := os.Stat(picture); err != nil || printed.at.IsZero() {
		return nil, fmt.Errorf("it did not tell of %s: %q: %s", picture, printed.text, bytes.TrimSpace(stderr.Bytes()))
	}
	return map[string]float64{"png": printed.at.Sub(began).Seconds(), "ended": ended.Seconds()}, nil
}

// awaited is a writer that remembers when some words came.
type awaited struct {
	words []byte
	text  []byte
	at    time.Time
}

func (a *awaited) Write(b []byte) (int, error) {
	a.text = append(a.text, b...)
	if a.at.IsZero() && bytes.Contains(a.text, a.words) {
		a.at = time.Now()
	}
	return len(b), nil
}
