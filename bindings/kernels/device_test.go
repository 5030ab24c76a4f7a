package kernels

// What is told here of the kernels on a device is told by a fake of CUDA and by the virtual device, which run them on
// the CPU, and by a real GPU (gpu_test.go).

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/cudatest"
	"genfn/bindings/cuda/nvrtc"
	"genfn/bindings/tensor/tensortest"
)

// kernelsEnv names a folder with code that was compiled elsewhere, LINE/ARCHITECTURE.cubin and LINE/compute_80.ptx; it
// is used if there is no NVRTC.
const kernelsEnv = "GENFN_TEST_GPU_KERNELS"

// gpuLab is a device with what tests need of it.
type gpuLab struct {
	t       testing.TB
	dir     string // of the libraries; "": searched for
	runtime *cuda.Runtime
	device  *cuda.Device
	stream  *cuda.Stream
}

func newLab(t testing.TB, o cuda.Options) *gpuLab {
	t.Helper()
	o.Ledger = tensortest.NewLedger(t)
	r, err := cuda.Open(o)
	require.NoError(t, err)
	d, err := r.OpenDevice(0)
	require.NoError(t, err)
	closeAtEnd(t, d)
	s, err := d.NewStream(t.Name())
	require.NoError(t, err)
	closeAtEnd(t, s)
	return &gpuLab{t, o.LibraryDir, r, d, s}
}

func closeAtEnd(t testing.TB, c io.Closer) {
	t.Helper()
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
}

// code is the kernels' for the device: a cubin, or PTX that the driver compiles.
func (l *gpuLab) code(ptx bool) []byte {
	l.t.Helper()
	architecture, err := l.device.Architecture()
	require.NoError(l.t, err)
	line := l.runtime.DriverVersion().Major()
	compiler, err := nvrtc.Open(nvrtc.Options{LibraryDir: l.dir, Newest: line})
	if err != nil {
		folder := os.Getenv(kernelsEnv)
		require.NotEmpty(l.t, folder, "no NVRTC (%v) and no %s", err, kernelsEnv)
		name := architecture + ".cubin"
		if ptx {
			name = "compute_80.ptx"
		}
		code, err := os.ReadFile(filepath.Join(folder, strconv.Itoa(min(line, 13)), name))
		require.NoError(l.t, err)
		return code
	}
	if ptx {
		architecture = "compute_80"
	}
	code := compiled(l.t, compiler, architecture)
	if ptx {
		return code.PTX
	}
	return code.Cubin
}

var compiledOnce sync.Map // of functions, by version and architecture

// compiled is the kernels' code, which takes seconds to make, and is the same in all tests.
func compiled(t testing.TB, c *nvrtc.Compiler, architecture string) *nvrtc.Code {
	t.Helper()
	once, _ := compiledOnce.LoadOrStore(c.Version()+architecture, sync.OnceValues(func() (*nvrtc.Code, error) { return Compile(c, architecture) }))
	code, err := once.(func() (*nvrtc.Code, error))()
	require.NoError(t, err)
	return code
}

func (l *gpuLab) kernels(ptx bool) *GPU {
	l.t.Helper()
	g, err := OpenGPU(l.device, l.code(ptx))
	require.NoError(l.t, err)
	closeAtEnd(l.t, g)
	return g
}

// bytesOf are the bytes of values.
func bytesOf[T any](v []T) []byte {
	var t T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(t)))
}

// put copies values to the device.
func put[T any](l *gpuLab, v []T) cuda.View {
	l.t.Helper()
	b, err := l.device.Malloc(l.t.Name(), max(1, int64(len(bytesOf(v)))))
	require.NoError(l.t, err)
	closeAtEnd(l.t, b)
	view, err := b.All().Slice(0, int64(len(bytesOf(v))))
	require.NoError(l.t, err)
	require.NoError(l.t, l.stream.Write(view, bytesOf(v)))
	return view
}

// get copies values back.
func get[T any](l *gpuLab, v cuda.View) []T {
	l.t.Helper()
	var t T
	out := make([]T, v.Bytes()/int64(unsafe.Sizeof(t)))
	require.NoError(l.t, l.stream.Read(bytesOf(out), v))
	return out
}

// tellKernelsEqualReference compares every kernel with the Go reference, bit for bit, over sizes.
func tellKernelsEqualReference(t *testing.T, o cuda.Options, sizes []int, forms ...string) {
	for _, form := range forms {
		for _, n := range sizes {
			t.Run(fmt.Sprint(form, "/", n), func(t *testing.T) {
				l := newLab(t, o)
				g := l.kernels(form == "ptx")
				rounds := 12
				if n > 1<<20 {
					rounds = 1
				}
				r := rand.New(rand.NewPCG(uint64(n), 20))
				for range rounds {
					checkGPUStep(l, g, randomStep(r, n))
				}
				checkGPUOthers(l, g, r, n)
				checkGPUFloat16(l, g, r, n)
				checkGPUComposites(l, g, r, n)
				checkGPUReductions(l, g, r, n)
				checkGPUPhilox(l, g, n)
				checkGPUResample(l, g, r)
			})
		}
	}
}

