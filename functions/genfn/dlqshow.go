package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"genfn/events"
	"genfn/events/broker"
)

// deadLetterStory is a dead letter as `dlq show --json` prints it.
type deadLetterStory struct {
	broker.DeadLetter
	Model   string          `json:"model,omitempty"`
	Request json.RawMessage `json:"request,omitempty"` // the data, if they are JSON
}

func newDeadLetterStory(l broker.DeadLetter) deadLetterStory {
	story := deadLetterStory{DeadLetter: l, Model: modelOf(l)}
	if json.Valid(l.Data) {
		story.Request = l.Data
	}
	return story
}

// printDeadLetter tells the whole story of a dead letter in words.
func printDeadLetter(w io.Writer, l broker.DeadLetter) {
	fmt.Fprintf(w, "Request %s of tenant %s failed at %s, %s ago\n", l.ID, l.Tenant, clock(l.EndedAt), ageOf(l.EndedAt))
	fmt.Fprintf(w, "  %s (%s): %s\n", titleOf(l.Error), l.Error.Code, l.Error.Message)
	printErrorDetails(w, l.Error)
	fmt.Fprintf(w, "\nIt was queued at %s as %s\n", clock(l.QueuedAt), l.Subject)
	if l.Deliveries > 0 {
		fmt.Fprintf(w, "  deliveries from there: %d\n", l.Deliveries)
	} else {
		fmt.Fprintln(w, "  fetched from there by no instance")
	}
	printAsked(w, l)
	for _, a := range l.Attempts {
		printAttempt(w, a)
	}
	if len(l.Attempts) == 0 {
		fmt.Fprintln(w, "\nNo attempt was made.")
	}
	for _, r := range l.Replays {
		fmt.Fprintf(w, "\nSent again at %s as %s\n", clock(r.At), r.ID)
	}
}

// printAsked prints what the request asked for, as it came.
func printAsked(w io.Writer, l broker.DeadLetter) {
	if request, err := l.Request(); err == nil {
		fmt.Fprintf(w, "  a %s from %s", request.Type(), request.Source())
		if cause := request.CausationID(); cause != "" {
			fmt.Fprintf(w, ", caused by %s", cause)
		}
		if expiry := request.ExpiryTime(); !expiry.IsZero() {
			fmt.Fprintf(w, ", not wanted after %s", clock(expiry))
		}
		fmt.Fprintf(w, "\n  %s\n", request.Data())
		return
	}
	for _, name := range slices.Sorted(maps.Keys(l.Header)) {
		fmt.Fprintf(w, "  %s: %q\n", name, l.Header[name])
	}
	fmt.Fprintf(w, "  %d bytes: %.300q\n", len(l.Data), l.Data)
}

func printAttempt(w io.Writer, a broker.AttemptRecord) {
	fmt.Fprintf(w, "\nAttempt %d by %s on %s, begun at %s", a.Number, a.Instance, cmp.Or(a.Device, "no device"), clock(a.StartedAt))
	if a.Rung != "" {
		fmt.Fprintf(w, ", with less memory: %s", a.Rung)
	}
	fmt.Fprintf(w, "\n  ended: %s", cmp.Or(a.Cause, "with the request"))
	if len(a.Excluded) > 0 {
		fmt.Fprintf(w, "; not to be tried again on: %v", a.Excluded)
	}
	fmt.Fprintln(w)
	if a.Error != nil {
		fmt.Fprintf(w, "  %s (%s): %s\n", titleOf(a.Error), a.Error.Code, a.Error.Message)
		printErrorDetails(w, a.Error)
	}
}

func titleOf(e *events.Error) string { return cmp.Or(e.Title, e.Code.Title()) }

func clock(t time.Time) string { return t.Local().Format(time.DateTime) }
