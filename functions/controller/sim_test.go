package controller

import (
	"bytes"
	"container/heap"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device"
)

// world is a simulated installation: instances with the real state machine of their devices, a network that loses,
// doubles, delays and reorders messages, leaders that follow each other, and clocks that jump. One seed, one history.
type world struct {
	t      *testing.T
	rand   *rand.Rand
	now    time.Time // true time
	queue  timeline
	count  int
	policy Policy

	instances []*simulated
	byName    map[string]*simulated
	stored    map[string]events.Decision // key-value
	core      *Core
	terms     uint64
	skew      time.Duration // of the leader's clock
	jumps     []time.Time   // true times when it jumped forward
	takeovers []time.Time
	log       bytes.Buffer
	entries   *json.Encoder

	chaos   float64 // probability that something happens to a message
	checker checker
	reasons map[string]int
}

// simulated is an instance as it is, and as it thinks it is.
type simulated struct {
	name, class string
	models      []string
	health      *device.Health
	incarnation int
	sequence    uint64
	dead        bool
	sick        bool // no proof succeeds, all work fails
	flaky       bool // proofs succeed, half of the work fails
	cut         time.Time
	order       events.Decision
	proving     bool
	noisy       bool // a CPU on which work fails: it does not suspect itself
}

// event is something that happens at a time.
type event struct {
	at time.Time
	n  int
	do func()
}

type timeline []event

func (q timeline) Len() int { return len(q) }
func (q timeline) Less(i, k int) bool {
	return q[i].at.Before(q[k].at) || q[i].at.Equal(q[k].at) && q[i].n < q[k].n
}
func (q timeline) Swap(i, k int) { q[i], q[k] = q[k], q[i] }
func (q *timeline) Push(x any)   { *q = append(*q, x.(event)) }
func (q *timeline) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// logged is how many instances a world may have whose log is kept.
const logged = 300

const simHeartbeat = 2 * time.Second

func newWorld(t *testing.T, seed uint64, n int) *world {
	w := &world{
		t: t, rand: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1_800_000_000, 0).UTC(), byName: map[string]*simulated{}, stored: map[string]events.Decision{},
		policy: Policy{Backoff: 5 * time.Second, MaxBackoff: 40 * time.Second, Quarantine: time.Minute, ResetAfter: time.Minute, ProofTimeout: 20 * time.Second, ForgetAfter: 10 * time.Minute}.withDefaults(),
		chaos:  0.1, reasons: map[string]int{},
	}
	w.entries = json.NewEncoder(io.Discard)
	if n <= logged {
		w.entries = json.NewEncoder(&w.log)
	}
	w.checker = checker{world: w, shedAt: map[string]time.Time{}, status: map[string]Status{}, state: map[string]string{}, sheds: map[string]int{}}
	for i := range n {
		s := &simulated{name: fmt.Sprintf("i%04d", i), class: events.DeviceGPU}
		if i%3 == 0 {
			s.class = events.DeviceCPU
		}
		for m := range 12 {
			if w.rand.IntN(4) == 0 || m == i%12 {
				s.models = append(s.models, fmt.Sprintf("m%d", m))
			}
		}
		w.instances = append(w.instances, s)
		w.byName[s.name] = s
		w.boot(s)
		w.after(w.up(simHeartbeat), func() { w.beat(s) })
		w.after(w.up(time.Second), func() { w.work(s) })
	}
	w.takeOver()
	w.after(0, w.ticks)
	return w
}

func (w *world) up(to time.Duration) time.Duration { return time.Duration(w.rand.Int64N(int64(to))) }

func (w *world) after(d time.Duration, do func()) {
	w.count++
	heap.Push(&w.queue, event{w.now.Add(d), w.count, do})
}

func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); len(w.queue) > 0 && !w.queue[0].at.After(end); {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
}

// The leader.

func (w *world) takeOver() {
	w.terms++
	w.skew = 0
	w.takeovers = append(w.takeovers, w.now)
	start := Start{Policy: w.policy, By: fmt.Sprintf("leader %d", w.terms), Term: w.terms, At: w.now}
	for _, s := range w.instances {
		if d, ok := w.stored[s.name]; ok {
			start.InForce = append(start.InForce, d)
		}
	}
	require.NoError(w.t, w.entries.Encode(Entry{Start: &start}))
	w.core = NewCore(start)
	w.checker.status = map[string]Status{}
}

func (w *world) ticks() {
	w.apply(Input{})
	w.after(500*time.Millisecond, w.ticks)
}

func (w *world) apply(in Input) []events.Decision {
	in.At = w.now.Add(w.skew)
	require.NoError(w.t, w.entries.Encode(Entry{Input: &in}))
	w.checker.before(in)
	out, err := w.core.Apply(in)
	if in.Command == nil {
		require.NoError(w.t, err)
	}
	for _, d := range out {
		require.NoError(w.t, w.entries.Encode(Entry{Decision: &d}))
		w.checker.decided(in, d)
		w.reasons[d.State+" "+d.Reason]++
		w.stored[d.Instance] = d
		if s := w.byName[d.Instance]; s != nil {
			w.tell(s, d)
		}
	}
	return out
}

// tell delivers a decision in the end: an instance that did not hear of it reads it later.
func (w *world) tell(s *simulated, d events.Decision) {
	w.after(w.delay(), func() {
		if w.now.Before(s.cut) {
			w.after(s.cut.Sub(w.now), func() { w.obey(s, w.stored[s.name]) })
			return
		}
		w.obey(s, d)
	})
}

