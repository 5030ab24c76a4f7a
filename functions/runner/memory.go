package runner

import (
	"os"
	"sync"
	"time"

	"github.com/prometheus/procfs"

	"genfn/functions/runner/protocol"
)

// memory measures this process. What cannot be read is 0.
func (r *runner) memory() protocol.Memory {
	var m protocol.Memory
	if r.engine != nil {
		m.Ledger, m.LedgerPeak = r.engine.Ledger()
		m.LedgerBaseline = r.engine.Resident()
		m.Device = r.engine.DeviceMemory()
	}
	r.devicePeak.note(m.Device)
	if p, err := procfs.Self(); err == nil {
		if s, err := p.NewStatus(); err == nil {
			m.SetStatus(s)
		}
	}
	return m
}

// resetPeakRSS makes the resident set of now its highest so far (proc(5), clear_refs). Where that is not allowed the
// peak is that of the process's life.
func resetPeakRSS() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// usageInterval is how often memory is looked at while a job generates. A look takes less than 0.1 ms.
const usageInterval = 250 * time.Millisecond

// devicePeak is the highest use of the device's memory that was seen. Safe for concurrent use.
type devicePeak struct {
	mu   sync.Mutex
	peak int64
}

func (p *devicePeak) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peak = 0
}

// note takes a look into account, and tells it of the highest so far.
func (p *devicePeak) note(d *protocol.DeviceMemory) {
	if d == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peak = max(p.peak, d.Used)
	d.Peak = p.peak
}

// watchMemory looks at the process's memory and sends it at an interval until stop is called.
func (r *runner) watchMemory(job uint64) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(usageInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if r.conn.Send(&protocol.Usage{Job: job, Memory: r.memory()}) != nil {
					return // the parent is gone, which receive sees too
				}
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}
