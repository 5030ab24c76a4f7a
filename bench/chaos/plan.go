package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"genfn/events"
)

// Action is a kind of what the storm does.
type Action string

// The actions. What ends a process starts it again after a while; what stops or cuts something undoes it.
const (
	KillRunner  Action = "runner SIGKILL"
	CrashRunner Action = "runner SIGSEGV"
	StopRunner  Action = "runner SIGSTOP"

	KillInstance Action = "instance SIGKILL"
	StopInstance Action = "instance SIGSTOP" // past the ack wait or not: the clock jumps for it
	TermInstance Action = "instance SIGTERM"

	KillController Action = "controller SIGKILL"
	StopController Action = "controller SIGSTOP"

	KillNode   Action = "node SIGKILL"
	StopNode   Action = "node SIGSTOP"
	TermNode   Action = "node SIGTERM"
	SlowNode   Action = "node slow" // stopped and continued many times a second: stands for a slow disk
	KillNodes  Action = "all nodes SIGKILL"
	MoveLeader Action = "leader steps down"

	CutClient    Action = "partition of a client"
	FreezeClient Action = "client's packets lost"
	CutNode      Action = "partition of a node"
	FreezeNode   Action = "node's packets lost"

	FillDisk Action = "disk full"
	SickGPU  Action = "GPU fault"
)

// Actions lists all actions.
func Actions() []Action {
	return []Action{
		KillRunner, CrashRunner, StopRunner, KillInstance, StopInstance, TermInstance, KillController, StopController,
		KillNode, StopNode, TermNode, SlowNode, KillNodes, MoveLeader, CutClient, FreezeClient, CutNode, FreezeNode, FillDisk, SickGPU,
	}
}

// ofCluster reports whether the action needs several nodes.
func (a Action) ofCluster() bool {
	return slices.Contains([]Action{KillNodes, MoveLeader, CutNode, FreezeNode}, a)
}

// longest is how long an action may last. Stopped instances sleep past the ack wait of 6 s at times.
func (a Action) longest() time.Duration {
	switch a {
	case StopRunner, StopInstance:
		return 9 * time.Second
	case KillNodes, FillDisk, CutNode, FreezeNode:
		return 4 * time.Second
	case SickGPU:
		return 15 * time.Second
	}
	return 3 * time.Second
}

// Strike is one planned action.
type Strike struct {
	After  int           `json:"after"` // so many requests are published
	Action Action        `json:"action"`
	Target uint64        `json:"target"` // drawn: modulo the number of what there is
	Last   time.Duration `json:"last"`   // until it is undone
	Fault  string        `json:"fault,omitempty"`
}

// gpuFaults are what a virtual GPU does, of all classes: context lost, memory, passing, crash, dead for good, hang, wrong
// numbers.
var gpuFaults = []string{
	"clFlush error=-5 times=1", "clFlush error=-4 times=1", "clFlush error=-2 times=1", "clFlush crash=SIGSEGV times=1",
	"clWaitForEvents error=-14 times=1", "clFlush error=-5 sticky=all", "clEnqueueNDRangeKernel error=-5 after=20 times=1",
	"clFlush hang times=1", "clEnqueueNDRangeKernel flip=64 after=20 times=20",
}

// Kind is what becomes of a request by itself.
type Kind string

// The kinds of requests. All but the first are a few in a hundred.
const (
	Healthy    Kind = "healthy"
	Repeated   Kind = "published twice"
	Invalid    Kind = "invalid"
	Unreadable Kind = "unreadable"
	Expiring   Kind = "expiring"
	Cancelled  Kind = "cancelled"
)

// Kinds lists all kinds of requests.
func Kinds() []Kind { return []Kind{Healthy, Repeated, Invalid, Unreadable, Expiring, Cancelled} }

// Names of the models that requests ask for.
const (
	modelNoop = "noop"
	modelDemo = "emoji"
	modelGPU  = "nano-sd"
)

// Request is one planned request.
type Request struct {
	ID     string `json:"id"`
	Kind   Kind   `json:"kind"`
	Model  string `json:"model"`
	Device string `json:"device,omitempty"`
	Count  int    `json:"count"` // pictures
	Side   int    `json:"side"`  // pixels
	Seed   uint64 `json:"seed"`
}

// Plan is what a run does. The same Config gives the same Plan.
type Plan struct {
	Requests []Request `json:"requests"`
	Strikes  []Strike  `json:"strikes"` // in order
}

// Shares of the requests.
const (
	largeShare = 0.05 // pictures that take the host a while, so that more is under way when something dies
	demoShare  = 0.02
)

func newPlan(c Config) Plan {
	rng := rand.New(rand.NewPCG(c.Seed, uint64(c.Replicas))) //nolint:gosec // an order that can be repeated
	p := Plan{Requests: make([]Request, c.Requests), Strikes: make([]Strike, c.Strikes)}
	for i := range p.Requests {
		p.Requests[i] = drawRequest(rng, c, i)
	}
	// Every action comes, as far as there are enough strikes.
	order := rng.Perm(len(c.Actions))
	for i := range p.Strikes {
		a := c.Actions[order[i%len(order)]]
		s := Strike{After: c.Requests/20 + rng.IntN(max(1, c.Requests*17/20)), Action: a, Target: rng.Uint64N(1 << 20)}
		s.Last = time.Duration(rng.Int64N(int64(a.longest())-int64(100*time.Millisecond))) + 100*time.Millisecond
		if a == SickGPU {
			s.Fault = gpuFaults[rng.IntN(len(gpuFaults))]
			s.Last = max(s.Last, a.longest()/3)
		}
		p.Strikes[i] = s
	}
	slices.SortStableFunc(p.Strikes, func(a, b Strike) int { return a.After - b.After })
	return p
}

func (c Config) gpuShare() float64 {
	if c.GPU == nil {
		return 0
	}
	return c.GPU.Share
}

func drawRequest(rng *rand.Rand, c Config, i int) Request {
	r := Request{ID: fmt.Sprintf("chaos-%d-%d-%05d", c.Seed, c.Replicas, i+1), Kind: Healthy, Model: modelNoop, Count: 1 + rng.IntN(2), Side: 64, Seed: rng.Uint64N(1 << 16)}
	switch draw := rng.Float64(); {
	case draw < 0.02:
		r.Kind = Repeated
	case draw < 0.03:
		r.Kind = Invalid
	case draw < 0.04:
		r.Kind = Unreadable
	case draw < 0.06:
		r.Kind = Expiring
	case draw < 0.09:
		r.Kind = Cancelled
	}
	switch draw := rng.Float64(); {
	case draw < largeShare:
		r.Count, r.Side = 4, 512
	case draw < largeShare+demoShare && c.Demo != "":
		r.Model, r.Count = modelDemo, 1
	case draw > 1-c.gpuShare():
		r.Model, r.Count, r.Side = modelGPU, 1, 32
		if rng.IntN(2) == 0 {
			r.Device = events.DeviceGPU
		}
	}
	return r
}
