// Package npy reads and writes NumPy array files (.npy, format versions 1 to 3) of float32 in C order, from
// untrusted bytes. The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
package npy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// MediaType is what .npy files are stored as.
const MediaType = "application/x-npy"

const magic = "\x93NUMPY"

// maxHeader bounds the header of a file that is read; NumPy itself refuses more than 10,000 bytes.
const maxHeader = 10_000

// Array is a float32 array, row-major.
type Array struct {
	Shape []int
	Data  []float32
}

// The parts of a header, which is a Python dictionary.
var (
	descrKey = regexp.MustCompile(`['"]descr['"]\s*:\s*['"]([^'"]*)['"]`)
	orderKey = regexp.MustCompile(`['"]fortran_order['"]\s*:\s*(True|False)`)
	shapeKey = regexp.MustCompile(`['"]shape['"]\s*:\s*\(([0-9,\s]*)\)`)
)

// Decode reads a file. The error says what was found instead.
func Decode(raw []byte) (*Array, error) {
	header, body, err := split(raw)
	if err != nil {
		return nil, err
	}
	descr, order, shape := descrKey.FindSubmatch(header), orderKey.FindSubmatch(header), shapeKey.FindSubmatch(header)
	if descr == nil || order == nil || shape == nil {
		return nil, fmt.Errorf("the header %q lacks descr, fortran_order or shape", header)
	}
	if string(descr[1]) != "<f4" {
		return nil, fmt.Errorf("the elements are %q, not \"<f4\" (float32, little-endian)", descr[1])
	}
	if string(order[1]) == "True" {
		return nil, errors.New("the array is in Fortran order, not C order")
	}
	a := &Array{}
	elements := 1
	for part := range strings.SplitSeq(string(shape[1]), ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue // the comma after the last size
		}
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 || elements > len(body)/4/n {
			return nil, fmt.Errorf("the shape (%s) does not go with %d bytes of data", shape[1], len(body))
		}
		elements *= n
		a.Shape = append(a.Shape, n)
	}
	if 4*elements != len(body) {
		return nil, fmt.Errorf("the shape (%s) does not go with %d bytes of data", shape[1], len(body))
	}
	a.Data = make([]float32, elements)
	for i := range a.Data {
		a.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[4*i:]))
	}
	return a, nil
}

// split returns the header's text and the data.
func split(raw []byte) (header, body []byte, err error) {
	if len(raw) < 12 || !bytes.HasPrefix(raw, []byte(magic)) {
		return nil, nil, errors.New("the file does not begin as a NumPy file does")
	}
	start, length := 10, int(binary.LittleEndian.Uint16(raw[8:]))
	if major := raw[6]; major > 1 {
		start, length = 12, int(binary.LittleEndian.Uint32(raw[8:]))
	}
	if length > maxHeader || length > len(raw)-start {
		return nil, nil, fmt.Errorf("the header of %d bytes is cut off or too long", length)
	}
	return bytes.TrimSpace(raw[start : start+length]), raw[start+length:], nil
}

// Encode writes a file of format version 1.
func Encode(a Array) []byte {
	var shape strings.Builder
	for _, n := range a.Shape {
		fmt.Fprintf(&shape, "%d, ", n)
	}
	tuple := strings.TrimSuffix(shape.String(), " ")
	if len(a.Shape) > 1 {
		tuple = strings.TrimSuffix(tuple, ",")
	}
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", tuple)
	// The data begins at a multiple of 64 bytes.
	header += strings.Repeat(" ", 63-(len(magic)+4+len(header))%64) + "\n"
	out := make([]byte, 0, len(magic)+4+len(header)+4*len(a.Data))
	out = append(out, magic+"\x01\x00"...)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(header)))
	out = append(out, header...)
	for _, v := range a.Data {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}
