package hostmemory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree writes pairs of path and text below a folder that stands for the root of a machine.
func tree(t *testing.T, pairs ...string) string {
	t.Helper()
	root := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		path := filepath.Join(root, pairs[i])
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(pairs[i+1]), 0o600))
	}
	return root
}

// What machines with control groups of version 1 and 2 have.
const (
	meminfo = "MemTotal:       1024 kB\nMemFree:         1 kB\nMemAvailable:    512 kB\nSwapTotal:       64 kB\nSwapFree:        60 kB\n"
	mountV1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
	mountV2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
)

func TestRead(t *testing.T) {
	machine := Memory{Total: 1 << 20, Source: "the machine", Free: 512 << 10, SwapTotal: 64 << 10, SwapUsed: 4 << 10}
	group := func(total, free int64) Memory {
		m := machine
		m.Total, m.Source, m.Free = total, "the control group", free
		return m
	}
	v2 := []string{"proc/meminfo", meminfo, "proc/self/cgroup", "0::/a/b\n", "proc/self/mountinfo", mountV2}
	v1 := []string{"proc/meminfo", meminfo, "proc/self/cgroup", "9:cpu,cpuacct:/x\n7:memory:/docker/ab\n", "proc/self/mountinfo", mountV1}
	for name, c := range map[string]struct {
		files []string
		want  Memory
	}{
		"no control groups": {[]string{"proc/meminfo", meminfo}, machine},
		"version 2": {append(v2[:6:6], "sys/fs/cgroup/a/b/memory.current", "400000\n", "sys/fs/cgroup/a/b/memory.max", "524288\n",
			"sys/fs/cgroup/a/b/memory.stat", "anon 1\ninactive_file 100000\nactive_file 50000\n", "sys/fs/cgroup/a/memory.max", "max\n"), group(524288, 274288)},
		"version 2, the parent's is less": {append(v2[:6:6], "sys/fs/cgroup/a/b/memory.current", "10\n", "sys/fs/cgroup/a/b/memory.max", "524288\n",
			"sys/fs/cgroup/a/memory.current", "900\n", "sys/fs/cgroup/a/memory.max", "1000\n"), group(1000, 100)},
		"version 2, over its limit": {append(v2[:6:6], "sys/fs/cgroup/a/b/memory.current", "2000\n", "sys/fs/cgroup/a/b/memory.max", "1000\n"), group(1000, 0)},
		"version 2, no limit":       {append(v2[:6:6], "sys/fs/cgroup/a/b/memory.current", "10\n", "sys/fs/cgroup/a/b/memory.max", "max\n"), machine},
		"version 1": {append(v1[:6:6], "sys/fs/cgroup/memory/docker/ab/memory.usage_in_bytes", "3000\n", "sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", "4096\n",
			"sys/fs/cgroup/memory/docker/ab/memory.stat", "inactive_file 7\ntotal_inactive_file 1000\ntotal_active_file 500\n"), group(4096, 2596)},
		"version 1, path of the host": {append(v1[:6:6], "sys/fs/cgroup/memory/memory.usage_in_bytes", "8000\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", "8192\n"), group(8192, 192)},
		"version 1, no limit": {append(v1[:6:6], "sys/fs/cgroup/memory/docker/ab/memory.usage_in_bytes", "1\n",
			"sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", "9223372036854771712\n"), machine},
		"damaged":           {[]string{"proc/meminfo", meminfo, "proc/self/cgroup", "nonsense\n0::\n", "proc/self/mountinfo", "- -\n"}, machine},
		"before Linux 3.14": {[]string{"proc/meminfo", "MemTotal: 1024 kB\n"}, Memory{Total: 1 << 20, Source: "the machine", Free: -1}},
	} {
		got, err := read(tree(t, c.files...))
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
	for _, bad := range [][]string{{}, {"proc/meminfo", "MemFree: 1 kB\n"}, {"proc/meminfo", "MemTotal: lots kB\n"}} {
		_, err := read(tree(t, bad...))
		require.ErrorContains(t, err, "memory of the machine")
	}
}

func TestThisMachine(t *testing.T) {
	m, err := Read()
	require.NoError(t, err)
	require.Greater(t, m.Total, int64(64<<20))
	require.Positive(t, m.Free)
	require.LessOrEqual(t, m.Free, m.Total)
}
