package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/top"
)

func newTop(s *settings) *cobra.Command {
	var interval time.Duration
	var count int
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch a running system: instances, who is set aside and why, queues, rates, decisions as they come",
		Long: "Watch a running system on any NATS server or cluster: instances with state, decision and reason, conditions and load; the queue of each model; rates; and decisions as they come. Until Ctrl-C.\n\n" +
			"With --json one object a line for each interval.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond {
				return usageError{fmt.Errorf("--interval %s: expected 100ms or more", interval)}
			}
			if count < 0 {
				return usageError{fmt.Errorf("--count %d: expected 1 or more, or 0 for no end", count)}
			}
			b, err := broker.Connect(s.nats, broker.Options{Name: "genfn top", Credentials: s.creds})
			if err != nil {
				return err
			}
			defer b.Close()
			return s.top(cmd, b, interval, count)
		},
	}
	s.addNATS(cmd)
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "time between two looks")
	cmd.Flags().IntVar(&count, "count", 0, "end after so many looks (default: none)")
	return cmd
}

func (s *settings) top(cmd *cobra.Command, b *broker.Broker, interval time.Duration, count int) error {
	ctx := cmd.Context()
	w, err := top.Watch(ctx, b)
	if err != nil {
		return err
	}
	defer w.Close()
	show := showTop(cmd, s.json)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 1; ; n++ {
		snapshot := w.Snapshot(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // Ctrl-C is how it ends
		}
		if err := show(snapshot); err != nil {
			return err
		}
		if n == count {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// showTop returns what shows a snapshot.
func showTop(cmd *cobra.Command, asJSON bool) func(top.Snapshot) error {
	if asJSON {
		lines := json.NewEncoder(cmd.OutOrStdout())
		lines.SetEscapeHTML(false)
		return func(s top.Snapshot) error {
			if err := lines.Encode(s); err != nil {
				return errors.Join(errors.New("the output cannot be written"), err)
			}
			return nil
		}
	}
	out := newScreen(cmd.OutOrStdout())
	var recent []events.Decision
	return func(s top.Snapshot) error {
		recent = append(recent, s.Decisions...)
		recent = recent[max(0, len(recent)-recentDecisions):]
		width, _ := out.size()
		out.draw(topDrawn(s, recent, width))
		return nil
	}
}

// recentDecisions is how many of the last decisions are shown.
const recentDecisions = 8

// topDrawn is a snapshot for people, cut at a width; 0: not cut.
func topDrawn(s top.Snapshot, recent []events.Decision, width int) string {
	leader := "no health controller"
	if s.Leader != "" {
		leader = "controller " + s.Leader
	}
	r := s.Rates
	parts := []string{
		fmt.Sprintf("%s  %s, %s", s.At.Local().Format(time.TimeOnly), s.NATS, leader),
		fmt.Sprintf("a second: %.1f published, %.1f succeeded, %.1f failed, %.1f cancelled, %.1f expired", r.Published, r.Succeeded, r.Failed, r.Cancelled, r.Expired),
	}
	if s.Problem != "" {
		parts = append(parts, "not up to date: "+oneLine(s.Problem))
	}
	parts = append(parts, topInstances(s, width), topQueue(s.Queue, width))
	for _, i := range s.Instances {
		parts = append(parts, topTrouble(i)...)
	}
	if len(recent) > 0 {
		parts = append(parts, "decisions:")
		for _, d := range slices.Backward(recent) {
			parts = append(parts, "  "+d.At.Local().Format(time.TimeOnly)+"  "+describeDecision(d))
		}
	}
	lines := strings.Split(strings.Join(parts, "\n"), "\n")
	for i := range lines {
		if width > 0 {
			lines[i] = text.Trim(lines[i], width)
		}
	}
	return strings.Join(lines, "\n")
}

func newTable(width int, header ...any) table.Writer {
	w := table.NewWriter()
	w.SetAllowedRowLength(width)
	w.SetStyle(table.StyleLight)
	w.AppendHeader(header)
	return w
}

func topInstances(s top.Snapshot, width int) string {
	w := newTable(width, "instance", "device", "takes", "state", "decision", "since", "by", "busy", "done", "a minute", "faults", "rss", "device memory", "canary")
	for _, i := range s.Instances {
		takes, decision, since, by := "no", "-", "-", "-"
		if i.Takes {
			takes = "yes"
		}
		if d := i.Decision; d != nil {
			decision, since, by = d.State, s.At.Sub(d.At).Round(time.Second).String(), d.DecidedBy
		}
		memory, canary := "-", "-"
		if i.DeviceTotal != nil && i.DeviceUsed != nil {
			memory = mib(*i.DeviceUsed) + " of " + mib(*i.DeviceTotal)
		}
		if c := i.LastCanary; c != nil {
			canary = "ok"
			if !c.Passed {
				canary = "FAILED"
			}
			canary += " " + s.At.Sub(c.At).Round(time.Second).String() + " ago"
		}
		w.AppendRow(table.Row{
			i.Instance, i.Device, takes, i.State, decision, since, by, fmt.Sprintf("%d/%d", i.Busy, i.Slots), i.Generations, fmt.Sprintf("%.1f", i.PerMinute), i.Faults, mib(i.RSS), memory, canary,
		})
	}
	return w.Render()
}

func topQueue(q top.Queue, width int) string {
	w := newTable(width, "model", "waiting", "by lane", "batch", "taken", "served by", "CPUs from")
	for _, m := range q.Models {
		from := "-"
		if m.MinPending > 0 {
			from = fmt.Sprintf("%d waiting", m.MinPending)
		}
		w.AppendRow(table.Row{m.Model, m.Waiting, counts(m.Lanes), m.Batch, m.Taken, counts(m.Serve), from})
	}
	oldest := "-"
	if q.OldestMS > 0 {
		oldest = (time.Duration(q.OldestMS) * time.Millisecond).Round(100*time.Millisecond).String() + " old"
	}
	w.AppendFooter(table.Row{"all", q.Requests, oldest})
	return w.Render()
}

// counts are numbers by word, as words.
func counts[N int | int64](n map[string]N) string {
	var words []string
	for _, word := range slices.Sorted(maps.Keys(n)) {
		words = append(words, fmt.Sprintf("%s %d", word, n[word]))
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ", ")
}

// topTrouble says why an instance takes no requests, and what else is not as it should be.
func topTrouble(i top.Instance) (lines []string) {
	if i.State != events.StateReady {
		lines = append(lines, fmt.Sprintf("%s: %s (%s) %s", i.Instance, i.State, i.Reason, oneLine(i.Message)))
	}
	if d := i.Decision; d != nil && d.State != events.StateReady && d.State != events.StateGone {
		lines = append(lines, describeDecision(*d)+next(*d, nil))
	}
	for _, c := range i.Conditions {
		lines = append(lines, fmt.Sprintf("%s: %s (%s): %s", i.Instance, c.Type, c.Level, oneLine(c.Message)))
	}
	if f := i.LastFault; f != nil && !i.Takes {
		lines = append(lines, fmt.Sprintf("%s: last fault at %s, %s: %s", i.Instance, f.At.Local().Format(time.TimeOnly), f.Cause, oneLine(problem(f.Error))))
	}
	return lines
}
