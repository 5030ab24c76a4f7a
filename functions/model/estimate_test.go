package model_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/functions/model"
)

const emoji = "../../deploy/models/emoji"

var (
	sequential = model.Economy{SequentialGuidance: true}
	tiled      = model.Economy{TiledVAE: true}
	offload    = model.Economy{OffloadModels: true}
	everything = model.Economy{SequentialGuidance: true, TiledVAE: true, OffloadModels: true}
)

// TestPeakBytesIsCalibrated compares with the highest resident sets of one generation in a fresh process, in MiB, with
// OpenVINO 2026.4.1 on two cores with AVX2.
func TestPeakBytesIsCalibrated(t *testing.T) {
	models := map[string]*model.Model{}
	for _, dir := range []string{tiny, emoji} {
		m, err := model.Open(dir)
		require.NoError(t, err)
		models[dir] = m
	}
	for _, c := range []struct {
		dir                  string
		width, height, count int
		guided               bool
		economy              model.Economy
		measured             float64
	}{
		{tiny, 64, 64, 1, true, model.Economy{}, 184},
		{tiny, 256, 256, 1, true, model.Economy{}, 202},
		{tiny, 512, 512, 1, true, model.Economy{}, 259},
		{tiny, 512, 512, 1, false, model.Economy{}, 246},
		{tiny, 512, 512, 1, true, sequential, 245},
		{tiny, 512, 512, 1, true, tiled, 224},
		{tiny, 512, 512, 1, true, offload, 175},
		{tiny, 512, 512, 1, true, everything, 161},
		{tiny, 512, 512, 4, true, model.Economy{}, 265},
		{tiny, 1024, 768, 1, true, model.Economy{}, 422},
		{tiny, 1024, 768, 1, true, everything, 186},
		{emoji, 64, 64, 1, true, model.Economy{}, 201},
		{emoji, 256, 256, 1, true, model.Economy{}, 252},
		{emoji, 512, 512, 1, true, model.Economy{}, 437},
		{emoji, 512, 512, 1, true, sequential, 384},
		{emoji, 512, 512, 1, true, tiled, 298},
		{emoji, 512, 512, 1, true, everything, 198},
	} {
		m := models[c.dir]
		got := float64(m.PeakBytes(model.Workload{Width: c.width, Height: c.height, Count: c.count, Guided: c.guided, Economy: c.economy})) / (1 << 20)
		t.Logf("%s %dx%d x%d %+v: measured %.0f MiB, estimated %.0f", m.Name, c.width, c.height, c.count, c.economy, c.measured, got)
		assert.InDelta(t, 1.15, got/c.measured, 0.2)
	}
}

// TestPeakBytesGrows with size and count and with guidance, and no economy adds to it.
func TestPeakBytesGrows(t *testing.T) {
	for _, dir := range []string{tiny, emoji} {
		m, err := model.Open(dir)
		require.NoError(t, err)
		for _, e := range []model.Economy{{}, sequential, tiled, offload, everything, {TiledVAE: true, TileSize: 128}} {
			last := int64(0)
			for side := m.SizeStep; side <= 4096; side += 5 * m.SizeStep {
				w := model.Workload{Width: side, Height: side, Count: 1, Economy: e}
				peak := m.PeakBytes(w)
				require.Greater(t, peak, last, "%+v", w)
				last = peak
				for _, more := range []model.Workload{
					{Width: side + m.SizeStep, Height: side, Count: 1, Economy: e}, {Width: side, Height: side + m.SizeStep, Count: 1, Economy: e},
					{Width: side, Height: side, Count: 2, Economy: e}, {Width: side, Height: side, Count: 1, Guided: true, Economy: e},
				} {
					require.GreaterOrEqual(t, m.PeakBytes(more), peak, "%+v", more)
				}
				w.Economy = model.Economy{}
				require.LessOrEqual(t, peak, m.PeakBytes(w), "%+v", e)
			}
		}
		huge := model.Workload{Width: math.MaxInt32, Height: math.MaxInt32, Count: math.MaxInt32}
		assert.Equal(t, int64(math.MaxInt64), m.PeakBytes(huge))
		assert.Positive(t, m.MinStepSeconds(huge, 0))
	}
}

func TestMinStepSeconds(t *testing.T) {
	m, err := model.Open(emoji)
	require.NoError(t, err)
	w := model.Workload{Width: 64, Height: 64, Guided: true}
	assert.Less(t, m.MinStepSeconds(w, 2), 0.001)
	w.Width, w.Height = 4096, 4096
	assert.Greater(t, m.MinStepSeconds(w, 2), 600.0)
	assert.InDelta(t, m.MinStepSeconds(w, 1), 2*m.MinStepSeconds(w, 2), 1e-6)
}

func TestLargest(t *testing.T) {
	m, err := model.Open(tiny)
	require.NoError(t, err)
	w := model.Workload{Width: 1000, Height: 500, Count: 1}
	size, ok := m.Largest(w, func(w model.Workload) bool { return w.Width*w.Height <= 300*150 })
	require.True(t, ok)
	assert.Equal(t, model.Size{Width: 288, Height: 128}, size)
	_, ok = m.Largest(w, func(model.Workload) bool { return false })
	assert.False(t, ok)
}

func TestTileSide(t *testing.T) {
	m, err := model.Open(tiny)
	require.NoError(t, err)
	for _, c := range []struct {
		economy             model.Economy
		width, height, want int
	}{
		{model.Economy{}, 1024, 1024, 0},
		{tiled, 64, 64, 0},
		{tiled, 128, 128, 0},
		{tiled, 256, 64, 16},
		{tiled, 328, 64, 24},
		{tiled, 4096, 4096, 32}, // the VAE's sample_size of 256
		{model.Economy{TiledVAE: true, TileSize: 64}, 96, 64, 8},
		{model.Economy{TiledVAE: true, TileSize: 64}, 64, 64, 0},
	} {
		assert.Equal(t, c.want, m.TileSide(c.economy, c.width, c.height), "%+v", c)
	}
	require.NoError(t, m.CheckTileSize(0))
	require.NoError(t, m.CheckTileSize(96))
	for _, bad := range []int{-32, 8, 100} {
		require.ErrorContains(t, m.CheckTileSize(bad), "a multiple of 32")
	}
}

// TestUNetLevels: UNet2DConditionModel has attention in all levels but the last where the folder does not say.
func TestUNetLevels(t *testing.T) {
	dir := copyTiny(t)
	m, err := model.Open(dir)
	require.NoError(t, err)
	levels := []model.Level{{Channels: 32, Attention: true}, {Channels: 48, Attention: true}, {Channels: 64}}
	assert.Equal(t, levels, m.UNetLevels)
	assert.Equal(t, []int{16, 16, 32, 32}, m.VAEChannels)
	assert.Equal(t, 32, m.VAESample)
	assert.Greater(t, m.UNet.WeightBytes, m.UNet.Bytes, "fp16 weights are wider in memory")
	edit(t, dir, "unet/config.json", map[string]any{"down_block_types": nil})
	edit(t, dir, "vae_decoder/config.json", map[string]any{"sample_size": nil})
	m, err = model.Open(dir)
	require.NoError(t, err)
	assert.Equal(t, levels, m.UNetLevels)
	assert.Equal(t, 4, m.VAESample)
	edit(t, dir, "unet/config.json", map[string]any{"down_block_types": "DownBlock2D"})
	_, err = model.Open(dir)
	require.ErrorContains(t, err, "down_block_types")
}
