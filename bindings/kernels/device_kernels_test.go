package kernels

import (
	"math/rand/v2"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
)

// checkGPUFloat16 compares the kernels in float16, and the conversions, with the reference.
func checkGPUFloat16(l *gpuLab, g *GPU, r *rand.Rand, n int) {
	l.t.Helper()
	a := inHalves(randomStep(r, n))
	place := func(v []Float16) cuda.View {
		if v == nil {
			return cuda.View{}
		}
		return put(l, v)
	}
	device := &DeviceStepArgs{
		Sample: place(a.Sample), Cond: place(a.Cond), Uncond: place(a.Uncond), Noise: place(a.Noise),
		Converted: place(a.Converted), Prev: place(a.Prev), HistoryCoef: a.HistoryCoef,
		Guidance: a.Guidance, ConvSample: a.ConvSample, ConvOutput: a.ConvOutput, Clip: a.Clip,
		SampleCoef: a.SampleCoef, OutputCoef: a.OutputCoef, ConvertedCoef: a.ConvertedCoef, NoiseCoef: a.NoiseCoef,
	}
	for _, h := range a.History {
		device.History = append(device.History, place(h))
	}
	require.NoError(l.t, g.StepF16(l.stream, device))
	require.NoError(l.t, Reference().StepF16(a))
	if a.Prev != nil {
		requireSameHalves(l.t, a.Prev, get[Float16](l, device.Prev), "StepF16 Prev")
	}
	if a.Converted != nil {
		requireSameHalves(l.t, a.Converted, get[Float16](l, device.Converted), "StepF16 Converted")
	}

	src := halves(r, n, 0)
	from, to, wide := put(l, src), put(l, make([]Float16, n)), put(l, make([]float32, n))
	expected, widened := make([]Float16, n), make([]float32, n)
	require.NoError(l.t, Reference().ScaleF16(expected, src, 3, -0.1))
	require.NoError(l.t, g.ScaleF16(l.stream, to, from, 3, -0.1))
	requireSameHalves(l.t, expected, get[Float16](l, to), "ScaleF16")
	require.NoError(l.t, Reference().F16ToF32(widened, src))
	require.NoError(l.t, g.F16ToF32(l.stream, wide, from))
	requireSame(l.t, widened, get[float32](l, wide), "F16ToF32")
	floats := values(r, n, 0)
	require.NoError(l.t, Reference().F32ToF16(expected, floats))
	require.NoError(l.t, g.F32ToF16(l.stream, to, put(l, floats)))
	requireSameHalves(l.t, expected, get[Float16](l, to), "F32ToF16")
	count := put(l, []uint64{99})
	require.NoError(l.t, g.CountNonFiniteF16(l.stream, count, from))
	require.Equal(l.t, uint64(Reference().CountNonFiniteF16(src)), get[uint64](l, count)[0])
}

// checkGPUComposites compares masks, cross-fades and images with the reference, of 3 channels.
func checkGPUComposites(l *gpuLab, g *GPU, r *rand.Rand, n int) {
	l.t.Helper()
	const channels = 3
	pixels := n / channels
	n = channels * pixels
	a, b, mask := values(r, n, 0), values(r, n, 0), values(r, pixels, 0)
	da, db, dmask, dst := put(l, a), put(l, b), put(l, mask), put(l, make([]float32, n))
	expected := make([]float32, n)
	require.NoError(l.t, Reference().Mix(expected, a, b, 0.3))
	require.NoError(l.t, g.Mix(l.stream, dst, da, db, 0.3))
	requireSame(l.t, expected, get[float32](l, dst), "Mix")
	require.NoError(l.t, Reference().Composite(expected, a, b, mask, channels))
	require.NoError(l.t, g.Composite(l.stream, dst, da, db, dmask, channels))
	requireSame(l.t, expected, get[float32](l, dst), "Composite")

	ha, hb, hmask := halves(r, n, 0), halves(r, n, 0), halves(r, pixels, 0)
	half, dhalf := make([]Float16, n), put(l, make([]Float16, n))
	dha, dhb := put(l, ha), put(l, hb)
	require.NoError(l.t, Reference().MixF16(half, ha, hb, 0.3))
	require.NoError(l.t, g.MixF16(l.stream, dhalf, dha, dhb, 0.3))
	requireSameHalves(l.t, half, get[Float16](l, dhalf), "MixF16")
	require.NoError(l.t, Reference().CompositeF16(half, ha, hb, hmask, channels))
	require.NoError(l.t, g.CompositeF16(l.stream, dhalf, dha, dhb, put(l, hmask), channels))
	requireSameHalves(l.t, half, get[Float16](l, dhalf), "CompositeF16")

	bytes := func(n int) []uint8 {
		v := make([]uint8, n)
		for i := range v {
			v[i] = uint8(r.Uint32())
		}
		return v
	}
	pa, pb, pmask, picture := bytes(n), bytes(n), bytes(pixels), make([]uint8, n)
	dpa, dpicture := put(l, pa), put(l, make([]uint8, n))
	require.NoError(l.t, Reference().CompositeU8(picture, pa, pb, pmask, channels))
	require.NoError(l.t, g.CompositeU8(l.stream, dpicture, dpa, put(l, pb), put(l, pmask), channels))
	require.Equal(l.t, picture, get[uint8](l, dpicture), "CompositeU8")
	if pixels > 1<<20 {
		return // larger than an image may be in one direction
	}
	require.NoError(l.t, Reference().U8ToImage(expected, pa, channels, 1, pixels))
	require.NoError(l.t, g.U8ToImage(l.stream, dst, dpa, channels, 1, pixels))
	requireSame(l.t, expected, get[float32](l, dst), "U8ToImage")
	require.NoError(l.t, Reference().U8ToImageF16(half, pa, channels, 1, pixels))
	require.NoError(l.t, g.U8ToImageF16(l.stream, dhalf, dpa, channels, 1, pixels))
	requireSameHalves(l.t, half, get[Float16](l, dhalf), "U8ToImageF16")
	require.NoError(l.t, Reference().ImageF16ToU8(picture, ha, channels, 1, pixels))
	require.NoError(l.t, g.ImageF16ToU8(l.stream, dpicture, dha, channels, 1, pixels))
	require.Equal(l.t, picture, get[uint8](l, dpicture), "ImageF16ToU8")
}

