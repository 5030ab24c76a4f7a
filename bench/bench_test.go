package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bench/report"
)

// shortRun measures one part in its short form and reads the report back.
func shortRun(t *testing.T, part string, flags ...string) report.Group {
	t.Helper()
	g, _ := shortRunIn(t, part, flags...)
	return g
}

// shortRunIn also returns the folder of the report.
func shortRunIn(t *testing.T, part string, flags ...string) (g report.Group, dir string) {
	t.Helper()
	require.FileExists(t, "../bin/genfn", "the harness measures the built program: run `make build`")
	require.DirExists(t, "../.runtime/openvino", "the harness needs the pinned OpenVINO: run `make runtime`")
	dir = t.TempDir()
	var stdout, stderr bytes.Buffer
	require.NoError(t, run(t.Context(), append([]string{part, "--short", "--out", dir}, flags...), &stdout, &stderr), stderr.String())
	assert.Contains(t, stdout.String(), "## "+part)

	r, err := report.Read(filepath.Join(dir, "report.json"))
	require.NoError(t, err)
	assert.True(t, r.Short)
	require.Len(t, r.Groups, 1)
	assert.Equal(t, part, r.Groups[0].Name)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		assert.Contains(t, []string{"report.json", "report.md", part + "-ratios.svg", part + "-course.svg"}, e.Name(), "only the report stays")
	}
	return r.Groups[0], dir
}

// compareAndRender does with a report what a reader does: it is compared with itself and with one whose figures are
// made worse, and rendered again.
func compareAndRender(t *testing.T, dir string) {
	t.Helper()
	path, worse := filepath.Join(dir, "report.json"), t.TempDir()
	var stdout, stderr bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"compare", path, path, "--fail-on-worse"}, &stdout, &stderr))
	assert.Contains(t, stdout.String(), "No change beyond noise in ")

	r, err := report.Read(path)
	require.NoError(t, err)
	samples := make([]float64, 25)
	for i := range samples {
		samples[i] = float64(1 + 7*i%25)
	}
	r.Groups = append(r.Groups, report.Group{Name: "planted", Rows: []report.Row{report.Alone("time", "ms", samples).FromProcesses(25)}})
	require.NoError(t, r.Write(dir))
	for i := range samples {
		samples[i] *= 100
	}
	r.Groups[1].Rows[0] = report.Alone("time", "ms", samples).FromProcesses(25)
	require.NoError(t, r.Write(worse))
	stdout.Reset()
	require.NoError(t, run(t.Context(), []string{"compare", "--json", path, filepath.Join(worse, "report.json")}, &stdout, &stderr))
	var c report.Comparison
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &c))
	require.Len(t, c.Told(), 1)
	assert.Equal(t, "planted: time, ms", c.Told()[0].Figure)
	require.ErrorIs(t, run(t.Context(), []string{"compare", "--fail-on-worse", path, filepath.Join(worse, "report.json")}, &stdout, &stderr), errWorse)
	require.ErrorContains(t, run(t.Context(), []string{"compare", "--least", "5", path, path}, &stdout, &stderr), "--least 5: expected a share")

	again := filepath.Join(t.TempDir(), "again")
	require.NoError(t, run(t.Context(), []string{"render", path, "--out", again}, &stdout, &stderr))
	for _, name := range []string{"report.md", "bindings-ratios.svg"} {
		was, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		is, err := os.ReadFile(filepath.Join(again, name))
		require.NoError(t, err)
		assert.Equal(t, string(was), string(is), name)
	}
}

// TestAA: two runs of the same thing are measured and compared. What is found is for people to read.
func TestAA(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		require.ErrorContains(t, run(t.Context(), []string{"aa", "--short", "--out", t.TempDir()}, io.Discard, io.Discard), "calls beside cgo")
		return
	}
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"aa", "--short", "--pairs", "1", "--json", "--out", dir}, &stdout, &stderr), stderr.String())
	var s sameness
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &s))
	assert.Equal(t, 1, s.Comparisons)
	assert.Equal(t, 2*len(hotCalls), s.Figures)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

// rowNamed returns a row with figures on both sides.
func rowNamed(t *testing.T, g report.Group, name, unit string) report.Row {
	t.Helper()
	for _, row := range g.Rows {
		if row.Name == name && row.Unit == unit {
			require.NotNil(t, row.Peer, name)
			assert.Positive(t, row.Ours.N, name)
			return row
		}
	}
	require.Failf(t, "row is missing", "%s (%s) in %+v", name, unit, g)
	return report.Row{}
}

func TestBindings(t *testing.T) {
	g, dir := shortRunIn(t, "bindings")
	compareAndRender(t, dir)
	notRun := strings.Join(g.NotRun, "\n")
	_, err := os.Stat("../.runtime/peers/bin/python")
	assert.Equal(t, err != nil, strings.Contains(notRun, "beside numpy"), "without the Python of the peers the report says so")
	if _, err := exec.LookPath("gcc"); err != nil {
		require.Contains(t, notRun, "beside cgo", "without a C compiler the report says so")
	} else {
		require.NotContains(t, notRun, "beside cgo")
		for _, c := range hotCalls {
			if c.peer == "" {
				assert.True(t, slices.ContainsFunc(g.Rows, func(r report.Row) bool { return r.Name == c.about && r.Unit == "ns" && r.Ours.Median > 0 }), c.about)
				continue
			}
			assert.Positive(t, rowNamed(t, g, c.about, "ns").Ratio.Median)
			rowNamed(t, g, c.about, "allocations")
		}
	}
	for _, values := range kernelValues {
		for _, k := range kernelFloors {
			assert.Positive(t, rowNamed(t, g, bandwidthName(k.about, values), "GB/s").Ratio.Median)
		}
	}
}

