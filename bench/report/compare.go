package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"genfn/bench/measure"
)

// Comparison is what changed from one report to another.
//
// Of each figure that both have the ratio to its peer is compared where there is one, for a machine that is slower
// today slows the peer too, else its own value. It changed if two things hold: measure.Differ finds that the samples
// differ, adjusted by measure.Holm for all figures of which a change can be found (Tarone, A modified Bonferroni method
// for discrete data, 1990), so that two runs of the same thing are told apart in one comparison of twenty at most, as far
// as one run's samples tell of the next run; and the medians differ by at least a threshold, for what the samples do not
// tell of, such as a machine that became another in between.
type Comparison struct {
	Old         time.Time `json:"old"`
	New         time.Time `json:"new"`
	Short       bool      `json:"short"`       // one of them is of few rounds
	Differences []string  `json:"differences"` // of machines and versions
	Thresholds
	Figures []Change `json:"figures"`
	OnlyOld []string `json:"only_old"`
	OnlyNew []string `json:"only_new"`
}

// Thresholds are the smallest changes that count, relative to the old median.
type Thresholds struct {
	Least      float64 `json:"least"`        // of figures whose samples come from several processes; of times only those beside a peer
	LeastOfOne float64 `json:"least_of_one"` // of others: two processes of the same program may differ by so much, and so may the machine's speed
}

// DefaultThresholds are by runs of `go run ./bench aa`: calls into native code in one process after the other differ by
// up to 25 %. By the simulations of the tests 0.06 is where a change of 10 % is still found in 96 of 100 comparisons and
// the same is told apart in 1, and in 5 while the machine's speed wanders from process to process; at 0.05 in 2 and 8.
var DefaultThresholds = Thresholds{Least: 0.06, LeastOfOne: 0.3}

// speeds are the units of figures that follow the machine's speed of the day. In a ratio the peer has felt it too.
var speeds = []string{"s", "ms", "ns", "GB/s"}

// Change is one figure in both reports.
type Change struct {
	Figure    string        `json:"figure"`
	Unit      string        `json:"unit"` // "ratio" of a ratio
	Better    Better        `json:"better"`
	Processes int           `json:"processes"` // that the samples of a report come from, the lower number
	Old       measure.Value `json:"old"`       // without samples
	New       measure.Value `json:"new"`
	Percent   *float64      `json:"percent,omitempty"` // of the medians; none from 0
	P         *float64      `json:"p,omitempty"`       // adjusted; none if it was not tested
	Verdict   Verdict       `json:"verdict"`
}

// Verdict is what can be said of a figure in two reports.
type Verdict string

// The verdicts.
const (
	Same     Verdict = "no change"
	Improved Verdict = "better"
	Worsened Verdict = "worse"
	Changed  Verdict = "changed"         // of a figure that is neither better nor worse
	TooFew   Verdict = "too few samples" // to call any change one
	Single   Verdict = "single value"    // such as a trend or a quantile: nothing tells how it varies
)

// alpha is the probability that two runs of the same thing are told apart.
const alpha = 1 - measure.Confidence

// Compare says what changed from one report to another.
func Compare(before, after *Report, t Thresholds) *Comparison {
	c := &Comparison{
		Old: before.Time, New: after.Time, Short: before.Short || after.Short, Thresholds: t,
		Differences: before.Machine.differences(after.Machine),
		Figures:     []Change{}, OnlyOld: []string{}, OnlyNew: []string{},
	}
	old, names := before.figures()
	current, _ := after.figures()
	for _, name := range names {
		if _, ok := current[name]; !ok {
			c.OnlyOld = append(c.OnlyOld, name)
		}
	}
	_, names = after.figures()
	var tests []test
	following := map[string][]float64{}
	for _, name := range names {
		was, ok := old[name]
		if !ok {
			c.OnlyNew = append(c.OnlyNew, name)
			continue
		}
		change, before, after := pair(name, was.Row, current[name].Row)
		if change.Verdict == "" {
			tests = append(tests, test{len(c.Figures), was.group, before, after})
			following[was.group] = append(following[was.group], before.Autocorrelation(), after.Autocorrelation())
		}
		c.Figures = append(c.Figures, change)
	}
	c.decide(tests, following, t)
	return c
}

// test is a figure whose samples are compared.
type test struct {
	figure        int
	group         string
	before, after measure.Set
}

