package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"genfn/bench/measure"
	"genfn/bench/report"
	"genfn/bench/worker"
	"genfn/events"
	"genfn/functions/runner/runnertest"
)

// Goals of what is done about faults.
const (
	goalRecovery  = 100.0  // ms, p99, without the device's load
	goalHang      = 1000.0 // ms past the budget
	goalOverhead  = 1.01   // ratio
	goalCases     = 40     // of the matrix, at least
	goalUnlike    = 0      // of the matrix
	goalIdleShare = 1.0    // percent of a core
)

func measureFaults(ctx context.Context, h *harness) (report.Group, error) {
	g := report.Group{About: "What genfn does about devices that fail. Recovery: milliseconds from the native error to the same request at work on the CPU, by the times in its events; the runner processes of that row are real, their engine is scripted, " +
		"so that the CPU has nothing to load. After a dead context a fresh process proves itself and the request is tried there once more: the row counts from the second error, and proving is a row of its own. " +
		"Hang: how long after the end of its budget (" + hangBudget.String() + ") a silent runner is killed and reaped. " +
		"Overhead: the same picture by a runner with its ledger, memory samples, messages, classifier and memory file, and by the bare pipeline without any of them, in turn, both in one process: two processes of one program differ by more. " +
		"It is an upper bound, for there is no switch that leaves these out; " +
		"validation comes once in a process's life. The supervision of a process that does nothing is the CPU time of an idle `genfn up`, broker included. Matrix: the cases of `make faults`."}
	if err := h.needGenfn(); err != nil {
		return g, err
	}
	self, err := h.build(ctx, "./bench", false)
	if err != nil {
		return g, err
	}
	for _, part := range []func(context.Context, *report.Group, string) error{h.recoveries, h.idle, h.load, h.overhead, h.matrix} {
		if err := part(ctx, &g, self); err != nil {
			return g, err
		}
	}
	return g, nil
}

