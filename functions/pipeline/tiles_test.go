package pipeline

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/kernels"
	"genfn/bindings/openvino"
	"genfn/bindings/tensor/tensortest"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/model/session"
)

func goldenArray(t *testing.T, name string) imagefile.Array {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/golden", name+".npy"))
	require.NoError(t, err)
	defer f.Close()
	a, err := imagefile.ReadNPY(f, 1<<20)
	require.NoError(t, err)
	return a
}

func openTiny(t *testing.T) *TextToImage {
	t.Helper()
	dir := os.Getenv(openvino.LibraryDirEnv)
	if dir == "" {
		var err error
		dir, err = filepath.Abs("../../.runtime/openvino")
		require.NoError(t, err)
	}
	r, err := openvino.Open(openvino.Options{LibraryDir: dir, Ledger: tensortest.NewLedger(t)})
	require.NoError(t, err, "these tests need OpenVINO: run `make runtime`")
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	loader := session.NewLoader(r, session.Options{})
	t.Cleanup(func() { require.NoError(t, loader.Close()) })
	m, err := model.Open("testdata/tiny-sd")
	require.NoError(t, err)
	p, err := NewTextToImage(t.Context(), m, loader, kernels.Reference(), Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// TestTilesEqualDiffusers compares float pixels with diffusers' tiled_decode, for sizes that tiles do not divide and a
// batch of two: within 1e-5 relative.
func TestTilesEqualDiffusers(t *testing.T) {
	p := openTiny(t)
	data, err := os.ReadFile("testdata/golden/tiled.json")
	require.NoError(t, err)
	var cases []struct {
		Name string `json:"name"`
		Tile int    `json:"tile"`
	}
	require.NoError(t, json.Unmarshal(data, &cases))
	require.NotEmpty(t, cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			latents, want := goldenArray(t, c.Name+".latents"), goldenArray(t, c.Name+".sample")
			j := &job{latentH: latents.Shape[2], latentW: latents.Shape[3], tile: c.Tile / p.model.VAEScale}
			j.Count, j.Height, j.Width = latents.Shape[0], want.Shape[2], want.Shape[3]
			j.elements = len(latents.Data) / j.Count
			g := newGeneration(p, j, quiet{}, arrays[[]float32](newHostArrays(p.kernels)))
			rows := tiling(j.latentH, j.latentW, j.tile)
			g.nets = &networks{}
			for _, group := range byShape(rows) {
				require.NoError(t, g.decodeGroup(t.Context(), group, latents.Data))
			}
			got := make([]float32, len(want.Data)/j.Count)
			for i := range j.Count {
				require.NoError(t, p.join(rows, i, j.tile, got, j.Width, j.Height))
				var diff, top float64
				for k, v := range want.Data[i*len(got) : (i+1)*len(got)] {
					diff, top = max(diff, math.Abs(float64(got[k]-v))), max(top, math.Abs(float64(v)))
				}
				t.Logf("image %d: %.1e", i, diff/top)
				assert.LessOrEqual(t, diff/top, 1e-5)
			}
		})
	}
}

// TestTiling: every latent lies in a tile's own part, that is in its first three quarters.
func TestTiling(t *testing.T) {
	for _, side := range []int{4, 8, 12} {
		for height := 1; height < 40; height++ {
			for width := side + 1; width < 30; width += 7 {
				own := make([]int, height*width)
				for _, row := range tiling(height, width, side) {
					for _, tl := range row {
						require.Positive(t, min(tl.height, tl.width))
						require.LessOrEqual(t, max(tl.height, tl.width), side)
						for y := tl.top; y < tl.top+min(tl.height, side*3/4); y++ {
							for x := tl.left; x < tl.left+min(tl.width, side*3/4); x++ {
								own[y*width+x]++
							}
						}
					}
				}
				require.Equal(t, 1, slices.Min(own))
				require.Equal(t, 1, slices.Max(own))
			}
		}
	}
}
