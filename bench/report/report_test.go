package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	r := Report{Schema: SchemaVersion, Time: time.Unix(0, 0), Machine: ThisMachine(map[string]string{"Go": "1"}), Groups: []Group{{
		Name: "events", About: "What was done.",
		Rows: []Row{
			Against("wall", "ms", []float64{1, 1, 1}, "peer", []float64{2, 2, 2}).RatioAtMost(0.6),
			Against("cpu", "ms", []float64{1, 1, 1}, "peer", []float64{1, 1, 1}).RatioAtMost(0.6),
			Alone("round trip", "ms", []float64{2, 2, 2}).AtMost(3),
			Alone("start", "s", []float64{4, 4, 4}).AtMost(2).Over("bare", []float64{3, 3, 3}),
			Alone("end", "s", []float64{4, 4, 4}).AtMost(2).Over("bare", []float64{1, 1, 1}),
			Against("alike", "s", []float64{0.99, 1, 1.02, 1.03}, "peer", []float64{1, 1, 1, 1}).RatioAtMost(1),
			Beside("allocations", "", []float64{1}, "peer", []float64{0}),
		},
		NotRun: []string{"the peer of another day: not installed"},
	}}}
	assert.True(t, r.Groups[0].Rows[0].Met())
	assert.False(t, r.Groups[0].Rows[1].Met())
	assert.True(t, r.Groups[0].Rows[2].Met())

	dir := t.TempDir()
	require.NoError(t, r.Write(dir))
	md, err := os.ReadFile(filepath.Join(dir, "report.md"))
	require.NoError(t, err)
	assert.Contains(t, string(md), "| wall | ms | 1 [1, 1] | 2 [2, 2] peer | 0.5 [0.5, 0.5] |  | ratio ≤ 0.6 | met |")
	assert.Contains(t, string(md), "**missed**")
	assert.Contains(t, string(md), "| round trip | ms | 2 [2, 2] |  |  |  | ≤ 3 ms | met |")
	assert.Contains(t, string(md), "| start | s | 4 [4, 4] |  |  | 3 [3, 3] bare | ≤ 2 s | **missed**, out of reach here: the floor is above the goal |")
	assert.Contains(t, string(md), "| end | s | 4 [4, 4] |  |  | 1 [1, 1] bare | ≤ 2 s | **missed** |")
	assert.Contains(t, string(md), "ratio ≤ 1 | **missed** by less than the measurement tells")
	assert.Contains(t, string(md), "| allocations |  | 1 | 0 peer |  |  |  |  |")
	assert.False(t, Alone("x", "ms", []float64{1}).RatioAtMost(2).Met(), "a ratio that is not there meets nothing")
	assert.Contains(t, string(md), "NOT RUN: the peer of another day")
	raw, err := os.ReadFile(filepath.Join(dir, "report.json"))
	require.NoError(t, err)
	var back Report
	require.NoError(t, json.Unmarshal(raw, &back))
	assert.Equal(t, r.Groups, back.Groups)
	assert.NotEmpty(t, back.Machine.CPU)
	assert.Positive(t, back.Machine.MemoryMB)
}
