// Package report is what a run of the harness leaves: JSON with a stable schema, the same as Markdown and charts, and
// what changed from one report to another.
//
// The JSON is described by schema.json (JSON Schema, draft 2020-12). Its "schema" is SchemaVersion, which changes with
// any field; Read refuses other versions. Figures are medians with intervals of measure.Confidence and the samples they
// are of, in the order of the runs, at most measure.MaxSamples of them.
package report

import (
	"time"

	"genfn/bench/measure"
)

// SchemaVersion is that of schema.json.
const SchemaVersion = 4

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
	Name   string         `json:"name"`
	Unit   string         `json:"unit"`
	Better Better         `json:"better"`
	Ours   measure.Value  `json:"ours"`
	Peer   *measure.Value `json:"peer,omitempty"`
	Of     string         `json:"of,omitempty"` // what the peer is
	Ratio  *measure.Value `json:"ratio,omitempty"`
	Goal   *Goal          `json:"goal,omitempty"`
	Floor  *measure.Value `json:"floor,omitempty"` // what the goal is about, for the least that can be done here
	Least  string         `json:"least,omitempty"` // what the floor is
	Over   *Course        `json:"over,omitempty"`  // the samples are a course over this, and drawn as one

	// Processes is how many processes the samples come from, of each as many, one after the other. What one process
	// gives again and again tells little of what the next one gives.
	Processes int `json:"processes"`
}

// Better is which change of a figure, and of its ratio, is for the better.
type Better string

// The kinds of Better.
const (
	Lower   Better = "lower"
	Higher  Better = "higher"
	Neither Better = "neither" // such as how many cases there were
)

// Goal is a bound of a row's ratio or, with OfRatio false, of its own value: a lower one where higher is better, else
// an upper one.
type Goal struct {
	Bound   float64 `json:"bound"`
	OfRatio bool    `json:"of_ratio"`
}

// Course is what samples follow one another over, such as the generations 50 to 500.
type Course struct {
	What string `json:"what"`
	From int    `json:"from"`
	To   int    `json:"to"`
}

// Alone makes a row without a peer, of which less is better, from one process.
func Alone(name, unit string, ours []float64) Row {
	return Row{Name: name, Unit: unit, Better: Lower, Processes: 1, Ours: measure.Summarize(ours)}
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
	r.Goal = &Goal{Bound: limit}
	return r
}

// RatioAtMost returns the row with a goal for its ratio.
func (r Row) RatioAtMost(limit float64) Row {
	r.Goal = &Goal{Bound: limit, OfRatio: true}
	return r
}

// HigherIsBetter returns the row as one of which more is better.
func (r Row) HigherIsBetter() Row {
	r.Better = Higher
	return r
}

// RatioAtLeast returns the row, of which more is better, with a goal for its ratio.
func (r Row) RatioAtLeast(limit float64) Row {
	return r.RatioAtMost(limit).HigherIsBetter()
}

// NoneIsBetter returns the row as one of which neither more nor less is better.
func (r Row) NoneIsBetter() Row {
	r.Better = Neither
	return r
}

// FromProcesses returns the row as one whose samples come from n processes, of each as many, one after the other.
func (r Row) FromProcesses(n int) Row {
	r.Processes = n
	again := func(v *measure.Value) *measure.Value {
		if v == nil {
			return nil
		}
		of := measure.Set{Samples: v.Samples, Processes: n}.Summarize()
		of.N = v.N
		return &of
	}
	r.Ours, r.Peer, r.Ratio, r.Floor = *again(&r.Ours), again(r.Peer), again(r.Ratio), again(r.Floor)
	return r
}

// InCourse returns the row with its samples as a course over something counted.
func (r Row) InCourse(what string, from, to int) Row {
	r.Over = &Course{What: what, From: from, To: to}
	return r
}

// OnFloor returns the row with its floor, in the unit of its goal: of what this machine needs for the least that must
// be done. A goal beyond it is out of reach here.
func (r Row) OnFloor(least string, floor []float64) Row {
	v := measure.Summarize(floor)
	r.Floor, r.Least = &v, least
	return r
}

// OutOfReach reports whether the row misses its goal, and so does its floor.
func (r Row) OutOfReach() bool {
	return !r.Met() && r.Floor != nil && !r.reaches(r.Floor.Median)
}

// Undecided reports whether the row misses its goal by less than the measurement can tell.
func (r Row) Undecided() bool {
	v := r.judged()
	return !r.Met() && v != nil && v.N > 1 && (r.reaches(v.Lo) || r.reaches(v.Hi))
}

// Met reports whether the row reaches its goal; true without one.
func (r Row) Met() bool {
	if r.Goal == nil {
		return true
	}
	v := r.judged()
	return v != nil && r.reaches(v.Median)
}

// reaches reports whether a value would reach the goal.
func (r Row) reaches(v float64) bool {
	if r.Better == Higher {
		return v >= r.Goal.Bound
	}
	return v <= r.Goal.Bound
}

// judged is what the goal is of; nil: it is of a ratio that is not there.
func (r Row) judged() *measure.Value {
	if r.Goal != nil && r.Goal.OfRatio {
		return r.Ratio
	}
	return &r.Ours
}
