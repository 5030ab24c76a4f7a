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
	goal := 3.0
	r := Report{Schema: SchemaVersion, Time: time.Unix(0, 0), Machine: ThisMachine(map[string]string{"Go": "1"}), Groups: []Group{{
		Name: "events", About: "What was done.",
		Rows: []Row{
			Against("wall", "ms", []float64{1, 1, 1}, "peer", []float64{2, 2, 2}, 0.6),
			Against("cpu", "ms", []float64{1, 1, 1}, "peer", []float64{1, 1, 1}, 0.6),
			Alone("round trip", "ms", []float64{2, 2, 2}, &goal),
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
	assert.Contains(t, string(md), "| wall | ms | 1 [1, 1] | 2 [2, 2] peer | 0.5 [0.5, 0.5] | ≤ 0.6 | met |")
	assert.Contains(t, string(md), "**missed**")
	assert.Contains(t, string(md), "NOT RUN: the peer of another day")
	raw, err := os.ReadFile(filepath.Join(dir, "report.json"))
	require.NoError(t, err)
	var back Report
	require.NoError(t, json.Unmarshal(raw, &back))
	assert.Equal(t, r.Groups, back.Groups)
	assert.NotEmpty(t, back.Machine.CPU)
	assert.Positive(t, back.Machine.MemoryMB)
}
