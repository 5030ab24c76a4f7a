package cudadevice_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/kernels"
	"genfn/bindings/tensor/tensortest"
	"genfn/functions/cudadevice/cudadevicetest"
)

// TestArrays: what is done on the device is what the kernels in Go do, and all memory is given back.
func TestArrays(t *testing.T) {
	ledger := tensortest.NewLedger(t)
	d := cudadevicetest.Open(t, ledger)
	free, _, err := d.Memory()
	require.NoError(t, err)
	a := d.NewArrays()
	values := []float32{0, 0.25, -1, 2, float32(math.NaN()), -0.5, 1, float32(math.Inf(1)), 0.125, 0.75, -2, -0.125}
	v, err := a.Make(len(values))
	require.NoError(t, err)
	require.Equal(t, len(values), a.Len(v))
	require.NoError(t, a.Write(v, values))

	// A count is told to who waits.
	_, _, err = a.Counted(true)
	require.ErrorContains(t, err, "before Count")
	require.NoError(t, a.Count(v))
	n, known, err := a.Counted(true)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, 2, n)
	_, known, err = a.Counted(false)
	require.NoError(t, err)
	require.False(t, known, "nobody has waited")

	// A picture of 2 x 2 pixels, twice, and one of another size.
	for _, size := range [][2]int{{2, 2}, {2, 2}, {1, 4}, {1, 2}} {
		part := a.Slice(v, 0, 3*size[0]*size[1])
		got, err := a.Image(part, size[0], size[1])
		require.NoError(t, err)
		want := make([]byte, len(got))
		require.NoError(t, kernels.Reference().ImageToU8(want, values[:len(got)], 3, size[0], size[1]))
		require.Equal(t, want, got)
	}

	// Slices share the memory; what is outside is refused when it is used.
	middle := a.Slice(v, 4, 4)
	require.NoError(t, a.Do(func() error { return a.Write(middle, []float32{1, 2, 3, 4}) }))
	require.NoError(t, a.Scale(middle, middle, 2, 0.5))
	require.NoError(t, a.OnHost(func(v ...[]float32) { v[0][0], v[1][0] = v[1][0], 100 }, a.Slice(v, 0, 1), a.Slice(v, 11, 1)))
	got, err := a.Fetch(v)
	require.NoError(t, err)
	require.Equal(t, []float32{-0.125, 0.25, -1, 2, 2.5, 4.5, 6.5, 8.5, 0.125, 0.75, -2, 100}, got)
	outside := a.Slice(v, 10, 3)
	require.Zero(t, a.Len(outside))
	require.Error(t, a.Copy(v, outside))

	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	require.Error(t, a.Write(v, values), "it is closed")
	require.Zero(t, ledger.Bytes())
	after, _, err := d.Memory()
	require.NoError(t, err)
	require.Equal(t, free, after)
}
