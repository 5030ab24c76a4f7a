package device

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
)

// clock is a time that tests set.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

type rig struct {
	*Health
	clock  *clock
	states []string
}

func newRig(class string, p Policy) *rig {
	r := &rig{clock: &clock{time.Unix(1_800_000_000, 0)}}
	r.Health = New(class, p, r.clock.now, func(s events.DeviceStatus) { r.states = append(r.states, s.State) })
	return r
}

func (r *rig) fault() { r.Fault(events.DeviceFault{Cause: "device_fault", Error: failure()}) }

func failure() *events.Error { return events.Errorf(events.CodeDeviceLost, "the context is dead") }

func (r *rig) step(t *testing.T, want Step) time.Duration {
	t.Helper()
	step, wait := r.Next()
	require.Equal(t, want, step)
	return wait
}

func TestOneFaultIsForgiven(t *testing.T) {
	r := newRig(events.DeviceGPU, Policy{})
	r.step(t, Prove)
	require.True(t, r.Proved())
	r.step(t, Fetch)
	r.Succeeded()
	r.fault()
	r.step(t, Prove)
	require.True(t, r.Proved())
	r.step(t, Fetch)
	require.Equal(t, []string{events.StateReady, events.StateSuspect, events.StateReady}, r.states)
	s := r.Status()
	require.EqualValues(t, 1, s.GenerationCount)
	require.EqualValues(t, 1, s.FaultCount)
	require.False(t, s.GPUFailed)
	require.Equal(t, ReasonCanaryPassed, s.Reason)
}

// TestPersistentFaults: canaries that pass do not help a device on which requests fail again and again.
func TestPersistentFaults(t *testing.T) {
	r := newRig(events.DeviceGPU, Policy{ShedAfter: 3, Backoff: time.Second})
	r.Proved()
	for range 2 {
		r.fault()
		require.True(t, r.Proved())
	}
	r.fault()
	require.False(t, r.Proved())
	s := r.Status()
	require.Equal(t, events.StateShed, s.State)
	require.Equal(t, ReasonPersistentFaults, s.Reason)
	require.True(t, s.GPUFailed)
	require.Equal(t, time.Second, r.step(t, Wait))

	r.clock.at = r.clock.at.Add(time.Second)
	r.step(t, Prove)
	require.Equal(t, events.StateProbation, r.Status().State)
	require.True(t, r.Proved())
	r.fault()
	require.False(t, r.Proved(), "after its return the first fault sheds it")
	require.Equal(t, 2*time.Second, r.step(t, Wait), "for twice as long")

	r.clock.at = r.clock.at.Add(2 * time.Second)
	r.step(t, Prove)
	r.Proved()
	r.Succeeded()
	r.fault()
	require.True(t, r.Proved(), "a generation gives it back all of its forgiveness")
}

func TestBackoffAndQuarantine(t *testing.T) {
	r := newRig(events.DeviceGPU, Policy{Backoff: time.Second, MaxBackoff: 4 * time.Second, QuarantineAfter: 6, Quarantine: time.Hour})
	r.Proved()
	r.fault()
	var waits []time.Duration
	for range 6 {
		r.step(t, Prove)
		r.Unproved(ReasonCanaryFailed, failure())
		wait := r.step(t, Wait)
		waits = append(waits, wait)
		r.clock.at = r.clock.at.Add(wait)
	}
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second, 4 * time.Second, time.Hour}, waits)
	r.step(t, Prove)
	require.True(t, r.Proved(), "a device comes back from quarantine too")
	require.Contains(t, r.states, events.StateQuarantined)
}

func TestStuckDeviceIsQuarantinedAtOnce(t *testing.T) {
	r := newRig(events.DeviceGPU, Policy{})
	r.Proved()
	r.Stuck(failure())
	require.Equal(t, events.StateQuarantined, r.Status().State)
	require.Equal(t, time.Hour, r.step(t, Wait))
}

func TestFaultsAreBounded(t *testing.T) {
	r := newRig(events.DeviceCPU, Policy{})
	for range 3 * keptFaults {
		r.Observe(events.DeviceFault{Cause: "x", Error: failure()})
	}
	s := r.Status()
	require.Len(t, s.LastFaults, keptFaults)
	require.EqualValues(t, 3*keptFaults, s.FaultCount)
	require.Equal(t, events.StateValidating, s.State, "an observed fault casts no suspicion")
}

