package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"genfn/functions/stress"
)

// stressTable shows a run of stress: a table that is drawn over on a terminal, a line now and then elsewhere.
type stressTable struct {
	screen
	interval time.Duration
}

// newStressTable returns nil, which shows nothing, if quiet.
func newStressTable(w io.Writer, quiet bool) *stressTable {
	if quiet {
		return nil
	}
	t := &stressTable{newScreen(w), lineInterval}
	if t.terminal != nil {
		t.interval = tableInterval
	}
	return t
}

func (t *stressTable) show(s stress.Snapshot) {
	if t.terminal == nil {
		fmt.Fprintln(t.w, stressLine(s))
		return
	}
	width, _ := t.size()
	t.draw(stressDrawn(s, width))
}

// stressLine is a snapshot in one line.
func stressLine(s stress.Snapshot) string {
	var memory []string
	for _, m := range s.Instances {
		words := fmt.Sprintf("%s %s rss %s ledger %+d", m.Device, m.State, mib(m.RSS), m.Outstanding)
		if m.DeviceUsed != nil {
			words += fmt.Sprintf(" device %d KiB", *m.DeviceUsed>>10)
		}
		memory = append(memory, words)
	}
	return fmt.Sprintf("%7.1f s  %s: %d/%d done, %d succeeded, failed %s, %d cancelled, %d expired, %d retried, %d fell back, %d wrong, %.1f/s, p50 %s p99 %s; %s",
		s.Elapsed.Seconds(), s.Phase, s.Done, s.Planned, s.Succeeded, codes(s.Failed), s.Cancelled, s.Expired, s.Retried, s.FellBack, s.Wrong,
		s.PerSecond, s.P50.Round(time.Millisecond), s.P99.Round(time.Millisecond), strings.Join(memory, "; "))
}

// stressDrawn is a snapshot as two tables, cut at a width, so that no line takes two; 0: not cut.
func stressDrawn(s stress.Snapshot, width int) string {
	w := table.NewWriter()
	w.SetAllowedRowLength(width)
	w.SetStyle(table.StyleLight)
	w.SetTitle(fmt.Sprintf("%s, %s", s.Phase, s.Elapsed.Round(time.Second)))
	w.AppendHeader(table.Row{"done", "succeeded", "failed", "cancelled", "expired", "retried", "fell back", "wrong", "per second", "p50", "p99"})
	w.AppendRow(table.Row{
		fmt.Sprintf("%d/%d", s.Done, s.Planned), s.Succeeded, strings.ReplaceAll(codes(s.Failed), ", ", "\n"), s.Cancelled, s.Expired, s.Retried, s.FellBack, s.Wrong,
		fmt.Sprintf("%.1f", s.PerSecond), s.P50.Round(time.Millisecond), s.P99.Round(time.Millisecond),
	})
	m := table.NewWriter()
	m.SetAllowedRowLength(width)
	m.SetStyle(table.StyleLight)
	m.AppendHeader(table.Row{"instance", "device", "state", "rss", "swap", "ledger", "outstanding", "device memory"})
	for _, i := range s.Instances {
		used := "-"
		if i.DeviceUsed != nil {
			used = fmt.Sprintf("%d B", *i.DeviceUsed)
		}
		m.AppendRow(table.Row{i.Instance, i.Device, i.State, mib(i.RSS), mib(i.Swap), fmt.Sprintf("%d B", i.Ledger), fmt.Sprintf("%d B", i.Outstanding), used})
	}
	return w.Render() + "\n" + m.Render()
}

// codes are counts by code, as words.
func codes(counts map[string]int) string {
	if len(counts) == 0 {
		return "0"
	}
	var words []string
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[code], code))
	}
	return strings.Join(words, ", ")
}

// printSummary prints what a run saw.
func printSummary(out io.Writer, s *stress.Summary) {
	fmt.Fprintf(out, "%d requests in %s: %d succeeded, failed %s, %d cancelled, %d expired; %d retried, %d fell back; %.1f a second, p50 %.0f ms, p99 %.0f ms; %d runner processes\n",
		s.Done, s.Elapsed.Round(100*time.Millisecond), s.Succeeded, codes(s.Failed), s.Cancelled, s.Expired, s.Retried, s.FellBack, s.PerSecond, s.P50MS, s.P99MS, s.Processes)
	injected := map[string]int{}
	for kind, n := range s.Injected {
		injected[string(kind)] = n
	}
	fmt.Fprintf(out, "faults and cancels: %s; %d more came too late or could not be\n", codes(injected), s.Missed)
	w := table.NewWriter()
	w.SetStyle(table.StyleLight)
	w.AppendHeader(table.Row{"check", "", "found"})
	w.SetColumnConfigs([]table.ColumnConfig{{Number: 3, WidthMax: 100, WidthMaxEnforcer: text.WrapSoft}})
	for _, c := range s.Checks {
		verdict := "ok"
		switch {
		case !c.OK:
			verdict = "DRIFT"
		case !c.Judged:
			verdict = "-"
		}
		w.AppendRow(table.Row{c.Name, verdict, c.Detail})
	}
	fmt.Fprintln(out, w.Render())
	const most = 20
	for i, r := range s.Problems {
		if i == most {
			fmt.Fprintf(out, "and %d more\n", len(s.Problems)-most)
			break
		}
		fmt.Fprintf(out, "%s (%s, %s, %d steps, %s): %s\n", r.ID, r.Kind, r.Size, r.Steps, r.Device, r.Problem)
	}
}
