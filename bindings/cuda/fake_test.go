package cuda_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/dynlib"
)

// fake is a machine with a runtime library of a version, a driver for one, and so many devices.
func fake(t testing.TB, runtimeVersion, driverVersion, devices int) cuda.Options {
	t.Helper()
	return cudatest.New(t, cudatest.Machine{Runtime: runtimeVersion, Driver: driverVersion, Devices: devices, NoCompiler: true})
}

// live is how many native objects of the fake are not freed.
func live(t testing.TB, library string) int32 {
	t.Helper()
	l, err := dynlib.Open("the fake", []string{library})
	require.NoError(t, err)
	defer l.Close()
	var table struct {
		Live uintptr `sym:"fake_live"`
	}
	require.NoError(t, l.Bind(&table))
	n, _, _ := purego.SyscallN(table.Live)
	return int32(n)
}

// TestStoriesOnFake tells the stories of stories_test.go without a GPU; those of work that goes on by itself need one.
func TestStoriesOnFake(t *testing.T) {
	for _, version := range []int{13050, 12090} {
		o := fake(t, version, 13050, 1)
		for name, tell := range map[string]func(*testing.T, cuda.Options){
			"identity": tellIdentity, "copies": tellCopies, "many goroutines": tellManyGoroutines, "pool": tellPool, "out of memory": tellOutOfMemory, "stages": tellStages,
			"refusals": tellRefusals, "sticky error": tellStickyError, "signals": tellSignals, "closed objects": tellClosedObjects,
		} {
			t.Run(fmt.Sprint(name, "/", version), func(t *testing.T) {
				tell(t, o)
			})
		}
		assert.Zero(t, live(t, cudatest.Library(o, version)), "what was made is freed natively too")
	}
}

func TestEventsOnFake(t *testing.T) {
	d := openDevice(t, fake(t, 13050, 13050, 1))
	s := newStream(t, d)
	begin, err := d.NewEvent("begin", true)
	require.NoError(t, err)
	closing(t, begin)
	end, err := d.NewEvent("end", false)
	require.NoError(t, err)
	closing(t, end)
	require.NoError(t, errors.Join(s.Record(begin), s.Wait(begin), s.Record(end), end.Synchronize(), s.Synchronize(), d.Synchronize()))
	reached, err := end.Reached()
	require.NoError(t, err)
	require.True(t, reached)
	idle, err := s.Idle()
	require.NoError(t, err)
	require.True(t, idle)
	elapsed, err := begin.Elapsed(end)
	require.NoError(t, err)
	require.Equal(t, "1.5ms", elapsed.String())
	_, err = begin.Elapsed(nil)
	require.ErrorIs(t, err, cuda.ErrClosed)
}

// TestModulesOfOlderRuntimes loads code through the driver where the runtime library cannot.
func TestModulesOfOlderRuntimes(t *testing.T) {
	d := openDevice(t, fake(t, 12020, 12020, 1))
	s := newStream(t, d)
	spin, library, err := launcher(d, spinPTX, "spin")
	require.NoError(t, err)
	closing(t, library)
	require.NoError(t, spin(s, 1000))
	require.ErrorContains(t, spin(s, 1001), "launch spin")
	_, err = library.Kernel("poke")
	require.ErrorContains(t, err, "find kernel poke")
	_, err = d.LoadLibrary("nothing", nil)
	require.ErrorContains(t, err, "it is empty")
}

func TestOpenTakesTheLineThatTheDriverSupports(t *testing.T) {
	o := fake(t, 13050, 12040, 1)
	_, err := cuda.Open(o)
	require.ErrorContains(t, err, "libcudart not found")
	require.ErrorContains(t, err, cudatest.Library(o, 13000)+" is of a newer line than the NVIDIA driver supports (12)")
	require.ErrorContains(t, err, "make cuda")
	cudatest.Compile(t, cudatest.Library(o, 12090), "-DRUNTIME=12090", "-DDEVICES=1")
	r, err := cuda.Open(o)
	require.NoError(t, err)
	require.Equal(t, "12.9", r.Version().String())
	require.Equal(t, "12.4", r.DriverVersion().String())
	require.Equal(t, cudatest.Library(o, 12090), r.Library())
}

