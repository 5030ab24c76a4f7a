package report

import (
	"fmt"
	"io"

	"genfn/bench/measure"
)

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
	for _, c := range g.charts() {
		fmt.Fprintf(w, "\n![%s](%s)\n", c.title, c.file)
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
		goal = r.goal()
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

// goal in words; r has one.
func (r Row) goal() string {
	sign := "≤"
	if r.Better == Higher {
		sign = "≥"
	}
	if r.Goal.OfRatio {
		return fmt.Sprintf("ratio %s %.4g", sign, r.Goal.Bound)
	}
	return fmt.Sprintf("%s %.4g %s", sign, r.Goal.Bound, r.Unit)
}
