package embedded

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWritesAreSynced: unless it is told otherwise, the server keeps what it acknowledged over a power cut too.
func TestWritesAreSynced(t *testing.T) {
	for _, noSync := range []bool{false, true} {
		s := New(Config{Port: AnyPort, StoreDir: t.TempDir(), NoSync: noSync})
		require.NoError(t, s.Start())
		require.Equal(t, !noSync, s.srv.JetStreamConfig().SyncAlways)
		require.NoError(t, s.Close())
	}
}
