package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device/virtualgpu"
)

// TestSameSeedSamePlan: a plan can be had again, and has every kind of request and action.
func TestSameSeedSamePlan(t *testing.T) {
	c := Config{Seed: 3, Requests: 2000, Replicas: 3, Strikes: 60, Actions: Actions(), Demo: "demo", GPU: &GPU{Share: 0.02}}
	p := newPlan(c)
	require.Equal(t, p, newPlan(c))
	kinds, models, actions := map[Kind]int{}, map[string]int{}, map[Action]int{}
	for _, r := range p.Requests {
		require.True(t, events.ValidID(r.ID))
		kinds[r.Kind]++
		models[r.Model]++
	}
	for i, s := range p.Strikes {
		actions[s.Action]++
		require.LessOrEqual(t, s.Last, s.Action.longest())
		require.Less(t, s.After, c.Requests)
		require.True(t, i == 0 || p.Strikes[i-1].After <= s.After)
	}
	assert.Len(t, kinds, len(Kinds()))
	assert.Len(t, models, 3)
	assert.Len(t, actions, len(Actions()), "each action comes")
	c.Seed++
	require.NotEqual(t, p, newPlan(c))
}

// TestImpossibleActions: what cannot be done is left out and named, but not what a single node has no use for.
func TestImpossibleActions(t *testing.T) {
	c := Config{Replicas: 1, Actions: []Action{KillNode, CutNode, SickGPU}}
	notRun := c.possible()
	require.Equal(t, []Action{KillNode}, c.Actions)
	require.Len(t, notRun, 1)
	require.Contains(t, notRun[0], "make vgpu")
}

// TestRecovery: the time counts from the first fault and from the decision until another instance has the request, whatever
// the order in which the events are heard.
func TestRecovery(t *testing.T) {
	began := time.Now()
	event := func(typ string, attempt, sequence int, after time.Duration, data any) events.Event {
		e, err := events.NewAnswer(typ, events.Meta{RequestID: "a", Source: "/test", Attempt: attempt, Sequence: sequence, Time: began.Add(after)}, data)
		require.NoError(t, err)
		return e
	}
	fault, fallback := &events.Notice{Code: events.NoticeFault, Message: "x"}, &events.Notice{Code: events.NoticeFallback, Message: "x"}
	story := []events.Event{
		event(events.TypeStarted, 3, 2, 900*time.Millisecond, events.Started{Instance: "cpu-1", Device: "CPU", Attempt: 3, Model: modelGPU}),
		event(events.TypeStarted, 1, 2, 0, events.Started{Instance: gpuInstance, Device: "GPU", Attempt: 1, Model: modelGPU}),
		event(events.TypeProgress, 1, 3, 100*time.Millisecond, events.Progress{Stage: events.StageDenoise, Instance: gpuInstance, Notice: fault}),
		event(events.TypeStarted, 2, 2, 500*time.Millisecond, events.Started{Instance: gpuInstance, Device: "GPU", Attempt: 2, Model: modelGPU}),
		event(events.TypeProgress, 2, 3, 700*time.Millisecond, events.Progress{Stage: events.StageDenoise, Instance: gpuInstance, Notice: fault}),
		event(events.TypeProgress, 2, 4, 710*time.Millisecond, events.Progress{Stage: events.StageDenoise, Instance: gpuInstance, Notice: fallback}),
	}
	r, ok := recovery(story)
	require.True(t, ok)
	require.Equal(t, Recovery{First: 800 * time.Millisecond, Decided: 190 * time.Millisecond}, r)
	_, ok = recovery(story[1:])
	require.False(t, ok, "it never went elsewhere")
}

// TestGPUFaults: the virtual GPU understands each.
func TestGPUFaults(t *testing.T) {
	for _, fault := range gpuFaults {
		parsed, err := virtualgpu.ParseFaults(fault)
		require.NoError(t, err, fault)
		require.Len(t, parsed, 1)
	}
}
