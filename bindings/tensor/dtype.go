// Package tensor holds element types, shapes, page-aligned native buffers, and the ledger that
// accounts for native memory and native objects.
//
// A Buffer is memory outside the Go heap, so native code may keep pointers into it. The Ledger knows
// what is outstanding: bytes, owner, and the place in the program that created it; a test that ends
// with a non-empty ledger has a leak (see tensortest).
package tensor

import "fmt"

// DType is the type of a tensor's elements.
type DType uint8

// The element types. The zero DType is none of them.
const (
	F32 DType = iota + 1
	F16
	BF16
	F64
	I8
	I16
	I32
	I64
	U8
	U16
	U32
	U64
	Bool
	String
)

var dtypes = [...]struct {
	name string
	size int
}{
	F32: {"f32", 4}, F16: {"f16", 2}, BF16: {"bf16", 2}, F64: {"f64", 8},
	I8: {"i8", 1}, I16: {"i16", 2}, I32: {"i32", 4}, I64: {"i64", 8},
	U8: {"u8", 1}, U16: {"u16", 2}, U32: {"u32", 4}, U64: {"u64", 8},
	Bool: {"bool", 1}, String: {"string", 0},
}

func (d DType) known() bool { return d >= F32 && int(d) < len(dtypes) }

// Size returns the bytes of one element: 0 for String, whose elements have no fixed size, and for an
// unknown type.
func (d DType) Size() int {
	if !d.known() {
		return 0
	}
	return dtypes[d].size
}

func (d DType) String() string {
	if !d.known() {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}
