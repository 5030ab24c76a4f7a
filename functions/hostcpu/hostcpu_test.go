package hostcpu

import (
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func files(pairs ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

// topology is that of a machine whose logical processors i and i+cores are of one core.
func topology(cores int, pairs ...string) fstest.MapFS {
	fsys := files(pairs...)
	for cpu := range 2 * cores {
		list := fmt.Sprintf("%d,%d\n", cpu%cores, cpu%cores+cores)
		fsys[fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu)] = &fstest.MapFile{Data: []byte(list)}
	}
	return fsys
}

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		files   fstest.MapFS
		allowed []int
		want    Cores
		whole   int
	}{
		"nothing is told":            {files(), []int{0, 1}, Cores{Logical: 2, Physical: 2, Machine: 2}, 2},
		"two threads a core":         {topology(4), []int{0, 1, 2, 3, 4, 5, 6, 7}, Cores{Logical: 8, Physical: 4, Machine: 8}, 4},
		"affinity of one core":       {topology(4), []int{1, 5}, Cores{Logical: 2, Physical: 1, Machine: 8}, 1},
		"quota, version 2":           {topology(4, "proc/self/cgroup", "0::/a\n", "sys/fs/cgroup/a/cpu.max", "250000 100000\n"), []int{0, 1, 2, 3}, Cores{4, 4, 8, 2.5}, 2},
		"the parent's is less":       {topology(4, "proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max", "max 100000\n", "sys/fs/cgroup/a/cpu.max", "50000 100000\n"), []int{0, 1}, Cores{2, 2, 8, 0.5}, 1},
		"quota, version 1":           {files("proc/self/cgroup", "4:memory:/x\n1:cpu,cpuacct:/jobs/7\n0::/\n", "sys/fs/cgroup/cpu/jobs/7/cpu.cfs_quota_us", "300000\n", "sys/fs/cgroup/cpu/jobs/7/cpu.cfs_period_us", "100000\n"), []int{0, 1}, Cores{2, 2, 2, 3}, 2},
		"version 1, another mount":   {files("proc/self/cgroup", "1:cpu,cpuacct:/\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"), []int{0, 1}, Cores{2, 2, 2, 1}, 1},
		"version 1, no quota":        {files("proc/self/cgroup", "1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"), []int{0}, Cores{1, 1, 1, 0}, 1},
		"a path of the host":         {files("proc/self/cgroup", "0::/../docker/x\n", "sys/fs/cgroup/cpu.max", "150000 100000"), []int{0, 1, 2}, Cores{3, 3, 3, 1.5}, 1},
		"damaged":                    {files("proc/self/cgroup", "nonsense\n0::\n", "sys/fs/cgroup/cpu.max", "many\n"), []int{0}, Cores{1, 1, 1, 0}, 1},
		"cpuset is no quota of time": {files("proc/self/cgroup", "3:cpuset:/x\n", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "1\n"), []int{0}, Cores{1, 1, 1, 0}, 1},
	} {
		got := read(c.files, c.allowed)
		require.Equal(t, c.want, got, name)
		require.Equal(t, c.whole, got.Whole(), name)
	}
}

func TestThisMachine(t *testing.T) {
	c, err := Read()
	require.NoError(t, err)
	require.Positive(t, c.Physical)
	require.GreaterOrEqual(t, c.Logical, c.Physical)
	require.GreaterOrEqual(t, c.Machine, c.Logical)
}
