package starts

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// die ends a start as the end of its process does: the lock goes, the marker stays.
func die(t *testing.T, s *Start) {
	t.Helper()
	require.NoError(t, s.file.Close())
}

func begin(t *testing.T, dir string) *Start {
	t.Helper()
	s, err := Begin(dir, "GPU.0")
	require.NoError(t, err)
	return s
}

func TestPauseGrowsWithDeaths(t *testing.T) {
	dir := t.TempDir()
	var pauses []time.Duration
	for n := range 14 {
		s := begin(t, dir)
		require.Equal(t, n, s.Died)
		pauses = append(pauses, s.Pause/time.Second)
		die(t, s)
	}
	require.Equal(t, []time.Duration{0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300}, pauses)
	s := begin(t, dir)
	require.NoError(t, s.Ready())
	require.Zero(t, begin(t, dir).Died, "one that gets ready clears the others")
}

func TestOnlyDeathsCount(t *testing.T) {
	dir := t.TempDir()
	for range 5 { // alive, all at the same time
		require.Zero(t, begin(t, dir).Died)
	}
	stopped := begin(t, dir)
	require.NoError(t, stopped.End())
	require.NoError(t, stopped.End())
	require.Zero(t, begin(t, dir).Died, "ended in peace")

	long := begin(t, dir)
	die(t, long)
	before := time.Now().Add(-2 * memory)
	require.NoError(t, os.Chtimes(long.file.Name(), before, before))
	require.Zero(t, begin(t, dir).Died, "long ago")
	require.NoFileExists(t, long.file.Name())

	other, err := Begin(dir, "CPU")
	require.NoError(t, err)
	require.Zero(t, other.Died)
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	(&Start{Pause: time.Hour}).Wait(ctx)
}
