package runner

import (
	"bytes"
	"os"
	"strconv"

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
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m
	}
	m.RSS, m.PeakRSS = statusBytes(status, "VmRSS:"), statusBytes(status, "VmHWM:")
	m.VMS, m.Swap = statusBytes(status, "VmSize:"), statusBytes(status, "VmSwap:")
	return m
}

// statusBytes returns a "Key:  123 kB" line of /proc/<pid>/status in bytes.
func statusBytes(status []byte, key string) int64 {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			if fields := bytes.Fields(rest); len(fields) > 0 {
				kib, _ := strconv.ParseInt(string(fields[0]), 10, 64)
				return kib << 10
			}
		}
	}
	return 0
}

// resetPeakRSS makes the resident set of now its highest so far (proc(5), clear_refs). Where that is not allowed the
// peak is that of the process's life.
func resetPeakRSS() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }
