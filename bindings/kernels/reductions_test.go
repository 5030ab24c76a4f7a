package kernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func checkReductionsEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(31, 32))
	for _, n := range sizes {
		a, b := values(r, n, n%4), values(r, n, n%3)
		require.Equal(t, Reference().Checksum(a), native.Checksum(a))
		expected, err := Reference().Difference(a, b)
		require.NoError(t, err)
		actual, err := native.Difference(a, b)
		require.NoError(t, err)
		require.Equal(t, expected, actual)

		ha, hb := halves(r, n, n%4), halves(r, n, n%3)
		require.Equal(t, Reference().ChecksumF16(ha), native.ChecksumF16(ha))
		expected, err = Reference().DifferenceF16(ha, hb)
		require.NoError(t, err)
		actual, err = native.DifferenceF16(ha, hb)
		require.NoError(t, err)
		require.Equal(t, expected, actual)
	}
}

// A wrong bit, values that changed places, and another length change the checksum; it adds up from parts.
func TestChecksumTells(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	v := values(r, 1000, 0)
	v[3], v[4], v[999] = 1, 2, 0
	for name, s := range sets(t) {
		sum := s.Checksum(v)
		require.Equal(t, uint64(0xc04970b58eb8724f), s.Checksum([]float32{1, -2.5, 0, float32(math.Inf(1))}), "it stays what it is: %s", name)
		for i := range v {
			changed := slices.Clone(v)
			changed[i] = math.Float32frombits(math.Float32bits(v[i]) ^ 1<<(i%32))
			require.NotEqual(t, sum, s.Checksum(changed), name)
		}
		swapped := slices.Clone(v)
		swapped[3], swapped[4] = v[4], v[3]
		require.NotEqual(t, sum, s.Checksum(swapped), name)
		require.NotEqual(t, sum, s.Checksum(v[:999]), name)
		require.Zero(t, s.Checksum(nil), name)
	}
}

func TestDifferenceTells(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for name, s := range sets(t) {
		d, err := s.Difference([]float32{1, 2, -4, nan, inf, 5, inf}, []float32{1.25, 4, -3, 1, inf, inf, -inf})
		require.NoError(t, err)
		require.Equal(t, Difference{Least: 0.25, Most: 2, Mean: 3.25 / 3, NotFinite: 4}, d, name)
		d, err = s.Difference([]float32{nan}, []float32{0})
		require.NoError(t, err)
		require.Equal(t, Difference{NotFinite: 1}, d, name)
		d, err = s.Difference([]float32{3e38, 0x1p-31, 1e-45}, []float32{0, 0, 0})
		require.NoError(t, err)
		require.Equal(t, Difference{Least: 1e-45, Most: 3e38, Mean: (2147483520 + 0x1p-31) / 3}, d, name)
		d, err = s.Difference(nil, nil)
		require.NoError(t, err)
		require.Zero(t, d, name)
		_, err = s.Difference([]float32{1}, nil)
		require.ErrorContains(t, err, "1 values and 0, expected as many", name)
	}
}
