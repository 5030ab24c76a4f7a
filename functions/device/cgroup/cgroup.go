// Package cgroup reads the memory counters of a process's control group, version 1 or 2, whichever the machine has.
// They tell a process that the out-of-memory killer ended from one that somebody else did, and how much memory there
// is for the processes of the group.
//
// These details have caused bugs:
//   - In a container the path in /proc/<pid>/cgroup is that of the host, while the mount shows the container's group
//     at its root. Then the counters at the mount's root are the right ones.
//   - Machines with version 1 mount an empty version 2 hierarchy too (/sys/fs/cgroup/unified): the version that
//     counts is the one that has the memory controller.
//   - The root group of version 2 has no memory.events. There /proc/vmstat counts, for the whole machine.
//   - A group may have no limit while one that it lies in has: the least of them counts.
//   - The usage includes files that were read. They are given up before anything is refused, so they count as free.
package cgroup

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is what a control group's memory controller counts. The zero value means that nothing could be read.
type Memory struct {
	Version   int    `json:"version"`    // of the control group: 1 or 2; 0: none found
	Dir       string `json:"dir"`        // of the control group's files
	OOMKills  int64  `json:"oom_kills"`  // processes of this group that the out-of-memory killer ended; -1: not told
	LimitHits int64  `json:"limit_hits"` // how often the group's limit refused memory; -1: not told
	Usage     int64  `json:"usage"`      // bytes charged now; -1: not told
	Limit     int64  `json:"limit"`      // bytes, the least of this group's and those it lies in; -1: no limit, or not told
	Free      int64  `json:"free"`       // bytes that the limits still allow, read files given up; -1: no limit, or not told
	// SystemOOMKills counts the same for the whole machine, for processes whose group does not tell; -1: not told.
	SystemOOMKills int64 `json:"system_oom_kills"`
}

// noLimit is the least limit of version 1 that means none: it is stored in pages and comes back rounded down.
const noLimit = 1 << 62

// Read returns the counters of the control group that the process is in. What cannot be read is not told; there is
// no error, because the counters only add to what is known.
func Read(pid int) Memory { return ReadBelow("/", strconv.Itoa(pid)) }

// ReadBelow is Read on a machine whose root folder is root. pid may be "self".
func ReadBelow(root, pid string) Memory {
	r := reader{root}
	return r.counters(r.find(pid))
}

// Again reads the counters of the same group once more, also when the process that it was read for is gone.
func (m Memory) Again() Memory { return reader{"/"}.counters(m.Version, m.Dir) }

// OOMKilledSince reports whether the out-of-memory killer ended a process of the group between m and after. With
// several processes in one group it may have been another one of them.
func (m Memory) OOMKilledSince(after Memory) bool {
	if m.Version == 0 || after.Version == 0 || m.OOMKills < 0 || after.OOMKills < 0 {
		return m.SystemOOMKills >= 0 && after.SystemOOMKills > m.SystemOOMKills
	}
	return after.OOMKills > m.OOMKills
}

// reader reads below root, which tests replace.
type reader struct{ root string }

// find returns the version of the hierarchy that has the memory controller and the folder of the process's group.
func (r reader) find(pid string) (version int, dir string) {
	groups, err := os.ReadFile(filepath.Join(r.root, "proc", pid, "cgroup"))
	if err != nil {
		return 0, ""
	}
	mounts, err := os.ReadFile(filepath.Join(r.root, "proc", pid, "mountinfo"))
	if err != nil {
		return 0, ""
	}
	for _, version := range []int{1, 2} {
		path, ok := groupPath(groups, version)
		if !ok {
			continue
		}
		for _, m := range mountsOf(mounts, version) {
			for _, dir := range m.candidates(path) {
				if _, err := os.Stat(filepath.Join(r.root, dir, files[version].usage)); err == nil {
					return version, dir
				}
			}
		}
	}
	return 0, ""
}

