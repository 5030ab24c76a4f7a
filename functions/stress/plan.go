package stress

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Kind is what is done with a request.
type Kind string

// The kinds.
const (
	Healthy Kind = "healthy"
	Cancel  Kind = "cancel"

	// Faults of requests.
	Invalid      Kind = "invalid"       // a value that no model takes
	UnknownModel Kind = "unknown_model" // nobody serves the model
	Deadline     Kind = "deadline"      // it expires before or while it is worked on

	// Signals to the runner process that works on the request.
	Kill  Kind = "kill"
	Crash Kind = "crash" // SIGSEGV
	Abort Kind = "abort" // SIGABRT
	Hang  Kind = "hang"  // SIGSTOP: found by its silence

	// Faults of a virtual GPU.
	GPULost      Kind = "gpu_lost" // its context is dead
	GPUMemory    Kind = "gpu_memory"
	GPUTransient Kind = "gpu_transient"
	GPUCrash     Kind = "gpu_crash"
)

var (
	requestFaults = []Kind{Invalid, UnknownModel, Deadline}
	signals       = []Kind{Kill, Crash, Abort, Hang}
	deviceFaults  = []Kind{GPULost, GPUMemory, GPUTransient, GPUCrash}
)

// FaultKinds lists all kinds of faults.
func FaultKinds() []Kind { return slices.Concat(requestFaults, signals, deviceFaults) }

// endsProcess reports whether a runner process ends by this fault.
func (k Kind) endsProcess() bool {
	return slices.Contains(signals, k) || slices.Contains(deviceFaults, k) && k != GPUTransient
}

// available are the kinds of faults that the sources allow, without Hang.
func (c Config) available() []Kind {
	return slices.DeleteFunc(FaultKinds(), func(k Kind) bool { return k == Hang || c.possible(k) != nil })
}

func (c Config) possible(k Kind) error {
	switch {
	case !slices.Contains(FaultKinds(), k):
		return fmt.Errorf("kind of fault %q: expected %s", k, join(FaultKinds()))
	case slices.Contains(signals, k) && !c.KillRunners:
		return fmt.Errorf("faults of the kind %s need leave to signal runner processes", k)
	case slices.Contains(deviceFaults, k) && c.FaultFile == "":
		return fmt.Errorf("faults of the kind %s need the fault file of a virtual GPU", k)
	}
	return nil
}

func join(kinds []Kind) string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = string(k)
	}
	return strings.Join(words, " ")
}

// Case is one request and what is done with it.
type Case struct {
	Number int    `json:"number"`
	Kind   Kind   `json:"kind"`
	Size   Size   `json:"size"`
	Steps  int    `json:"steps"`
	Seed   uint64 `json:"seed"`
	Device string `json:"device"`
	Moment int    `json:"moment"` // when it is cancelled or signalled: 0: queued or begun; n: after step n or before
	Flaw   int    `json:"flaw"`   // which invalid value
}

// seeds is how many seeds there are: few, so that the same picture is asked for again and again.
const seeds = 8

// early is how many requests may end a runner process: the first ones, so that processes live for long after them.
func early(c Config) int { return min(c.Generations/2, 500) }

// plan draws the requests.
func plan(c Config) []Case {
	rng := rand.New(rand.NewPCG(c.Seed, 0)) //nolint:gosec // an order that can be repeated
	lasting := slices.DeleteFunc(slices.Clone(c.Kinds), Kind.endsProcess)
	cases := make([]Case, c.Generations)
	for i := range cases {
		kinds := c.Kinds
		if i >= early(c) && len(lasting) > 0 {
			kinds = lasting
		}
		cases[i] = Case{
			Number: i + 1, Kind: Healthy,
			Size: pick(rng, c.Sizes), Steps: pick(rng, c.Steps), Seed: rng.Uint64N(seeds), Device: pick(rng, c.Devices),
			Moment: rng.IntN(3), Flaw: rng.IntN(len(flaws)),
		}
		switch draw := rng.Float64(); {
		case draw < c.Faults && len(kinds) > 0:
			cases[i].Kind = pick(rng, kinds)
		case draw >= c.Faults && draw < c.Faults+c.Cancels:
			cases[i].Kind = Cancel
		}
	}
	return cases
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }
