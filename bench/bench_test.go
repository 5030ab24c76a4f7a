package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bench/report"
)

// shortRun measures one part in its short form and reads the report back.
func shortRun(t *testing.T, part string) report.Group {
	t.Helper()
	require.FileExists(t, "../bin/genfn", "the harness measures the built program: run `make build`")
	require.DirExists(t, "../.runtime/openvino", "the harness needs the pinned OpenVINO: run `make runtime`")
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	require.NoError(t, run(t.Context(), []string{part, "--short", "--out", dir}, &stdout, &stderr), stderr.String())
	assert.Contains(t, stdout.String(), "## "+part)

	raw, err := os.ReadFile(filepath.Join(dir, "report.json"))
	require.NoError(t, err)
	var r report.Report
	require.NoError(t, json.Unmarshal(raw, &r))
	assert.True(t, r.Short)
	require.Len(t, r.Groups, 1)
	assert.Equal(t, part, r.Groups[0].Name)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "only the two reports stay")
	return r.Groups[0]
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
	g := shortRun(t, "bindings")
	if _, err := exec.LookPath("gcc"); err != nil {
		require.NotEmpty(t, g.NotRun, "without a C compiler the report says so")
	} else {
		require.Empty(t, g.NotRun)
		for _, c := range hotCalls {
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

func TestEvents(t *testing.T) {
	g := shortRun(t, "events")
	require.Empty(t, g.NotRun)
	for _, mode := range []string{"with sync", "without sync"} {
		accepted := rowNamed(t, g, "request → accepted, "+mode, "ms")
		terminal := rowNamed(t, g, "no-op request → terminal event, "+mode, "ms")
		assert.Positive(t, accepted.Ours.Median)
		assert.Greater(t, terminal.Ours.Median, accepted.Ours.Median)
		assert.Equal(t, &report.Goal{AtMost: goalAccepted}, accepted.Goal)
		assert.Positive(t, accepted.Floor.Median)
		assert.Positive(t, terminal.Floor.Median)
	}
}

func TestBrokenPartsStayInTheReport(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), []string{"events", "--short", "--out", dir, "--genfn", filepath.Join(dir, "missing")}, &stdout, &stderr)
	require.ErrorIs(t, err, errNotBuilt)
	assert.Contains(t, stdout.String(), "NOT RUN: "+filepath.Join(dir, "missing"))
	require.FileExists(t, filepath.Join(dir, "report.json"))
}
