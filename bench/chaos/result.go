package chaos

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
	"genfn/events/broker"
)

// Result is what a run saw.
type Result struct {
	Seed     uint64
	Replicas int
	NotRun   []string // actions that could not be done here, and why

	Published  []Published
	Outcomes   map[string]int // by kind and end of requests
	Done       map[Action]int
	Retried    int // requests with several attempts
	Findings   []Finding
	Panics     []string // of the processes
	Histories  string   // of requests with findings
	Longest    time.Duration
	LongestOf  string          // whose that was
	Waits      []time.Duration // from the first try to publish to the stored terminal event
	Elapsed    time.Duration   // until the queue was empty
	Recoveries []Recovery
	Faults     int // of the GPU
	Touched    int // requests that had several attempts on the sick GPU in one fault
}

// Recovery is a request that left an instance because of a fault and went on on another, by the times in its events.
// Loading the model there comes after it.
type Recovery struct {
	First   time.Duration // from the first fault that was told until a runner of the other instance had the request
	Decided time.Duration // of that: from the decision to give it away, after whatever the device was allowed to try
}

// Count returns how many requests broke a rule.
func (r *Result) Count(rules ...Rule) int {
	ids := map[string]bool{}
	for _, f := range r.Findings {
		if len(rules) == 0 || slices.Contains(rules, f.Rule) {
			ids[f.ID] = true
		}
	}
	return len(ids)
}

// Broken reports whether anything is wrong.
func (r *Result) Broken() bool { return len(r.Findings)+len(r.Panics) > 0 }

// Lost returns how many requests were lost.
func (r *Result) Lost() int { return r.Count(RuleLost, RuleQueued) }

// Twice returns how many requests were answered twice.
func (r *Result) Twice() int { return r.Count(RuleTwice) }

func (r *Result) judge(e *evidence, faults []episode) {
	r.Findings = e.check()
	r.Outcomes = map[string]int{}
	for _, p := range e.published {
		r.Outcomes[string(p.Kind)+": "+e.outcome(p)]++
		if len(e.attempts[p.ID]) > 1 {
			r.Retried++
		}
		if t := e.terminals[p.ID]; len(t) > 0 {
			wait := t[0].stored.Sub(p.At)
			r.Waits = append(r.Waits, wait)
			if wait > r.Longest {
				r.Longest, r.LongestOf = wait, fmt.Sprintf("%s, %s, model %s, device %q, attempts %d", p.ID, p.Kind, p.Model, p.Device, len(e.attempts[p.ID]))
			}
		}
		if x, ok := recovery(e.stories[p.ID]); ok {
			r.Recoveries = append(r.Recoveries, x)
		}
	}
	r.Faults, r.Touched = len(faults), e.touched(faults)
}

// outcome is how a request ended, with the code of a failure.
func (e *evidence) outcome(p Published) string {
	t := e.terminals[p.ID]
	switch {
	case len(t) == 0 && !p.Stored:
		return "refused, not stored"
	case len(t) == 0:
		return "nothing"
	case t[0].broken != nil:
		return "unreadable"
	}
	words := strings.Split(t[0].event.Type(), ".")
	end := words[max(0, len(words)-2)]
	if failed, err := events.Payload[events.Failed](t[0].event); err == nil && t[0].event.Type() == events.TypeFailed {
		end += " " + string(failed.Error.Code)
	}
	return end
}

// recovery finds in the events of a request that it went from one instance to another because of a fault.
func recovery(story []events.Event) (r Recovery, ok bool) {
	story = slices.Clone(story)
	slices.SortStableFunc(story, func(a, b events.Event) int {
		return cmp.Or(a.Attempt()-b.Attempt(), a.Sequence()-b.Sequence())
	})
	var first, decided time.Time
	var on string
	for _, e := range story {
		switch e.Type() {
		case events.TypeProgress:
			p, err := events.Payload[events.Progress](e)
			if err != nil || p.Notice == nil {
				continue
			}
			if p.Notice.Code == events.NoticeFault && first.IsZero() {
				first, on = e.Time(), p.Instance
			}
			if p.Notice.Code == events.NoticeFallback {
				decided = e.Time()
			}
		case events.TypeStarted:
			s, err := events.Payload[events.Started](e)
			if err == nil && s.Instance != on && !first.IsZero() && !decided.IsZero() {
				return Recovery{First: e.Time().Sub(first), Decided: e.Time().Sub(decided)}, true
			}
		}
	}
	return r, false
}

