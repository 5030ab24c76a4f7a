// Package hostcpu tells how many processor cores the processes of this machine or container may use.
//
// These details have caused bugs:
//   - A control group's quota is time, not cores: a process of 32 threads under a quota of two cores runs for a
//     sixteenth of each period and then stands still, with all its threads in the middle of a barrier.
//   - Two logical processors of one core share its arithmetic units: for matrix products they are one.
package hostcpu

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Cores are what this process may use.
type Cores struct {
	Logical  int     // processors that the affinity mask, and so a control group's cpuset, allows
	Physical int     // cores that they belong to; Logical where the system does not tell
	Machine  int     // logical processors of the machine
	Quota    float64 // of the control groups, in processors: 1.5 is one and a half; 0: none
}

// Read reads the affinity mask of this process, the topology, and the quotas of the control groups, version 1 or 2,
// that it is in.
func Read() (Cores, error) {
	var mask unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mask); err != nil {
		return Cores{}, fmt.Errorf("processors of this process: %w", err)
	}
	var allowed []int
	for cpu := range 64 * len(mask) { // words of 64 bits
		if mask.IsSet(cpu) {
			allowed = append(allowed, cpu)
		}
	}
	return read(os.DirFS("/"), allowed), nil
}

func read(root fs.FS, allowed []int) Cores {
	c := Cores{Logical: len(allowed), Machine: len(allowed)}
	cores := map[string]bool{}
	for _, cpu := range allowed {
		core := strconv.Itoa(cpu) // alone, unless the topology says more
		siblings, err := fs.ReadFile(root, fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
		if err == nil {
			core = string(bytes.TrimSpace(siblings))
		}
		cores[core] = true
	}
	c.Physical = len(cores)
	if all, err := fs.Glob(root, "sys/devices/system/cpu/cpu[0-9]*"); err == nil {
		c.Machine = max(c.Machine, len(all))
	}
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil { // a kernel without control groups limits nothing
		return c
	}
	for line := range strings.Lines(string(groups)) {
		if q := quota(root, strings.TrimSpace(line)); q > 0 && (c.Quota == 0 || q < c.Quota) {
			c.Quota = q
		}
	}
	return c
}

// quota returns the least quota of a control group and those it lies in, in processors, 0 if there is none. line is one
// of /proc/self/cgroup: "0::/a/b" for version 2, "1:cpu,cpuacct:/a/b" for version 1. In a container the path may be that
// of the host, which cannot be seen: the mount's own root is the container's then.
func quota(root fs.FS, line string) (least float64) {
	parts := strings.SplitN(line, ":", 3)
	if len(parts) != 3 {
		return 0
	}
	var of func(dir string) float64
	switch {
	case parts[0] == "0" && parts[1] == "": // cgroup-v2.rst: cpu.max is "$MAX $PERIOD", $MAX may be "max"
		of = func(dir string) float64 {
			text, err := fs.ReadFile(root, path.Join("sys/fs/cgroup", dir, "cpu.max"))
			most, period, ok := strings.Cut(strings.TrimSpace(string(text)), " ")
			if err != nil || !ok {
				return 0
			}
			return ratio(most, period)
		}
	case strings.Contains(","+parts[1]+",", ",cpu,"): // scheduler/sched-bwc.rst: a quota of -1 is none
		of = func(dir string) float64 {
			for _, mount := range []string{"sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"} {
				most, err := fs.ReadFile(root, path.Join(mount, dir, "cpu.cfs_quota_us"))
				period, periodErr := fs.ReadFile(root, path.Join(mount, dir, "cpu.cfs_period_us"))
				if err == nil && periodErr == nil {
					return ratio(string(most), string(period))
				}
			}
			return 0
		}
	default:
		return 0
	}
	for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
		if q := of(dir); q > 0 && (least == 0 || q < least) {
			least = q
		}
		if dir == "/" {
			return least
		}
	}
}

// ratio divides two numbers as files of control groups have them; 0 for what is no quota.
func ratio(most, period string) float64 {
	m, err := strconv.ParseFloat(strings.TrimSpace(most), 64)
	p, periodErr := strconv.ParseFloat(strings.TrimSpace(period), 64)
	if err != nil || periodErr != nil || m <= 0 || p <= 0 {
		return 0
	}
	return m / p
}

// Whole is how many threads keep busy what the process may use: physical cores, and no more than the quota has whole
// processors; at least 1.
func (c Cores) Whole() int {
	n := c.Physical
	if c.Quota > 0 {
		n = min(n, int(c.Quota))
	}
	return max(n, 1)
}
