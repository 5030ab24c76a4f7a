package runner

import (
	"os"

	"github.com/prometheus/procfs"

	"genfn/functions/runner/protocol"
)

// memory measures this process. What cannot be read is 0.
func (r *runner) memory() protocol.Memory {
	var m protocol.Memory
	if r.engine != nil {
		m.Ledger, m.LedgerPeak = r.engine.Ledger()
		m.Device = r.engine.DeviceMemory()
	}
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
