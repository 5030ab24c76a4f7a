package pipeline

import (
	"cmp"
	"context"
	"slices"

	"genfn/bindings/kernels"
	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/imagefile"
	"genfn/functions/model/session"
)

// tile is a part of the latents that is decoded on its own: extents in latents, then its pixels of every image,
// [count, 3, height*scale, width*scale].
type tile struct {
	top, left, height, width int
	pixels                   []float32
}

// tiling covers latents of height x width with tiles of a side that is a multiple of 4, each a quarter over the next
// one. As in diffusers' AutoencoderKL.tiled_decode the tiles at the right and lower edges are smaller, and none is
// left out that others cover: the numbers depend on what a tile sees.
func tiling(height, width, side int) [][]tile {
	var rows [][]tile
	for top := 0; top < height; top += side / 4 * 3 {
		var row []tile
		for left := 0; left < width; left += side / 4 * 3 {
			row = append(row, tile{top: top, left: left, height: min(side, height-top), width: min(side, width-left)})
		}
		rows = append(rows, row)
	}
	return rows
}

// decodeTiled turns the final latents into pictures, tile by tile. Tiles are cut and blended on the host. Tiles of one shape are decoded together, smaller
// shapes first, so that one shape is compiled at a time and the one of most tiles stays compiled.
func (g *generation[V]) decodeTiled(ctx context.Context) error {
	rows := tiling(g.job.latentH, g.job.latentW, g.job.tile)
	sample, err := g.arrays.Fetch(g.sample)
	if err != nil {
		return staged(ctx, events.StageVAEDecode, err)
	}
	latents := make([]float32, len(sample))
	m := g.p.model
	if err := g.p.kernels.Scale(latents, sample, float32(1/m.ScalingFactor), float32(m.ShiftFactor)); err != nil {
		return err
	}
	for _, group := range byShape(rows) {
		if err := g.decodeGroup(ctx, group, latents); err != nil {
			return err
		}
	}
	return g.stage(ctx, events.StageVAEDecode, func(context.Context) error { return g.assemble(rows) })
}

// byShape groups the tiles of the rows by height and width, those of the smallest area first.
func byShape(rows [][]tile) [][]*tile {
	shapes := map[[2]int][]*tile{}
	for _, row := range rows {
		for i := range row {
			shape := [2]int{row[i].height, row[i].width}
			shapes[shape] = append(shapes[shape], &row[i])
		}
	}
	var groups [][]*tile
	for _, group := range shapes {
		groups = append(groups, group)
	}
	slices.SortFunc(groups, func(a, b []*tile) int {
		return cmp.Or(cmp.Compare(a[0].height*a[0].width, b[0].height*b[0].width), cmp.Compare(a[0].height, b[0].height))
	})
	return groups
}

// decodeGroup compiles the VAE decoder for the shape of the tiles and decodes them, of all images.
func (g *generation[V]) decodeGroup(ctx context.Context, group []*tile, latents []float32) error {
	vae, err := g.loadOne(ctx, g.p.vae, g.p.tileShapes(group[0]))
	if err != nil {
		return err
	}
	defer vae.Release()
	for _, t := range group {
		decode := func(ctx context.Context) error { return g.decodeTile(ctx, vae, t, latents) }
		if err := g.stage(ctx, events.StageVAEDecode, decode); err != nil { // each tile is a sign of life
			return err
		}
	}
	return nil
}

// tileShapes are those of the VAE decoder for a tile.
func (p *TextToImage) tileShapes(t *tile) session.Shapes {
	h, w, scale := int64(t.height), int64(t.width), int64(p.model.VAEScale)
	return session.Shapes{
		Inputs:  map[string]tensor.Shape{"latent_sample": {1, int64(p.model.LatentChannels), h, w}},
		Outputs: map[string]tensor.Shape{p.image: {1, 3, h * scale, w * scale}},
	}
}

