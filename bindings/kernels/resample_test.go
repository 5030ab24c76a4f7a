package kernels

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

var resizes = []struct {
	channels, height, width, toHeight, toWidth int
}{{3, 19, 23, 7, 11}, {3, 7, 11, 19, 23}, {1, 16, 16, 16, 40}, {3, 33, 17, 8, 17}, {3, 5, 9, 5, 9}, {1, 40, 3, 2, 1}}

func checkResizesEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(37, 38))
	for _, c := range append(resizes, resizes[0]) {
		for _, f := range []Filter{Bicubic, Lanczos} {
			n := c.channels * c.height * c.width
			src, bytes := values(r, n, 1), make([]uint8, n)
			for i := range bytes {
				bytes[i] = uint8(r.Uint32())
			}
			expected, err := Reference().Resize(src, c.channels, c.height, c.width, c.toHeight, c.toWidth, f)
			require.NoError(t, err)
			actual, err := native.Resize(src, c.channels, c.height, c.width, c.toHeight, c.toWidth, f)
			require.NoError(t, err)
			requireSame(t, expected, actual)
			picture, err := Reference().ResizeU8(bytes, c.channels, c.height, c.width, c.toHeight, c.toWidth, f)
			require.NoError(t, err)
			pictureNative, err := native.ResizeU8(bytes, c.channels, c.height, c.width, c.toHeight, c.toWidth, f)
			require.NoError(t, err)
			require.Equal(t, picture, pictureNative)
		}
	}
}

// What Pillow makes of the same values (testdata/make_resizes.py): bytes are equal, floats to the last bit but for the
// C library's sine.
func TestResizeEqualsPillow(t *testing.T) {
	for name, s := range sets(t) {
		data := golden(t, "resizes.bin")
		take := func(n int) []uint8 {
			part := data[:n]
			data = data[n:]
			return part
		}
		floats := func(n int) []float32 {
			v := make([]float32, n)
			_, err := binary.Decode(take(4*n), binary.LittleEndian, v)
			require.NoError(t, err)
			return v
		}
		for _, c := range resizes {
			n, to := c.channels*c.height*c.width, c.channels*c.toHeight*c.toWidth
			bytes, plane := take(n), floats(c.height*c.width)
			for _, f := range []Filter{Bicubic, Lanczos} {
				about := fmt.Sprint(name, " ", f, " ", c)
				picture, err := s.ResizeU8(bytes, c.channels, c.height, c.width, c.toHeight, c.toWidth, f)
				require.NoError(t, err)
				require.Equal(t, take(to), picture, about)
				values, err := s.Resize(plane, 1, c.height, c.width, c.toHeight, c.toWidth, f)
				require.NoError(t, err)
				for i, x := range floats(c.toHeight * c.toWidth) {
					require.InDelta(t, x, values[i], 2e-7, "%s at %d", about, i)
				}
			}
		}
		require.Empty(t, data)
	}
}

func TestResizeRefusesBadArguments(t *testing.T) {
	for _, s := range sets(t) {
		_, err := s.Resize(make([]float32, 5), 1, 2, 3, 4, 4, Bicubic)
		require.ErrorContains(t, err, "5 values, expected 1 channels of 2 rows of 3")
		_, err = s.ResizeU8(make([]uint8, 6), 1, 2, 3, 4, 0, Bicubic)
		require.ErrorContains(t, err, "resampling of 3 values to 0, expected 1 to 65536")
		_, err = s.ResizeU8(make([]uint8, 6), 1, 2, 3, 4, 4, Filter(9))
		require.ErrorContains(t, err, "unknown filter 9")
		r, err := NewResampling(Lanczos, 3, 4)
		require.NoError(t, err)
		require.ErrorContains(t, s.Resample(make([]float32, 8), make([]float32, 5), r, 1), "5 values to 8, expected as many times 3 x 1 and 4 x 1")
		both := make([]float32, 7)
		require.ErrorContains(t, s.Resample(both[:4], both[3:6], r, 1), "share memory")
	}
}
