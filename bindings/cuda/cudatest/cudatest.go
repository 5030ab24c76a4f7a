// Package cudatest is a fake of CUDA for tests on machines without an NVIDIA GPU: libraries compiled from C whose device
// is the host's memory and whose kernels are those of native/kernels, built for the CPU.
package cudatest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/cuda"
)

//go:embed fake.c
var source string

// Machine is a machine with the fake. Versions are as CUDA numbers them: 13050 is 13.5.
type Machine struct {
	Runtime, Driver int      // 0: 13050
	Devices         int      // as many as it has
	Flags           []string // of the C compiler: see fake.c
	NoCompiler      bool     // without NVRTC; otherwise that of `make cuda` lies beside the fake
}

// New builds the libraries and returns where they are.
func New(t testing.TB, m Machine) cuda.Options {
	t.Helper()
	dir := t.TempDir()
	o := cuda.Options{LibraryDir: dir, DriverLibrary: filepath.Join(dir, "libcuda.so.1")}
	if m.Runtime == 0 {
		m.Runtime = 13050
	}
	if m.Driver == 0 {
		m.Driver = 13050
	}
	devices := fmt.Sprintf("-DDEVICES=%d", m.Devices)
	Compile(t, o.DriverLibrary, append([]string{fmt.Sprintf("-DDRIVER=%d", m.Driver), devices}, m.Flags...)...)
	Compile(t, Library(o, m.Runtime), append([]string{fmt.Sprintf("-DRUNTIME=%d", m.Runtime), devices}, m.Flags...)...)
	if !m.NoCompiler {
		linkCompiler(t, dir)
	}
	return o
}

// Library is the path of a runtime library of a version in the folder of o.
func Library(o cuda.Options, version int) string {
	return filepath.Join(o.LibraryDir, fmt.Sprintf("libcudart.so.%d", version/1000))
}

// Env has another process find the libraries of o.
func Env(o cuda.Options) []string {
	return []string{"GENFN_CUDA_DIR=" + o.LibraryDir, "LD_LIBRARY_PATH=" + o.LibraryDir}
}

// Compile builds one of the libraries: with -DDRIVER the driver's, otherwise the runtime library.
func Compile(t testing.TB, path string, flags ...string) {
	t.Helper()
	in := filepath.Join(t.TempDir(), "fake.c")
	require.NoError(t, os.WriteFile(in, []byte(source), 0o600))
	args := append([]string{
		"-shared", "-fPIC", "-O1", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-I", checkout.Path(t, "native", "kernels"), "-o", path, in,
	}, flags...)
	out, err := exec.CommandContext(t.Context(), "gcc", args...).CombinedOutput()
	require.NoError(t, err, "a C compiler is needed: %s", out)
}

// Installed is the folder that `make cuda` fills for a line.
func Installed(t testing.TB, line int) string {
	t.Helper()
	dir := checkout.Path(t, ".runtime", fmt.Sprintf("cuda%d", line))
	require.DirExists(t, dir, "run `make cuda` first")
	return dir
}

// Virtual is where the virtual device is (native/vcuda), with NVRTC beside it.
func Virtual(t testing.TB) cuda.Options {
	t.Helper()
	dir := checkout.Path(t, ".runtime", "vcuda", "lib")
	require.DirExists(t, dir, "run `make vcuda` first")
	return cuda.Options{LibraryDir: dir, DriverLibrary: filepath.Join(dir, "libcuda.so.1")}
}

// linkCompiler puts NVRTC into a folder.
func linkCompiler(t testing.TB, dir string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(Installed(t, 13), "lib", "libnvrtc*"))
	require.NoError(t, err)
	require.Len(t, paths, 2)
	for _, path := range paths {
		require.NoError(t, os.Symlink(path, filepath.Join(dir, filepath.Base(path))))
	}
}