// touched counts requests that had several attempts on the GPU end by its fault while one fault lasted.
func (e *evidence) touched(faults []episode) (n int) {
	for _, f := range faults {
		for _, records := range e.attempts {
			hits := 0
			for _, r := range records {
				if r.Instance == gpuInstance && byDevice(r) && r.StartedAt.After(f.began) && r.StartedAt.Before(f.over) {
					hits++
				}
			}
			if hits > 1 {
				n++
			}
		}
	}
	return n
}

// maxHistories bounds how many requests a failing run tells of.
const maxHistories = 5

// tellHistories reads the histories of the requests with findings.
func (r *Result) tellHistories(ctx context.Context, s *system) error {
	if len(r.Findings) == 0 {
		return nil
	}
	b, err := s.connect("history")
	if err != nil {
		return err
	}
	defer b.Close()
	js, err := jetstream.New(b.Conn())
	if err != nil {
		return err
	}
	var out strings.Builder
	told := map[string]bool{}
	for _, f := range r.Findings {
		if !told[f.ID] && len(told) < maxHistories {
			told[f.ID] = true
			if err := writeHistory(ctx, &out, js, f.ID, r.Published); err != nil {
				return err
			}
		}
	}
	r.Histories = out.String()
	return nil
}

// writeHistory tells all that is known of a request, in the order in which it was stored: what was published, its queue
// entry, attempts, events, terminal event and dead letters.
func writeHistory(ctx context.Context, w io.Writer, js jetstream.JetStream, id string, published []Published) error {
	fmt.Fprintf(w, "history of %s\n", id)
	for _, p := range published {
		if p.ID == id {
			fmt.Fprintf(w, "  %s  published  %+v\n", p.At.UTC().Format(clock), p)
		}
	}
	var lines []string
	for _, stream := range []string{broker.StreamRequests, broker.StreamAttempts, broker.StreamEvents, broker.StreamTerminals, broker.StreamDeadLetters} {
		err := each(ctx, js, stream, func(m message) error {
			if tokens := strings.Split(m.subject, "."); slices.Contains(tokens, id) {
				lines = append(lines, fmt.Sprintf("  %s  %-8s %s %v\n      %s\n", m.stored.UTC().Format(clock), stream, m.subject, m.header, m.data))
			}
			return nil
		})
		if err != nil {
			lines = append(lines, fmt.Sprintf("  %s cannot be read: %v\n", stream, err))
		}
	}
	slices.Sort(lines)
	_, err := io.WriteString(w, strings.Join(lines, ""))
	return err
}

const clock = "15:04:05.000000"

// Write prints the result.
func (r *Result) Write(w io.Writer) {
	fmt.Fprintf(w, "R%d, seed %d: lost %d, answered twice %d\n", r.Replicas, r.Seed, r.Lost(), r.Twice())
	fmt.Fprintf(w, "  %d requests in %s, %d with several attempts, the longest wait %s (%s)\n", len(r.Published), r.Elapsed.Round(time.Second/10), r.Retried, r.Longest.Round(time.Millisecond), r.LongestOf)
	for _, name := range slices.Sorted(maps.Keys(r.Outcomes)) {
		fmt.Fprintf(w, "  %6d  %s\n", r.Outcomes[name], name)
	}
	for _, a := range Actions() {
		if r.Done[a] > 0 {
			fmt.Fprintf(w, "  %6d  %s\n", r.Done[a], a)
		}
	}
	for _, line := range r.NotRun {
		fmt.Fprintf(w, "  NOT RUN  %s\n", line)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "  BROKEN  %s: %s: %s\n", f.ID, f.Rule, f.Text)
	}
	for _, line := range r.Panics {
		fmt.Fprintf(w, "  PANIC  %s\n", line)
	}
	fmt.Fprint(w, r.Histories)
}
