package controller

import "time"

// Policy says how much an instance is forgiven. A zero field takes its default.
type Policy struct {
	SilentAfter  time.Duration `json:"silent_after"`  // an instance that is not heard of for so long is gone; 0: 10 s
	ForgetAfter  time.Duration `json:"forget_after"`  // what is known of an instance that is gone is forgotten; 0: 24 h
	ProofTimeout time.Duration `json:"proof_timeout"` // for the proof of an instance in probation; 0: 10 min

	FlapLimit  int           `json:"flap_limit"`  // suspicions within FlapWindow that shed an instance although it proves itself each time; 0: 4
	FlapWindow time.Duration `json:"flap_window"` // 0: 5 min

	FaultLimit  int           `json:"fault_limit"`  // faults within FaultWindow, not fewer than its generations, that send an instance that finds itself well into probation; 0: 6
	FaultWindow time.Duration `json:"fault_window"` // 0: 1 min

	Backoff         time.Duration `json:"backoff"`          // first pause of a shed instance, doubled each time; 0: 30 s
	MaxBackoff      time.Duration `json:"max_backoff"`      // 0: 10 min
	QuarantineAfter int           `json:"quarantine_after"` // proofs that fail in a row; 0: 6
	Quarantine      time.Duration `json:"quarantine"`       // pause of an instance in quarantine; 0: 1 h
	ResetAfter      time.Duration `json:"reset_after"`      // an instance that was well for so long begins with the first pause again; 0: 15 min

	// MaxStep bounds how much time may pass between two inputs: what is more is a jump of the clock, or this process
	// was stopped, and says nothing about instances; 0: 5 s.
	MaxStep time.Duration `json:"max_step"`
}

func (p Policy) withDefaults() Policy {
	durations := []struct {
		field *time.Duration
		value time.Duration
	}{
		{&p.SilentAfter, 10 * time.Second}, {&p.ForgetAfter, 24 * time.Hour}, {&p.ProofTimeout, 10 * time.Minute},
		{&p.FlapWindow, 5 * time.Minute}, {&p.FaultWindow, time.Minute},
		{&p.Backoff, 30 * time.Second}, {&p.MaxBackoff, 10 * time.Minute}, {&p.Quarantine, time.Hour}, {&p.ResetAfter, 15 * time.Minute},
		{&p.MaxStep, 5 * time.Second},
	}
	for _, d := range durations {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	for field, value := range map[*int]int{&p.FlapLimit: 4, &p.FaultLimit: 6, &p.QuarantineAfter: 6} {
		if *field <= 0 {
			*field = value
		}
	}
	return p
}

// pause is the back-off of an instance that was shed so often.
func (p Policy) pause(sheds int) time.Duration {
	return min(p.Backoff<<min(max(sheds-1, 0), 16), p.MaxBackoff)
}