func (g *generation[V]) decodeTile(ctx context.Context, vae *session.Executable, t *tile, latents []float32) error {
	a := g.arrays
	in, out := make([]float32, a.Len(a.Of(vae, "latent_sample"))), a.Of(vae, g.p.image)
	t.pixels = make([]float32, 0, g.job.Count*a.Len(out))
	for i := range g.job.Count {
		for c := range g.p.model.LatentChannels {
			plane := latents[i*g.job.elements+c*g.job.latentH*g.job.latentW:]
			for y := range t.height {
				from := (t.top+y)*g.job.latentW + t.left
				copy(in[(c*t.height+y)*t.width:], plane[from:from+t.width])
			}
		}
		if err := a.Write(a.Of(vae, "latent_sample"), in); err != nil {
			return err
		}
		if err := vae.Infer(ctx); err != nil {
			return err
		}
		pixels, err := a.Fetch(out)
		if err != nil {
			return err
		}
		if n := g.p.kernels.CountNonFinite(pixels); n > 0 {
			return notFinite("a tile of the VAE decoder's picture", n, len(pixels))
		}
		t.pixels = append(t.pixels, pixels...)
	}
	return nil
}

// assemble blends the tiles and puts them together.
func (g *generation[V]) assemble(rows [][]tile) error {
	pixels := make([]float32, 3*g.job.Width*g.job.Height)
	for i := range g.job.Count {
		if err := g.p.join(rows, i, g.job.tile, pixels, g.job.Width, g.job.Height); err != nil {
			return err
		}
		img := imagefile.Image{Width: g.job.Width, Height: g.job.Height, Pix: make([]byte, 3*g.job.Width*g.job.Height)}
		if err := g.p.kernels.ImageToU8(img.Pix, pixels, 3, img.Height, img.Width); err != nil {
			return err
		}
		g.images = append(g.images, img)
	}
	return nil
}

// join puts the tiles of one image into pixels, [3, height, width]. As in tiled_decode each tile is blended, in
// place, with the one above and then with the one on its left, over a quarter of the side or as much as both have,
// and gives three quarters of its side to the picture.
func (p *TextToImage) join(rows [][]tile, image, side int, pixels []float32, width, height int) error {
	extent := side * p.model.VAEScale / 4
	for r, row := range rows {
		for c := range row {
			t := row[c].of(image, p.model.VAEScale)
			if r > 0 {
				if err := blend(p.kernels, rows[r-1][c].of(image, p.model.VAEScale), t, extent, true); err != nil {
					return err
				}
			}
			if c > 0 {
				if err := blend(p.kernels, row[c-1].of(image, p.model.VAEScale), t, extent, false); err != nil {
					return err
				}
			}
			top, left := row[c].top*p.model.VAEScale, row[c].left*p.model.VAEScale
			for k := range 3 {
				for y := range min(3*extent, t.height) {
					from := (k*t.height + y) * t.width
					copy(pixels[(k*height+top+y)*width+left:], t.pixels[from:from+min(3*extent, t.width)])
				}
			}
		}
	}
	return nil
}

// part is a tile of one image in pixels, [3, height, width].
type part struct {
	pixels        []float32
	height, width int
}

func (t *tile) of(image, scale int) part {
	h, w := t.height*scale, t.width*scale
	return part{t.pixels[image*3*h*w : (image+1)*3*h*w], h, w}
}

// blend mixes the end of one tile into the beginning of the one below (down) or on the right, as diffusers' blend_v
// and blend_h do.
func blend(k *kernels.Set, from, to part, extent int, down bool) error {
	a := kernels.BlendArgs{
		Dst: to.pixels, DstPlane: to.height * to.width, DstRow: to.width,
		Src: from.pixels, SrcPlane: from.height * from.width, SrcRow: from.width,
		Planes: 3, Rows: min(from.height, to.height), Columns: min(from.width, to.width), Down: down,
	}
	if down {
		a.Rows = min(a.Rows, extent)
		a.Src = a.Src[(from.height-a.Rows)*from.width:]
	} else {
		a.Columns = min(a.Columns, extent)
		a.Src = a.Src[from.width-a.Columns:]
	}
	return k.Blend(&a)
}