func TestMissingLibrariesAreNamed(t *testing.T) {
	o := fake(t, 13050, 13050, 1)
	_, err := cuda.Open(cuda.Options{LibraryDir: o.LibraryDir, DriverLibrary: filepath.Join(o.LibraryDir, "nothing.so")})
	var notFound *dynlib.NotFoundError
	require.ErrorAs(t, err, &notFound)
	require.ErrorContains(t, err, "the NVIDIA driver's library libcuda not found; searched "+filepath.Join(o.LibraryDir, "nothing.so")+"; install the NVIDIA driver")
	empty := t.TempDir()
	_, err = cuda.Open(cuda.Options{LibraryDir: empty, DriverLibrary: o.DriverLibrary})
	require.ErrorContains(t, err, "libcudart not found; searched "+empty)
	require.ErrorContains(t, err, "run `make cuda`, or name the folder of an installed CUDA with GENFN_CUDA_DIR")
	require.NoError(t, os.WriteFile(filepath.Join(empty, "libcudart.so.13"), []byte("text"), 0o600))
	_, err = cuda.Open(cuda.Options{LibraryDir: empty, DriverLibrary: o.DriverLibrary})
	require.ErrorContains(t, err, "cannot be loaded")
	cudatest.Compile(t, filepath.Join(empty, "libcudart.so.13"), "-DDRIVER=1", "-DDEVICES=1")
	_, err = cuda.Open(cuda.Options{LibraryDir: empty, DriverLibrary: o.DriverLibrary})
	require.ErrorContains(t, err, "lacks cudaGetErrorName, ")
}

func TestNoDeviceIsNoError(t *testing.T) {
	r, err := cuda.Open(fake(t, 13050, 13050, 0))
	require.NoError(t, err)
	n, err := r.DeviceCount()
	require.NoError(t, err)
	require.Zero(t, n)
	_, err = r.OpenDevice(0)
	requireCode(t, err, 101)
	require.NoError(t, r.Close())
	_, err = r.OpenDevice(0)
	require.ErrorIs(t, err, cuda.ErrClosed)
	_, err = r.DeviceCount()
	require.ErrorIs(t, err, cuda.ErrClosed)
}

// TestDoRunsOnTheDevicesThread calls the device inside, lets a panic through and goes on.
func TestDoRunsOnTheDevicesThread(t *testing.T) {
	d := openDevice(t, fake(t, 13050, 13050, 1))
	s := newStream(t, d)
	require.NoError(t, d.Do(func() error { return roundTripOn(d, s, 77) }))
	require.ErrorIs(t, d.Do(func() error { return os.ErrDeadlineExceeded }), os.ErrDeadlineExceeded)
	require.PanicsWithValue(t, "mistake", func() { _ = d.Do(func() error { panic("mistake") }) })
	require.NoError(t, roundTrip(d, 5))
}

func TestViewsAreChecked(t *testing.T) {
	o := fake(t, 13050, 13050, 1)
	d, other := openDevice(t, o), openDevice(t, o)
	s := newStream(t, d)
	v := malloc(t, d, 64).All()
	for _, bad := range [][2]int64{{-1, 1}, {0, -1}, {0, 65}, {64, 1}, {1 << 62, 1 << 62}} {
		_, err := v.Slice(bad[0], bad[1])
		require.ErrorContains(t, err, "of a view of 64")
	}
	part, err := v.Slice(8, 16)
	require.NoError(t, err)
	require.Equal(t, v.Address()+8, part.Address())
	require.ErrorContains(t, s.Copy(part, v), "copy of 64 bytes to 16")
	require.ErrorContains(t, s.Write(part, make([]byte, 8)), "between 8 bytes of the host and 16")
	require.ErrorContains(t, s.Fill(malloc(t, other, 8).All(), 1), "memory of device 0 is used on device 0")
	require.ErrorIs(t, s.Fill(cuda.View{}, 1), cuda.ErrClosed)
	_, err = d.Malloc("nothing", 0)
	require.ErrorContains(t, err, "expected 1 or more")
	_, err = d.MallocHost("nothing", -1)
	require.ErrorContains(t, err, "expected 1 or more")
	require.NoError(t, s.Read(nil, mustSlice(t, v, 0, 0)))
}

func mustSlice(t testing.TB, v cuda.View, offset, bytes int64) cuda.View {
	t.Helper()
	out, err := v.Slice(offset, bytes)
	require.NoError(t, err)
	return out
}