// decide gives the verdicts of the tests. Figures of a group are measured at the same time, so that the mean of their
// autocorrelations, following, is that of the machine's speed.
func (c *Comparison) decide(tests []test, following map[string][]float64, t Thresholds) {
	var family []int
	var ps, possibles []float64
	for _, one := range tests {
		p, possible := measure.Differ(one.before, one.after, mean(following[one.group]))
		if possible == 0 || possible > alpha { // this test finds no change whatever the samples, so it needs no correction
			c.Figures[one.figure].judge(p, possible, t)
			continue
		}
		family, ps, possibles = append(family, one.figure), append(ps, p), append(possibles, possible)
	}
	for i, p := range measure.Holm(ps) {
		c.Figures[family[i]].judge(p, possibles[i]*float64(len(ps)), t)
	}
}

func mean(values []float64) (m float64) {
	for _, v := range values {
		m += v / float64(len(values))
	}
	return m
}

// grouped is a row with the name of its group.
type grouped struct {
	Row
	group string
}

// figures are the rows by their names, and these in order.
func (r *Report) figures() (rows map[string]grouped, names []string) {
	rows = map[string]grouped{}
	for _, g := range r.Groups {
		for _, row := range g.Rows {
			name := g.Name + ": " + row.Name + ", " + row.Unit
			if row.Of != "" {
				name += " / " + row.Of
			}
			if _, twice := rows[name]; !twice {
				names = append(names, name)
			}
			rows[name] = grouped{row, g.Name}
		}
	}
	return rows, names
}

// pair makes the change of a figure that both reports have, without a verdict if it can be tested by the samples.
func pair(name string, was, is Row) (c Change, before, after measure.Set) {
	c = Change{Figure: name, Unit: is.Unit, Better: is.Better, Processes: min(was.Processes, is.Processes)}
	old, current := was.Ours, is.Ours
	if was.Ratio != nil && is.Ratio != nil {
		c.Unit, old, current = "ratio", *was.Ratio, *is.Ratio
	}
	before, after = measure.Set{Samples: old.Samples, Processes: was.Processes}, measure.Set{Samples: current.Samples, Processes: is.Processes}
	old.Samples, current.Samples = nil, nil
	c.Old, c.New = old, current
	if old.Median != 0 {
		percent := 100 * (current.Median/old.Median - 1)
		c.Percent = &percent
	}
	switch {
	case old.N == 1 || current.N == 1:
		c.Verdict = Single
	case was.Over != nil || is.Over != nil:
		c.Verdict = Single // what one process has over its life is one value, however often it is read
	}
	return c, before, after
}

// judge gives the verdict by the adjusted probability p, of which possible is the least that the numbers of samples allow.
func (c *Change) judge(p, possible float64, t Thresholds) {
	c.P = &p
	least := t.Least
	if c.Processes == 1 || slices.Contains(speeds, c.Unit) {
		least = t.LeastOfOne
	}
	large := c.Percent == nil && c.New.Median != 0 || c.Percent != nil && math.Abs(*c.Percent) >= 100*least
	switch {
	case possible > alpha && p > alpha:
		c.Verdict = TooFew
	case p > alpha || !large:
		c.Verdict = Same
	case c.Better == Neither:
		c.Verdict = Changed
	case (c.New.Median > c.Old.Median) == (c.Better == Higher):
		c.Verdict = Improved
	default:
		c.Verdict = Worsened
	}
}

// Count returns how many figures have the verdict.
func (c *Comparison) Count(v Verdict) (n int) {
	for _, f := range c.Figures {
		if f.Verdict == v {
			n++
		}
	}
	return n
}

// Told returns the figures that changed.
func (c *Comparison) Told() (out []Change) {
	for _, f := range c.Figures {
		if f.Verdict == Improved || f.Verdict == Worsened || f.Verdict == Changed {
			out = append(out, f)
		}
	}
	return out
}

// differences are what the machines of two reports do not have in common, in words.
func (m Machine) differences(other Machine) []string {
	out := []string{}
	differ := func(what, a, b string) {
		if a != b {
			out = append(out, fmt.Sprintf("%s: %q, then %q", what, a, b))
		}
	}
	differ("CPU", m.CPU, other.CPU)
	differ("cores", strconv.Itoa(m.Cores), strconv.Itoa(other.Cores))
	differ("memory in MB", strconv.FormatInt(m.MemoryMB, 10), strconv.FormatInt(other.MemoryMB, 10))
	differ("kernel", m.Kernel, other.Kernel)
	all := maps.Clone(m.Versions)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, other.Versions)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		differ(name, m.Versions[name], other.Versions[name])
	}
	return out
}
