package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUserWithoutHomeGetsAPrivateCache(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "GENFN_CACHE_DIR"} {
		t.Setenv(name, "")
	}
	cache := filepath.Join(tmp, fmt.Sprintf("genfn-%d", os.Getuid()))
	var out, words bytes.Buffer
	require.Zero(t, run([]string{"version"}, &out, &words), words.String())
	info, err := os.Stat(cache)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	require.NoError(t, os.Chmod(cache, 0o777)) // as somebody else could have made it
	require.Equal(t, exitFailed, run([]string{"version"}, &out, &words))
	require.Contains(t, words.String(), "written by everybody")
}