// groupPath returns the path of the memory controller's group from /proc/<pid>/cgroup: cgroups(7).
func groupPath(groups []byte, version int) (string, bool) {
	for s := bufio.NewScanner(bytes.NewReader(groups)); s.Scan(); {
		fields := strings.SplitN(s.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		memory := fields[0] == "0" && fields[1] == ""
		if version == 1 {
			memory = strings.Contains(","+fields[1]+",", ",memory,")
		}
		if memory {
			return fields[2], true
		}
	}
	return "", false
}

// mount is where a hierarchy, or the part of it below root, can be seen.
type mount struct{ root, point string }

// candidates are the folders in which the group at path may be seen, the best first.
func (m mount) candidates(path string) []string {
	below, ok := strings.CutPrefix(path, strings.TrimSuffix(m.root, "/"))
	if !ok {
		return []string{m.point}
	}
	return []string{filepath.Join(m.point, below), m.point}
}

// mountsOf lists the mounts that show the memory controller, from /proc/<pid>/mountinfo: proc_pid_mountinfo(5).
func mountsOf(mountinfo []byte, version int) []mount {
	var out []mount
	for s := bufio.NewScanner(bytes.NewReader(mountinfo)); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		memory := version == 2 && right[0] == "cgroup2"
		if version == 1 && right[0] == "cgroup" {
			memory = strings.Contains(","+right[2]+",", ",memory,")
		}
		if memory {
			out = append(out, mount{root: left[3], point: left[4]})
		}
	}
	return out
}

// counters reads the files of the group in dir.
func (r reader) counters(version int, dir string) Memory {
	m := Memory{Version: version, Dir: dir, OOMKills: -1, LimitHits: -1, Usage: -1, Limit: -1, Free: -1, SystemOOMKills: r.value("/proc/vmstat", "oom_kill")}
	f := files[version]
	if version == 0 {
		return m
	}
	m.OOMKills = r.value(filepath.Join(dir, f.kills), "oom_kill")
	m.LimitHits = r.value(filepath.Join(dir, f.hits), f.hitsKey)
	m.Usage = r.value(filepath.Join(dir, f.usage), "")
	for ; ; dir = filepath.Dir(dir) {
		if limit := r.value(filepath.Join(dir, f.limit), ""); limit >= 0 && limit < noLimit { // version 2 says "max" for none
			free := max(0, limit-max(0, r.value(filepath.Join(dir, f.usage), "")-r.readFiles(dir, f.stat)))
			m.Limit, m.Free = least(m.Limit, limit), least(m.Free, free)
		}
		if _, err := os.Stat(filepath.Join(r.root, filepath.Dir(dir), f.limit)); err != nil {
			return m // the root of version 2 has no limit, and above the mount there are no groups
		}
	}
}

// files are the names of a version's counters.
var files = map[int]struct {
	usage, limit, kills, hits, hitsKey string
	stat                               [2]string // keys of memory.stat that count files which were read
}{
	// Documentation/admin-guide/cgroup-v1/memory.rst; oom_kill is there since Linux 4.13
	1: {"memory.usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control", "memory.failcnt", "", [2]string{"total_inactive_file", "total_active_file"}},
	// Documentation/admin-guide/cgroup-v2.rst
	2: {"memory.current", "memory.max", "memory.events", "memory.events", "max", [2]string{"inactive_file", "active_file"}},
}

// readFiles returns the bytes charged to a group for files, which the kernel gives up when they are wanted.
func (r reader) readFiles(dir string, keys [2]string) (sum int64) {
	for _, key := range keys {
		sum += max(0, r.value(filepath.Join(dir, "memory.stat"), key))
	}
	return sum
}

// least is the smaller of two numbers of which -1 means none.
func least(a, b int64) int64 {
	if a < 0 {
		return b
	}
	return min(a, b)
}

// value reads the number after key, or the only number of the file for an empty key; -1 if there is none.
func (r reader) value(path, key string) int64 {
	text, err := os.ReadFile(filepath.Join(r.root, path))
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(text)) {
		number := strings.TrimSpace(line)
		if key != "" {
			var ok bool
			if number, ok = strings.CutPrefix(number, key+" "); !ok {
				continue
			}
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64); err == nil {
			return n
		}
	}
	return -1
}
