// Package hostmemory tells how much memory the processes of this machine or container may have.
package hostmemory

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// Limit is how much memory there is at most.
type Limit struct {
	Bytes  int64
	Source string // for people: "the machine" or "the control group"
}

// Read returns the smaller of the machine's memory and the limits of the control groups, version 1 or 2, that this
// process is in. Memory that others use is not subtracted, and swap is not added.
func Read() (Limit, error) { return read(os.DirFS("/")) }

func read(root fs.FS) (Limit, error) {
	meminfo, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return Limit{}, fmt.Errorf("memory of the machine: %w", err)
	}
	limit := Limit{Source: "the machine"}
	for line := range bytes.Lines(meminfo) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemTotal:")); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"), 10, 64)
			if err != nil {
				return Limit{}, fmt.Errorf("memory of the machine: /proc/meminfo says %q", bytes.TrimSpace(line))
			}
			limit.Bytes = kib << 10
		}
	}
	if limit.Bytes <= 0 {
		return Limit{}, errors.New("memory of the machine: /proc/meminfo has no MemTotal")
	}
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return limit, nil //nolint:nilerr // a kernel without control groups limits nothing
	}
	for line := range strings.Lines(string(groups)) {
		if n := groupLimit(root, strings.TrimSpace(line)); n > 0 && n < limit.Bytes {
			limit = Limit{Bytes: n, Source: "the control group"}
		}
	}
	return limit, nil
}

// groupLimit returns the least limit of a control group and those it lies in, 0 if there is none. line is one of
// /proc/self/cgroup: "0::/a/b" for version 2, "7:memory:/a/b" for version 1. In a container the path may be that of the
// host, which cannot be seen: the mount's own root is the container's then.
func groupLimit(root fs.FS, line string) int64 {
	parts := strings.SplitN(line, ":", 3)
	if len(parts) != 3 {
		return 0
	}
	mount, file := "sys/fs/cgroup", "memory.max"
	switch {
	case parts[0] == "0" && parts[1] == "":
	case strings.Contains(","+parts[1]+",", ",memory,"):
		mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
	default:
		return 0
	}
	var least int64
	for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
		raw, err := fs.ReadFile(root, path.Join(mount, dir, file))
		if err == nil {
			// "max" of version 2 is no number, the "no limit" of version 1 is one near 2^63.
			if n, err := strconv.ParseInt(string(bytes.TrimSpace(raw)), 10, 64); err == nil && n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
		if dir == "/" {
			return least
		}
	}
}
