package controller

import (
	"time"

	"genfn/events"
)

// Input is one observation, or an operator's command, or nothing but the time. Of its pointers at most one is set.
type Input struct {
	At      time.Time `json:"at"` // by the clock of the controller
	Status  *Status   `json:"status,omitempty"`
	Canary  *Canary   `json:"canary,omitempty"`
	Command *Command  `json:"command,omitempty"`
}

// Status is what decisions depend on of a heartbeat or a changed condition.
type Status struct {
	Instance    string   `json:"instance"`
	Incarnation string   `json:"incarnation,omitempty"`
	Sequence    uint64   `json:"sequence,omitempty"`
	State       string   `json:"state"`
	Reason      string   `json:"reason,omitempty"`
	Message     string   `json:"message,omitempty"`
	Models      []string `json:"models,omitempty"`
	Faults      int64    `json:"faults,omitempty"`
	Generations int64    `json:"generations,omitempty"`
	LastFault   string   `json:"last_fault,omitempty"` // in words
	Obeys       uint64   `json:"obeys,omitempty"`      // number of the decision; 0: none
}

// StatusOf is what decisions depend on of a device's status.
func StatusOf(s events.DeviceStatus) *Status {
	out := &Status{
		Instance: s.Instance, Incarnation: s.Incarnation, Sequence: s.Sequence, State: s.State, Reason: s.Reason, Message: s.Message,
		Models: s.Models, Faults: s.FaultCount, Generations: s.GenerationCount,
	}
	if n := len(s.LastFaults); n > 0 {
		f := s.LastFaults[n-1]
		out.LastFault = f.Cause + ": " + describe(f.Error)
	}
	if s.Obeys != nil {
		out.Obeys = s.Obeys.Number
	}
	return out
}

// Canary is what decisions depend on of a completed canary.
type Canary struct {
	Instance    string `json:"instance"`
	Incarnation string `json:"incarnation,omitempty"`
	Sequence    uint64 `json:"sequence,omitempty"`
	Decision    uint64 `json:"decision,omitempty"` // that asked for it; 0: none did
	Passed      bool   `json:"passed"`
	Message     string `json:"message"`
}

// CanaryOf is what decisions depend on of a completed canary.
func CanaryOf(c events.Canary) *Canary {
	what := "a validation"
	if c.Model != "" {
		what = "a small generation of " + c.Model
	}
	out := &Canary{Instance: c.Instance, Incarnation: c.Incarnation, Sequence: c.Sequence, Decision: c.Decision, Passed: c.Passed, Message: what + " was right"}
	if !c.Passed {
		out.Message = what + " failed: " + describe(c.Error)
	}
	return out
}

func describe(e *events.Error) string {
	const most = 300
	if e == nil {
		return "no error was given"
	}
	text := e.Title + ": " + e.Message
	return string([]rune(text)[:min(len([]rune(text)), most)])
}

// Command is what an operator asks for.
type Command struct {
	Instance string `json:"instance"`
	Command  string `json:"command"` // events.CommandAdmit and so on
	Reason   string `json:"reason"`
	By       string `json:"by"`
}
