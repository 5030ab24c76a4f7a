package report

import (
	"fmt"
	"io"
	"strings"
)

// Markdown renders the comparison: what changed first, then what did not, then what cannot be told.
func (c *Comparison) Markdown(w io.Writer) {
	const day = "2006-01-02 15:04"
	fmt.Fprintf(w, "# genfn benchmarks, %s compared with %s\n\n", c.New.UTC().Format(day), c.Old.UTC().Format(day))
	for _, d := range c.Differences {
		fmt.Fprintf(w, "**Different %s.**\n\n", d)
	}
	if c.Short {
		fmt.Fprint(w, "**Of a short run: the figures mean little.**\n\n")
	}
	told := c.Told()
	if len(told) == 0 {
		fmt.Fprintf(w, "No change beyond noise in %d figures.", c.Count(Same))
	} else {
		fmt.Fprintf(w, "%d better, %d worse, %d changed, no change beyond noise in %d figures.", c.Count(Improved), c.Count(Worsened), c.Count(Changed), c.Count(Same))
	}
	fmt.Fprintf(w, " %d have too few samples to tell, %d are single values, which have no noise to compare with.\n", c.Count(TooFew), c.Count(Single))
	fmt.Fprintf(w, "A change is p ≤ %.2g by the Mann-Whitney test of the samples, in batches, after Holm's correction for all figures, and of %.3g %% or more, or of %.3g %% where all samples come from one process, or are times without a peer that felt the machine's speed too. Ratios are those to the peer.\n", alpha, 100*c.Least, 100*c.LeastOfOne)
	table(w, "Changed", told)
	for _, v := range []Verdict{Same, TooFew, Single} {
		var of []Change
		for _, f := range c.Figures {
			if f.Verdict == v {
				of = append(of, f)
			}
		}
		table(w, strings.ToUpper(string(v[:1]))+string(v[1:]), of)
	}
	list(w, "Only in the old report", c.OnlyOld)
	list(w, "Only in the new report", c.OnlyNew)
}

func table(w io.Writer, title string, changes []Change) {
	if len(changes) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## %s\n\n| figure | unit | better | old | new | change | p | |\n|---|---|---|---:|---:|---:|---:|---|\n", title)
	for _, f := range changes {
		percent, p := "", ""
		if f.Percent != nil {
			percent = fmt.Sprintf("%+.3g %%", *f.Percent)
		}
		if f.P != nil {
			p = fmt.Sprintf("%.2g", *f.P)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", f.Figure, f.Unit, f.Better, value(f.Old), value(f.New), percent, p, f.Verdict)
	}
}

func list(w io.Writer, title string, names []string) {
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## %s\n\n", title)
	for _, name := range names {
		fmt.Fprintf(w, "- %s\n", name)
	}
}
