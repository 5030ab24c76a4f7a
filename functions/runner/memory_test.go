package runner

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOwnMemory: the peak is that since it was reset, where the system allows that, and never less than what is
// resident.
func TestOwnMemory(t *testing.T) {
	r := &runner{}
	resetPeakRSS()
	m := r.memory()
	require.Positive(t, m.RSS)
	require.GreaterOrEqual(t, m.PeakRSS, m.RSS)
	require.Greater(t, m.VMS, m.RSS)
	require.GreaterOrEqual(t, m.Swap, int64(0))
	require.Nil(t, m.Device)
}