// noPeers has a part run without its peers in Python, which are not installed for tests.
var noPeers = []string{"--python", "missing", "--torch-python", "missing", "--sdcpp-python", "missing"}

// TestPipeline: peers that are not there, and those that cannot load, are told, the latter with their own words, and genfn
// is measured all the same.
func TestPipeline(t *testing.T) {
	python := filepath.Join(t.TempDir(), "python")
	require.NoError(t, os.WriteFile(python, []byte("#!/bin/sh\necho '{\"error\": \"no such model\"}'\n"), 0o755))
	g := shortRun(t, "pipeline", "--python", python, "--torch-python", "missing", "--sdcpp-python", python)
	const what = "demo model, 64 px, 25 steps"
	notRun := strings.Join(g.NotRun, "\n")
	for _, peer := range []string{"GenAI", "GenAI reshaped", "stable-diffusion.cpp"} {
		assert.Contains(t, notRun, what+", f32 beside "+peer+": "+peer+": no such model")
	}
	assert.Contains(t, notRun, what+" beside diffusers: missing is not there")
	value := map[string]float64{}
	for _, row := range g.Rows {
		value[row.Name] = row.Ours.Median
	}
	for _, figure := range []string{"wall per picture", "cpu per picture", "host's time per step"} {
		assert.Positive(t, value[what+", f32: "+figure])
	}
}

func TestStartup(t *testing.T) {
	g := shortRun(t, "startup", noPeers...)
	require.Len(t, g.NotRun, 2)
	for _, how := range []string{"cold", "warm"} {
		assert.True(t, slices.ContainsFunc(g.Rows, func(r report.Row) bool {
			return strings.HasSuffix(r.Name, how+": process start to exit") && r.Ours.Median > 0
		}), how)
	}
}

func TestMemory(t *testing.T) {
	g := shortRun(t, "memory")
	require.Empty(t, g.NotRun)
	require.Len(t, g.Rows, 4)
	assert.Positive(t, g.Rows[1].Ours.Median)
	assert.Equal(t, &report.Course{What: "generation", From: 5, To: 15}, g.Rows[1].Over)
}

func TestEvents(t *testing.T) {
	g := shortRun(t, "events", noPeers...)
	require.Len(t, g.NotRun, 2, "only the Python worker, in both modes")
	for _, mode := range []string{"with sync", "without sync"} {
		accepted := rowNamed(t, g, "request → accepted, "+mode, "ms")
		terminal := rowNamed(t, g, "no-op request → terminal event, "+mode, "ms")
		assert.Positive(t, accepted.Ours.Median)
		assert.Greater(t, terminal.Ours.Median, accepted.Ours.Median)
		assert.Equal(t, &report.Goal{Bound: goalAccepted}, accepted.Goal)
		assert.Positive(t, accepted.Floor.Median)
		assert.Positive(t, terminal.Floor.Median)
	}
}

// TestFaults: the figures are of what they say, and complete; how good they are is for the report to tell.
func TestFaults(t *testing.T) {
	g := shortRun(t, "faults")
	require.Len(t, g.NotRun, 1, "only the matrix, which has a test of its own")
	value := map[string]float64{}
	goals := 0
	for _, row := range g.Rows {
		value[row.Name] = row.Ours.Median
		if row.Goal != nil {
			goals++
		}
	}
	for _, c := range []string{"crash of the driver (SIGSEGV)", "invalid numbers", "dead context (-5), again after a canary"} {
		assert.Positive(t, value[c+": native error → at work on the CPU"])
		assert.GreaterOrEqual(t, value[c+": the same, p99 of 4"], value[c+": native error → at work on the CPU"])
	}
	assert.Positive(t, value["dead context (-5), again after a canary: fresh process, validation and canary before"])
	assert.Positive(t, value["hang: end of the budget → killed and reaped"], "not before its budget is over")
	assert.Positive(t, value["CPU time of an idle genfn up"])
	for _, clock := range []string{"wall", "cpu"} {
		assert.Positive(t, rowNamed(t, g, "demo model, 64 px, 25 steps: "+clock+" per picture", "s").Ratio.Median)
	}
	assert.Equal(t, 7, goals)
}

// TestController: every instance was decided on, and the figures have their goals.
func TestController(t *testing.T) {
	g := shortRun(t, "controller")
	require.Empty(t, g.NotRun)
	value := map[string]float64{}
	for _, row := range g.Rows {
		value[row.Name] = row.Ours.Median
	}
	const same = "change of state → decision stored and heard"
	for _, how := range []string{"one at a time: ", "all at once: "} {
		assert.Positive(t, value[how+same])
		assert.GreaterOrEqual(t, value[how+"the same, p99 of 100"], value[how+same])
	}
	assert.Positive(t, value["resident memory of the controller"])
}

func TestMatrixRows(t *testing.T) {
	cases, right := matrixRows("=== RUN\n| a | b | as specified |\n    | c | d | OTHERWISE |\n| fault | |\n|---|---|\nok\n")
	assert.Equal(t, []int{2, 1}, []int{cases, right})
}

func TestBrokenPartsStayInTheReport(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), []string{"events", "--short", "--out", dir, "--genfn", filepath.Join(dir, "missing")}, &stdout, &stderr)
	require.ErrorIs(t, err, errNotBuilt)
	assert.Contains(t, stdout.String(), "NOT RUN: "+filepath.Join(dir, "missing"))
	require.FileExists(t, filepath.Join(dir, "report.json"))
}
