package instance

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"genfn/events"
	"genfn/functions/device/memory"
	"genfn/functions/hostmemory"
	"genfn/functions/runner/protocol"
)

// pressure is how nearly the memory of a device, or of its host, is used up. Safe for concurrent use.
type pressure struct {
	mu      sync.Mutex
	level   memory.Level
	since   time.Time
	message string
}

// observe takes the share in use and reports the level, and whether it is another than before.
func (p *pressure) observe(t memory.Thresholds, share float64, message string, now time.Time) (level memory.Level, changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	level = t.Next(p.level, share)
	if changed = level != p.level; changed {
		p.level, p.since = level, now
	}
	p.message = message
	return level, changed
}

// conditions are what a status tells of the pressure.
func (p *pressure) conditions() []events.Condition {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.level == memory.Normal {
		return nil
	}
	return []events.Condition{{Type: events.ConditionMemoryPressure, Level: p.level.String(), Since: p.since.UTC(), Message: p.message}}
}

// host is the memory of this machine as it is now. What is not known is memory.Unknown.
func (i *Instance) host() hostmemory.Memory {
	m, err := i.config.HostMemory()
	if err != nil {
		i.hostUnknown.Do(func() {
			i.log.Warn("it is not known how much memory there is, so nothing is refused for it", "error", err)
		})
		return hostmemory.Memory{Total: memory.Unknown, Free: memory.Unknown}
	}
	return m
}

// watchMemory compares what is in use with the thresholds. A new level is logged, published as a condition of the
// device, and measured.
func (i *Instance) watchMemory(d *protocol.DeviceMemory, host hostmemory.Memory) (level memory.Level, message string) {
	share, message := i.inUse(d, host)
	level, changed := i.pressure.observe(i.config.Thresholds, share, message, time.Now())
	if !changed {
		return level, message
	}
	log := i.log.Warn
	if level == memory.Normal {
		log = i.log.Info
	}
	log(i.field("memory pressure"), "level", level.String(), "message", message)
	i.tellConditions()
	return level, message
}

// tellConditions tells of conditions that have changed, while the state of the device has not.
func (i *Instance) tellConditions() {
	s := i.Status()
	i.expose(s)
	if err := i.config.Broker.PublishStatus(s, false, i.source()); err != nil {
		i.log.Debug("condition of the device not told", "error", err)
	}
}

// inUse is the share of the scarcest memory that is in use, in words too. That of the host counts for every device.
func (i *Instance) inUse(d *protocol.DeviceMemory, host hostmemory.Memory) (share float64, message string) {
	part := func(used, total int64, of string) {
		if total <= 0 || used < 0 {
			return
		}
		if s := float64(used) / float64(total); s > share || message == "" {
			share = s
			message = fmt.Sprintf("%.0f %% of the memory of %s is in use: %s of %s", 100*s, of, sayBytes(used), sayBytes(total))
		}
	}
	if host.Free >= 0 {
		part(max(0, host.Total-host.Free), host.Total, host.Source)
	}
	if d != nil {
		device := i.config.Runner.Hello.Device
		used := d.Used
		if d.Free >= 0 && d.Total >= 0 {
			used = max(used, d.Total-d.Free)
		}
		part(used, d.Total, device)
		part(d.Used, i.limit.Usable(d.Total), device+" that is believed usable")
	}
	return share, message
}

// samples is what was seen of memory while an attempt ran.
type samples struct {
	count                 int
	vms, swap, systemSwap int64        // highest
	hostFree              int64        // least; of count
	warned                memory.Level // the highest level that the attempt's followers were told of
}

// sampled takes a look at the runner's memory, and warns who follows the request when memory runs low.
func (a *attempt) sampled(ctx context.Context, m protocol.Memory) {
	i := a.slot.instance
	a.host = i.host()
	a.samples.add(m, a.host)
	level, message := i.watchMemory(m.Device, a.host)
	if level <= a.samples.warned {
		return
	}
	a.samples.warned = level
	n := events.Notice{Code: events.NoticeMemoryWarning, Message: "memory is running out (" + level.String() + "): " + message, PredictedBytes: a.plan.demand.peak}
	if capacity, ok := a.slot.room().Capacity(); ok {
		n.AvailableBytes = capacity
	}
	a.notice(ctx, n)
}

func (s *samples) add(m protocol.Memory, host hostmemory.Memory) {
	if s.count == 0 || host.Free < s.hostFree {
		s.hostFree = host.Free
	}
	s.count++
	s.vms, s.swap, s.systemSwap = max(s.vms, m.VMS), max(s.swap, m.Swap), max(s.systemSwap, host.SwapUsed)
}

// memory is what the attempt did to memory.
func (a *attempt) memory(r *protocol.Result) *events.Memory {
	seen := a.samples
	seen.add(r.Before, a.host)
	seen.add(r.After, a.host)
	m := memoryBetween(r.Before, r.After)
	m.VMSPeak, m.SwapPeak, m.SystemSwap, m.Samples = seen.vms, seen.swap, seen.systemSwap, seen.count
	m.HostTotal, m.HostFree = max(0, a.host.Total), max(0, seen.hostFree)
	m.Percent = percent(m.RSSPeak, a.host.Total)
	return m
}

// memoryBetween is what happened between two looks at a runner's memory, of which the second has the peaks.
func memoryBetween(before, after protocol.Memory) *events.Memory {
	m := &events.Memory{
		LedgerBefore: before.Ledger, LedgerPeak: after.LedgerPeak, LedgerAfter: after.Ledger, LedgerBaseline: after.LedgerBaseline,
		RSSBefore: before.RSS, RSSPeak: after.PeakRSS, RSSAfter: after.RSS, DeviceBefore: deviceUsed(before), DeviceAfter: deviceUsed(after),
	}
	if d := after.Device; d != nil {
		m.DeviceTotal = known(d.Total)
		if d.Peak > 0 {
			m.DevicePeak = known(d.Peak)
		}
	}
	return m
}

// percent is a part of a total, with one decimal; 0 if the total is not known.
func percent(part, total int64) float64 {
	if total <= 0 {
		return 0
	}
	return math.Round(1000*float64(part)/float64(total)) / 10
}

// sayBytes writes bytes for people.
func sayBytes(n int64) string {
	switch {
	case n < 0:
		return "an unknown number of bytes"
	case n < 1<<30:
		return fmt.Sprintf("%.0f MiB", math.Ceil(float64(n)/(1<<20)))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// list is words for people.
func list(words []string) string { return strings.Join(words, ", ") }
