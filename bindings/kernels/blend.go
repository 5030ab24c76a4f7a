package kernels

import (
	"errors"
	"fmt"
)

// BlendArgs describes a region of Planes x Rows x Columns values in each of two images. Dst and Src begin with the
// region's first value; a stride is the distance of two planes or rows, in values.
type BlendArgs struct {
	Dst, Src              []float32
	DstPlane, DstRow      int
	SrcPlane, SrcRow      int
	Planes, Rows, Columns int
	Down                  bool // the weights change from row to row, otherwise from column to column
}

// Blend mixes Src into Dst with weights that change linearly, as blend_v (Down) and blend_h of diffusers'
// AutoencoderKL do: Dst = Src*(1 - k/n) + Dst*(k/n) in the k-th of n rows or columns. The regions must not share
// memory. It fails, before it writes anything, when a does not describe regions of both.
func (s *Set) Blend(a *BlendArgs) error {
	if err := a.check(); err != nil {
		return err
	}
	if a.Planes == 0 || a.Rows == 0 || a.Columns == 0 {
		return nil
	}
	if s.native != nil {
		s.native.blend(a)
		return nil
	}
	blend(a)
	return nil
}

func (a *BlendArgs) check() error {
	const limit = 1 << 20 // keeps products of three within 63 bits
	for _, n := range [...]int{a.Planes, a.Rows, a.Columns} {
		if n < 0 || n > limit {
			return fmt.Errorf("kernels: Blend: %d planes of %d rows of %d columns, expected 0 to %d each", a.Planes, a.Rows, a.Columns, limit)
		}
	}
	if a.Planes == 0 || a.Rows == 0 || a.Columns == 0 {
		return nil
	}
	for _, side := range [...]struct {
		name       string
		values     []float32
		plane, row int
	}{{"Dst", a.Dst, a.DstPlane, a.DstRow}, {"Src", a.Src, a.SrcPlane, a.SrcRow}} {
		if a.Rows > 1 && (side.row < a.Columns || side.row > limit) || a.Planes > 1 && (side.plane < (a.Rows-1)*side.row+a.Columns || side.plane > limit*limit) {
			return fmt.Errorf("kernels: Blend: %s has planes %d and rows %d values apart, which is too little or too much for %d rows of %d", side.name, side.plane, side.row, a.Rows, a.Columns)
		}
		if need := (a.Planes-1)*side.plane + (a.Rows-1)*side.row + a.Columns; len(side.values) < need {
			return fmt.Errorf("kernels: Blend: %s has %d values, expected at least %d", side.name, len(side.values), need)
		}
	}
	if shareMemory(memoryOf(a.Dst), memoryOf(a.Src)) {
		return errors.New("kernels: Blend: Dst and Src share memory")
	}
	return nil
}