// TestNoStateIsADeadEnd: whatever happens, a device that proves itself serves again within the longest pause; while
// it is suspected it never fetches; and it never flaps faster than the back-off.
func TestNoStateIsADeadEnd(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		p := Policy{Backoff: time.Second, MaxBackoff: time.Minute, Quarantine: time.Hour}
		r := newRig(events.DeviceGPU, p)
		r.Proved()
		var shedAt time.Time
		for range 300 {
			r.clock.at = r.clock.at.Add(time.Duration(random.Int64N(int64(10 * time.Second))))
			switch step, wait := r.Next(); step {
			case Fetch:
				require.Equal(t, events.StateReady, r.Status().State)
				if random.IntN(3) == 0 {
					r.Succeeded()
				} else {
					r.fault()
				}
			case Prove:
				if !shedAt.IsZero() && r.Status().State == events.StateProbation {
					require.GreaterOrEqual(t, r.clock.at.Sub(shedAt), p.Backoff)
				}
				if random.IntN(2) == 0 {
					r.Proved()
				} else {
					r.Unproved(ReasonCanaryFailed, failure())
				}
				if r.Status().State == events.StateShed {
					shedAt = r.clock.at
				}
			case Wait:
				require.Positive(t, wait)
				require.LessOrEqual(t, wait, p.Quarantine)
			}
		}
		r.clock.at = r.clock.at.Add(p.Quarantine)
		for range 2 { // suspect, then perhaps shed by it
			if step, wait := r.Next(); step != Fetch {
				r.clock.at = r.clock.at.Add(wait)
				r.Next()
				r.Proved()
			}
		}
		if step, wait := r.Next(); step != Fetch {
			r.clock.at = r.clock.at.Add(wait)
			r.Next()
			r.Proved()
		}
		r.step(t, Fetch)
	}
}

// TestNoRunner: a device whose runner does not start says so with the next try, is ready again once one does, and
// nothing that is worse is forgotten over it.
func TestNoRunner(t *testing.T) {
	r := newRig(events.DeviceCPU, Policy{})
	require.True(t, r.Proved())
	for range 2 {
		r.NoRunner(failure(), time.Minute)
		s := r.Status()
		require.Equal(t, events.StateSuspect, s.State)
		require.Equal(t, ReasonNoRunner, s.Reason)
		require.Equal(t, "the context is dead", s.Message)
		require.Equal(t, r.clock.at.Add(time.Minute), *s.NextTry)
	}
	r.step(t, Prove)
	r.Runner()
	require.Equal(t, events.StateReady, r.Status().State)
	require.EqualValues(t, 2, r.Status().FaultCount)

	r.fault()
	r.Unproved(ReasonCanaryFailed, failure())
	r.NoRunner(failure(), time.Minute)
	require.Equal(t, events.StateShed, r.Status().State)
	r.Runner()
	require.Equal(t, events.StateShed, r.Status().State)
}

// TestCondemned: what the driver says of the hardware sets the device aside at once, also while it proves itself; a proof
// that ends later does not count.
func TestCondemned(t *testing.T) {
	r := newRig(events.DeviceGPU, Policy{})
	require.True(t, r.Proved())
	r.Condemn(failure())
	s := r.Status()
	require.Equal(t, []string{events.StateShed, ReasonHardware}, []string{s.State, s.Reason})
	require.True(t, s.GPUFailed)
	pause := r.step(t, Wait)
	r.Condemn(failure()) // a storm of Xids is one reason
	require.Equal(t, pause, r.step(t, Wait))
	require.EqualValues(t, 2, r.Status().FaultCount)
	require.False(t, r.Proved(), "a proof that began before")
	r.clock.at = r.clock.at.Add(pause)
	r.step(t, Prove)
	r.Condemn(failure())
	require.False(t, r.Proved())
	require.Equal(t, 2*pause, r.step(t, Wait))
	r.clock.at = r.clock.at.Add(2 * pause)
	r.step(t, Prove)
	require.True(t, r.Proved())
	r.step(t, Fetch)
}
