package tensor

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Shape is the extent of each dimension, outermost first. An empty Shape is a scalar's.
type Shape []int64

// Elements returns the product of the dimensions, or -1 if a dimension is negative or the product
// does not fit an int64.
func (s Shape) Elements() int64 {
	n := uint64(1)
	for _, d := range s {
		if d < 0 {
			return -1
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > math.MaxInt64 {
			return -1
		}
		n = lo
	}
	return int64(n)
}

// Bytes returns the size of a dense tensor of this shape. It is an error if the shape has a negative
// dimension, the type has no fixed size, or the size does not fit an int64.
func (s Shape) Bytes(d DType) (int64, error) {
	if d.Size() == 0 {
		return 0, fmt.Errorf("tensor: elements of type %s have no fixed size", d)
	}
	n := s.Elements()
	if n < 0 || n > math.MaxInt64/int64(d.Size()) {
		return 0, fmt.Errorf("tensor: shape %s has a negative dimension or is too large", s)
	}
	return n * int64(d.Size()), nil
}

// Equal reports whether both shapes have the same dimensions.
func (s Shape) Equal(o Shape) bool { return slices.Equal(s, o) }

// String returns the shape as [2,4,64,64].
func (s Shape) String() string {
	words := make([]string, len(s))
	for i, d := range s {
		words[i] = strconv.FormatInt(d, 10)
	}
	return "[" + strings.Join(words, ",") + "]"
}
