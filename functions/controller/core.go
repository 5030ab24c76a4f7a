package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"genfn/events"
)

// Reasons of decisions: one word each, for programs.
const (
	ReasonJoined       = "joined"        // it is heard of for the first time
	ReasonFault        = "fault"         // it suspects itself
	ReasonProved       = "proved"        // it proved itself
	ReasonOwnStop      = "own_stop"      // it has stopped itself
	ReasonFlapping     = "flapping"      // it suspects itself again and again
	ReasonFaultRate    = "fault_rate"    // it finds itself well, but too much fails on it
	ReasonCanaryFailed = "canary_failed" // its numbers are wrong, or it did not make any
	ReasonProofTimeout = "proof_timeout" // it was asked to prove itself and did not
	ReasonBackOff      = "back_off_over" // it may prove itself
	ReasonSilent       = "silent"        // it is not heard of any more
	ReasonHeardAgain   = "heard_again"   // what was decided before it fell silent is in force again
	ReasonOperator     = "operator"      // somebody asked for it
)

// Suspicions are the reasons that are no certainty: for these an instance is not set aside while it is the last that
// serves a model.
func Suspicions() []string { return []string{ReasonFlapping, ReasonFaultRate} }

// Core decides. It is a pure state machine: the same inputs after the same start give the same decisions. Not safe for
// concurrent use.
//
// Its time is the sum of the steps between inputs, each bounded by Policy.MaxStep and none negative, so a clock that
// jumps neither ends a back-off early nor makes everybody silent at once.
type Core struct {
	start Start
	clock time.Duration // since the start, by its own time
	last  time.Time     // of the last input
	all   map[string]*record
	names []string // sorted, so that the order of decisions does not depend on that of maps

	out       []events.Decision
	forgotten []string
}

// Start is everything a Core depends on beside its inputs.
type Start struct {
	Policy  Policy            `json:"policy"`
	By      string            `json:"by"`   // who decides, as decisions tell it
	Term    uint64            `json:"term"` // of the leader
	At      time.Time         `json:"at"`
	InForce []events.Decision `json:"in_force"` // by earlier leaders
}

// record is what is known of an instance. Times are the core's.
type record struct {
	decision events.Decision // in force
	status   Status          // the last; of its zero value only the instance's decision is known
	former   string          // the incarnation before
	heard    time.Duration   // of the last sign of life
	since    time.Duration   // of the decision's state
	retry    time.Duration   // shed, quarantined: when it may prove itself; endless: never
	suspects []time.Duration // when it suspected itself, within the window
	faults   []sample        // what it counted, within the window, the oldest first
	pending  string          // the suspicion for which it is not set aside because it is the last of a model; "": none
}

// sample is what an instance had counted at a time.
type sample struct {
	at                  time.Duration
	faults, generations int64
}

const endless = time.Duration(1<<63 - 1)

// NewCore returns a core that has yet heard of nobody but through the decisions in force.
func NewCore(s Start) *Core {
	s.Policy = s.Policy.withDefaults()
	c := &Core{start: s, last: s.At, all: map[string]*record{}}
	for _, d := range s.InForce {
		r := c.add(d.Instance)
		r.decision = d
		r.retry = c.restoredRetry(d)
	}
	return c
}

// restoredRetry is when an instance may prove itself by an earlier leader's decision. The clocks of two leaders may be
// apart, so it is never later than the whole pause from now.
func (c *Core) restoredRetry(d events.Decision) time.Duration {
	if d.RetryAt == nil {
		return endless
	}
	pause := c.start.Policy.pause(d.Sheds)
	if d.State == events.StateQuarantined || d.Previous == events.StateQuarantined {
		pause = c.start.Policy.Quarantine
	}
	return min(max(d.RetryAt.Sub(c.start.At), 0), pause)
}

func (c *Core) add(name string) *record {
	r := &record{heard: c.clock, since: c.clock, retry: endless}
	r.decision.Instance = name
	c.all[name] = r
	i, _ := slices.BinarySearch(c.names, name)
	c.names = slices.Insert(c.names, i, name)
	return r
}

// InForce returns the decisions in force, by the names of the instances.
func (c *Core) InForce() []events.Decision {
	out := make([]events.Decision, 0, len(c.names))
	for _, name := range c.names {
		out = append(out, c.all[name].decision)
	}
	return out
}

// Count returns how many instances are in each state, by the decisions in force.
func (c *Core) Count() map[string]int {
	n := map[string]int{}
	for _, r := range c.all {
		n[r.decision.State]++
	}
	return n
}

// Forgotten returns the instances that the last input made the core forget: no decision on them is in force.
func (c *Core) Forgotten() []string { return c.forgotten }

// Apply takes an input and returns the decisions that follow, in order. The error is about a command that cannot be
// followed; there are no decisions then.
func (c *Core) Apply(in Input) ([]events.Decision, error) {
	if step := in.At.Sub(c.last); step > 0 {
		c.clock += min(step, c.start.Policy.MaxStep)
	}
	c.last, c.out, c.forgotten = in.At, nil, nil
	var err error
	switch {
	case in.Status != nil:
		c.hear(*in.Status)
	case in.Canary != nil:
		c.judgeCanary(*in.Canary)
	case in.Command != nil:
		err = c.command(*in.Command)
	default:
		c.tick()
	}
	return c.out, err
}