// deviceStep copies the arguments to the device.
func deviceStep(l *gpuLab, a *StepArgs) *DeviceStepArgs {
	place := func(v []float32) cuda.View {
		if v == nil {
			return cuda.View{}
		}
		return put(l, v)
	}
	out := &DeviceStepArgs{
		Sample: place(a.Sample), Cond: place(a.Cond), Uncond: place(a.Uncond), Noise: place(a.Noise),
		Converted: place(a.Converted), Prev: place(a.Prev), HistoryCoef: a.HistoryCoef,
		Guidance: a.Guidance, ConvSample: a.ConvSample, ConvOutput: a.ConvOutput, Clip: a.Clip,
		SampleCoef: a.SampleCoef, OutputCoef: a.OutputCoef, ConvertedCoef: a.ConvertedCoef, NoiseCoef: a.NoiseCoef,
	}
	for _, h := range a.History {
		out.History = append(out.History, place(h))
	}
	return out
}

func checkGPUStep(l *gpuLab, g *GPU, a *StepArgs) {
	l.t.Helper()
	device := deviceStep(l, a)
	require.NoError(l.t, g.Step(l.stream, device))
	inPlace := deviceStep(l, a)
	inPlace.Prev = inPlace.Sample
	require.NoError(l.t, g.Step(l.stream, inPlace))
	require.NoError(l.t, l.stream.Synchronize())
	wanted := copyStep(a)
	if wanted.Prev == nil {
		wanted.Prev = make([]float32, len(a.Sample))
	}
	require.NoError(l.t, Reference().Step(wanted))
	if a.Prev != nil {
		requireSame(l.t, wanted.Prev, get[float32](l, device.Prev), "Prev")
	}
	if a.Converted != nil {
		requireSame(l.t, wanted.Converted, get[float32](l, device.Converted), "Converted")
	}
	requireSame(l.t, wanted.Prev, get[float32](l, inPlace.Sample), "Prev in place of Sample")
}

func checkGPUOthers(l *gpuLab, g *GPU, r *rand.Rand, n int) {
	l.t.Helper()
	src := values(r, n, 0)
	mul, add := float32(r.NormFloat64()), float32(r.NormFloat64())
	expected := make([]float32, n)
	require.NoError(l.t, Reference().Scale(expected, src, mul, add))
	from, to := put(l, src), put(l, make([]float32, n))
	require.NoError(l.t, g.Scale(l.stream, to, from, mul, add))
	requireSame(l.t, expected, get[float32](l, to), "Scale")

	count := put(l, []uint64{99})
	require.NoError(l.t, g.CountNonFinite(l.stream, count, from))
	require.Equal(l.t, uint64(Reference().CountNonFinite(src)), binary.LittleEndian.Uint64(bytesOf(get[uint64](l, count))))

	channels, height, width := 3, max(1, n/3/67), 67
	if n < 3*67 {
		channels, height, width = 1, 1, n
	}
	pixels := channels * height * width
	image, bytes := src[:pixels], make([]uint8, pixels)
	require.NoError(l.t, Reference().ImageToU8(bytes, image, channels, height, width))
	picture := put(l, make([]uint8, pixels))
	require.NoError(l.t, g.ImageToU8(l.stream, picture, put(l, image), channels, height, width))
	require.Equal(l.t, bytes, get[uint8](l, picture), "ImageToU8")
	require.NoError(l.t, g.Scale(l.stream, from, from, mul, add))
	requireSame(l.t, expected, get[float32](l, from), "Scale in place")
}

func tellBadArguments(t *testing.T, o cuda.Options) {
	l := newLab(t, o)
	g := l.kernels(false)
	v := put(l, make([]float32, 16))
	part := func(offset, bytes int64) cuda.View {
		p, err := v.Slice(offset, bytes)
		require.NoError(t, err)
		return p
	}
	require.ErrorContains(t, g.Step(l.stream, &DeviceStepArgs{Sample: v}), "neither Prev nor Converted")
	require.ErrorContains(t, g.Step(l.stream, &DeviceStepArgs{Sample: part(0, 32), Prev: part(4, 32)}), "Prev overlaps an input")
	require.ErrorContains(t, g.Scale(l.stream, part(0, 32), part(0, 16), 1, 0), "dst has 8 values, expected 4")
	require.ErrorContains(t, g.Scale(l.stream, part(2, 32), part(2, 32), 1, 0), "whole float32 values")
	require.ErrorContains(t, g.CountNonFinite(l.stream, part(0, 4), v), "expected one uint64")
	require.ErrorContains(t, g.ImageToU8(l.stream, part(0, 12), v, 3, 2, 2), "src has 16 values")
}

// TestKernelsOnFake: arguments, checks and launches are right as far as a fake can tell.
func TestKernelsOnFake(t *testing.T) {
	o := cudatest.New(t, cudatest.Machine{Devices: 1})
	tellKernelsEqualReference(t, o, []int{0, 1, 257, 4*64*64 + 1}, "cubin")
	t.Run("bad arguments", func(t *testing.T) { tellBadArguments(t, o) })
}

// TestKernelsOnVirtualDevice: the same where streams run by themselves, code of another device is refused and every
// address is checked.
func TestKernelsOnVirtualDevice(t *testing.T) {
	o := cudatest.Virtual(t)
	tellKernelsEqualReference(t, o, []int{0, 257, 4*64*64 + 1}, "cubin")
	tellKernelsEqualReference(t, o, []int{3}, "ptx")
	t.Run("bad arguments", func(t *testing.T) { tellBadArguments(t, o) })
	l := newLab(t, o)
	_, err := OpenGPU(l.device, compiled(t, openCompiler(t, 13), "sm_120").Cubin)
	require.ErrorContains(t, err, "no kernel image is available for execution on the device (cudaErrorNoKernelImageForDevice, 209)")
}
