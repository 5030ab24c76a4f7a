package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
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
			Alone("start", "s", []float64{4, 4, 4}).AtMost(2).OnFloor("bare", []float64{3, 3, 3}),
			Alone("end", "s", []float64{4, 4, 4}).AtMost(2).OnFloor("bare", []float64{1, 1, 1}),
			Against("alike", "s", []float64{0.99, 1, 1.02, 1.03}, "peer", []float64{1, 1, 1, 1}).RatioAtMost(1),
			Against("speed", "GB/s", []float64{2, 2, 2}, "memcpy", []float64{1, 1, 1}).RatioAtLeast(1.5),
			Against("slow", "GB/s", []float64{1, 1, 1}, "memcpy", []float64{1, 1, 1}).RatioAtLeast(1.5),
			Alone("resident", "MB", []float64{200, 201, 202}).InCourse("generation", 5, 15),
			Alone("cases", "", []float64{7}).NoneIsBetter(),
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
	assert.Contains(t, string(md), "| 2 [2, 2] |  | ratio ≥ 1.5 | met |")
	assert.Contains(t, string(md), "| 1 [1, 1] |  | ratio ≥ 1.5 | **missed** |")
	for _, picture := range []string{"events-ratios.svg", "events-course.svg"} {
		assert.Contains(t, string(md), "]("+picture+")")
		svg, err := os.ReadFile(filepath.Join(dir, picture))
		require.NoError(t, err)
		wellFormed(t, svg)
	}
	back, err := Read(filepath.Join(dir, "report.json"))
	require.NoError(t, err)
	assert.Equal(t, r.Groups, back.Groups)
	assert.NotEmpty(t, back.Machine.CPU)
	assert.Positive(t, back.Machine.MemoryMB)
}

// wellFormed fails if a picture cannot be parsed.
func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	texts := 0
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "text" {
			texts++
		}
	}
	assert.Greater(t, texts, 3, "names of rows or axes")
}

func TestChartsTakeAnyNameAndRatio(t *testing.T) {
	g := Group{Name: "odd", Rows: []Row{
		Against("p < q & r", "s", []float64{1}, "<peer>", []float64{1}),
		Against("tiny", "s", []float64{1}, "peer", []float64{1e6}),
		Against("nothing", "s", []float64{0}, "peer", []float64{1}), // no logarithm
	}}
	require.Len(t, g.charts(), 1)
	var svg bytes.Buffer
	require.NoError(t, g.charts()[0].draw(&svg))
	wellFormed(t, svg.Bytes())
	assert.NotContains(t, svg.String(), "nothing")
}

func TestReadRefuses(t *testing.T) {
	good := Report{Schema: SchemaVersion, Machine: Machine{Cores: 1}, Groups: []Group{{Name: "events", Rows: []Row{Alone("wall", "s", []float64{1})}}}}
	for expected, change := range map[string]func(map[string]any){
		"has schema version 3, expected 4":                 func(m map[string]any) { m["schema"] = 3 },
		"at '': additional properties 'extra' not allowed": func(m map[string]any) { m["extra"] = 1 },
		"at '/machine/cores'":                              func(m map[string]any) { m["machine"].(map[string]any)["cores"] = 0 },
	} {
		raw, err := json.Marshal(good)
		require.NoError(t, err)
		var m map[string]any
		require.NoError(t, json.Unmarshal(raw, &m))
		change(m)
		raw, err = json.Marshal(m)
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "report.json")
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		_, err = Read(path)
		require.ErrorContains(t, err, expected)
		require.ErrorContains(t, err, path)
	}
	text := filepath.Join(t.TempDir(), "report.md")
	require.NoError(t, os.WriteFile(text, []byte("# genfn"), 0o600))
	_, err := Read(text)
	require.ErrorContains(t, err, "is not a report of the harness")
}
