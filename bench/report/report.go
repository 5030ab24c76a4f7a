// Package report is what a run of the harness leaves: JSON with a stable schema, and the same as Markdown.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"genfn/bench/measure"
)

// SchemaVersion changes when a reader of the JSON would have to.
const SchemaVersion = 3

// Report is one run of the harness.
type Report struct {
	Schema  int       `json:"schema"`
	Time    time.Time `json:"time"`
	Machine Machine   `json:"machine"`
	Short   bool      `json:"short"` // few rounds, to prove that the harness works: figures mean little
	Groups  []Group   `json:"groups"`
}

// Machine are the facts that figures depend on.
type Machine struct {
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	MemoryMB int64             `json:"memory_mb"`
	Kernel   string            `json:"kernel"`
	Versions map[string]string `json:"versions"`
}

// Group is one part of the harness, such as "pipeline".
type Group struct {
	Name   string   `json:"name"`
	About  string   `json:"about"` // what was done, in a sentence or two
	Rows   []Row    `json:"rows"`
	NotRun []string `json:"not_run,omitempty"` // what could not run here, and why
}

// Row is one figure, beside that of its peer where there is one.
type Row struct {
	Name  string         `json:"name"`
	Unit  string         `json:"unit"`
	Ours  measure.Value  `json:"ours"`
	Peer  *measure.Value `json:"peer,omitempty"`
	Of    string         `json:"of,omitempty"` // what the peer is
	Ratio *measure.Value `json:"ratio,omitempty"`
	Goal  *Goal          `json:"goal,omitempty"`
	Floor *measure.Value `json:"floor,omitempty"` // what the goal is about, for the least that can be done here
	Least string         `json:"least,omitempty"` // what the floor is
}

// Goal is an upper bound of a row's ratio or, with OfRatio false, of its own value.
type Goal struct {
	AtMost  float64 `json:"at_most"`
	OfRatio bool    `json:"of_ratio"`
}

// Alone makes a row without a peer.
func Alone(name, unit string, ours []float64) Row {
	return Row{Name: name, Unit: unit, Ours: measure.Summarize(ours)}
}

// Beside makes a row of two figures whose ratio says nothing, such as counts that may be 0.
func Beside(name, unit string, ours []float64, of string, peer []float64) Row {
	r, p := Alone(name, unit, ours), measure.Summarize(peer)
	r.Peer, r.Of = &p, of
	return r
}

// Against makes a row of two sides measured in turn, with their ratio pair by pair.
func Against(name, unit string, ours []float64, of string, peer []float64) Row {
	row, ratio := Beside(name, unit, ours, of, peer), measure.Summarize(measure.Ratios(ours, peer))
	row.Ratio = &ratio
	return row
}

// AtMost returns the row with a goal for its own value.
func (r Row) AtMost(limit float64) Row {
	r.Goal = &Goal{AtMost: limit}
	return r
}

// RatioAtMost returns the row with a goal for its ratio.
func (r Row) RatioAtMost(limit float64) Row {
	r.Goal = &Goal{AtMost: limit, OfRatio: true}
	return r
}

// Over returns the row with its floor, in the unit of its goal: of what this machine needs for the least that must be
// done. A goal below it is out of reach here.
func (r Row) Over(least string, floor []float64) Row {
	v := measure.Summarize(floor)
	r.Floor, r.Least = &v, least
	return r
}

// OutOfReach reports whether the row misses its goal, and so does its floor.
func (r Row) OutOfReach() bool {
	return !r.Met() && r.Floor != nil && r.Floor.Median > r.Goal.AtMost
}

// Undecided reports whether the row misses its goal by less than the measurement can tell.
func (r Row) Undecided() bool {
	v := r.judged()
	return !r.Met() && v != nil && v.N > 1 && v.Lo <= r.Goal.AtMost
}

// Met reports whether the row reaches its goal; true without one.
func (r Row) Met() bool {
	if r.Goal == nil {
		return true
	}
	v := r.judged()
	return v != nil && v.Median <= r.Goal.AtMost
}

// judged is what the goal is of; nil: it is of a ratio that is not there.
func (r Row) judged() *measure.Value {
	if r.Goal != nil && r.Goal.OfRatio {
		return r.Ratio
	}
	return &r.Ours
}

// Write leaves report.json and report.md in dir.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("report folder: %w", err)
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	var md strings.Builder
	r.Markdown(&md)
	return os.WriteFile(filepath.Join(dir, "report.md"), []byte(md.String()), 0o644)
}

// Markdown renders the report.
func (r *Report) Markdown(w io.Writer) {
	fmt.Fprintf(w, "# genfn benchmarks, %s\n\n", r.Time.UTC().Format("2006-01-02 15:04"))
	fmt.Fprint(w, "Made by `make bench` (`go run ./bench all`), which leaves it in .cache/bench/report.md.\n\n")
	if r.Short {
		fmt.Fprint(w, "**Short run: it shows that the harness works; the figures mean little.**\n\n")
	}
	fmt.Fprintf(w, "%s, %d cores, %d MB, Linux %s.", r.Machine.CPU, r.Machine.Cores, r.Machine.MemoryMB, r.Machine.Kernel)
	for _, name := range sortedKeys(r.Machine.Versions) {
		fmt.Fprintf(w, " %s %s.", name, r.Machine.Versions[name])
	}
	fmt.Fprintf(w, " Medians with %.0f %% confidence intervals; the ratio is taken pair by pair.\n", 100*measure.Confidence)
	for _, g := range r.Groups {
		g.markdown(w)
	}
}

func (g Group) markdown(w io.Writer) {
	fmt.Fprintf(w, "\n## %s\n\n%s\n\n", g.Name, g.About)
	fmt.Fprint(w, "| figure | unit | genfn | peer | ratio | floor | goal | |\n|---|---|---:|---:|---:|---:|---:|---|\n")
	for _, row := range g.Rows {
		row.markdown(w)
	}
	for _, line := range g.NotRun {
		fmt.Fprintf(w, "\nNOT RUN: %s\n", line)
	}
}

func (r Row) markdown(w io.Writer) {
	peer, ratio, floor, goal, verdict := "", "", "", "", ""
	if r.Peer != nil {
		peer = value(*r.Peer) + " " + r.Of
	}
	if r.Ratio != nil {
		ratio = value(*r.Ratio)
	}
	if r.Floor != nil {
		floor = value(*r.Floor) + " " + r.Least
	}
	if r.Goal != nil {
		goal = fmt.Sprintf("≤ %.4g %s", r.Goal.AtMost, r.Unit)
		if r.Goal.OfRatio {
			goal = fmt.Sprintf("ratio ≤ %.4g", r.Goal.AtMost)
		}
		switch {
		case r.Met():
			verdict = "met"
		case r.OutOfReach():
			verdict = "**missed**, out of reach here: the floor is above the goal"
		case r.Undecided():
			verdict = "**missed** by less than the measurement tells: the goal lies within its interval"
		default:
			verdict = "**missed**"
		}
	}
	fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", r.Name, r.Unit, value(r.Ours), peer, ratio, floor, goal, verdict)
}

func value(v measure.Value) string {
	if v.N < 2 {
		return fmt.Sprintf("%.4g", v.Median)
	}
	return fmt.Sprintf("%.4g [%.4g, %.4g]", v.Median, v.Lo, v.Hi)
}
