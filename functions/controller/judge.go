package controller

import (
	"fmt"
	"slices"
	"time"

	"genfn/events"
	"genfn/functions/device"
)

// current reports whether word of an instance is news, and notes of which incarnation it is. What comes twice or too
// late is not. Instances of older versions do not count what they say.
func (r *record) current(incarnation string, sequence uint64) bool {
	switch {
	case incarnation == "":
		return true
	case incarnation == r.former:
		return false
	case incarnation != r.status.Incarnation:
		r.former = r.status.Incarnation
		r.faults = nil // it counts from 0 again
	case sequence <= r.status.Sequence:
		return false
	}
	r.status.Incarnation, r.status.Sequence = incarnation, sequence
	return true
}

// hear takes the word of an instance on itself.
func (c *Core) hear(s Status) {
	r := c.all[s.Instance]
	if r == nil {
		r = c.add(s.Instance)
	}
	if !r.current(s.Incarnation, s.Sequence) {
		return
	}
	r.heard, r.status = c.clock, s
	switch r.decision.State {
	case "":
		c.admit(r, ReasonJoined, "The instance is heard of for the first time.", c.evidence("status", "its state is %s", s.State))
	case events.StateGone:
		c.returned(r)
	}
	c.judge(r)
}

// returned puts into force again what was before the instance fell silent.
func (c *Core) returned(r *record) {
	d := ruling{state: r.decision.Previous, reason: ReasonHeardAgain, message: "The instance is heard of again."}
	d.evidence = []events.Evidence{c.evidence("status", "its state is %s", r.status.State)}
	switch d.state {
	case events.StateShed, events.StateQuarantined:
		if r.retry != endless {
			d.pause = max(r.retry-c.clock, time.Nanosecond)
		}
	case events.StateProbation: // of what it did meanwhile nobody knows: it proves itself now
	case events.StateDraining:
	default: // it says itself how it is
		d.state = events.StateReady
	}
	c.decide(r, d)
}

// judge decides by what an instance says of itself. Its own stop always wins.
func (c *Core) judge(r *record) {
	own := r.status.State
	said := c.evidence("status", "%s, %s: %s", own, r.status.Reason, r.status.Message)
	switch r.decision.State {
	case events.StateReady, events.StateSuspect:
		switch own {
		case events.StateShed:
			c.shed(r, ReasonOwnStop, "The instance has stopped itself: "+r.status.Reason+".", said)
		case events.StateQuarantined:
			c.quarantine(r, ReasonOwnStop, "The instance has quarantined itself: "+r.status.Reason+".", said)
		case events.StateSuspect, events.StateProbation:
			c.suspect(r, said)
		case events.StateReady:
			if r.decision.State == events.StateSuspect {
				c.admit(r, ReasonProved, "The device has proved itself.", said)
			}
			c.countFaults(r)
		}
	case events.StateProbation:
		if r.status.Obeys != r.decision.Number {
			return // it has not heard of it yet
		}
		switch own {
		case events.StateReady:
			c.admit(r, ReasonProved, "The device has proved itself.", said)
		case events.StateShed, events.StateQuarantined:
			c.failedProof(r, ReasonOwnStop, "The device has not proved itself: "+r.status.Reason+".", said)
		}
	case events.StateShed:
		if own == events.StateQuarantined && r.status.Reason == device.ReasonStuck {
			c.quarantine(r, ReasonOwnStop, "The instance has quarantined itself: "+r.status.Reason+".", said)
		}
	}
}

// suspect confirms that an instance suspects itself, which it is forgiven if it proves itself, but not again and again.
func (c *Core) suspect(r *record, said events.Evidence) {
	if r.decision.State == events.StateSuspect {
		return
	}
	p := c.start.Policy
	r.suspects = append(r.suspects, c.clock)
	r.suspects = slices.DeleteFunc(r.suspects, func(at time.Duration) bool { return c.clock-at > p.FlapWindow })
	fault := c.evidence("fault", "%s", r.status.LastFault)
	if n := len(r.suspects); n >= p.FlapLimit {
		if c.setAside(r, events.StateSuspect, ReasonFlapping, fmt.Sprintf("It suspected itself %d times within %s.", n, p.FlapWindow), said, fault) {
			return
		}
	}
	c.decide(r, ruling{state: events.StateSuspect, reason: ReasonFault, message: "The instance suspects its device, which is to prove itself.", evidence: []events.Evidence{said, fault}})
}

// countFaults suspects an instance that finds itself well although most of its work fails.
func (c *Core) countFaults(r *record) {
	p := c.start.Policy
	now := sample{c.clock, r.status.Faults, r.status.Generations}
	if n := len(r.faults); n == 0 || now.at-r.faults[n-1].at >= p.FaultWindow/30 {
		r.faults = append(r.faults, now)
	}
	r.faults = slices.DeleteFunc(r.faults, func(s sample) bool { return c.clock-s.at > p.FaultWindow })
	if len(r.faults) == 0 || r.decision.State != events.StateReady {
		return
	}
	then := r.faults[0]
	faults, generations := now.faults-then.faults, now.generations-then.generations
	if faults < int64(p.FaultLimit) || faults < generations {
		if r.pending == ReasonFaultRate {
			r.pending = "" // it is over
		}
		return
	}
	c.setAside(r, events.StateReady, ReasonFaultRate, fmt.Sprintf("%d faults and %d generations within %s.", faults, generations, p.FaultWindow), c.evidence("fault", "%s", r.status.LastFault))
}

