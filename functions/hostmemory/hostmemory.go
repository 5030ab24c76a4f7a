// Package hostmemory tells how much memory the processes of this machine or container may have, and how much of it
// is free now.
package hostmemory

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"genfn/functions/device/cgroup"
)

// Memory is how much there is, in bytes.
type Memory struct {
	Total  int64  // what one process can have at most: the least that machine, control groups and resource limits allow
	Source string // what allows no more, for people: "the machine", "the control group" or "the limit of address space"
	Free   int64  // that can be had without swapping, files that were read given up; -1: not told

	SwapTotal, SwapUsed int64 // of the machine; 0 without swap
}

// Read returns the memory of the machine, bounded by the control groups, version 1 or 2, that this process is in, and
// by its limit of address space (RLIMIT_AS), which children inherit.
func Read() (Memory, error) {
	m, err := read("/")
	if err != nil {
		return Memory{}, err
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &limit) == nil && limit.Cur < uint64(m.Total) { //nolint:gosec // Total is positive
		m.Total, m.Source = int64(limit.Cur), "the limit of address space" //nolint:gosec // less than Total
	}
	return m, nil
}

// fresh is how old what Recent returns may be. Reading takes a millisecond.
const fresh = 100 * time.Millisecond

var recent struct {
	sync.Mutex
	at     time.Time
	memory Memory
}

// Recent is Read as it was at most 100 ms ago. It is safe for concurrent use.
func Recent() (Memory, error) {
	recent.Lock()
	defer recent.Unlock()
	if !recent.at.IsZero() && time.Since(recent.at) < fresh {
		return recent.memory, nil
	}
	m, err := Read()
	if err == nil {
		recent.memory, recent.at = m, time.Now()
	}
	return m, err
}

// read reads below root, which tests replace.
func read(root string) (Memory, error) {
	proc, err := procfs.NewFS(filepath.Join(root, "proc"))
	if err != nil {
		return Memory{}, fmt.Errorf("memory of the machine: %w", err)
	}
	info, err := proc.Meminfo()
	if err != nil {
		return Memory{}, fmt.Errorf("memory of the machine: /proc/meminfo: %w", err)
	}
	if bytes(info.MemTotalBytes) <= 0 {
		return Memory{}, errors.New("memory of the machine: /proc/meminfo has no MemTotal")
	}
	m := Memory{Total: bytes(info.MemTotalBytes), Source: "the machine", Free: -1, SwapTotal: bytes(info.SwapTotalBytes)}
	m.SwapUsed = max(0, m.SwapTotal-bytes(info.SwapFreeBytes))
	if info.MemAvailableBytes != nil { // since Linux 3.14
		m.Free = bytes(info.MemAvailableBytes)
	}
	group := cgroup.ReadBelow(root, "self")
	if group.Limit >= 0 && group.Limit < m.Total {
		m.Total, m.Source = group.Limit, "the control group"
	}
	if group.Free >= 0 && (m.Free < 0 || group.Free < m.Free) {
		m.Free = group.Free
	}
	return m, nil
}

func bytes(n *uint64) int64 {
	if n == nil {
		return 0
	}
	return int64(*n) //nolint:gosec // no machine has that much
}
