package runner

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/runner/protocol"
)

func TestLockDevice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "on", "demand")
	first, err := lockDevice(dir, "GPU.0", 0)
	require.NoError(t, err)
	_, err = lockDevice(dir, "GPU.0", 0)
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	require.ErrorContains(t, err, strconv.Itoa(os.Getpid()))
	other, err := lockDevice(dir, "GPU.1", 0)
	require.NoError(t, err)
	next, err := lockDevice(dir, "GPU.0", protocol.AnySlot)
	require.NoError(t, err)
	require.Equal(t, 1, next.slot)
	for _, l := range []*deviceLock{first, other, next, nil} {
		require.NoError(t, l.Close())
	}
	again, err := lockDevice(dir, "GPU.0", 0)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestLockNamesStayInTheirFolder(t *testing.T) {
	dir := t.TempDir()
	l, err := lockDevice(dir, "../../etc:x y", 0)
	require.NoError(t, err)
	require.Equal(t, dir, filepath.Dir(l.file.Name()))
	require.NoError(t, l.Close())
}

func TestLockFolderThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := lockDevice(filepath.Join(file, "x"), "CPU", 0)
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
}

func TestStatusBytes(t *testing.T) {
	status := []byte("Name:\tgenfn\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nVmSwap:\t       0 kB\nThreads:\n")
	require.EqualValues(t, 1<<20, statusBytes(status, "VmRSS:"))
	require.EqualValues(t, 2<<20, statusBytes(status, "VmHWM:"))
	require.Zero(t, statusBytes(status, "VmSwap:"))
	require.Zero(t, statusBytes(status, "Threads:"))
	require.Zero(t, statusBytes(status, "Absent:"))
}
