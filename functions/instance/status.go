package instance

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"

	"genfn/events"
	"genfn/functions/hostmemory"
	"genfn/functions/runner/process"
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
	guidance *events.DeviceSetting // of the last generation that had one
	runners  map[int]*runnerUsage  // by process id
}

// runnerUsage is what is known of one runner.
type runnerUsage struct {
	events.Process
	memory protocol.Memory // as seen last
	after  protocol.Memory // when its last job ended
	claim  int64           // bytes that its work is expected to hold in all; 0: it has none
}

// started notes a runner that is ready.
func (u *usage) started(p *process.Process) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ready = p.Ready()
	if u.runners == nil {
		u.runners = map[int]*runnerUsage{}
	}
	u.runners[p.PID()] = &runnerUsage{Process: events.Process{PID: p.PID(), StartedAt: p.Started().UTC()}, memory: u.ready.Memory, after: u.ready.Memory}
}

// found notes a runner that is ready, and what kind of device it has.
func (i *Instance) found(p *process.Process) {
	hello, r := i.config.Runner.Hello, p.Ready()
	kind := kindOfDevice(events.ClassOf(hello.Device), r.DeviceName, hello.Precision, hello.Threads)
	i.learned.device.Store(&kind)
	i.usage.started(p)
	i.countRunnerStart()
	if v := r.Validation; v != nil && v.Hardware != nil {
		i.heard(&protocol.Hardware{Hardware: v.Hardware})
	}
}

// of returns what is known of a runner's memory.
func (u *usage) of(pid int) protocol.Memory {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.runners[pid]; r != nil {
		return r.memory
	}
	return protocol.Memory{}
}

// claim notes how much a runner's work is expected to hold in all; 0 ends that.
func (u *usage) claim(pid int, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.runners[pid]; r != nil {
		r.claim = bytes
	}
}

// outstanding is how much other runners than one are expected to take yet, for work that was admitted.
func (u *usage) outstanding(pid int) (bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for other, r := range u.runners {
		if other != pid {
			bytes += max(0, r.claim-r.memory.RSS)
		}
	}
	return bytes
}

// ended forgets a runner.
func (u *usage) ended(pid int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.runners, pid)
}

// measured notes what a runner said of its memory at the end of a job, and how many generations it has made.
func (u *usage) measured(pid, made int, m protocol.Memory) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.runners[pid]; r != nil {
		r.memory, r.after, r.Generations = m, m, int64(made)
	}
}

// seen notes what a runner said of its memory while it works.
func (u *usage) seen(pid int, m protocol.Memory) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.runners[pid]; r != nil {
		r.memory = m
	}
}

// process returns what is known of a runner; nil: nothing.
func (u *usage) process(pid int) *events.Process {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.runners[pid]
	if r == nil {
		return nil
	}
	p := r.Process
	return &p
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
	for pid, r := range u.runners {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue // it has just ended
		}
		if s, err := p.NewStatus(); err == nil {
			r.memory.SetStatus(s)
		}
	}
}

// ownMemory is what this process holds; nil if that cannot be read.
func ownMemory() *events.InstanceMemory {
	p, err := procfs.Self()
	if err != nil {
		return nil
	}
	s, err := p.NewStatus()
	if err != nil {
		return nil
	}
	files, err := p.FileDescriptorsLen()
	if err != nil {
		return nil
	}
	return &events.InstanceMemory{PID: p.PID, RSS: int64(s.VmRSS), OpenFiles: files, Goroutines: runtime.NumGoroutine()} //nolint:gosec // no process has that much
}

// device is the memory of the device as a runner told it last, nil if it has none of its own.
func (u *usage) device() (d *protocol.DeviceMemory) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, r := range u.runners {
		if r.memory.Device != nil {
			d = r.memory.Device
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
	info := &events.MemoryInfo{
		HostTotal: max(0, host.Total), HostFree: max(0, host.Free), SystemSwapTotal: host.SwapTotal, SystemSwapUsed: host.SwapUsed, Instance: ownMemory(),
	}
	for _, pid := range slices.Sorted(maps.Keys(u.runners)) {
		r := u.runners[pid]
		m := r.memory
		one := events.ProcessMemory{Process: r.Process, RSS: m.RSS, Swap: m.Swap, Ledger: r.after.Ledger, LedgerBaseline: r.after.LedgerBaseline, DeviceUsed: deviceUsed(r.after)}
		info.Processes = append(info.Processes, one)
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
	s.Kind, s.Conditions = i.learned.kind(), slices.Concat(i.pressure.conditions(), i.hardware.Conditions())
	s.Hardware = i.hardware.Hardware()
	i.usage.fill(&s, i.host())
	if total := s.MemoryInfo.DeviceTotal; total != nil {
		s.MemoryInfo.DeviceUsable = known(i.limit.Usable(*total))
	}
	s.Leaving = i.leaving.Load()
	if limits := i.limits.Load(); limits != nil {
		s.MinPending = *limits
	}
	i.stamp(&s)
	return s
}

// changed tells of a new state of the device.
func (i *Instance) changed(s events.DeviceStatus) {
	if s.State == events.StateReady {
		i.hardware.proved()
	}
	s = i.complete(s)
	i.expose(s)
	i.countState(s)
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
