package onnxruntime_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/dynlib"
	"genfn/bindings/onnxruntime"
)

// TestCUDAProviderIsLookedFor: what is missing is named, with where it was looked for and what to do, and what is there is
// loaded under its own name, so that the provider could be.
func TestCUDAProviderIsLookedFor(t *testing.T) {
	dir := t.TempDir()
	installed, err := filepath.Glob(filepath.Join(checkout.Path(t, ".runtime", "onnxruntime", "lib"), "libonnxruntime.so.*"))
	require.NoError(t, err)
	require.Len(t, installed, 1, "run `make onnxruntime`")
	require.NoError(t, os.Symlink(installed[0], filepath.Join(dir, filepath.Base(installed[0]))))
	r, err := onnxruntime.Open(onnxruntime.Options{LibraryDir: dir})
	require.NoError(t, err)
	missing := func(name, path string) {
		t.Helper()
		var notFound *dynlib.NotFoundError
		require.ErrorAs(t, r.CheckCUDA(), &notFound)
		require.Contains(t, notFound.Name, name)
		require.Contains(t, notFound.Searched, path)
		require.Contains(t, notFound.Remedy, "make onnxruntime-gpu")
	}
	provider := filepath.Join(dir, "libonnxruntime_providers_cuda.so")
	missing("the CUDA provider of ONNX Runtime", provider)

	// A provider that needs a library of CUDA, and the driver's, which is not looked for.
	const needed = "libcugenfntest.so.1"
	parts := t.TempDir()
	for _, name := range []string{needed, "libcuda.so.1", "libcudnn.so.9"} {
		link(t, filepath.Join(parts, name), "-Wl,-soname,"+name)
	}
	link(t, provider, "-Wl,--no-as-needed", filepath.Join(parts, needed), filepath.Join(parts, "libcuda.so.1"))
	missing(needed, filepath.Join(dir, needed))
	require.NoError(t, os.Rename(filepath.Join(parts, needed), filepath.Join(dir, needed)))
	missing("libcudnn.so.9", filepath.Join(dir, "libcudnn.so.9"))
	require.NoError(t, os.Rename(filepath.Join(parts, "libcudnn.so.9"), filepath.Join(dir, "libcudnn.so.9")))
	require.NoError(t, r.CheckCUDA())
	_, err = dynlib.Open("by its name", []string{needed})
	require.NoError(t, err, "it is in the process")

	require.NoError(t, os.WriteFile(provider, []byte("no library"), 0o600))
	require.ErrorContains(t, r.CheckCUDA(), "read "+provider)
}

// link makes a shared library of nothing.
func link(t *testing.T, path string, flags ...string) {
	t.Helper()
	empty := filepath.Join(t.TempDir(), "empty.c")
	require.NoError(t, os.WriteFile(empty, []byte("int genfn_empty;"), 0o600))
	out, err := exec.CommandContext(t.Context(), "gcc", append([]string{"-shared", "-fPIC", "-o", path, empty}, flags...)...).CombinedOutput()
	require.NoError(t, err, "a C compiler is needed: %s", out)
}
