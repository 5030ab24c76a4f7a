package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"genfn/bench/measure"
	"genfn/bench/report"
	"genfn/events"
	"genfn/events/client"
)

// The window of generations in which the trend of the resident memory is taken.
const (
	firstGeneration = 50
	lastGeneration  = 500
)

// goalSlope is in bytes per generation.
const goalSlope = 4096

func measureMemory(ctx context.Context, h *harness) (report.Group, error) {
	from, to := h.rounds(firstGeneration, 5), h.rounds(lastGeneration, 15)
	g := report.Group{About: fmt.Sprintf("The runner process of `genfn up` over generations through the broker, one after the other, each with another seed. "+
		"Trend: the least-squares slope of its resident memory after each of the generations %d to %d. Drift: what the ledger of native memory holds after the last less after number %d.", from, to, from)}
	models, notRun := h.imageModels()
	g.NotRun = notRun
	for _, m := range models[:min(1, len(models))] { // the demo model if it is there
		m.side, m.steps = 64, 2
		rows, err := h.residentMemory(ctx, m, from, to)
		if err != nil {
			return g, fmt.Errorf("%s: %w", m, err)
		}
		g.Rows = append(g.Rows, rows...)
	}
	return g, nil
}

func (h *harness) residentMemory(ctx context.Context, m imageModel, from, to int) (rows []report.Row, err error) {
	up, err := h.up(ctx, "memory-"+filepath.Base(m.dir), "--sync=false", "--models", filepath.Dir(m.dir), "--cache-dir", filepath.Join(h.work, "memory"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, up.stop()) }()
	c, b, err := up.client()
	if err != nil {
		return nil, err
	}
	defer b.Close()
	progress := h.progress(m.String())
	var resident, ledger []float64
	pid := 0
	for i := 1; i <= to; i++ {
		result, err := generateOne(ctx, c, m, uint64(i))
		if err != nil {
			return nil, err
		}
		if now, err := runnerOf(up.cmd.Process.Pid); err != nil {
			return nil, err
		} else if pid != 0 && now != pid {
			return nil, fmt.Errorf("generation %d: the runner was replaced", i)
		} else {
			pid = now
		}
		if i >= from {
			rss, err := residentBytes(pid)
			if err != nil {
				return nil, err
			}
			resident, ledger = append(resident, rss), append(ledger, float64(result.Memory.LedgerAfter))
		}
		progress(i, to)
	}
	return []report.Row{
		report.Alone(m.String()+": trend of resident memory", "bytes per generation", []float64{measure.Slope(resident)}).AtMost(goalSlope),
		report.Alone(m.String()+": resident memory", "MB", scale(resident, 1.0/(1<<20))).InCourse("generation", from, to),
		report.Alone(m.String()+": ledger of native memory", "MB", scale(ledger, 1.0/(1<<20))).InCourse("generation", from, to),
		report.Alone(m.String()+": ledger drift", "bytes", []float64{ledger[len(ledger)-1] - ledger[0]}).AtMost(0),
	}, nil
}

func scale(values []float64, factor float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = v * factor
	}
	return out
}

// generateOne asks for one picture and waits for it.
func generateOne(ctx context.Context, c *client.Client, m imageModel, seed uint64) (*events.Succeeded, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	id, err := c.Publish(ctx, client.Request{Data: events.ImageGenerate{
		Model: filepath.Base(m.dir), Prompt: "a red apple", Width: &m.side, Height: &m.side, Steps: &m.steps, GuidanceScale: &m.guidance, Seed: &seed,
	}})
	if err != nil {
		return nil, err
	}
	e, err := c.Wait(ctx, id)
	if err != nil {
		return nil, err
	}
	if e.Type() != events.TypeSucceeded {
		return nil, fmt.Errorf("the request ended with %s: %s", e.Type(), e.Data())
	}
	var result events.Succeeded
	if err := json.Unmarshal(e.Data(), &result); err != nil {
		return nil, err
	}
	if result.Memory == nil {
		return nil, errors.New("the result tells nothing about memory")
	}
	return &result, nil
}

// runnerOf returns the process id of the runner of a `genfn up`.
func runnerOf(pid int) (int, error) {
	pids := measure.Runners(pid)
	if len(pids) == 0 {
		return 0, errors.New("genfn up has no runner process")
	}
	return pids[0], nil
}

// residentBytes is the resident memory of a process.
func residentBytes(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm of %d: %q", pid, raw)
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize()), err
}
