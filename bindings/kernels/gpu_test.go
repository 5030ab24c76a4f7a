//go:build gpu

// These tests need an NVIDIA GPU. `make gpu-report` builds them for a machine that has one; `make not-run` lists them.

package kernels

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/nvrtc"
)

// gpuSizes are odd, and large: latents of 512 and 1024 pixels, of a clip, and one value more than 16 Mi.
var gpuSizes = []int{0, 1, 3, 31, 33, 255, 256, 257, 1023, 4097, 4*64*64 + 1, 4 * 128 * 128, 16 * 128 * 128, 16<<20 + 1}

func TestGPUKernelsEqualReference(t *testing.T) {
	tellKernelsEqualReference(t, cuda.Options{}, gpuSizes, "cubin", "ptx")
}

func TestGPURefusesBadArguments(t *testing.T) { tellBadArguments(t, cuda.Options{}) }

// gpuTime is the time of one run, by events around many.
func gpuTime(b *testing.B, l *gpuLab, run func() error) time.Duration {
	b.Helper()
	begin, err := l.device.NewEvent("begin", true)
	require.NoError(b, err)
	defer begin.Close()
	end, err := l.device.NewEvent("end", true)
	require.NoError(b, err)
	defer end.Close()
	const rounds, repeat = 7, 50
	best := time.Duration(math.MaxInt64)
	err = l.device.Do(func() error {
		for range rounds {
			if err := l.stream.Record(begin); err != nil {
				return err
			}
			for range repeat {
				if err := run(); err != nil {
					return err
				}
			}
			if err := l.stream.Record(end); err != nil {
				return err
			}
			if err := end.Synchronize(); err != nil {
				return err
			}
			elapsed, err := begin.Elapsed(end)
			if err != nil {
				return err
			}
			best = min(best, elapsed/repeat)
		}
		return nil
	})
	require.NoError(b, err)
	return best
}

// BenchmarkGPUKernels compares kernels with a copy on the device: bytes read plus bytes written a second, and the
// ratio of that. Small sizes measure the launch.
func BenchmarkGPUKernels(b *testing.B) {
	l := newLab(b, cuda.Options{})
	g := l.kernels(false)
	for _, n := range []int{4 * 64 * 64, 16 * 128 * 128, 64 << 20} {
		compareToCopy(b, l, g, n, "")
	}
}

// BenchmarkGPULanes is what lanes is chosen by: the same with code whose threads compute 1, 2, 4 and so on.
func BenchmarkGPULanes(b *testing.B) {
	l := newLab(b, cuda.Options{})
	compiler, err := nvrtc.Open(nvrtc.Options{Newest: l.runtime.DriverVersion().Major()})
	if err != nil {
		b.Logf("NOT RUN: the code for other lanes is compiled here: %v", err)
		return
	}
	architecture, err := l.device.Architecture()
	require.NoError(b, err)
	for _, lanes := range []int{1, 2, 4, 8, 16} {
		code, err := compileLanes(compiler, architecture, lanes)
		require.NoError(b, err)
		g, err := OpenGPU(l.device, code.Cubin)
		require.NoError(b, err)
		g.lanes = lanes
		compareToCopy(b, l, g, 64<<20, fmt.Sprintf("/lanes=%d", lanes))
		require.NoError(b, g.Close())
	}
}

// compareToCopy measures each kernel over n values.
func compareToCopy(b *testing.B, l *gpuLab, g *GPU, n int, suffix string) {
	b.Helper()
	zeros := func() cuda.View {
		buffer, err := l.device.Malloc(b.Name(), int64(n)*4)
		require.NoError(b, err)
		closeAtEnd(b, buffer)
		require.NoError(b, l.stream.Fill(buffer.All(), 0))
		return buffer.All()
	}
	part := func(v cuda.View, bytes int) cuda.View {
		p, err := v.Slice(0, int64(bytes))
		require.NoError(b, err)
		return p
	}
	sample, cond, uncond, history, converted, prev := zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
	euler := DeviceStepArgs{Sample: sample, Cond: cond, Uncond: uncond, Guidance: 7.5, SampleCoef: 1, OutputCoef: -0.1, Prev: prev}
	multistep := euler
	multistep.ConvSample, multistep.ConvOutput, multistep.ConvertedCoef, multistep.Converted = 1, -1, 0.1, converted
	multistep.History, multistep.HistoryCoef = []cuda.View{history}, []float32{-0.01}
	const width = 64
	height := n / 3 / width
	values := 3 * height * width
	count, bytes, image := part(prev, 8), part(prev, values), part(sample, values*4)
	copied := math.NaN()
	for _, c := range []struct {
		name  string
		moved int // bytes read and written
		run   func() error
	}{
		{"memcpy", 8 * n, func() error { return l.stream.Copy(prev, sample) }},
		{"scale", 8 * n, func() error { return g.Scale(l.stream, prev, sample, 2, 1) }},
		{"step euler", 16 * n, func() error { return g.Step(l.stream, &euler) }},
		{"step multistep", 24 * n, func() error { return g.Step(l.stream, &multistep) }},
		{"count non-finite", 4 * n, func() error { return g.CountNonFinite(l.stream, count, sample) }},
		{"scale f16", 4 * n, func() error { return g.ScaleF16(l.stream, part(prev, 2*n), part(sample, 2*n), 2, 1) }},
		{"mix", 12 * n, func() error { return g.Mix(l.stream, prev, cond, uncond, 0.3) }},
		{"checksum", 4 * n, func() error { return g.Checksum(l.stream, count, sample) }},
		{"difference", 8 * n, func() error { return g.Difference(l.stream, part(prev, DifferenceBytes), cond, uncond) }},
		{"torch cuda normal", 4 * n, func() error { _, err := g.TorchCUDANormal(l.stream, prev, 1, 0, h100); return err }},
		{"image to u8", 5 * values, func() error { return g.ImageToU8(l.stream, bytes, image, 3, height, width) }},
	} {
		b.Run(fmt.Sprintf("%s/%d%s", c.name, n, suffix), func(b *testing.B) {
			var took time.Duration
			for range b.N {
				took = gpuTime(b, l, c.run)
			}
			rate := float64(c.moved) / took.Seconds() / 1e9
			if c.name == "memcpy" {
				copied = rate
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took)/1e3, "us")
			b.ReportMetric(rate, "GB/s")
			b.ReportMetric(rate/copied, "of-memcpy")
		})
	}
}
