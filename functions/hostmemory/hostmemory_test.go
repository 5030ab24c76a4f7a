package hostmemory

import (
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

func TestRead(t *testing.T) {
	const meminfo = "MemTotal:       1024 kB\nMemFree:         1 kB\n"
	machine := Limit{1 << 20, "the machine"}
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  Limit
	}{
		"no control groups": {files("proc/meminfo", meminfo), machine},
		"version 2": {files("proc/meminfo", meminfo, "proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max", "524288\n", "sys/fs/cgroup/a/memory.max", "max\n"),
			Limit{524288, "the control group"}},
		"version 2, the parent's is less": {files("proc/meminfo", meminfo, "proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max", "524288\n", "sys/fs/cgroup/a/memory.max", "1000\n"),
			Limit{1000, "the control group"}},
		"version 2, no limit": {files("proc/meminfo", meminfo, "proc/self/cgroup", "0::/\n", "sys/fs/cgroup/memory.max", "max\n"), machine},
		"version 1": {files("proc/meminfo", meminfo, "proc/self/cgroup", "9:cpu,cpuacct:/x\n7:memory:/docker/ab\n", "sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", "4096\n"),
			Limit{4096, "the control group"}},
		"version 1, path of the host": {files("proc/meminfo", meminfo, "proc/self/cgroup", "7:memory:/docker/ab\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", "8192\n"),
			Limit{8192, "the control group"}},
		"version 1, no limit": {files("proc/meminfo", meminfo, "proc/self/cgroup", "7:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"), machine},
		"damaged":             {files("proc/meminfo", meminfo, "proc/self/cgroup", "nonsense\n0::\n", "sys/fs/cgroup/memory.max", "many\n"), machine},
	} {
		got, err := read(c.files)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
	for _, bad := range []fstest.MapFS{{}, files("proc/meminfo", "MemFree: 1 kB\n"), files("proc/meminfo", "MemTotal: lots kB\n")} {
		_, err := read(bad)
		require.ErrorContains(t, err, "memory of the machine")
	}
}

func TestThisMachine(t *testing.T) {
	limit, err := Read()
	require.NoError(t, err)
	require.Greater(t, limit.Bytes, int64(64<<20))
}
