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

func TestLockFolderOfOthers(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	require.NoError(t, os.Mkdir(open, 0o700))
	require.NoError(t, os.Chmod(open, 0o777))
	_, err := lockDevice(open, "CPU", 0)
	require.ErrorContains(t, err, "written by everybody")

	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(t.TempDir(), link))
	_, err = lockDevice(link, "CPU", 0)
	require.ErrorContains(t, err, "not a folder")
}

func TestLockFileThatIsALink(t *testing.T) {
	precious := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(precious, []byte("content"), 0o600))
	dir := t.TempDir()
	require.NoError(t, os.Symlink(precious, filepath.Join(dir, "device-CPU-0.lock")))
	_, err := lockDevice(dir, "CPU", 0)
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	content, err := os.ReadFile(precious)
	require.NoError(t, err)
	require.Equal(t, "content", string(content))
}

func TestGPUIsTheFirstGPU(t *testing.T) {
	dir := t.TempDir()
	l, err := lockDevice(dir, "GPU", 0)
	require.NoError(t, err)
	_, err = lockDevice(dir, "GPU.0", 0)
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	require.NoError(t, l.Close())
}
