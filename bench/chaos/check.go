package chaos

import (
	"fmt"
	"maps"
	"slices"

	"genfn/events"
	"genfn/events/broker"
)

// Rule is a promise that is checked.
type Rule string

// The rules.
const (
	RuleLost     Rule = "lost"
	RuleTwice    Rule = "answered twice"
	RuleUnasked  Rule = "answered though never published"
	RuleOutcome  Rule = "ended otherwise than it may"
	RuleArtefact Rule = "artefact missing"
	RuleChecksum Rule = "artefact with other bytes"
	RuleCause    Rule = "attempt without a cause"
	RuleDead     Rule = "dead letter of a request that can be read"
	RuleNotDead  Rule = "unreadable request without a dead letter"
	RuleQueued   Rule = "left in the queue"
)

// Finding is a promise that was broken.
type Finding struct {
	ID   string `json:"id"`
	Rule Rule   `json:"rule"`
	Text string `json:"text"`
}

// check looks at every request.
func (e *evidence) check() []Finding {
	var out []Finding
	asked := map[string]bool{}
	for _, p := range e.published {
		asked[p.ID] = true
		find := func(rule Rule, format string, args ...any) {
			out = append(out, Finding{p.ID, rule, fmt.Sprintf(format, args...)})
		}
		e.checkAnswers(p, find)
		e.checkAttempts(p, find)
		e.checkDeadLetters(p, find)
		if e.queued[p.ID] {
			find(RuleQueued, "it is still in the queue")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.terminals)) {
		if !asked[id] {
			out = append(out, Finding{id, RuleUnasked, fmt.Sprintf("%d terminal events", len(e.terminals[id]))})
		}
	}
	return out
}

type find func(rule Rule, format string, args ...any)

// checkAnswers: exactly one terminal event, of a kind that the request may have, with files that are there. A request
// whose storing was never confirmed may have none.
func (e *evidence) checkAnswers(p Published, find find) {
	stored, heard := e.terminals[p.ID], e.answers[p.ID]
	switch {
	case len(stored) == 0 && p.Stored:
		find(RuleLost, "it was published and has no terminal event")
	case len(stored) == 0 && len(heard) > 0:
		find(RuleLost, "an answer was heard, and no terminal event is stored")
	case len(stored) > 1:
		find(RuleTwice, "%d terminal events are stored", len(stored))
	case len(heard) > 1:
		find(RuleTwice, "%d different answers were heard", len(heard))
	}
	for _, t := range stored {
		if t.broken != nil {
			find(RuleOutcome, "its terminal event cannot be read: %v", t.broken)
			continue
		}
		e.checkOutcome(p, t.event, find)
	}
}

// checkOutcome: healthy requests may succeed, or fail by what the storm does; others end as they must.
func (e *evidence) checkOutcome(p Published, t events.Event, find find) {
	switch t.Type() {
	case events.TypeSucceeded:
		if p.Kind == Invalid || p.Kind == Unreadable {
			find(RuleOutcome, "it succeeded, though it could not")
		}
		result, err := events.Payload[events.Succeeded](t)
		if err != nil {
			find(RuleOutcome, "its result cannot be read: %v", err)
			return
		}
		e.checkArtefacts(p, result, find)
	case events.TypeFailed:
		failed, err := events.Payload[events.Failed](t)
		if err != nil {
			find(RuleOutcome, "its failure cannot be read: %v", err)
			return
		}
		if !mayFail(p.Kind, failed.Error.Code) {
			find(RuleOutcome, "it failed: %v", failed.Error)
		}
	case events.TypeCancelled:
		if p.Kind != Cancelled {
			find(RuleOutcome, "it was cancelled, though nobody asked for it")
		}
	case events.TypeExpired:
		if p.Kind != Expiring {
			find(RuleOutcome, "it expired, though it had no deadline")
		}
	default:
		find(RuleOutcome, "it ended with %s", t.Type())
	}
}

// mayFail reports whether a request of a kind may fail with a code. A storm explains faults of instances and devices,
// not that a good request is refused.
func mayFail(k Kind, code events.Code) bool {
	switch code {
	case events.CodeInvalidRequest:
		return k == Invalid || k == Unreadable
	case events.CodeDeadlineExceeded:
		return k == Expiring
	case events.CodeModelNotFound, events.CodeModelInvalid, events.CodeCancelled, events.CodeQueueFull, events.CodePermissionDenied:
		return false
	}
	return k != Invalid && k != Unreadable
}

func (e *evidence) checkArtefacts(p Published, r events.Succeeded, find find) {
	if len(r.Artifacts) != p.Count {
		find(RuleArtefact, "%d files, expected %d", len(r.Artifacts), p.Count)
	}
	for _, a := range r.Artifacts {
		switch o, ok := e.objects[a.Ref.Object]; {
		case !ok:
			find(RuleArtefact, "%s is not in the object store", a.Ref.Object)
		case o.sha256 != a.Ref.SHA256 || o.size != a.Ref.Size:
			find(RuleChecksum, "%s has %d bytes with SHA-256 %s, expected %d with %s", a.Ref.Object, o.size, o.sha256, a.Ref.Size, a.Ref.SHA256)
		}
	}
}

// checkAttempts: it is recorded why each attempt ended. The cause of one whose instance died is found by the next. The
// last one needs none if the terminal event is its own, or that of somebody who ended the request over its head.
func (e *evidence) checkAttempts(p Published, find find) {
	records := e.attempts[p.ID]
	own, ended := 0, false
	for _, t := range e.terminals[p.ID] {
		if t.broken == nil {
			own, ended = t.event.Attempt(), t.event.Type() != events.TypeSucceeded
		}
	}
	for i, r := range records {
		last := i == len(records)-1
		switch {
		case r.Cause != "", last && (r.Number == own || ended), !last && (records[i+1].CausePrevious != "" || r.Number == own):
		default:
			find(RuleCause, "attempt %d on %s, begun at %s, does not tell how it ended", r.Number, r.Instance, r.StartedAt.Format("15:04:05.000"))
		}
	}
}

func (e *evidence) checkDeadLetters(p Published, find find) {
	switch n := e.dead[p.ID]; {
	case n > 0 && p.Kind != Unreadable:
		find(RuleDead, "%d dead letters", n)
	case n == 0 && p.Kind == Unreadable && len(e.terminals[p.ID]) > 0:
		find(RuleNotDead, "it was answered, and nobody can look at what it was")
	}
}

// byDevice reports whether an attempt ended by a fault of its device or of its runner.
func byDevice(r broker.AttemptRecord) bool {
	return slices.Contains([]string{"device_fault", "out_of_memory", "device_transient", "device_unfit", "runner_crash", "hang"}, r.Cause)
}
