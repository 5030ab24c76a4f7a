package model

import "fmt"

// Economy says how to make the same picture with less memory. Each way costs time; the zero value asks for none.
// What the fixed shapes of an export do not allow is left out; a result tells what was used.
type Economy struct {
	// SequentialGuidance runs the UNet twice a step with a batch of one, instead of once with a batch of two.
	SequentialGuidance bool `json:"sequential_guidance,omitempty"`
	// TiledVAE decodes the latents in overlapping tiles, as diffusers does after enable_tiling.
	TiledVAE bool `json:"tiled_vae,omitempty"`
	// OffloadModels keeps at most one network compiled at a time: each is freed before the next is compiled.
	OffloadModels bool `json:"offload_models,omitempty"`
	// TileSize is the side of a tile in pixels, a multiple of 4*VAEScale; 0: TileSide chooses.
	TileSize int `json:"tile_size,omitempty"`
}

// The tiling of diffusers' AutoencoderKL: a tile overlaps the next by a quarter of its side (tile_overlap_factor),
// so a side of whole quarters is needed.
const (
	tileQuarters = 4
	// minTile is the least side in latents that TileSide chooses by itself: the normalizations of a decoder see the
	// tile only, so the smaller it is the more colours and detail differ from tile to tile.
	minTile = 16
)

// TileStep is what a tile's side is a multiple of, in pixels.
func (m *Model) TileStep() int { return tileQuarters * m.VAEScale }

// CheckTileSize reports what is wrong with the side of a tile in pixels; 0 is well.
func (m *Model) CheckTileSize(side int) error {
	if step := m.TileStep(); side != 0 && (side < step || side%step != 0) {
		return fmt.Errorf("a tile of %d pixels: expected a multiple of %d", side, step)
	}
	return nil
}

// TileSide returns the side of the tiles, in latents, in which an economy decodes a picture of width x height
// pixels; 0: in one piece, because no tiles are asked for, because the export is fixed at one size, or because the
// picture is no larger than a tile. Without a TileSize the side is the VAE's sample_size, as in diffusers, but
// at most half of the picture's longer side, so that tiles do save memory.
func (m *Model) TileSide(e Economy, width, height int) int {
	if !e.TiledVAE || m.FixedSizes != nil {
		return 0
	}
	longer := max(width, height) / m.VAEScale
	side := e.TileSize / m.VAEScale
	if side == 0 {
		half := (longer + 2*tileQuarters - 1) / (2 * tileQuarters) * tileQuarters
		side = max(minTile, min(m.VAESample/tileQuarters*tileQuarters, half))
	}
	if longer <= side {
		return 0
	}
	return side
}
