package kernels

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func checkCompositesEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(27, 28))
	for _, n := range sizes {
		channels, weight := 1+n%5, r.Float32()
		a, b, mask := values(r, n*channels, 1), values(r, n*channels, 2), values(r, n, 3)
		expected, actual := make([]float32, len(a)), make([]float32, len(a)+1)[1:]
		require.NoError(t, Reference().Mix(expected, a, b, weight))
		require.NoError(t, native.Mix(actual, a, b, weight))
		requireSame(t, expected, actual, "Mix")
		require.NoError(t, Reference().Composite(expected, a, b, mask, channels))
		require.NoError(t, native.Composite(actual, a, b, mask, channels))
		requireSame(t, expected, actual, "Composite")
		require.NoError(t, native.Composite(a, a, b, mask, channels))
		requireSame(t, expected, a, "Composite in place")

		ha, hb, hmask := halves(r, n*channels, 1), halves(r, n*channels, 2), halves(r, n, 3)
		half, halfNative := make([]Float16, len(ha)), make([]Float16, len(ha)+1)[1:]
		require.NoError(t, Reference().MixF16(half, ha, hb, weight))
		require.NoError(t, native.MixF16(halfNative, ha, hb, weight))
		requireSameHalves(t, half, halfNative, "MixF16")
		require.NoError(t, Reference().CompositeF16(half, ha, hb, hmask, channels))
		require.NoError(t, native.CompositeF16(halfNative, ha, hb, hmask, channels))
		requireSameHalves(t, half, halfNative, "CompositeF16")

		bytes := func(n int) []uint8 {
			v := make([]uint8, n+1)[1:]
			for i := range v {
				v[i] = uint8(r.Uint32())
			}
			return v
		}
		pa, pb, pmask := bytes(n*channels), bytes(n*channels), bytes(n)
		picture, pictureNative := make([]uint8, len(pa)), bytes(len(pa))
		require.NoError(t, Reference().CompositeU8(picture, pa, pb, pmask, channels))
		require.NoError(t, native.CompositeU8(pictureNative, pa, pb, pmask, channels))
		require.True(t, slices.Equal(picture, pictureNative), "CompositeU8 of %d", n)
		require.NoError(t, native.CompositeU8(pb, pa, pb, pmask, channels))
		require.True(t, slices.Equal(picture, pb), "CompositeU8 in place of %d", n)
	}
}

func TestCompositeValues(t *testing.T) {
	for name, s := range sets(t) {
		dst := make([]float32, 4)
		require.NoError(t, s.Composite(dst, []float32{1, 2, 3, 4}, []float32{10, 20, 30, 40}, []float32{1, 0.25}, 2), name)
		require.Equal(t, []float32{1, 15.5, 3, 31}, dst, name)
		require.NoError(t, s.Mix(dst, []float32{1, 2, 3, 4}, []float32{10, 20, 30, 40}, 0.25), name)
		require.Equal(t, []float32{3.25, 6.5, 9.75, 13}, dst, name)
		pixels := make([]uint8, 6)
		require.NoError(t, s.CompositeU8(pixels, []uint8{255, 100, 7, 255, 1, 0}, []uint8{0, 200, 9, 0, 0, 0}, []uint8{255, 128}, 3), name)
		require.Equal(t, []uint8{255, 100, 7, 128, 1, 0}, pixels, name)
	}
}

// Each product of two bytes, divided by 255 and rounded to the nearest.
func TestCompositeU8Rounds(t *testing.T) {
	a, b, mask, dst, expected := make([]uint8, 1<<16), make([]uint8, 1<<16), make([]uint8, 1<<16), make([]uint8, 1<<16), make([]uint8, 1<<16)
	for i := range a {
		a[i], mask[i] = uint8(i), uint8(i>>8)
		expected[i] = uint8(float64(int(a[i])*int(mask[i]))/255 + 0.5)
	}
	for name, s := range sets(t) {
		require.NoError(t, s.CompositeU8(dst, a, b, mask, 1))
		require.True(t, slices.Equal(expected, dst), name)
	}
}

func TestCompositesRefuseBadArguments(t *testing.T) {
	v, pixels := make([]float32, 16), make([]uint8, 16)
	for _, s := range sets(t) {
		require.ErrorContains(t, s.Mix(v[:4], v[4:8], v[8:11], 1), "dst has 4 values and a source 3")
		require.ErrorContains(t, s.Mix(v[:4], v[1:5], v[8:12], 1), "overlaps a source")
		require.NoError(t, s.Mix(v[:4], v[:4], v[8:12], 1))
		require.ErrorContains(t, s.Composite(v[:4], v[4:8], v[8:12], v[12:15], 2), "dst has 4 values in 2 channels and mask 3")
		require.ErrorContains(t, s.Composite(v[:4], v[4:8], v[8:12], v[3:5], 2), "shares memory with mask")
		require.ErrorContains(t, s.CompositeU8(pixels[:4], pixels[4:8], pixels[8:12], nil, 0), "in 0 channels")
		require.ErrorContains(t, s.F16ToF32(v[:4], make([]Float16, 3)), "dst has 4 values and a source 3")
	}
}
