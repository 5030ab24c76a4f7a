package instance

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/model"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// ends are attempts on devices with the causes of their ends, "GPU:out_of_memory".
func ends(pairs ...[2]string) []broker.AttemptRecord {
	var records []broker.AttemptRecord
	for i, p := range pairs {
		records = append(records, broker.AttemptRecord{Number: i + 1, Device: p[0], Cause: p[1], Error: events.Errorf(events.CodeInternal, "on %s", p[0])})
	}
	return records
}

func TestDecide(t *testing.T) {
	gpu := func(cause string) [2]string { return [2]string{"GPU.0", cause} }
	cpu := func(cause string) [2]string { return [2]string{"CPU", cause} }
	for name, c := range map[string]struct {
		s    situation
		want next
	}{
		"dead context":                 {situation{kind: ofDevice, records: ends(gpu(causeDevice)), other: true}, fresh},
		"dead context again":           {situation{kind: ofDevice, records: ends(gpu(causeDevice), gpu(causeDevice)), other: true}, elsewhere},
		"and nowhere to go":            {situation{kind: ofDevice, records: ends(gpu(causeDevice), gpu(causeDevice))}, giveUp},
		"and not allowed to go":        {situation{kind: ofDevice, records: ends(gpu(causeDevice), gpu(causeDevice)), other: true, policy: events.FallbackNever}, giveUp},
		"shutdowns do not count":       {situation{kind: ofDevice, records: ends(gpu(causeShutdown), gpu(causeShutdown), gpu(causeDevice)), other: true}, fresh},
		"a lost instance neither":      {situation{kind: ofDevice, records: ends(gpu(""), gpu(causeDevice)), other: true}, fresh},
		"transient":                    {situation{kind: transient, records: ends(gpu(causeTransient)), other: true}, sameAgain},
		"transient twice":              {situation{kind: transient, records: ends(gpu(causeTransient), gpu(causeTransient)), other: true}, sameAgain},
		"transient too often":          {situation{kind: transient, records: ends(gpu(causeTransient), gpu(causeTransient), gpu(causeTransient)), other: true}, elsewhere},
		"memory, a rung left":          {situation{kind: ofMemory, records: ends(gpu(causeMemory), gpu(causeMemory)), rungs: 1, other: true}, fresh},
		"memory, no rung left":         {situation{kind: ofMemory, records: ends(gpu(causeMemory), gpu(causeMemory), gpu(causeMemory)), other: true}, elsewhere},
		"memory, here only":            {situation{kind: ofMemory, records: ends(gpu(causeMemory)), other: true, policy: events.FallbackNever}, giveUp},
		"a death":                      {situation{kind: death, records: ends(gpu(causeCrash)), other: true}, elsewhere},
		"a hang":                       {situation{kind: death, records: ends(gpu(causeHang)), other: true}, elsewhere},
		"a death, never elsewhere":     {situation{kind: death, records: ends(gpu(causeCrash)), other: true, policy: events.FallbackNever}, fresh},
		"deaths, never elsewhere":      {situation{kind: death, records: ends(gpu(causeCrash), gpu(causeHang)), policy: events.FallbackNever}, giveUp},
		"killed says nothing":          {situation{kind: death, records: ends(gpu(causeKilled), gpu(causeKilled), gpu(causeCrash)), policy: events.FallbackNever}, fresh},
		"killed again and again":       {situation{kind: killed, records: ends(gpu(causeKilled), gpu(causeKilled), gpu(causeKilled)), other: true}, elsewhere},
		"killed, and dead before":      {situation{kind: killed, records: ends(gpu(causeCrash), gpu(causeKilled))}, fresh},
		"deaths on both classes":       {situation{kind: death, class: events.DeviceCPU, records: ends(gpu(causeCrash), cpu(causeCrash)), other: true}, giveUp},
		"invalid numbers":              {situation{kind: unfit, records: ends(gpu(causeUnfit)), other: true}, elsewhere},
		"invalid numbers, on both":     {situation{kind: unfit, class: events.DeviceCPU, records: ends(gpu(causeUnfit), cpu(causeUnfit)), other: true}, giveUp},
		"the request's own fault":      {situation{kind: ofRequest, records: ends(gpu("")), other: true}, giveUp},
		"what the CPU did counts less": {situation{kind: ofDevice, records: ends(cpu(causeDevice), gpu(causeDevice)), other: true}, fresh},
	} {
		t.Run(name, func(t *testing.T) {
			if c.s.class == "" {
				c.s.class = events.DeviceGPU
			}
			if c.s.policy == "" {
				c.s.policy = events.FallbackAllowed
			}
			c.s.limits = limits{transient: 2, device: 2, deaths: 2, kills: 3}
			require.Equal(t, c.want, decide(c.s))
		})
	}
}

