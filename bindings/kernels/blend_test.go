package kernels

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func checkBlendEqual(t *testing.T, native *Set) {
	r := rand.New(rand.NewPCG(16, 17))
	for _, size := range [][3]int{{3, 0, 5}, {0, 1, 1}, {1, 1, 1}, {3, 1, 7}, {3, 5, 1}, {2, 17, 31}, {3, 16, 64}, {3, 64, 16}, {1, 513, 3}, {3, 8, 1025}} {
		for offset := range 4 {
			for _, down := range []bool{false, true} {
				planes, rows, columns := size[0], size[1], size[2]
				a := BlendArgs{
					DstRow: columns + offset, SrcRow: columns + 3 - offset, Planes: planes, Rows: rows, Columns: columns, Down: down,
				}
				a.DstPlane, a.SrcPlane = rows*a.DstRow+offset, rows*a.SrcRow
				a.Dst, a.Src = values(r, planes*a.DstPlane, offset), values(r, planes*a.SrcPlane, 3-offset)
				b := a
				b.Dst = slices.Clone(a.Dst)
				require.NoError(t, Reference().Blend(&b))
				require.NoError(t, native.Blend(&a))
				requireSame(t, b.Dst, a.Dst, size, offset, down) // what is beside the region too
			}
		}
	}
}

// The weights by hand, and that a region leaves what is beside it alone.
func TestBlendValues(t *testing.T) {
	for name, s := range sets(t) {
		dst, src := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9}, []float32{10, 20, 30, 40}
		require.NoError(t, s.Blend(&BlendArgs{Dst: dst, DstRow: 3, Src: src, SrcRow: 2, Planes: 1, Rows: 2, Columns: 2, Down: true}), name)
		require.Equal(t, []float32{10, 20, 3, 17, 22.5, 6, 7, 8, 9}, dst, name)
		require.NoError(t, s.Blend(&BlendArgs{Dst: dst[2:], DstRow: 3, Src: src[1:], Planes: 1, Rows: 1, Columns: 2}), name)
		require.Equal(t, []float32{10, 20, 20, 23.5, 22.5, 6, 7, 8, 9}, dst, name)
	}
}

func TestBlendRefusesBadArguments(t *testing.T) {
	memory := make([]float32, 24)
	ok := func() *BlendArgs {
		return &BlendArgs{Dst: memory[:12], DstPlane: 6, DstRow: 3, Src: memory[12:], SrcPlane: 6, SrcRow: 3, Planes: 2, Rows: 2, Columns: 3}
	}
	for name, c := range map[string]struct {
		change   func(*BlendArgs)
		expected string
	}{
		"negative rows":  {func(a *BlendArgs) { a.Rows = -1 }, "expected 0 to 1048576"},
		"huge":           {func(a *BlendArgs) { a.Planes = 1 << 40 }, "expected 0 to 1048576"},
		"short dst":      {func(a *BlendArgs) { a.Dst = a.Dst[:11] }, "Dst has 11 values, expected at least 12"},
		"short src":      {func(a *BlendArgs) { a.Src = a.Src[:11] }, "Src has 11 values"},
		"short row":      {func(a *BlendArgs) { a.DstRow = 2 }, "Dst has planes 6 and rows 2 values apart"},
		"short plane":    {func(a *BlendArgs) { a.SrcPlane = 5 }, "Src has planes 5"},
		"negative plane": {func(a *BlendArgs) { a.SrcPlane = -6 }, "Src has planes -6"},
		"shared":         {func(a *BlendArgs) { a.Src = memory[:12] }, "share memory"},
	} {
		for backend, s := range sets(t) {
			a := ok()
			require.NoError(t, s.Blend(a))
			c.change(a)
			require.ErrorContains(t, s.Blend(a), c.expected, "%s, %s", name, backend)
		}
	}
}
