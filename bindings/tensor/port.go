package tensor

import (
	"slices"
	"strconv"
	"strings"
)

// Port is an input or output of a network.
type Port struct {
	Name  string // one of its tensor names; "" if it has none
	DType DType  // 0 for an element type that tensors here cannot have
	Shape PartialShape
}

// Dim is the extent of a dimension, both limits inclusive. Max -1 is no upper limit.
type Dim struct{ Min, Max int64 }

// Dynamic is the Dim of any extent.
var Dynamic = Dim{Min: 0, Max: -1}

// Static reports whether the dimension has one extent.
func (d Dim) Static() bool { return d.Min == d.Max && d.Min >= 0 }

// String returns 64, ?, 1..8 or 2.. as the limits are.
func (d Dim) String() string {
	least := strconv.FormatInt(d.Min, 10)
	switch {
	case d.Static():
		return least
	case d.Max >= 0:
		return least + ".." + strconv.FormatInt(d.Max, 10)
	case d.Min > 0:
		return least + ".."
	default:
		return "?"
	}
}

// PartialShape is a shape whose dimensions may be open. nil is a shape of unknown rank; an empty one
// is a scalar's.
type PartialShape []Dim

// StaticShape returns the shape of exactly these extents.
func StaticShape(extents ...int64) PartialShape {
	p := make(PartialShape, len(extents))
	for i, n := range extents {
		p[i] = Dim{n, n}
	}
	return p
}

// Static returns the shape if all its dimensions are static.
func (p PartialShape) Static() (Shape, bool) {
	if p == nil {
		return nil, false
	}
	s := make(Shape, len(p))
	for i, d := range p {
		if !d.Static() {
			return nil, false
		}
		s[i] = d.Min
	}
	return s, true
}

// String returns the shape as [1,4,?,1..8], and "unknown rank" for nil.
func (p PartialShape) String() string {
	if p == nil {
		return "unknown rank"
	}
	words := make([]string, len(p))
	for i, d := range p {
		words[i] = d.String()
	}
	return "[" + strings.Join(words, ",") + "]"
}

// ClonePorts copies ports so that their holder's stay as they are.
func ClonePorts(ports []Port) []Port {
	out := slices.Clone(ports)
	for i := range out {
		out[i].Shape = slices.Clone(out[i].Shape)
	}
	return out
}
