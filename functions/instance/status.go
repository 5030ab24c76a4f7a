package instance

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"

	"genfn/events"
	"genfn/functions/runner/protocol"
)

const (
	heartbeatInterval = 2 * time.Second
	statusLife        = 10 * time.Second // a heartbeat older than this is of an instance that is gone
)

// usage is what the slots of an instance hold, for its status. Safe for concurrent use.
type usage struct {
	busy atomic.Int64

	mu     sync.Mutex
	ready  *protocol.Ready
	memory map[int]protocol.Memory // by process id
}

// started notes a runner that is ready.
func (u *usage) started(r *protocol.Ready) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ready = r
	u.set(r.PID, r.Memory)
}

// ended forgets a runner.
func (u *usage) ended(pid int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.memory, pid)
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
			m.RSS, m.PeakRSS, m.VMS, m.Swap = int64(s.VmRSS), int64(s.VmHWM), int64(s.VmSize), int64(s.VmSwap) //nolint:gosec // no process has that much
			u.memory[pid] = m
		}
	}
}

// fill adds to a status what the runners said of device and memory.
func (u *usage) fill(s *events.DeviceStatus, hostBytes int64) {
	s.Busy = int(u.busy.Load())
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.ready; r != nil {
		s.DeviceName, s.Versions = r.DeviceName, r.Versions
		if v := r.Validation; v != nil {
			s.Properties, s.Checks = v.Properties, v.Checks
		}
	}
	const mib = 1 << 20
	info := &events.MemoryInfo{}
	for _, m := range u.memory {
		info.RSSMB += float64(m.RSS) / mib
		info.VMSMB += float64(m.VMS) / mib
		info.SwapMB += float64(m.Swap) / mib
		info.Ledger += m.Ledger
		if d := m.Device; d != nil {
			info.DeviceTotal, info.DeviceUsed, info.DeviceFree = known(d.Total), known(d.Used), known(d.Free)
		}
	}
	if hostBytes > 0 {
		info.Percent = math.Round(1000*info.RSSMB*mib/float64(hostBytes)) / 10
	}
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
	i.usage.fill(&s, i.hostBytes)
	i.stamp(&s)
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