// checkGPUReductions compares sums, which must not depend on how the work is shared.
func checkGPUReductions(l *gpuLab, g *GPU, r *rand.Rand, n int) {
	l.t.Helper()
	a, b, ha, hb := values(r, n, 0), values(r, n, 0), halves(r, n, 0), halves(r, n, 0)
	sum, result := put(l, []uint64{99}), put(l, make([]uint64, DifferenceBytes/8))
	da, dha := put(l, a), put(l, ha)
	require.NoError(l.t, g.Checksum(l.stream, sum, da))
	require.Equal(l.t, Reference().Checksum(a), get[uint64](l, sum)[0])
	require.NoError(l.t, g.ChecksumF16(l.stream, sum, dha))
	require.Equal(l.t, Reference().ChecksumF16(ha), get[uint64](l, sum)[0])

	expected, err := Reference().Difference(a, b)
	require.NoError(l.t, err)
	require.NoError(l.t, g.Difference(l.stream, result, da, put(l, b)))
	found, err := g.ReadDifference(l.stream, result, n)
	require.NoError(l.t, err)
	require.Equal(l.t, expected, found)
	expected, err = Reference().DifferenceF16(ha, hb)
	require.NoError(l.t, err)
	require.NoError(l.t, g.DifferenceF16(l.stream, result, dha, put(l, hb)))
	found, err = g.ReadDifference(l.stream, result, n)
	require.NoError(l.t, err)
	require.Equal(l.t, expected, found)
}

// checkGPUPhilox compares noise, of PyTorch's layout for a large and a tiny device.
func checkGPUPhilox(l *gpuLab, g *GPU, n int) {
	l.t.Helper()
	for _, layout := range []CUDADevice{h100, tiny} {
		dst, half, offset := put(l, make([]float32, n)), put(l, make([]Float16, n)), uint64(0)
		source := Reference().TorchCUDANormal(42, layout)
		for range 2 {
			expected, rounded := fill(source, n), make([]Float16, n)
			narrow(rounded, expected)
			_, err := g.TorchCUDANormalF16(l.stream, half, 42, offset, layout)
			require.NoError(l.t, err)
			requireSameHalves(l.t, rounded, get[Float16](l, half), "TorchCUDANormalF16")
			offset, err = g.TorchCUDANormal(l.stream, dst, 42, offset, layout)
			require.NoError(l.t, err)
			requireSame(l.t, expected, get[float32](l, dst), "TorchCUDANormal")
		}
	}
}

func checkGPUResample(l *gpuLab, g *GPU, r *rand.Rand) {
	l.t.Helper()
	for _, c := range []struct{ outer, in, out, inner int }{{3, 17, 9, 1}, {1, 9, 31, 40}, {7, 5, 12, 3}} {
		for _, f := range []Filter{Bicubic, Lanczos} {
			weights, err := NewResampling(f, c.in, c.out)
			require.NoError(l.t, err)
			device, err := NewDeviceResampling(l.device, l.stream, weights)
			require.NoError(l.t, err)
			src, pixels := values(r, c.outer*c.in*c.inner, 0), make([]uint8, c.outer*c.in*c.inner)
			for i := range pixels {
				pixels[i] = uint8(r.Uint32())
			}
			expected, picture := make([]float32, c.outer*c.out*c.inner), make([]uint8, c.outer*c.out*c.inner)
			require.NoError(l.t, Reference().Resample(expected, src, weights, c.inner))
			require.NoError(l.t, Reference().ResampleU8(picture, pixels, weights, c.inner))
			dst, bytes := put(l, make([]float32, len(expected))), put(l, make([]uint8, len(picture)))
			require.NoError(l.t, g.Resample(l.stream, dst, put(l, src), device, c.inner))
			requireSame(l.t, expected, get[float32](l, dst), "Resample")
			require.NoError(l.t, g.ResampleU8(l.stream, bytes, put(l, pixels), device, c.inner))
			require.Equal(l.t, picture, get[uint8](l, bytes), "ResampleU8")
			require.NoError(l.t, device.Close())
		}
	}
}
