package cuda_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/dynlib"
)

// TestStoriesOnVirtualDevice tells all stories without a GPU, those of work that goes on by itself too.
func TestStoriesOnVirtualDevice(t *testing.T) {
	for name, tell := range map[string]func(*testing.T, cuda.Options){
		"identity": tellIdentity, "copies": tellCopies, "many goroutines": tellManyGoroutines, "pool": tellPool, "out of memory": tellOutOfMemory,
		"stages": tellStages, "refusals": tellRefusals, "sticky error": tellStickyError, "signals": tellSignals, "closed objects": tellClosedObjects,
		"streams": tellStreams,
	} {
		t.Run(name, func(t *testing.T) { tell(t, cudatest.Virtual(t)) })
	}
}

// faultyChildEnv makes a copy of the test binary use a virtual device with faults, which it takes from its environment;
// its value is the folder of the libraries.
const faultyChildEnv = "GENFN_TEST_CUDA_FAULTY_CHILD"

// faultyChild does the same twice and tells how it went.
func faultyChild(dir string, out io.Writer) int {
	r, err := cuda.Open(cuda.Options{LibraryDir: dir, DriverLibrary: filepath.Join(dir, "libcuda.so.1")})
	if err != nil {
		fmt.Fprintln(out, "open:", err)
		return 1
	}
	d, err := r.OpenDevice(0)
	if err != nil {
		fmt.Fprintln(out, "open device:", err)
		return 0
	}
	for i := range 2 {
		wrong, err := computeOn(d)
		var known *cuda.Error
		code := 0
		if errors.As(err, &known) {
			code = known.Code
		}
		fmt.Fprintf(out, "round %d: code %d, dead %t, %d bytes wrong\n", i+1, code, errors.Is(err, cuda.ErrDead), wrong)
	}
	fmt.Fprintf(out, "ledger: %d bytes, %d objects\n", r.Ledger().Bytes(), len(r.Ledger().Outstanding())-1) // the device
	return 0
}

// computeOn makes a stream, memory and a kernel, uses and closes all, and counts the bytes that come back wrong.
func computeOn(d *cuda.Device) (wrong int, err error) {
	s, err := d.NewStream("round")
	if err != nil {
		return 0, err
	}
	defer s.Close()
	spin, library, err := launcher(d, spinPTX, "spin")
	if err != nil {
		return 0, err
	}
	defer library.Close()
	b, err := d.Malloc("round", 1<<16)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	want, got := pattern(1<<16), make([]byte, 1<<16)
	if err := errors.Join(s.Write(b.All(), want), spin(s, 1000), s.Synchronize(), s.Read(got, b.All())); err != nil {
		return 0, err
	}
	for i := range want {
		if got[i] != want[i] {
			wrong++
		}
	}
	return wrong, nil
}

// TestFaultsOfVirtualDevice: each fault is the error that it is on a GPU, kills the context or does not, and nothing
// stays behind.
func TestFaultsOfVirtualDevice(t *testing.T) {
	const (
		well    = "code 0, dead false, 0 bytes wrong"
		nothing = "ledger: 0 bytes, 0 objects"
		lost    = "code 719, dead true, 0 bytes wrong"
		byself  = "exit status 0"
	)
	for _, c := range []struct {
		faults string
		end    string // of the process
		says   []string
	}{
		{"", byself, []string{"round 1: " + well, "round 2: " + well, nothing}},
		{"cudaMalloc error=cudaErrorMemoryAllocation times=1", byself, []string{"round 1: code 2, dead false, 0 bytes wrong", "round 2: " + well, nothing}},
		{"cudaLibraryLoadData error=cudaErrorNoKernelImageForDevice times=1", byself, []string{"round 1: code 209, dead false", "round 2: " + well, nothing}},
		{"kernel error=cudaErrorLaunchFailure times=1", byself, []string{"round 1: " + lost, "round 2: " + lost, nothing}},
		{"copy error=cudaErrorECCUncorrectable after=2 times=1", byself, []string{"round 1: " + well, "round 2: code 214, dead true", nothing}},
		{"cudaLaunchKernelExC error=999 kernel=spin", byself, []string{"round 1: code 999, dead true", "round 2: code 999, dead true", nothing}},
		{"copy flip=1 times=1", byself, []string{"round 1: code 0, dead false, 1 bytes wrong", "round 2: " + well, nothing}},
		{"cudaSetDevice error=46", byself, []string{"open device: cuda: open device 0: CUDA-capable device(s) is/are busy or unavailable (cudaErrorDevicesUnavailable, 46)"}},
		{"cudaMalloc eror=2", byself, []string{`vcuda: GENFN_VCUDA_FAULTS: "eror=2": expected error=, `, "(cudaErrorDevicesUnavailable, 46)"}},
		{"kernel crash=SIGABRT after=1", "signal: aborted", []string{"round 1: " + well}},
	} {
		t.Run(c.faults, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), faultyChildEnv+"="+cudatest.Virtual(t).LibraryDir, "GENFN_VCUDA_FAULTS="+c.faults)
			said, err := cmd.CombinedOutput()
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
				require.NoError(t, err, "%s", said)
			}
			require.Contains(t, cmd.ProcessState.String(), c.end, "%s", said)
			for _, words := range c.says {
				require.Contains(t, string(said), words)
			}
		})
	}
}

// TestErrorsOfVirtualDevice: names and words are those of NVIDIA's runtime library, which tells them without a driver.
func TestErrorsOfVirtualDevice(t *testing.T) {
	type words struct {
		Name uintptr `sym:"cudaGetErrorName"`
		Text uintptr `sym:"cudaGetErrorString"`
	}
	read := func(dir string) (table words) {
		l, err := dynlib.Open("CUDA's runtime library", []string{filepath.Join(dir, "libcudart.so.13")})
		require.NoError(t, err)
		require.NoError(t, l.Bind(&table))
		return table // the library stays loaded
	}
	word := func(f uintptr, code int) string {
		r, _, _ := purego.SyscallN(f, uintptr(code))
		return dynlib.GoString(*(**byte)(unsafe.Pointer(&r)))
	}
	ours, nvidias := read(cudatest.Virtual(t).LibraryDir), read(filepath.Join(cudatest.Installed(t, 13), "lib"))
	known := 0
	for code := range 1000 {
		name := word(ours.Name, code)
		if name == "unrecognized error code" {
			continue
		}
		known++
		assert.Equal(t, word(nvidias.Name, code), name, code)
		assert.Equal(t, word(nvidias.Text, code), word(ours.Text, code), code)
	}
	require.Greater(t, known, 25)
}

// TestVirtualDeviceHasItsOwnName inside: a loader that looks for CUDA by name must not find it.
func TestVirtualDeviceHasItsOwnName(t *testing.T) {
	library, err := os.ReadFile(filepath.Join(cudatest.Virtual(t).LibraryDir, "libcudart.so.13"))
	require.NoError(t, err)
	require.False(t, bytes.Contains(library, []byte("libcuda")))
	require.True(t, bytes.Contains(library, []byte("libgenfn_vcuda.so\x00")))
}