// TestEveryFaultEnds: whatever fails again and again, attempts are bounded, and no class that was left gets the
// request again.
func TestEveryFaultEnds(t *testing.T) {
	for _, k := range []kind{ofMemory, transient, ofDevice, death, killed, unfit} {
		for _, policy := range []string{events.FallbackNever, events.FallbackAllowed} {
			class, records, left := events.DeviceGPU, []broker.AttemptRecord(nil), map[string]bool{}
			for {
				require.Less(t, len(records), 20)
				require.False(t, left[class])
				records = append(records, ends([2]string{map[string]string{events.DeviceGPU: "GPU", events.DeviceCPU: "CPU"}[class], k.cause()})...)
				d := decide(situation{class: class, policy: policy, kind: k, records: records, other: true, rungs: max(0, 4-len(records)), limits: limits{transient: 2, device: 2, deaths: 2, kills: 3}})
				if d == giveUp {
					break
				}
				if d == elsewhere {
					records[len(records)-1].Excluded = []string{class}
					left[class] = true
					class = otherClass(class)
				}
			}
		}
	}
}

// TestLadder: each rung once, in order, and none that would change nothing.
func TestLadder(t *testing.T) {
	tiled := Model{Dir: "/m", Folder: &model.Model{VAEScale: 8, VAESample: 64, SizeStep: 8}}
	request := func(width int, guidance float64, count int, degrade string) events.ImageGenerate {
		return events.ImageGenerate{Width: &width, Height: &width, GuidanceScale: &guidance, Count: &count, Degrade: degrade}
	}
	all := rungs(request(512, 7.5, 2, events.DegradeAllowed), tiled, true, false)
	require.Equal(t, []string{rungFreshProcess, rungSequentialGuidance, rungTiledVAE, rungModelOffload, rungFewerPictures, rungSmallerSize}, all)
	require.Equal(t, []string{rungModelOffload}, rungs(request(64, 1, 1, events.DegradeNever), tiled, false, false))
	require.Equal(t, []string{rungModelOffload}, rungs(request(64, 1, 1, events.DegradeAllowed), tiled, false, false), "64 pixels are not made fewer")
	require.NotContains(t, rungs(request(512, 7.5, 1, events.DegradeNever), tiled, false, true), rungSequentialGuidance, "it is done already")

	var records []broker.AttemptRecord
	var stood []string
	for {
		rung, _ := nextRung(all, records, events.DeviceGPU)
		records = append(records, ends([2]string{"GPU", causeMemory})...)
		records[len(records)-1].Rung = rung
		stood = append(stood, rung)
		if _, left := nextRung(all, records, events.DeviceGPU); left == 0 && rung == all[len(all)-1] {
			break
		}
		require.Less(t, len(stood), 20)
	}
	require.Equal(t, append([]string{""}, all...), stood)
	cpu, left := nextRung(all, records, events.DeviceCPU)
	require.Empty(t, cpu, "another class begins on the floor")
	require.Len(t, all, left)

	r, given := reduced(request(512, 7.5, 2, events.DegradeAllowed), tiled, rungSmallerSize)
	require.Equal(t, []string{rungFewerPictures, rungSmallerSize}, given)
	require.Equal(t, []int{256, 256, 1}, []int{*r.Width, *r.Height, *r.Count})
	r, given = reduced(request(512, 7.5, 2, events.DegradeNever), tiled, rungSmallerSize)
	require.Empty(t, given)
	require.Equal(t, 512, *r.Width)
	require.Equal(t, model.Economy{SequentialGuidance: true, TiledVAE: true}, economyOf(rungTiledVAE))
	require.Equal(t, model.Economy{SequentialGuidance: true, TiledVAE: true, OffloadModels: true}, economyOf(rungSmallerSize))
	require.Zero(t, economyOf(rungFreshProcess))
}

func TestDeadlineFallback(t *testing.T) {
	figures := NewFigures()
	figures.note(events.DeviceCPU, "shape", stageStep, time.Second)
	s := &slot{
		instance: &Instance{learned: newLearned(Budgets{}, events.DeviceGPU, figures)}, log: slog.New(slog.DiscardHandler),
		config: Config{Runner: process.Config{Hello: protocol.Hello{Device: "GPU"}}},
	}
	s.instance.peers.note(events.DeviceStatus{Instance: "cpu", Class: events.DeviceCPU, Kind: events.DeviceCPU, Models: []string{"m"}})
	steps := 20
	policy := func(shape string, in time.Duration, away bool) string {
		e := events.New(events.TypeImageGenerate)
		e.SetExpiryTime(time.Now().Add(in))
		w := &work{slot: s, event: e, asked: events.ImageGenerate{Fallback: events.FallbackDeadline}}
		a := &attempt{work: w, slot: s, log: s.log, plan: &plan{shape: shape, asked: shape, request: events.ImageGenerate{Model: "m", Steps: &steps}}}
		return a.fallback(away)
	}
	require.Equal(t, events.FallbackAllowed, policy("shape", time.Minute, true))
	require.Equal(t, events.FallbackNever, policy("shape", 10*time.Second, true), "20 steps of a second")
	require.Equal(t, events.FallbackAllowed, policy("another", 10*time.Second, true), "nobody knows how long it takes")
}