func (w *world) delay() time.Duration {
	if w.rand.Float64() < w.chaos {
		return w.up(3 * time.Second) // overtaken by others
	}
	return w.up(20 * time.Millisecond)
}

// send brings word of an instance to the leader, perhaps, and perhaps twice.
func (w *world) send(s *simulated, in Input) {
	times := 1
	if w.rand.Float64() < w.chaos {
		times = w.rand.IntN(3)
	}
	for range times {
		if !w.now.Before(s.cut) {
			w.after(w.delay(), func() { w.apply(in) })
		}
	}
}

// The instances.

func (w *world) boot(s *simulated) {
	s.incarnation++
	s.sequence, s.dead, s.proving = 0, false, false
	s.health = device.New(s.class, device.Policy{Backoff: 5 * time.Second, MaxBackoff: 40 * time.Second, Quarantine: time.Minute}, func() time.Time { return w.now },
		func(d events.DeviceStatus) { w.say(s, d) })
	s.order = events.Decision{}
	if !s.sick {
		s.health.Proved()
	}
	if d, ok := w.stored[s.name]; ok && !w.now.Before(s.cut) {
		w.obey(s, d)
	}
}

func (w *world) say(s *simulated, d events.DeviceStatus) {
	s.sequence++
	d.Instance, d.Models, d.Incarnation, d.Sequence = s.name, s.models, strconv.Itoa(s.incarnation), s.sequence
	d.Obeys = &events.Obeyed{Number: s.order.Number, State: s.order.State}
	w.send(s, Input{Status: StatusOf(d)})
}

func (w *world) beat(s *simulated) {
	if !s.dead {
		w.say(s, s.health.Status())
	}
	w.after(simHeartbeat, func() { w.beat(s) })
}

func (w *world) obey(s *simulated, d events.Decision) {
	if s.dead || d.Number <= s.order.Number {
		return
	}
	demand := d.State == events.StateProbation
	s.order = d
	if demand {
		s.health.Demand("")
	}
}

// work is what the slot of an instance does each moment.
func (w *world) work(s *simulated) {
	w.after(time.Second/2+w.up(time.Second), func() { w.work(s) })
	if s.dead || s.proving || s.order.Stops() && s.order.State != events.StateProbation {
		return
	}
	switch step, _ := s.health.Next(); step {
	case device.Fetch:
		failed := s.sick || s.flaky && w.rand.IntN(2) == 0 || s.noisy
		fault := events.DeviceFault{Cause: "device_fault", Error: events.Errorf(events.CodeDeviceLost, "the context is dead")}
		switch {
		case failed && s.class == events.DeviceCPU:
			s.health.Observe(fault)
		case failed:
			s.health.Fault(fault)
		default:
			s.health.Succeeded()
		}
	case device.Prove:
		w.prove(s)
	}
}

func (w *world) prove(s *simulated) {
	s.proving = true
	incarnation := s.incarnation
	w.after(w.up(time.Second), func() {
		if s.incarnation != incarnation || s.dead {
			return
		}
		s.proving = false
		decision, passed := s.order.Number, !s.sick
		if s.order.State != events.StateProbation {
			decision = 0
		}
		if passed {
			s.health.Proved()
		} else {
			s.health.Unproved(device.ReasonCanaryFailed, events.Errorf(events.CodeNumericalError, "wrong numbers"))
		}
		s.sequence++
		w.send(s, Input{Canary: &Canary{Instance: s.name, Incarnation: strconv.Itoa(s.incarnation), Sequence: s.sequence, Decision: decision, Passed: passed, Message: "a canary"}})
	})
}

// storm lets something go wrong somewhere, again and again until end.
func (w *world) storm(end time.Time) {
	if w.now.After(end) {
		return
	}
	s := w.instances[w.rand.IntN(len(w.instances))]
	lasts := time.Second + w.up(40*time.Second)
	switch w.rand.IntN(10) {
	case 0, 1:
		s.sick = true
		w.after(lasts, func() { s.sick = false })
	case 2, 3:
		s.flaky = true
		w.after(2*lasts, func() { s.flaky = false })
	case 4:
		s.noisy = true
		w.after(2*lasts, func() { s.noisy = false })
	case 5:
		s.cut = w.now.Add(lasts)
	case 6:
		s.dead = true
		w.after(lasts, func() { w.boot(s) })
	case 7:
		if w.rand.IntN(8) == 0 {
			w.jump()
		}
	case 8:
		if w.rand.IntN(12) == 0 {
			w.takeOver()
		}
	case 9:
		commands := []string{events.CommandShed, events.CommandDrain, events.CommandQuarantine}
		w.apply(Input{Command: &Command{Instance: s.name, Command: commands[w.rand.IntN(3)], Reason: "a test", By: "tester"}})
		w.after(lasts, func() {
			w.apply(Input{Command: &Command{Instance: s.name, Command: events.CommandAdmit, Reason: "the test is over", By: "tester"}})
		})
	}
	w.after(w.up(200*time.Second/time.Duration(len(w.instances))), func() { w.storm(end) })
}

func (w *world) jump() {
	by := w.up(time.Hour)
	if w.rand.IntN(2) == 0 {
		by = -by
	} else {
		w.jumps = append(w.jumps, w.now)
	}
	w.skew += by
}
