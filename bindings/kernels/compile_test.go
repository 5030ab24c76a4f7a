package kernels

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/cuda/nvrtc"
)

func openCompiler(t *testing.T, line int) *nvrtc.Compiler {
	t.Helper()
	c, err := nvrtc.Open(nvrtc.Options{LibraryDir: cudatest.Installed(t, line)})
	require.NoError(t, err)
	return c
}

// fused are the instructions that would round a product and a sum once, and held those of memory of a thread's own:
// registers are meant to hold it all.
var (
	fused = regexp.MustCompile(`\b(fma|mad)\.(rn|rz|rm|rp|f32|f64|ftz)`)
	spill = regexp.MustCompile(`\.local|__local_depot`)
	entry = regexp.MustCompile(`\.entry (\w+)\(`)
)

// TestKernelsCompileForDevices with both lines of NVRTC, and keep to the arithmetic of the reference.
func TestKernelsCompileForDevices(t *testing.T) {
	for line, architectures := range map[int][]string{13: {"sm_80", "sm_90", "sm_120"}, 12: {"sm_90"}} {
		c := openCompiler(t, line)
		for _, architecture := range architectures {
			t.Run(fmt.Sprint(c.Version(), "/", architecture), func(t *testing.T) {
				code := compiled(t, c, architecture)
				require.Empty(t, code.Log, "no warnings")
				require.Equal(t, "\x7fELF", string(code.Cubin[:4]))
				ptx := string(code.PTX)
				require.Empty(t, fused.FindString(ptx))
				require.Empty(t, spill.FindString(ptx))
				var entries []string
				for _, m := range entry.FindAllStringSubmatch(ptx, -1) {
					entries = append(entries, m[1])
				}
				require.ElementsMatch(t, slices.Collect(maps.Values(maps.Collect(deviceSymbols()))), entries)
			})
		}
	}
}

// TestFusedInstructionsAreSeen without the option that forbids them: the test above can fail.
func TestFusedInstructionsAreSeen(t *testing.T) {
	s := source()
	s.Text = `#include "images.h"`
	code, err := openCompiler(t, 13).Compile(s, "compute_80", "-DGENFN_LANES=2")
	require.NoError(t, err)
	require.Nil(t, code.Cubin, "a virtual architecture has PTX alone")
	require.Regexp(t, fused, string(code.PTX))
}

// TestCubinIsKept, and compiled again if it is damaged.
func TestCubinIsKept(t *testing.T) {
	c, dir := openCompiler(t, 13), filepath.Join(t.TempDir(), "cache")
	small := source()
	small.Text = `#include "images.h"`
	first, err := keptCubin(c, small, "sm_90", dir)
	require.NoError(t, err)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	path := filepath.Join(dir, files[0].Name())
	before, err := os.Stat(path)
	require.NoError(t, err)
	again, err := keptCubin(c, small, "sm_90", dir)
	require.NoError(t, err)
	require.Equal(t, first, again)
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after), "it was read")

	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, first[:100], 0o600))
	mended, err := keptCubin(c, small, "sm_90", dir)
	require.NoError(t, err)
	require.Equal(t, first, mended)
	kept, ok := readSummed(path)
	require.True(t, ok)
	require.Equal(t, first, kept)

	_, err = keptCubin(c, small, "sm_86", dir)
	require.NoError(t, err)
	files, err = os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 2, "each architecture has its own")
	_, err = keptCubin(c, small, "sm_10", dir)
	require.ErrorContains(t, err, "NVRTC_ERROR_INVALID_OPTION (5)")
}
