package virtualgpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
)

func TestCheck(t *testing.T) {
	for _, good := range []string{
		"", "clFlush:code=-5", "clFlush:code=CL_OUT_OF_RESOURCES,after=2,times=1; alloc:code=-4,every=3", "clWaitForEvents:code=-14,sticky",
		"clEnqueueNDRangeKernel:flip,kernel=gemm,probability=0.5,seed=-3", "any:delay=10\nwait:hang", "build:crash=ABRT,once=/tmp/x",
	} {
		require.NoError(t, Check(good), good)
	}
	for bad, expected := range map[string]string{
		"clFlush": "CALL:OPTION", "clFly:code=-5": "clFlush", "clFlush:code=5": "code=-5", "clFlush:code=CL_NO": "CL_OUT_OF_RESOURCES", "clFlush:after=3": "what is to happen",
		"clFlush:flip": "clEnqueueNDRangeKernel", "clFlush:code=-5,every=0": "at least 1", "clFlush:hang=1": "without a value", "clFlush:crash=TERM": "SEGV",
		"clFlush:code=-5,probability=nan": "0 to 1", "clFlush:code=-5,once=x": "absolute path", "clFlush:code=-5,often": "sticky",
		strings.Repeat("clFlush:code=-5;", 33): "at most 32",
	} {
		var e *events.Error
		require.ErrorAs(t, Check(bad), &e, bad)
		require.Contains(t, e.Expected, expected, bad)
	}
}

func TestFindNamesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	_, err := Find(dir)
	require.ErrorContains(t, err, "make vgpu")
	require.ErrorContains(t, err, filepath.Join(dir, "libgenfn_vgpu.so"))
	_, err = Config{Dir: dir}.Environment()
	require.ErrorContains(t, err, "make vgpu")
	for _, part := range parts {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, part)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, part), nil, 0o600))
	}
	env, err := Config{Dir: dir, Faults: "clFlush:code=-5", Memory: 1 << 20, Cache: filepath.Join(dir, "cache")}.Environment()
	require.NoError(t, err)
	require.Contains(t, env, "OPENCL_LAYERS="+filepath.Join(dir, "libgenfn_vgpu.so"))
	require.Contains(t, env, "GENFN_VGPU_MEMORY=1048576")
	require.DirExists(t, filepath.Join(dir, "cache"))
	_, err = Config{Dir: dir, Faults: "nonsense"}.Environment()
	require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest})
}

func TestFaultFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "faults")
	require.Error(t, WriteFaults(file, "nonsense"))
	require.NoFileExists(t, file)
	require.NoError(t, WriteFaults(file, "clFlush:code=-5"))
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "clFlush:code=-5\n", string(raw))
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no part is left")
}

func TestCounts(t *testing.T) {
	counter := filepath.Join(t.TempDir(), "count-%p")
	raw := make([]byte, countBytes)
	copy(raw, "ngpuctn1")
	raw[8], raw[16], raw[24], raw[32] = 1, 2, 3, 4
	own, gone := CountFile(counter, os.Getpid()), CountFile(counter, 1<<22+1) // larger than any process id
	for _, file := range []string{own, gone} {
		require.NoError(t, os.WriteFile(file, raw, 0o600))
	}
	t.Setenv(envCounter, counter)
	c, ok := OwnCount()
	require.True(t, ok)
	require.Equal(t, Count{Now: 1, Peak: 2, Limit: 3, Allocations: 4}, c)
	SweepCounts(counter)
	require.FileExists(t, own)
	require.NoFileExists(t, gone)
	_, err := ReadCount("virtualgpu.go")
	require.ErrorContains(t, err, "no memory count")
	t.Setenv(envCounter, "")
	_, ok = OwnCount()
	require.False(t, ok)
}