// recoveries has scripted runners fail.
func (h *harness) recoveries(ctx context.Context, g *report.Group, self string) (err error) {
	w, err := worker.Start(ctx, "scripted runners", self, "worker", "faults", "--dir", filepath.Join(h.work, "faults"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	scripted := func(what string, do runnertest.Action, rounds int) (measure.Samples, error) {
		script := runnertest.Script{Do: do, Stage: events.StageDenoise, Step: 2, On: "GPU"}
		s, err := h.compare(ctx, what, 2, rounds, measure.Side{Name: what, Run: func(context.Context) (map[string]float64, error) { return w.Ask(script) }})
		if err != nil {
			return nil, err
		}
		return s[0], nil
	}
	for _, c := range []struct {
		name string
		do   runnertest.Action
	}{{"crash of the driver (SIGSEGV)", runnertest.Crash}, {"invalid numbers", runnertest.NaN}, {"dead context (-5), again after a canary", runnertest.Lost}} {
		s, err := scripted(c.name, c.do, h.rounds(120, 4))
		if err != nil {
			return err
		}
		g.Rows = append(g.Rows,
			report.Alone(c.name+": native error → at work on the CPU", "ms", s["recovery"]),
			report.Alone(fmt.Sprintf("%s: the same, p99 of %d", c.name, len(s["recovery"])), "ms", []float64{quantileOf(s["recovery"], 0.99)}).AtMost(goalRecovery))
		if len(s["proving"]) > 0 {
			g.Rows = append(g.Rows, report.Alone(c.name+": fresh process, validation and canary before", "ms", s["proving"]))
		}
	}
	s, err := scripted("hang", runnertest.Hang, h.rounds(30, 2))
	if err != nil {
		return err
	}
	late := make([]float64, len(s["found"]))
	for i, ms := range s["found"] {
		late[i] = ms - milliseconds(hangBudget)
	}
	g.Rows = append(g.Rows,
		report.Alone("hang: end of the budget → killed and reaped", "ms", late),
		report.Alone(fmt.Sprintf("hang: the same, the longest of %d", len(late)), "ms", []float64{quantileOf(late, 1)}).AtMost(goalHang))
	return nil
}

// overhead compares a runner with the bare pipeline.
func (h *harness) overhead(ctx context.Context, g *report.Group, self string) (err error) {
	models, notRun := h.imageModels()
	if len(models) == 0 {
		g.NotRun = append(g.NotRun, notRun...)
		return nil
	}
	t, processes := turns{}, h.rounds(overheadProcesses, 1)
	for range processes {
		if err := h.overheadOnce(ctx, t, self, models[0]); err != nil {
			return err
		}
	}
	s := t[overheadTurns]
	for _, clock := range []string{"wall", "cpu"} {
		row := report.Against(models[0].String()+": "+clock+" per picture", "s", s[0][clock], "bare pipeline", s[1][clock])
		g.Rows = append(g.Rows, row.FromProcesses(processes).RatioAtMost(goalOverhead))
	}
	return nil
}

// overheadProcesses is in how many processes the overhead is measured, one after the other: the networks that are compiled
// first are not as fast as those compiled after them, nor equally in all.
const overheadProcesses = 8

const overheadTurns = "overhead"

// overheadOnce measures in one process, with the other side compiled first than in the one before.
func (h *harness) overheadOnce(ctx context.Context, t turns, self string, m imageModel) (err error) {
	command := append([]string{self, "worker", "supervision"}, m.flags()...)
	w, err := worker.Start(ctx, "supervision", append(command, "--threads", threads(), "--precision", fullPrecision, "--model", m.dir, "--openvino-dir", h.openvinoDir(), "--cache-dir", h.work)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	side := func(name string, bare bool) measure.Side {
		seed := uint64(0) // both sides of a round make the same picture
		return measure.Side{Name: name, Run: func(context.Context) (map[string]float64, error) {
			seed++
			return w.Ask(supervisedRequest{pipelineRequest{Prompt: "a red apple", Seed: seed}, bare})
		}}
	}
	return h.inTurn(ctx, t, overheadTurns, 2, h.rounds(8, 2), side("runner", false), side("bare pipeline", true))
}

// idle measures what supervision costs while nothing happens.
func (h *harness) idle(ctx context.Context, g *report.Group, _ string) (err error) {
	up, err := h.up(ctx, "idle", "--devices", "CPU", "--models", filepath.Dir(h.demo), "--cache-dir", h.work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	var percent []float64
	for range h.rounds(10, 2) {
		before, err := processCPU(up.cmd.Process.Pid)
		if err != nil {
			return err
		}
		began := time.Now()
		if !pause(ctx, 2*time.Second) { // one heartbeat
			return ctx.Err()
		}
		after, err := processCPU(up.cmd.Process.Pid)
		if err != nil {
			return err
		}
		percent = append(percent, 100*(after-before)/time.Since(began).Seconds())
	}
	g.Rows = append(g.Rows, report.Alone("CPU time of an idle genfn up", "% of a core", percent).AtMost(goalIdleShare))
	return nil
}

// pause reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// load measures what a fallback adds to recovery on a device that has not loaded the model yet: the first picture of a
// fresh process, with compiled networks in the cache.
func (h *harness) load(ctx context.Context, g *report.Group, _ string) error {
	models, _ := h.imageModels()
	if len(models) == 0 {
		return nil // told before
	}
	m := models[0]
	m.steps = 2
	var ms []float64
	for i := range 1 + h.rounds(5, 1) {
		first, err := h.firstLoad(ctx, m, i)
		if err != nil {
			return err
		}
		if i > 0 { // the first fills the cache
			ms = append(ms, first)
		}
	}
	g.Rows = append(g.Rows, report.Alone(m.String()+": load of the CPU, which a fallback to a CPU without the model adds", "ms", ms))
	return nil
}

func (h *harness) firstLoad(ctx context.Context, m imageModel, round int) (ms float64, err error) {
	up, err := h.up(ctx, fmt.Sprintf("load-%d", round), "--devices", "CPU", "--models", filepath.Dir(m.dir), "--cache-dir", filepath.Join(h.work, "load"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	c, b, err := up.client()
	if err != nil {
		return 0, err
	}
	defer b.Close()
	result, err := generateOne(ctx, c, m, 1)
	if err != nil {
		return 0, err
	}
	return result.TimingsMS[events.StageLoad], nil
}

// matrix runs the fault matrix of the tests and counts its cases.
func (h *harness) matrix(ctx context.Context, g *report.Group, _ string) error {
	if h.short {
		g.NotRun = append(g.NotRun, "the fault matrix: a short run leaves it to `make test`, of which it is a part")
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout", "20m", "-run", "^Test(CUDA)?FaultMatrix$", "-v", "./functions/instance")
	cmd.Dir, cmd.Env = h.root, append(cmd.Environ(), "CGO_ENABLED=0")
	out, failed := cmd.CombinedOutput()
	cases, right := matrixRows(string(out))
	if cases == 0 {
		g.NotRun = append(g.NotRun, fmt.Sprintf("the fault matrix (make vgpu installs what it needs): %v: %.300s", failed, bytes.TrimSpace(out)))
		return nil
	}
	about := fmt.Sprintf("fault matrix on OpenVINO's GPU plugin: cases, at least %d", goalCases)
	g.Rows = append(g.Rows,
		report.Alone(about, "cases", []float64{float64(cases)}).HigherIsBetter(),
		report.Alone("fault matrix: not named or not ended as specified", "cases", []float64{float64(cases - right)}).AtMost(goalUnlike))
	return nil
}

// matrixRows counts the rows of the matrix's table, and those of them that are as specified.
func matrixRows(out string) (cases, right int) {
	for line := range strings.Lines(out) {
		columns := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		switch strings.TrimSpace(columns[len(columns)-1]) {
		case "as specified":
			cases, right = cases+1, right+1
		case "OTHERWISE":
			cases++
		}
	}
	return cases, right
}

// processCPU returns the seconds of CPU time that a process has used, in user and system mode, by the clock that
// clock_getcpuclockid(3) names.
func processCPU(pid int) (float64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|2, &t); err != nil { //nolint:gosec // process ids are small
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return float64(t.Nano()) / 1e9, nil
}
