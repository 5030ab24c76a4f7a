package kernels

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// halves gives n random values, about one in eight of them any bits at all, starting offset values into their memory.
func halves(r *rand.Rand, n, offset int) []Float16 {
	v := make([]Float16, offset+n)[offset:]
	for i := range v {
		if r.IntN(8) == 0 {
			v[i] = Float16(r.Uint32())
		} else {
			v[i] = ToFloat16(float32(r.NormFloat64()))
		}
	}
	return v
}

// requireSameHalves compares bit for bit, with all NaNs equal.
func requireSameHalves(t testing.TB, expected, actual []Float16, about ...any) {
	t.Helper()
	requireSame(t, widened(expected), widened(actual), about...)
}

// Every float16 there is, and back.
func TestFloat16(t *testing.T) {
	for bits := range 1 << 16 {
		h := Float16(bits)
		x := h.Float32()
		exponent, mantissa := bits>>10&31, float64(bits&0x3ff)
		expected := math.Ldexp(mantissa/1024, -14)
		if exponent > 0 {
			expected = math.Ldexp(1+mantissa/1024, exponent-15)
		}
		switch {
		case exponent == 31 && mantissa != 0:
			require.True(t, math.IsNaN(float64(x)), "%#04x", bits)
			require.True(t, math.IsNaN(float64(ToFloat16(x).Float32())), "%#04x", bits)
			continue
		case exponent == 31:
			expected = math.Inf(1)
		}
		require.Equal(t, math.Float32bits(float32(math.Copysign(expected, float64(1-2*(bits>>15))))), math.Float32bits(x), "%#04x", bits)
		require.Equal(t, h, ToFloat16(x))
	}
	for x, expected := range map[float32]Float16{
		1 + 1.0/2048: 0x3c00, 1 + 3.0/2048: 0x3c02, 65519: 0x7bff, 65520: 0x7c00, -1e9: 0xfc00, // half to even, overflow
		0x1p-25: 0, 0x1.000002p-25: 1, 0x1.8p-24: 2, 0x1.ffcp-15: 0x0400, -0x1p-26: 0x8000, // subnormal
	} {
		require.Equal(t, expected, ToFloat16(x), "%g", x)
	}
}

func checkConversionsEqual(t *testing.T, native *Set) {
	every, wide, again := make([]Float16, 1<<16), make([]float32, 1<<16), make([]float32, 1<<16)
	for i := range every {
		every[i] = Float16(i)
	}
	require.NoError(t, native.F16ToF32(wide, every))
	require.NoError(t, Reference().F16ToF32(again, every))
	requireSame(t, again, wide)

	r := rand.New(rand.NewPCG(21, 22))
	for _, n := range sizes {
		for offset := range 4 {
			src := values(r, n, offset)
			for i := range src {
				if r.IntN(2) == 0 { // close to where results are rounded, subnormal or infinite
					src[i] = math.Float32frombits(uint32(0x33000000 + r.IntN(0x14900000)&^r.IntN(1<<13)))
				}
			}
			expected, actual := make([]Float16, n), make([]Float16, n+1)[1:]
			require.NoError(t, Reference().F32ToF16(expected, src))
			require.NoError(t, native.F32ToF16(actual, src))
			requireSameHalves(t, expected, actual)
			back, backNative := make([]float32, n), make([]float32, n+1)[1:]
			require.NoError(t, Reference().F16ToF32(back, expected))
			require.NoError(t, native.F16ToF32(backNative, expected))
			requireSame(t, back, backNative)
		}
	}
}

// inHalves is the same step over values in float16.
func inHalves(a *StepArgs) *StepArgsOf[[]Float16] {
	half := func(v []float32) []Float16 {
		if v == nil {
			return nil
		}
		out := make([]Float16, len(v)+1)[1:]
		narrow(out, v)
		return out
	}
	b := &StepArgsOf[[]Float16]{
		Sample: half(a.Sample), Cond: half(a.Cond), Uncond: half(a.Uncond), Noise: half(a.Noise), Converted: half(a.Converted), Prev: half(a.Prev),
		Guidance: a.Guidance, ConvSample: a.ConvSample, ConvOutput: a.ConvOutput, Clip: a.Clip, HistoryCoef: a.HistoryCoef,
		SampleCoef: a.SampleCoef, OutputCoef: a.OutputCoef, ConvertedCoef: a.ConvertedCoef, NoiseCoef: a.NoiseCoef,
	}
	for _, h := range a.History {
		b.History = append(b.History, half(h))
	}
	return b
}

func checkStepF16Equal(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(23, 24))
	for _, n := range sizes {
		for round := range 20 {
			a := randomStep(r, n)
			expected, actual := inHalves(a), inHalves(a)
			if round%2 == 0 && a.Prev != nil { // in place
				expected.Prev, actual.Prev = expected.Sample, actual.Sample
			}
			require.NoError(t, Reference().StepF16(expected))
			require.NoError(t, native.StepF16(actual))
			requireSameHalves(t, expected.Prev, actual.Prev, "Prev")
			requireSameHalves(t, expected.Converted, actual.Converted, "Converted")
			requireSameHalves(t, expected.Sample, actual.Sample, "Sample")
		}
	}
}

func checkOthersF16Equal(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(25, 26))
	for _, n := range sizes {
		src := halves(r, n, n%4)
		mul, add := float32(r.NormFloat64()), float32(r.NormFloat64())
		expected, actual := make([]Float16, n), make([]Float16, n+1)[1:]
		require.NoError(t, Reference().ScaleF16(expected, src, mul, add))
		require.NoError(t, native.ScaleF16(actual, src, mul, add))
		requireSameHalves(t, expected, actual)
		require.Equal(t, Reference().CountNonFiniteF16(src), native.CountNonFiniteF16(src))
		for _, channels := range []int{1, 3, 4} {
			image, pixels := src[:n/channels*channels], n/channels
			bytes, bytesNative := make([]uint8, len(image)), make([]uint8, len(image)+1)[1:]
			require.NoError(t, Reference().ImageF16ToU8(bytes, image, channels, 1, pixels))
			require.NoError(t, native.ImageF16ToU8(bytesNative, image, channels, 1, pixels))
			require.Equal(t, bytes, bytesNative)
		}
		require.NoError(t, native.ScaleF16(src, src, mul, add))
		requireSameHalves(t, expected, src, "in place")
	}
}

// One rounding at the end, by hand: 2049 is no float16.
func TestStepF16RoundsOnce(t *testing.T) {
	one, prev, converted := []Float16{0x3c00}, make([]Float16, 1), make([]Float16, 1)
	for name, s := range sets(t) {
		require.NoError(t, s.StepF16(&StepArgsOf[[]Float16]{Sample: one, ConvSample: 2049, ConvertedCoef: 2, SampleCoef: 1, Converted: converted, Prev: prev}), name)
		requireSameHalves(t, []Float16{ToFloat16(2048)}, converted, name)
		requireSameHalves(t, []Float16{ToFloat16(4100)}, prev, "4099 of the exact 2049, ", name)
	}
}
