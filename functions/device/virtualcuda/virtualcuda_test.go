package virtualcuda

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	libraries := filepath.Join(dir, "lib")
	require.NoError(t, os.Mkdir(libraries, 0o700))
	for _, part := range parts {
		require.NoError(t, os.WriteFile(filepath.Join(libraries, part), nil, 0o600))
	}
	t.Setenv(DirEnv, dir)
	in, err := Find()
	require.NoError(t, err)
	require.Equal(t, libraries, in.Libraries)

	require.NoError(t, os.Remove(filepath.Join(libraries, parts[2])))
	_, err = Find()
	require.ErrorContains(t, err, "libnvrtc.so.13 not found in "+libraries+": run `make vcuda`, or name the folder it filled with GENFN_VCUDA_DIR")
	t.Setenv(DirEnv, filepath.Join(dir, "none"))
	_, err = Find()
	require.ErrorContains(t, err, "libcuda.so.1 not found in "+filepath.Join(dir, "none"))
}

func TestEnv(t *testing.T) {
	in := &Installation{"/opt/vcuda/lib"}
	t.Setenv("LD_LIBRARY_PATH", "/lib/other")
	env, err := in.Env(Options{Faults: "kernel hang", FaultFile: "/tmp/faults", Memory: 1 << 30, Devices: 2})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{
		"LD_LIBRARY_PATH=/opt/vcuda/lib:/lib/other", "GENFN_VCUDA_FAULTS=kernel hang", "GENFN_VCUDA_FAULT_FILE=/tmp/faults",
		"GENFN_VCUDA_MEMORY=1073741824", "GENFN_VCUDA_DEVICES=2",
	}, env)
	env, err = in.Env(Options{})
	require.NoError(t, err)
	require.Subset(t, env, []string{"GENFN_VCUDA_FAULTS=", "GENFN_VCUDA_FAULT_FILE=", "GENFN_VCUDA_MEMORY=4294967296", "GENFN_VCUDA_DEVICES=1"})
	_, err = in.Env(Options{Memory: 1})
	require.ErrorContains(t, err, "memory of 1 bytes: expected at least 16777216")
	_, err = in.Env(Options{Devices: 9})
	require.ErrorContains(t, err, "9 devices: expected 1 to 8")
}
