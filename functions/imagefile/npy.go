package imagefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Array is a dense float32 array in C order.
type Array struct {
	Shape []int
	Data  []float32
}

const npyMagic = "\x93NUMPY"

// The header is a Python dictionary; NumPy writes its three keys in this order, others may not.
var (
	npyDescr   = regexp.MustCompile(`['"]descr['"]\s*:\s*['"]([^'"]*)['"]`)
	npyFortran = regexp.MustCompile(`['"]fortran_order['"]\s*:\s*(True|False)`)
	npyShape   = regexp.MustCompile(`['"]shape['"]\s*:\s*\(([0-9,\s]*)\)`)
)

// ReadNPY reads an NPY file (format versions 1 to 3) of little-endian float32 in C order with at most
// maxElements values. Anything else is an error that says what was found and what is expected.
func ReadNPY(r io.Reader, maxElements int) (Array, error) {
	header, err := readNPYHeader(r)
	if err != nil {
		return Array{}, err
	}
	a := Array{}
	elements, err := a.parseNPYHeader(header, maxElements)
	if err != nil {
		return Array{}, err
	}
	raw := make([]byte, 4*elements)
	if n, err := io.ReadFull(r, raw); err != nil {
		return Array{}, fmt.Errorf("npy: the file is truncated: it holds %d of %d bytes of data: %w", n, len(raw), err)
	}
	if n, _ := io.CopyN(io.Discard, r, 1); n > 0 {
		return Array{}, errors.New("npy: the file goes on after its data")
	}
	a.Data = make([]float32, elements)
	for i := range a.Data {
		a.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return a, nil
}

func readNPYHeader(r io.Reader) (string, error) {
	var prefix [8]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil || string(prefix[:6]) != npyMagic {
		return "", errors.New("npy: the file does not begin as an NPY file")
	}
	size := make([]byte, 2)
	switch prefix[6] {
	case 1:
	case 2, 3:
		size = make([]byte, 4)
	default:
		return "", fmt.Errorf("npy: format version %d, expected 1, 2 or 3", prefix[6])
	}
	if _, err := io.ReadFull(r, size); err != nil {
		return "", errors.New("npy: the file is truncated in its header")
	}
	n := uint32(binary.LittleEndian.Uint16(size))
	if len(size) == 4 {
		n = binary.LittleEndian.Uint32(size)
	}
	const limit = 1 << 16
	if n > limit {
		return "", fmt.Errorf("npy: a header of %d bytes, expected at most %d", n, limit)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return "", errors.New("npy: the file is truncated in its header")
	}
	return string(header), nil
}

func (a *Array) parseNPYHeader(header string, maxElements int) (elements int, err error) {
	descr, fortran, shape := npyDescr.FindStringSubmatch(header), npyFortran.FindStringSubmatch(header), npyShape.FindStringSubmatch(header)
	if descr == nil || fortran == nil || shape == nil {
		return 0, errors.New(`npy: the header lacks "descr", "fortran_order" or "shape", or the array is structured`)
	}
	if descr[1] != "<f4" {
		return 0, fmt.Errorf("npy: elements of type %q, expected \"<f4\": save the array with .astype(\"float32\")", descr[1])
	}
	if fortran[1] != "False" {
		return 0, errors.New("npy: the array is in Fortran order, expected C order: save numpy.ascontiguousarray(array)")
	}
	elements = 1
	for word := range strings.SplitSeq(shape[1], ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return 0, fmt.Errorf("npy: shape (%s), expected dimensions of 1 or more", shape[1])
		}
		if n > maxElements/elements {
			return 0, fmt.Errorf("npy: shape (%s) has more than the %d values that are allowed", shape[1], maxElements)
		}
		elements *= n
		a.Shape = append(a.Shape, n)
	}
	return elements, nil
}

// WriteNPY writes an array as an NPY file of format version 1.
func WriteNPY(w io.Writer, a Array) error {
	elements, words := 1, make([]string, len(a.Shape))
	for i, n := range a.Shape {
		elements *= n
		words[i] = strconv.Itoa(n)
	}
	if elements != len(a.Data) {
		return fmt.Errorf("npy: shape (%s) for %d values", strings.Join(words, ", "), len(a.Data))
	}
	shape := strings.Join(words, ", ")
	if len(words) == 1 {
		shape += ","
	}
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", shape)
	// The data starts at a multiple of 64 bytes.
	const fixed = len(npyMagic) + 4
	header += strings.Repeat(" ", 63-(fixed+len(header))%64) + "\n"
	out := make([]byte, 0, fixed+len(header)+4*len(a.Data))
	out = append(out, npyMagic+"\x01\x00"...)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(header)))
	out = append(out, header...)
	for _, v := range a.Data {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	_, err := w.Write(out)
	return err
}