// setAside sets an instance aside on suspicion, unless it is the last that serves a model. Then it is kept in a state,
// which is told once, and set aside as soon as another serves too. It reports whether it decided anything.
func (c *Core) setAside(r *record, kept, reason, message string, evidence ...events.Evidence) bool {
	if model, ok := c.spare(r); !ok {
		if r.pending == reason {
			return false
		}
		evidence = append(evidence, c.evidence("capacity", "no other instance serves the model %s now", model))
		c.decide(r, ruling{state: kept, reason: reason, message: message + " It is kept because it is the last that serves " + model + ".", evidence: evidence})
		r.pending = reason
		return true
	}
	if reason == ReasonFaultRate { // it does not even suspect itself: let it prove what it thinks
		r.faults = nil
		c.decide(r, ruling{state: events.StateProbation, reason: reason, message: message, evidence: evidence})
		return true
	}
	c.shed(r, reason, message, evidence...)
	return true
}

// judgeCanary decides by the proof of a device.
func (c *Core) judgeCanary(k Canary) {
	r := c.all[k.Instance]
	if r == nil || !r.current(k.Incarnation, k.Sequence) {
		return
	}
	r.heard = c.clock
	if r.decision.State == events.StateGone {
		c.returned(r)
	}
	told := c.evidence("canary", "%s", k.Message)
	switch r.decision.State {
	case events.StateProbation:
		switch {
		case k.Decision != r.decision.Number: // of an earlier proof
		case k.Passed:
			c.admit(r, ReasonProved, "The device has proved itself.", told)
		default:
			c.failedProof(r, ReasonCanaryFailed, "The device has not proved itself.", told)
		}
	case events.StateReady, events.StateSuspect:
		if !k.Passed {
			c.shed(r, ReasonCanaryFailed, "The device has not proved itself.", told)
		}
	}
}

// tick does what time alone decides.
func (c *Core) tick() {
	for _, name := range slices.Clone(c.names) {
		r := c.all[name]
		if r.decision.State == events.StateGone {
			if c.clock-r.since > c.start.Policy.ForgetAfter && (r.retry == endless || c.clock > r.retry) {
				c.forget(name)
			}
			continue
		}
		if silence := c.clock - r.heard; silence > c.start.Policy.SilentAfter {
			silent := c.evidence("silence", "nothing was heard for %s", silence.Round(100*time.Millisecond))
			c.decide(r, ruling{state: events.StateGone, reason: ReasonSilent, message: "The instance is not heard of any more.", evidence: []events.Evidence{silent}})
			continue
		}
		c.due(r)
	}
}

// due decides what the time has come for on a living instance.
func (c *Core) due(r *record) {
	p := c.start.Policy
	switch lasted := c.clock - r.since; r.decision.State {
	case events.StateShed, events.StateQuarantined:
		if c.clock >= r.retry {
			paused := c.evidence("time", "%s for %s, time number %d", r.decision.State, lasted.Round(time.Second), r.decision.Sheds)
			c.decide(r, ruling{state: events.StateProbation, reason: ReasonBackOff, message: "The pause is over, the device may prove itself.", evidence: []events.Evidence{paused}})
		}
	case events.StateProbation:
		if lasted > p.ProofTimeout {
			c.failedProof(r, ReasonProofTimeout, "The device did not prove itself in time.", c.evidence("time", "no proof within %s", p.ProofTimeout))
		}
	case events.StateReady:
		if r.pending == ReasonFlapping {
			c.flapStill(r)
		} else if r.decision.Sheds > 0 && lasted >= p.ResetAfter {
			r.decision.Sheds = 0 // told with the next decision
		}
	}
}

// flapStill sets an instance aside that was kept because it was the last that served a model, if it is not any more.
func (c *Core) flapStill(r *record) {
	p := c.start.Policy
	r.suspects = slices.DeleteFunc(r.suspects, func(at time.Duration) bool { return c.clock-at > p.FlapWindow })
	if n := len(r.suspects); n >= p.FlapLimit {
		c.setAside(r, events.StateReady, ReasonFlapping, fmt.Sprintf("It suspected itself %d times within %s.", n, p.FlapWindow), c.evidence("fault", "%s", r.status.LastFault))
		return
	}
	r.pending = ""
}

func (c *Core) forget(name string) {
	delete(c.all, name)
	i, _ := slices.BinarySearch(c.names, name)
	c.names = slices.Delete(c.names, i, i+1)
	c.forgotten = append(c.forgotten, name)
}
