package events

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// Types of events about what the health controller and operators decide. They are no answers and have no request.
const (
	// TypeDecision says what was decided on an instance; its data is a Decision.
	TypeDecision = "dev.genfn.instance.decision.v1"
	// TypeCommand asks the controller for a decision on an instance; its data is a Command. It is answered with the decision.
	TypeCommand = "dev.genfn.instance.command.v1"
	// TypeCanary tells how a device proved itself, or that it failed to; its data is a Canary.
	TypeCanary = "dev.genfn.canary.completed.v1"
)

// States that only the controller decides. The others are those of devices: StateReady, StateSuspect, StateShed,
// StateProbation, StateQuarantined.
const (
	StateDraining = "draining" // finishes what it has and takes nothing more until it is admitted
	StateGone     = "gone"     // not heard of any more
)

// Decision is the data of a TypeDecision event: what was decided on an instance, by whom and why. It is in force until
// the next.
type Decision struct {
	Instance     string     `json:"instance"`
	Number       uint64     `json:"number"` // of the decisions on this instance, from 1
	Term         uint64     `json:"term"`   // of the leader that decided; a later leader has a higher one
	State        string     `json:"state"`
	Previous     string     `json:"previous_state,omitempty"`
	Reason       string     `json:"reason"`  // one word
	Message      string     `json:"message"` // the reason for people
	Evidence     []Evidence `json:"evidence,omitempty"`
	DecidedBy    string     `json:"decided_by"`              // a controller or an operator
	At           time.Time  `json:"at"`                      // by the clock of the controller
	RetryAt      *time.Time `json:"retry_at,omitempty"`      // shed and quarantined: when it may prove itself; absent: when an operator admits it
	Sheds        int        `json:"sheds,omitempty"`         // times it was shed since it was last well for long; the back-off doubles with each
	FailedProofs int        `json:"failed_proofs,omitempty"` // in a row
}

// Stops reports whether an instance takes no requests by this decision, whatever it thinks of itself. Decisions that
// only confirm what the instance said of itself stop nothing: it knows better, and sooner.
func (d Decision) Stops() bool {
	switch d.State {
	case StateShed, StateProbation, StateQuarantined, StateDraining:
		return true
	}
	return false
}

// Evidence is something that was observed and speaks for a decision.
type Evidence struct {
	At      time.Time `json:"at"` // when the controller heard of it
	Kind    string    `json:"kind"`
	Message string    `json:"message"`
}

// What operators can ask for.
const (
	CommandAdmit      = "admit"      // take it back; one whose device has stopped itself must prove itself first
	CommandShed       = "shed"       // no more requests until the back-off is over and it has proved itself
	CommandDrain      = "drain"      // finish what it has, and take nothing until it is admitted
	CommandQuarantine = "quarantine" // hand back what it has, and take nothing until it is admitted
)

// Commands returns all that operators can ask for.
func Commands() []string {
	return []string{CommandAdmit, CommandShed, CommandDrain, CommandQuarantine}
}

// Command is the data of a TypeCommand event.
type Command struct {
	Command string `json:"command"` // one of Commands
	Reason  string `json:"reason"`  // for people; recorded with the decision
	By      string `json:"by"`      // who asks
}

// Canary is the data of a TypeCanary event: how a fresh process of a device passed its validation, and its small known
// generation if it had one to make.
type Canary struct {
	Instance    string `json:"instance"`
	Device      string `json:"device"`
	Class       string `json:"class"`
	Incarnation string `json:"incarnation"`        // as in heartbeats
	Sequence    uint64 `json:"sequence"`           // as in heartbeats
	Decision    uint64 `json:"decision,omitempty"` // number of the decision that asked for it; 0: none did
	Model       string `json:"model,omitempty"`    // "": validation only
	Passed      bool   `json:"passed"`
	ElapsedMS   int64  `json:"elapsed_ms"`
	Error       *Error `json:"error,omitempty"` // why it failed

	Against string  `json:"against,omitempty"` // with what the generation was compared last: AgainstReference, AgainstKind, AgainstFirst; "": nothing
	Apart   float64 `json:"apart,omitempty"`   // how far it was from that, relative to the largest value
}

// What the numbers of a canary are compared with.
const (
	AgainstReference = "reference" // what a CPU gave in f32
	AgainstKind      = "kind"      // what another device of the same kind gave
	AgainstFirst     = "first"     // what the device itself gave first
)

// LastCanary is the last canary of a device that made a generation.
type LastCanary struct {
	At        time.Time `json:"at"`
	Model     string    `json:"model"`
	Passed    bool      `json:"passed"`
	ElapsedMS int64     `json:"elapsed_ms"`
	Against   string    `json:"against,omitempty"` // as in Canary
	Apart     float64   `json:"apart,omitempty"`   // as in Canary
}

// InFlight is a request in the hands of an instance.
type InFlight struct {
	Request string    `json:"request"`
	Tenant  string    `json:"tenant"`
	Attempt int       `json:"attempt"`
	Since   time.Time `json:"since"` // of the attempt
	// LeaseUntil is when the instance lets go of the request unless its work makes progress.
	LeaseUntil time.Time `json:"lease_until"`
}

// Obeyed is the decision that an instance obeys.
type Obeyed struct {
	Number uint64 `json:"number"`
	State  string `json:"state"`
}

// Outline is the same for two statuses of an instance as long as nothing has changed that decides who serves what: for
// those who hear very many heartbeats, which else tell of memory and load.
func (s DeviceStatus) Outline() string {
	canary := s.LastCanary
	if canary == nil {
		canary = &LastCanary{}
	}
	sum := sha256.New()
	for _, part := range append([]string{
		s.Instance, s.Incarnation, s.Device, s.Class, s.Kind, s.State, strconv.FormatBool(s.Admitted()), strconv.Itoa(s.Slots), canary.Model, canary.Against,
	}, s.Models...) {
		fmt.Fprintf(sum, "%q", part)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// Admitted reports whether the instance takes requests, or will when it has proved itself after a fault: neither its
// device is set aside nor the controller stops it, nor does it end.
func (s DeviceStatus) Admitted() bool {
	if s.Leaving || s.State == StateShed || s.State == StateQuarantined {
		return false
	}
	return s.Obeys == nil || !Decision{State: s.Obeys.State}.Stops()
}
