package cgroup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree writes files below a folder that stands for the root of a machine.
func tree(t *testing.T, files map[string]string) reader {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return reader{root: root}
}

// As a machine with version 1 has them, with the empty hierarchy of version 2 beside it.
const (
	groupsV1 = "9:name=systemd:/\n4:memory:/jobs/abc\n1:cpu,cpuacct:/\n0::/\n"
	mountsV1 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n" +
		"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n" +
		"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	mountsV2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
)

func TestVersion1(t *testing.T) {
	r := tree(t, map[string]string{
		"proc/7/cgroup":    groupsV1,
		"proc/7/mountinfo": mountsV1,
		"proc/vmstat":      "nr_free_pages 5\noom_kill 9\n",
		"sys/fs/cgroup/memory/jobs/abc/memory.oom_control":     "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
		"sys/fs/cgroup/memory/jobs/abc/memory.failcnt":         "12\n",
		"sys/fs/cgroup/memory/jobs/abc/memory.usage_in_bytes":  "4096\n",
		"sys/fs/cgroup/memory/jobs/abc/memory.limit_in_bytes":  "9223372036854771712\n", // none, rounded down to a page
		"sys/fs/cgroup/unified/cgroup.procs":                   "7\n",
		"sys/fs/cgroup/memory/jobs/other/memory.oom_control":   "oom_kill 77\n",
		"sys/fs/cgroup/memory/memory.oom_control":              "oom_kill 99\n",
		"sys/fs/cgroup/memory/memory.usage_in_bytes":           "1\n",
		"sys/fs/cgroup/memory/jobs/abc/child/memory.something": "",
	})
	require.Equal(t, Memory{Version: 1, Dir: "/sys/fs/cgroup/memory/jobs/abc", OOMKills: 3, LimitHits: 12, Usage: 4096, Limit: -1, Free: -1, SystemOOMKills: 9}, ReadBelow(r.root, "7"))
}

func TestVersion2(t *testing.T) {
	r := tree(t, map[string]string{
		"proc/7/cgroup":    "0::/system.slice/genfn.service\n",
		"proc/7/mountinfo": mountsV2,
		"proc/vmstat":      "oom_kill 1\n",
		"sys/fs/cgroup/system.slice/genfn.service/memory.events":  "low 0\nhigh 4\nmax 5\noom 2\noom_kill 1\noom_group_kill 0\n",
		"sys/fs/cgroup/system.slice/genfn.service/memory.current": "8192\n",
		"sys/fs/cgroup/system.slice/genfn.service/memory.max":     "1073741824\n",
		"sys/fs/cgroup/system.slice/genfn.service/memory.stat":    "anon 7000\ninactive_file 64\nactive_file 32\n",
	})
	want := Memory{Version: 2, Dir: "/sys/fs/cgroup/system.slice/genfn.service", OOMKills: 1, LimitHits: 5, Usage: 8192, Limit: 1 << 30, Free: 1<<30 - 8192 + 96, SystemOOMKills: 1}
	require.Equal(t, want, ReadBelow(r.root, "7"))
	require.NoError(t, os.WriteFile(filepath.Join(r.root, want.Dir, "memory.max"), []byte("max\n"), 0o600))
	require.EqualValues(t, -1, ReadBelow(r.root, "7").Limit)
	require.NoError(t, os.WriteFile(filepath.Join(r.root, "sys/fs/cgroup/system.slice/memory.max"), []byte("5000\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(r.root, "sys/fs/cgroup/system.slice/memory.current"), []byte("4000\n"), 0o600))
	m := ReadBelow(r.root, "7")
	require.EqualValues(t, 5000, m.Limit, "that of the group above")
	require.EqualValues(t, 1000, m.Free)
}

// TestContainer: the path of the group is the host's, and the mount shows it at its root.
func TestContainer(t *testing.T) {
	r := tree(t, map[string]string{
		"proc/7/cgroup":    "4:memory:/docker/abc\n",
		"proc/7/mountinfo": "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n",
		"sys/fs/cgroup/memory/memory.usage_in_bytes": "4096\n",
		"sys/fs/cgroup/memory/memory.oom_control":    "oom_kill_disable 0\nunder_oom 0\n", // older than Linux 4.13
	})
	m := ReadBelow(r.root, "7")
	require.Equal(t, "/sys/fs/cgroup/memory", m.Dir)
	require.EqualValues(t, -1, m.OOMKills)
	require.EqualValues(t, 4096, m.Usage)
	require.EqualValues(t, -1, m.SystemOOMKills)
}

func TestNothingToRead(t *testing.T) {
	r := tree(t, map[string]string{"proc/vmstat": "oom_kill 4\n", "proc/8/cgroup": "garbage\n::\n", "proc/8/mountinfo": "short\n - \n"})
	for _, pid := range []string{"7", "8"} {
		require.Equal(t, Memory{OOMKills: -1, LimitHits: -1, Usage: -1, Limit: -1, Free: -1, SystemOOMKills: 4}, ReadBelow(r.root, pid))
	}
}

func TestOOMKilledSince(t *testing.T) {
	group := func(group, system int64) Memory { return Memory{Version: 2, OOMKills: group, SystemOOMKills: system} }
	require.True(t, group(1, 1).OOMKilledSince(group(2, 2)))
	require.False(t, group(1, 1).OOMKilledSince(group(1, 2)), "it was a process of another group")
	require.False(t, group(1, 1).OOMKilledSince(group(1, 1)))
	require.True(t, Memory{SystemOOMKills: 1}.OOMKilledSince(Memory{SystemOOMKills: 2}), "no group: the machine's count tells")
	require.True(t, group(-1, 1).OOMKilledSince(group(-1, 2)), "a kernel whose groups do not count")
	require.False(t, Memory{SystemOOMKills: -1}.OOMKilledSince(Memory{SystemOOMKills: -1}))
	require.False(t, Memory{}.OOMKilledSince(Memory{}))
}

func TestThisProcess(t *testing.T) {
	m := Read(os.Getpid())
	require.GreaterOrEqual(t, m.SystemOOMKills, int64(0), "Linux has counted since 4.13")
	again := m.Again()
	require.Equal(t, m.Dir, again.Dir)
	require.GreaterOrEqual(t, again.OOMKills, m.OOMKills)
}
