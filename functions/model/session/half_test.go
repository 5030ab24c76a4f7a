package session

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFloat16 goes through every float16, to float32 and back, and compares what lies between two with the nearer.
func TestFloat16(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for bits := range 0x7c00 { // finite, positive
		h := uint16(bits)
		x := toFloat32(h)
		require.Equal(t, h, toFloat16(x), "%#x", h)
		require.Equal(t, h|0x8000, toFloat16(-x), "%#x", h)
		next := float64(toFloat32(h + 1))
		if h+1 == 0x7c00 {
			next = 65536 // where the next would be
		}
		middle := (float64(x) + next) / 2
		even := h + h&1
		require.Equal(t, even, toFloat16(float32(middle)), "half to even at %#x", h)
		require.Equal(t, h, toFloat16(math.Nextafter32(float32(middle), 0)), "below the middle at %#x", h)
		require.Equal(t, h+1, toFloat16(math.Nextafter32(float32(middle), float32(math.Inf(1)))), "above the middle at %#x", h)
		between := float32(float64(x) + r.Float64()*(middle-float64(x)))
		require.Contains(t, []uint16{h, even}, toFloat16(between), "%g", between)
	}
	require.Equal(t, uint16(0), toFloat16(0x1p-25))
	require.Equal(t, uint16(0x7c00), toFloat16(float32(math.Inf(1))))
	require.Equal(t, uint16(0xfc00), toFloat16(-1e30))
	require.True(t, math.IsInf(float64(toFloat32(0xfc00)), -1))
	require.True(t, math.IsNaN(float64(toFloat32(toFloat16(float32(math.NaN()))))))
}
