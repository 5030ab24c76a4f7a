package kernels

import (
	"fmt"
	"strconv"
	"testing"
)

// The sizes of a 512-pixel image's latents and of a short clip's.
var benchSizes = []int{4 * 64 * 64, 16 * 128 * 128}

func benchmark(b *testing.B, n, bytesPerValue int, f func(s *Set)) {
	for name, s := range map[string]*Set{"go": Reference(), "native": openNative(b)} {
		b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
			b.SetBytes(int64(n * bytesPerValue))
			b.ReportAllocs()
			for b.Loop() {
				f(s)
			}
		})
	}
}

// The floor: bytes read plus bytes written, as in the other benchmarks.
func BenchmarkMemcpy(b *testing.B) {
	for _, n := range benchSizes {
		dst, src := make([]float32, n), make([]float32, n)
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.SetBytes(int64(8 * n))
			for b.Loop() {
				copy(dst, src)
			}
		})
	}
}

// One guided Euler step in place: three arrays read, one written.
func BenchmarkStepEuler(b *testing.B) {
	for _, n := range benchSizes {
		a := &StepArgs{Sample: make([]float32, n), Cond: make([]float32, n), Uncond: make([]float32, n), Guidance: 7.5, SampleCoef: 1, OutputCoef: -0.1}
		a.Prev = a.Sample
		benchmark(b, n, 16, func(s *Set) { _ = s.Step(a) })
	}
}

// One guided second-order step: four arrays read, two written.
func BenchmarkStepMultistep(b *testing.B) {
	for _, n := range benchSizes {
		v := func() []float32 { return make([]float32, n) }
		a := &StepArgs{Sample: v(), Cond: v(), Uncond: v(), Guidance: 7.5, ConvSample: 1, ConvOutput: -1, SampleCoef: 0.9, ConvertedCoef: 0.1, History: [][]float32{v()}, HistoryCoef: []float32{-0.01}, Converted: v()}
		a.Prev = a.Sample
		benchmark(b, n, 24, func(s *Set) { _ = s.Step(a) })
	}
}

func BenchmarkScale(b *testing.B) {
	for _, n := range benchSizes {
		dst, src := make([]float32, n), make([]float32, n)
		benchmark(b, n, 8, func(s *Set) { _ = s.Scale(dst, src, 2, 1) })
	}
}

func BenchmarkImageToU8(b *testing.B) {
	const side = 512
	dst, src := make([]uint8, 3*side*side), make([]float32, 3*side*side)
	benchmark(b, len(src), 5, func(s *Set) { _ = s.ImageToU8(dst, src, 3, side, side) })
}

func BenchmarkCountNonFinite(b *testing.B) {
	for _, n := range benchSizes {
		src := make([]float32, n)
		benchmark(b, n, 4, func(s *Set) { _ = s.CountNonFinite(src) })
	}
}

func BenchmarkTorchNormal(b *testing.B) {
	dst := make([]float32, benchSizes[0])
	sources := map[*Set]NormalSource{}
	benchmark(b, len(dst), 4, func(s *Set) {
		if sources[s] == nil {
			sources[s] = s.TorchNormal(1)
		}
		sources[s].Fill(dst)
	})
}

// The overlap of two tiles of 512 pixels: two arrays read, one written.
func BenchmarkBlend(b *testing.B) {
	const side, extent = 512, 128
	for _, down := range []bool{false, true} {
		a := &BlendArgs{Dst: make([]float32, 3*side*side), DstPlane: side * side, DstRow: side, Planes: 3, Rows: side, Columns: extent, Down: down}
		if down {
			a.Rows, a.Columns = extent, side
		}
		a.Src, a.SrcPlane, a.SrcRow = make([]float32, len(a.Dst)), a.DstPlane, a.DstRow
		b.Run(fmt.Sprint("down=", down), func(b *testing.B) {
			benchmark(b, 3*side*extent, 12, func(s *Set) { _ = s.Blend(a) })
		})
	}
}
