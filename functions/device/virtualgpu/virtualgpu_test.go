package virtualgpu

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// complete makes a folder with empty files for all parts.
func complete(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "lib"), 0o700))
	for _, part := range []string{layerFile, runtimeFile, loaderFile, tbbFile} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, part), nil, 0o600))
	}
	return dir
}

func TestFind(t *testing.T) {
	dir := complete(t)
	t.Setenv(DirEnv, dir)
	in, err := Find("")
	require.NoError(t, err)
	require.Equal(t, dir, in.Dir)

	require.NoError(t, os.Remove(filepath.Join(dir, tbbFile)))
	_, err = Find(dir)
	missing := new(MissingError)
	require.ErrorAs(t, err, &missing)
	require.Equal(t, tbbFile, missing.Part)
	for _, words := range []string{tbbFile, dir, "make vgpu", DirEnv} {
		require.ErrorContains(t, err, words)
	}
	_, err = Find(filepath.Join(dir, "none"))
	require.ErrorContains(t, err, layerFile)
	t.Setenv(DirEnv, "")
	t.Chdir(t.TempDir())
	_, err = Find("")
	require.ErrorContains(t, err, filepath.Join(".runtime", "vgpu"))
}

func TestEnv(t *testing.T) {
	t.Setenv("LD_PRELOAD", "/lib/other.so")
	t.Setenv("LD_LIBRARY_PATH", "")
	in, counters := &Installation{Dir: "/opt/vgpu"}, filepath.Join(t.TempDir(), "counters")
	env, err := in.Env(Options{Memory: 1 << 30, CountersDir: counters, FaultFile: "faults", Devices: 2, Faults: Faults{{Call: "clFlush", Hang: true}}})
	require.NoError(t, err)
	require.DirExists(t, counters)
	wd, err := os.Getwd()
	require.NoError(t, err)
	for _, want := range []string{
		"OPENCL_LAYERS=/opt/vgpu/libgenfn_vgpu.so", "OCL_ICD_FILENAMES=/opt/vgpu/lib/libintelocl.so", "LD_LIBRARY_PATH=/opt/vgpu/lib",
		"LD_PRELOAD=/opt/vgpu/lib/libtbb.so.12:/lib/other.so", "GENFN_VGPU_MEMORY=1073741824", "GENFN_VGPU_MAX_ALLOC=", "GENFN_VGPU_COUNTERS=" + counters,
		"GENFN_VGPU_FAULT_FILE=" + filepath.Join(wd, "faults"), "GENFN_VGPU_FAULTS=clFlush hang", "GENFN_VGPU_DEVICES=2", "GENFN_VGPU_CACHE=",
	} {
		assert.Contains(t, env, want)
	}
	for words, o := range map[string]Options{
		"memory of 5 bytes": {Memory: 5}, "largest allocation of -1 bytes": {MaxAlloc: -1}, "9 devices": {Devices: MaxDevices + 1}, "-1 devices": {Devices: -1},
	} {
		_, err := in.Env(o)
		require.ErrorContains(t, err, words)
	}
}

// write makes the file of a process as the layer does.
func write(t *testing.T, dir string, pid string, words ...uint64) {
	t.Helper()
	raw := make([]byte, counterSize)
	for i, w := range words {
		binary.LittleEndian.PutUint64(raw[8*i:], w)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, pid), raw, 0o600))
}

func TestMemoryFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "1", counterMagic, 1, 2, 12345, 10, 20, 100, 3, 4, 0, 0, 0, 11, 21, 101, 5, 6)
	list, err := ReadMemory(dir, 1)
	require.NoError(t, err)
	require.Equal(t, []Memory{{10, 20, 100, 3, 4}, {11, 21, 101, 5, 6}}, list)
	_, err = ReadMemory(dir, 2)
	require.ErrorIs(t, err, ErrNoCount)
	write(t, dir, "3", 99)
	_, err = ReadMemory(dir, 3)
	require.ErrorContains(t, err, "no count")

	// What has ended is swept: process 1 began at another time, and the last never was (ids end below 2^22).
	self, never := os.Getpid(), strings.Repeat("9", 9)
	require.Positive(t, startOf(self))
	write(t, dir, strconv.Itoa(self), counterMagic, uint64(self), 2, uint64(startOf(self)), 7, 8, 100, 1, 0, 0, 0, 0, 70, 80, 100, 1)
	write(t, dir, never, counterMagic, 1, 1, 12345, 1000, 1000, 100, 1)
	require.NoError(t, SweepMemory(dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, strconv.Itoa(self), entries[0].Name())
	require.NoError(t, SweepMemory(filepath.Join(dir, "none")))

	t.Setenv(countersEnv, dir)
	for device, want := range map[string]int64{"GPU": 7, "GPU.0": 7, "GPU.1": 70} {
		m, ok := OwnMemory(device)
		require.True(t, ok)
		require.Equal(t, want, m.Current, device)
	}
	for _, device := range []string{"GPU.2", "GPU.x", "GPU.-1"} {
		_, ok := OwnMemory(device)
		require.False(t, ok, device)
	}
	t.Setenv(countersEnv, "")
	_, ok := OwnMemory("GPU")
	require.False(t, ok)
}
