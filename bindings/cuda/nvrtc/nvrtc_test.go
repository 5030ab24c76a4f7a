package nvrtc_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/cuda/nvrtc"
	"genfn/bindings/dynlib"
)

func TestCompile(t *testing.T) {
	for line, version := range map[int]string{13: "13.5", 12: "12.9"} {
		c, err := nvrtc.Open(nvrtc.Options{LibraryDir: cudatest.Installed(t, line)})
		require.NoError(t, err)
		require.Equal(t, version, c.Version())
		require.Equal(t, filepath.Join(cudatest.Installed(t, line), "lib", "libnvrtc.so."+version[:2]), c.Library())
		list, err := c.Architectures()
		require.NoError(t, err)
		require.True(t, slices.IsSorted(list))
		require.Subset(t, list, []int{80, 90, 120})

		source := nvrtc.Source{Name: "twice.cu", Text: "#include \"one.h\"\nextern \"C\" __global__ void twice(int *x) { int unused; *x *= 2 * ONE; }", Headers: map[string]string{"one.h": "#define ONE 1\n"}}
		code, err := c.Compile(source, "sm_90")
		require.NoError(t, err)
		require.Equal(t, "\x7fELF", string(code.Cubin[:4]))
		require.Contains(t, string(code.PTX), ".visible .entry twice(")
		require.NotContains(t, string(code.PTX), "\x00")
		require.Contains(t, code.Log, `twice.cu(2): warning`)
		code, err = c.Compile(source, "compute_80", "--disable-warnings")
		require.NoError(t, err)
		require.Nil(t, code.Cubin)
		require.Empty(t, code.Log)
		require.Contains(t, string(code.PTX), ".target sm_80")
	}
}

func TestWhatDoesNotCompile(t *testing.T) {
	c, err := nvrtc.Open(nvrtc.Options{LibraryDir: cudatest.Installed(t, 13)})
	require.NoError(t, err)
	for name, w := range map[string]struct {
		source       nvrtc.Source
		architecture string
		code         int
		text         string
	}{
		"syntax":       {nvrtc.Source{Name: "bad.cu", Text: "void f( {"}, "sm_90", 6, "bad.cu(1): error: "},
		"header":       {nvrtc.Source{Name: "bad.cu", Text: "#include \"nothing.h\""}, "sm_90", 6, `cannot open source file "nothing.h"`},
		"architecture": {nvrtc.Source{Name: "good.cu", Text: ""}, "sm_10", 5, "compile good.cu for sm_10: NVRTC_ERROR_INVALID_OPTION (5)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Compile(w.source, w.architecture)
			var known *nvrtc.Error
			require.ErrorAs(t, err, &known)
			require.Equal(t, w.code, known.Code)
			require.ErrorContains(t, err, w.text)
		})
	}
}

func TestMissingLibraryIsNamed(t *testing.T) {
	dir := t.TempDir()
	_, err := nvrtc.Open(nvrtc.Options{LibraryDir: dir})
	var notFound *dynlib.NotFoundError
	require.ErrorAs(t, err, &notFound)
	require.ErrorContains(t, err, "libnvrtc not found; searched "+dir)
	require.ErrorContains(t, err, "make cuda")
	// A driver of line 12 does not load what NVRTC of line 13 makes.
	require.NoError(t, os.Symlink(filepath.Join(cudatest.Installed(t, 13), "lib", "libnvrtc.so.13"), filepath.Join(dir, "libnvrtc.so.13")))
	_, err = nvrtc.Open(nvrtc.Options{LibraryDir: dir, Newest: 12})
	require.ErrorContains(t, err, "libnvrtc.so.13 is of a newer line than the NVIDIA driver supports (12)")
}