// ruling is what is to be decided.
type ruling struct {
	state, reason, message string
	evidence               []events.Evidence
	by                     string        // "": the controller
	pause                  time.Duration // shed, quarantined: until it may prove itself; 0: endless
}

// decide puts a decision into force.
func (c *Core) decide(r *record, d ruling) {
	was := r.decision
	next := events.Decision{
		Instance: was.Instance, Number: was.Number + 1, Term: c.start.Term, State: d.state, Previous: was.State,
		Reason: d.reason, Message: d.message, Evidence: d.evidence, DecidedBy: d.by, At: c.last, Sheds: was.Sheds, FailedProofs: was.FailedProofs,
	}
	if d.by == "" {
		next.DecidedBy = c.start.By
	}
	switch {
	case d.pause > 0:
		r.retry = c.clock + d.pause
		at := c.last.Add(d.pause)
		next.RetryAt = &at
	case d.state == events.StateGone: // the pause goes on meanwhile
		next.RetryAt = was.RetryAt
	default:
		r.retry = endless
	}
	if d.state != was.State {
		r.since = c.clock
	}
	r.decision = next
	if d.state != events.StateReady && d.state != events.StateSuspect {
		r.pending = ""
	}
	c.out = append(c.out, next)
}

// admit takes an instance back.
func (c *Core) admit(r *record, reason, message string, evidence ...events.Evidence) {
	r.decision.FailedProofs = 0
	c.decide(r, ruling{state: events.StateReady, reason: reason, message: message, evidence: evidence})
}

// shed sets an instance aside, for longer each time.
func (c *Core) shed(r *record, reason, message string, evidence ...events.Evidence) {
	r.decision.Sheds++
	r.suspects, r.faults = nil, nil
	c.decide(r, ruling{state: events.StateShed, reason: reason, message: message, evidence: evidence, pause: c.start.Policy.pause(r.decision.Sheds)})
}

// failedProof sets an instance aside that did not prove itself, in the end for long.
func (c *Core) failedProof(r *record, reason, message string, evidence ...events.Evidence) {
	r.decision.FailedProofs++
	if r.decision.FailedProofs < c.start.Policy.QuarantineAfter {
		c.shed(r, reason, message, evidence...)
		return
	}
	c.quarantine(r, reason, fmt.Sprintf("%d proofs failed in a row. The last: %s", r.decision.FailedProofs, message), evidence...)
}

func (c *Core) quarantine(r *record, reason, message string, evidence ...events.Evidence) {
	r.decision.Sheds++
	c.decide(r, ruling{state: events.StateQuarantined, reason: reason, message: message, evidence: evidence, pause: c.start.Policy.Quarantine})
}

func (c *Core) evidence(kind, format string, args ...any) events.Evidence {
	return events.Evidence{At: c.last, Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// spare reports whether every model of an instance is served by another one that is admitted and well; if not, model
// is one that is not.
func (c *Core) spare(r *record) (model string, ok bool) {
	for _, model := range r.status.Models {
		other := func(name string) bool {
			o := c.all[name]
			return o != r && c.serves(o) && slices.Contains(o.status.Models, model)
		}
		if !slices.ContainsFunc(c.names, other) {
			return model, false
		}
	}
	return "", true
}

// serves reports whether an instance takes requests, by its own word and by what is in force.
func (c *Core) serves(r *record) bool {
	return r.decision.State == events.StateReady && r.status.State == events.StateReady
}

// command follows an operator, who need not mind capacity.
func (c *Core) command(cmd Command) error {
	r := c.all[cmd.Instance]
	if r == nil || r.decision.State == events.StateGone {
		return c.noInstance(cmd.Instance)
	}
	model, spare := c.spare(r)
	d := ruling{reason: ReasonOperator, message: cmd.Reason, by: cmd.By}
	switch cmd.Command {
	case events.CommandAdmit:
		r.decision.Sheds, r.decision.FailedProofs = 0, 0
		r.suspects, r.faults, r.pending = nil, nil, ""
		d.state = events.StateReady
		if r.status.State != events.StateReady { // its own stop wins until it has proved itself
			d.state = events.StateProbation
		}
		c.decide(r, d)
		return nil
	case events.CommandShed:
		r.decision.Sheds++
		d.state, d.pause = events.StateShed, c.start.Policy.pause(r.decision.Sheds)
	case events.CommandDrain:
		d.state = events.StateDraining
	case events.CommandQuarantine:
		d.state = events.StateQuarantined
	default:
		e := events.Errorf(events.CodeInvalidRequest, "found the command %q", cmd.Command)
		e.Field, e.Expected = "/command", "one of "+strings.Join(events.Commands(), ", ")
		return e
	}
	if !spare {
		d.evidence = []events.Evidence{c.evidence("capacity", "no other instance serves the model %s now", model)}
	}
	c.decide(r, d)
	return nil
}

func (c *Core) noInstance(name string) error {
	var known []string
	for _, n := range c.names {
		if c.all[n].decision.State != events.StateGone {
			known = append(known, n)
		}
	}
	e := events.Errorf(events.CodeInvalidRequest, "no living instance has the name %q", name)
	e.Field, e.Expected = "instance", "one of "+strings.Join(known, ", ")
	if len(known) == 0 {
		e.Expected = "the name of a living instance; there is none"
	}
	return e
}
