// Package cgroup reads the memory counters of a process's control group, version 1 or 2, whichever the machine has.
// They tell a process that the out-of-memory killer ended from one that somebody else did.
//
// These details have caused bugs:
//   - In a container the path in /proc/<pid>/cgroup is that of the host, while the mount shows the container's group
//     at its root. Then the counters at the mount's root are the right ones.
//   - Machines with version 1 mount an empty version 2 hierarchy too (/sys/fs/cgroup/unified): the version that
//     counts is the one that has the memory controller.
//   - The root group of version 2 has no memory.events. There /proc/vmstat counts, for the whole machine.
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
	Limit     int64  `json:"limit"`      // bytes; -1: no limit, or not told
	// SystemOOMKills counts the same for the whole machine, for processes whose group does not tell; -1: not told.
	SystemOOMKills int64 `json:"system_oom_kills"`
}

// noLimit is the least limit of version 1 that means none: it is stored in pages and comes back rounded down.
const noLimit = 1 << 62

// Read returns the counters of the control group that the process is in. What cannot be read is not told; there is
// no error, because the counters only add to what is known.
func Read(pid int) Memory { return reader{root: "/"}.read(strconv.Itoa(pid)) }

// Again reads the counters of the same group once more, also when the process that it was read for is gone.
func (m Memory) Again() Memory { return reader{root: "/"}.counters(m.Version, m.Dir) }

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

func (r reader) read(pid string) Memory {
	version, dir := r.find(pid)
	return r.counters(version, dir)
}

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
	for _, v := range []struct {
		version  int
		counters string
	}{{1, "memory.usage_in_bytes"}, {2, "memory.current"}} {
		path, ok := groupPath(groups, v.version)
		if !ok {
			continue
		}
		for _, m := range mountsOf(mounts, v.version) {
			for _, dir := range m.candidates(path) {
				if _, err := os.Stat(filepath.Join(r.root, dir, v.counters)); err == nil {
					return v.version, dir
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
	m := Memory{Version: version, Dir: dir, OOMKills: -1, LimitHits: -1, Usage: -1, Limit: -1, SystemOOMKills: r.value("/proc/vmstat", "oom_kill")}
	switch version {
	case 1: // Documentation/admin-guide/cgroup-v1/memory.rst; oom_kill is there since Linux 4.13
		m.OOMKills = r.value(filepath.Join(dir, "memory.oom_control"), "oom_kill")
		m.LimitHits = r.value(filepath.Join(dir, "memory.failcnt"), "")
		m.Usage = r.value(filepath.Join(dir, "memory.usage_in_bytes"), "")
		m.Limit = r.value(filepath.Join(dir, "memory.limit_in_bytes"), "")
	case 2: // Documentation/admin-guide/cgroup-v2.rst
		m.OOMKills = r.value(filepath.Join(dir, "memory.events"), "oom_kill")
		m.LimitHits = r.value(filepath.Join(dir, "memory.events"), "max")
		m.Usage = r.value(filepath.Join(dir, "memory.current"), "")
		m.Limit = r.value(filepath.Join(dir, "memory.max"), "") // "max" for none
	}
	if m.Limit >= noLimit {
		m.Limit = -1
	}
	return m
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
