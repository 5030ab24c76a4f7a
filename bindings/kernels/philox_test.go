package kernels

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// h100 has as many threads as PyTorch uses there.
var h100 = CUDADevice{Multiprocessors: 132, ThreadsPerMultiprocessor: 2048}

// tiny holds 512 threads, so that few values take several rounds.
var tiny = CUDADevice{Multiprocessors: 1, ThreadsPerMultiprocessor: 512}

func checkPhiloxEqual(t *testing.T, native *Set) {
	for _, device := range []CUDADevice{tiny, h100} {
		for seed := range uint64(3) {
			seed *= 0x123456789abcdef1
			expected, actual := Reference().TorchCUDANormal(seed, device), native.TorchCUDANormal(seed, device)
			for _, n := range append(sizes, 4*512, 2*4*512+3) {
				requireSame(t, fill(expected, n), fill(actual, n), seed, n)
			}
		}
	}
}

// The vectors of Random123 (kat_vectors, philox4x32 10).
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		seed, count, sequence uint64
		words                 [4]uint32
	}{
		{0, 0, 0, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		require.Equal(t, c.words, philox(c.seed, c.count, c.sequence))
	}
}

// PyTorch's layout with NVIDIA's headers on a CPU (testdata/make_philox.cpp): two calls in a row of each size.
func TestTorchCUDANormalEqualsCuRAND(t *testing.T) {
	for name, s := range sets(t) {
		expected, most := goldenFloats(t, "philox.bin"), 0.0
		for _, device := range []CUDADevice{tiny, h100} {
			for _, n := range []int{1, 255, 257, 600, 2100} {
				source := s.TorchCUDANormal(0x1234567887654321, device)
				for range 2 {
					for i, x := range fill(source, n) {
						most = max(most, math.Abs(float64(x)-float64(expected[i])))
					}
					expected = expected[n:]
				}
			}
		}
		require.Empty(t, expected)
		require.Less(t, most, 2e-6, name)
	}
}

// Small arrays are the same on every device, and the values are normal.
func TestTorchCUDANormal(t *testing.T) {
	s := openNative(t)
	requireSame(t, fill(s.TorchCUDANormal(7, h100), 512), fill(s.TorchCUDANormal(7, tiny), 512))
	v := fill(s.TorchCUDANormal(7, tiny), 1<<16)
	sum, squares := 0.0, 0.0
	for _, x := range v {
		sum += float64(x)
		squares += float64(x) * float64(x)
	}
	require.InDelta(t, 0, sum/float64(len(v)), 0.02)
	require.InDelta(t, 1, squares/float64(len(v)), 0.02)
}

// The extremes of both words: never infinite, never NaN.
func TestNormalPairIsFinite(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 36))
	words := []uint32{0, 1, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1, r.Uint32()}
	for _, x := range words {
		for _, y := range words {
			first, second := normalPair(x, y)
			u, angle := (float64(x)+0.5)/(1<<32), 2*math.Pi*(float64(y)+0.5)/(1<<32)
			radius := math.Sqrt(-2 * math.Log(u))
			require.InDelta(t, radius*math.Sin(angle), first, 4e-4, "%#x %#x", x, y) // u rounds to 1
			require.InDelta(t, radius*math.Cos(angle), second, 4e-4, "%#x %#x", x, y)
		}
	}
}
