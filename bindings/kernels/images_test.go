package kernels

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func checkU8ToImageEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(29, 30))
	for _, n := range sizes {
		for _, channels := range []int{1, 2, 3, 4} {
			src := make([]uint8, n*channels+1)[1:]
			for i := range src {
				src[i] = uint8(r.Uint32())
			}
			expected, actual := make([]float32, len(src)), make([]float32, len(src)+1)[1:]
			require.NoError(t, Reference().U8ToImage(expected, src, channels, 1, n))
			require.NoError(t, native.U8ToImage(actual, src, channels, 1, n))
			requireSame(t, expected, actual)
			half, halfNative := make([]Float16, len(src)), make([]Float16, len(src)+1)[1:]
			require.NoError(t, Reference().U8ToImageF16(half, src, channels, 1, n))
			require.NoError(t, native.U8ToImageF16(halfNative, src, channels, 1, n))
			requireSameHalves(t, half, halfNative)
		}
	}
}

// Every byte, and that it comes back; the layout, by hand.
func TestU8ToImage(t *testing.T) {
	bytes, values, back, expected := make([]uint8, 256), make([]float32, 256), make([]uint8, 256), make([]float32, 256)
	for i := range bytes {
		bytes[i] = uint8(i)
		expected[i] = 2*(float32(i)/255) - 1
	}
	for name, s := range sets(t) {
		require.NoError(t, s.U8ToImage(values, bytes, 1, 16, 16))
		requireSame(t, expected, values, name)
		require.NoError(t, s.ImageToU8(back, values, 1, 16, 16))
		require.Equal(t, bytes, back, name)
		require.NoError(t, s.U8ToImage(values[:6], []uint8{0, 255, 0, 255, 255, 0}, 3, 1, 2))
		require.Equal(t, []float32{-1, 1, 1, 1, -1, -1}, values[:6], name)
		require.ErrorContains(t, s.U8ToImage(values[:6], bytes[:5], 3, 1, 2), "src has 5 values and dst 6, expected 6")
	}
}
