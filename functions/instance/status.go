package instance

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"

	"genfn/events"
	"genfn/functions/hostmemory"
	"genfn/functions/runner/protocol"
)

const (
	heartbeatInterval = 2 * time.Second
	statusLife        = 10 * time.Second // a heartbeat older than this is of an instance that is gone
)

// usage is what the slots of an instance hold, for its status. Safe for concurrent use.
type usage struct {
	busy atomic.Int64

	mu       sync.Mutex
	ready    *protocol.Ready
	guidance *events.DeviceSetting   // of the last generation that had one
	memory   map[int]protocol.Memory // by process id
	claims   map[int]int64           // bytes that their work is expected to hold, by process id
}

// started notes a runner that is ready.
func (u *usage) started(r *protocol.Ready) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ready = r
	u.set(r.PID, r.Memory)
}

// found notes a runner that is ready, and what kind of device it has.
func (i *Instance) found(r *protocol.Ready) {
	hello := i.config.Runner.Hello
	kind := kindOfDevice(events.ClassOf(hello.Device), r.DeviceName, hello.Precision, hello.Threads)
	i.learned.device.Store(&kind)
	i.usage.started(r)
}

// of returns what is known of a runner's memory.
func (u *usage) of(pid int) protocol.Memory {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.memory[pid]
}

// claim notes how much a runner's work is expected to hold in all; 0 ends that.
func (u *usage) claim(pid int, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.claims == nil {
		u.claims = map[int]int64{}
	}
	u.claims[pid] = bytes
	if bytes == 0 {
		delete(u.claims, pid)
	}
}

// outstanding is how much other runners than one are expected to take yet, for work that was admitted.
func (u *usage) outstanding(pid int) (bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for other, claim := range u.claims {
		if other != pid {
			bytes += max(0, claim-u.memory[other].RSS)
		}
	}
	return bytes
}

// ended forgets a runner.
func (u *usage) ended(pid int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.memory, pid)
	delete(u.claims, pid)
}

// measured notes what a runner said of its memory.
func (u *usage) measured(pid int, m protocol.Memory) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.set(pid, m)
}

func (u *usage) set(pid int, m protocol.Memory) {
	if u.memory == nil {
		u.memory = map[int]protocol.Memory{}
	}
	u.memory[pid] = m
}

// tuned notes how guidance was done; nil: there was none.
func (u *usage) tuned(guidance *events.DeviceSetting) {
	if guidance == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.guidance = guidance
}

// deviceTotal is the device's own memory in bytes, 0 if it has none or nobody knows.
func (u *usage) deviceTotal() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ready == nil || u.ready.Memory.Device == nil {
		return 0
	}
	return u.ready.Memory.Device.Total
}

// tuning is how the device is used. The lock is held.
func (u *usage) tuning() []events.DeviceSetting {
	list := slices.Clone(u.ready.Tuning)
	for i := range list {
		if u.guidance != nil && list[i].Name == u.guidance.Name {
			list[i] = *u.guidance
		}
	}
	return list
}

// sample measures the runners' processes as they are now.
func (u *usage) sample() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for pid, m := range u.memory {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue // it has just ended
		}
		if s, err := p.NewStatus(); err == nil {
			m.SetStatus(s)
			u.memory[pid] = m
		}
	}
}

// device is the memory of the device as a runner told it last, nil if it has none of its own.
func (u *usage) device() (d *protocol.DeviceMemory) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, m := range u.memory {
		if m.Device != nil {
			d = m.Device
		}
	}
	return d
}

// fill adds to a status what the runners said of device and memory.
func (u *usage) fill(s *events.DeviceStatus, host hostmemory.Memory) {
	s.Busy = int(u.busy.Load())
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.ready; r != nil {
		s.DeviceName, s.Versions, s.Tuning = r.DeviceName, r.Versions, u.tuning()
		if v := r.Validation; v != nil {
			s.Properties, s.Checks = v.Properties, v.Checks
		}
	}
	const mib = 1 << 20
	info := &events.MemoryInfo{HostTotal: max(0, host.Total), HostFree: max(0, host.Free), SystemSwapTotal: host.SwapTotal, SystemSwapUsed: host.SwapUsed}
	for _, m := range u.memory {
		info.RSSMB += float64(m.RSS) / mib
		info.VMSMB += float64(m.VMS) / mib
		info.SwapMB += float64(m.Swap) / mib
		info.Ledger += m.Ledger
		if d := m.Device; d != nil {
			info.DeviceTotal, info.DeviceUsed, info.DeviceFree = known(d.Total), known(d.Used), known(d.Free)
		}
	}
	info.Percent = percent(int64(info.RSSMB*mib), host.Total)
	s.MemoryInfo = info
}

func known(bytes int64) *int64 {
	if bytes < 0 {
		return nil
	}
	return &bytes
}

// Status is the device's status as heartbeats tell it.
func (i *Instance) Status() events.DeviceStatus {
	return i.complete(i.health.Status())
}

func (i *Instance) complete(s events.DeviceStatus) events.DeviceStatus {
	s.Instance, s.Device = i.config.Name, i.config.Runner.Hello.Device
	s.Slots, s.Models = i.config.Slots, i.catalog.names()
	s.Kind, s.Conditions = i.learned.kind(), i.pressure.conditions()
	i.usage.fill(&s, i.host())
	if total := s.MemoryInfo.DeviceTotal; total != nil {
		s.MemoryInfo.DeviceUsable = known(i.limit.Usable(*total))
	}
	return s
}

// changed tells of a new state of the device.
func (i *Instance) changed(s events.DeviceStatus) {
	s = i.complete(s)
	i.expose(s)
	i.log.Info("device state", "device", s.Device, "state", s.State, "previous", s.Previous, "reason", s.Reason, "message", s.Message)
	if err := i.config.Broker.PublishStatus(s, false, i.source()); err != nil {
		i.log.Debug("state of the device not told", "error", err)
	}
}

// beat tells how the device is.
func (i *Instance) beat() {
	i.usage.sample()
	i.watchMemory(i.usage.device(), i.host())
	s := i.Status()
	i.expose(s)
	if err := i.config.Broker.PublishStatus(s, true, i.source()); err != nil {
		i.log.Debug("heartbeat lost", "error", err)
	}
}

// heartbeat tells of the device at an interval until ctx ends.
func (i *Instance) heartbeat(ctx context.Context) {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			i.beat()
		case <-ctx.Done():
			return
		}
	}
}

func (i *Instance) source() string { return "/genfn/instance/" + i.config.Name }
