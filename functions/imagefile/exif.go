package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// Tags and types of EXIF 2.32 (TIFF 6.0).
const (
	tagImageDescription = 0x010e
	tagSoftware         = 0x0131
	tagExifIFD          = 0x8769
	tagUserComment      = 0x9286
	typeASCII           = 2
	typeLong            = 4
	typeUndefined       = 7

	unicodeComment = "UNICODE\x00"
	asciiComment   = "ASCII\x00\x00\x00"
)

// exif makes a big-endian TIFF of two directories: ImageDescription holds the JSON in ASCII, UserComment the
// text in UTF-16.
func exif(p Parameters) []byte {
	description := append(asciiJSON(p.JSON), 0)
	software := []byte("genfn\x00")
	comment := []byte(unicodeComment)
	for _, u := range utf16.Encode([]rune(p.Text)) {
		comment = binary.BigEndian.AppendUint16(comment, u)
	}
	const header, ifd0, ifd1 = 8, 2 + 3*12 + 4, 2 + 1*12 + 4
	data := uint32(header + ifd0 + ifd1)
	softwareAt := data + even(description)
	commentAt := softwareAt + even(software)

	out := []byte("MM\x00\x2a\x00\x00\x00\x08")
	out = binary.BigEndian.AppendUint16(out, 3)
	out = entry(out, tagImageDescription, typeASCII, uint32(len(description)), inline(description, data))
	out = entry(out, tagSoftware, typeASCII, uint32(len(software)), softwareAt)
	out = entry(out, tagExifIFD, typeLong, 1, header+ifd0)
	out = binary.BigEndian.AppendUint32(out, 0)
	out = binary.BigEndian.AppendUint16(out, 1)
	out = entry(out, tagUserComment, typeUndefined, uint32(len(comment)), commentAt)
	out = binary.BigEndian.AppendUint32(out, 0)
	for _, value := range [][]byte{description, software, comment} {
		out = append(out, value...)
		if len(value)%2 == 1 {
			out = append(out, 0)
		}
	}
	return out
}

func even(b []byte) uint32 { return uint32(len(b) + len(b)%2) }

// inline returns the value field: values of up to 4 bytes stand in it themselves.
func inline(value []byte, at uint32) uint32 {
	if len(value) > 4 {
		return at
	}
	var field [4]byte
	copy(field[:], value)
	return binary.BigEndian.Uint32(field[:])
}

func entry(out []byte, tag, kind uint16, count, value uint32) []byte {
	out = binary.BigEndian.AppendUint16(out, tag)
	out = binary.BigEndian.AppendUint16(out, kind)
	out = binary.BigEndian.AppendUint32(out, count)
	return binary.BigEndian.AppendUint32(out, value)
}

// asciiJSON escapes what is not ASCII, which is the same JSON: all of it is inside strings.
func asciiJSON(data []byte) []byte {
	var out []byte
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		data = data[n:]
		switch {
		case r < 0x80:
			out = append(out, byte(r))
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		}
	}
	return out
}

type tiff struct {
	data  []byte
	order binary.ByteOrder
}

var errExif = errors.New("imagefile: the EXIF data is damaged")

func readExif(data []byte) (p Parameters, err error) {
	if len(data) < 8 {
		return p, errExif
	}
	t := tiff{data: data, order: binary.ByteOrder(binary.BigEndian)}
	switch string(data[:2]) {
	case "MM":
	case "II":
		t.order = binary.LittleEndian
	default:
		return p, errExif
	}
	main, err := t.directory(t.order.Uint32(data[4:]))
	if err != nil {
		return p, err
	}
	if v, ok := main[tagImageDescription]; ok {
		p.JSON = bytes.Clone(bytes.TrimRight(v, "\x00"))
	}
	if v, ok := main[tagExifIFD]; ok && len(v) >= 4 {
		inner, err := t.directory(t.order.Uint32(v))
		if err != nil {
			return p, err
		}
		p.Text = t.comment(inner[tagUserComment])
	}
	return p, nil
}

// directory returns the values of byte-sized types and of single longs by tag.
func (t tiff) directory(at uint32) (map[uint16][]byte, error) {
	if uint64(at)+2 > uint64(len(t.data)) {
		return nil, errExif
	}
	n := int(t.order.Uint16(t.data[at:]))
	entries := t.data[at+2:]
	if len(entries) < 12*n {
		return nil, errExif
	}
	values := map[uint16][]byte{}
	for i := range n {
		e := entries[12*i : 12*i+12]
		kind, count := t.order.Uint16(e[2:]), t.order.Uint32(e[4:])
		size := uint64(count)
		if kind == typeLong {
			size *= 4
		} else if kind != typeASCII && kind != typeUndefined {
			continue
		}
		value := e[8:12]
		if size > 4 {
			at := uint64(t.order.Uint32(e[8:]))
			if at+size > uint64(len(t.data)) {
				return nil, errExif
			}
			value = t.data[at : at+size]
		}
		values[t.order.Uint16(e)] = value[:min(size, uint64(len(value)))]
	}
	return values, nil
}

func (t tiff) comment(value []byte) string {
	if text, ok := bytes.CutPrefix(value, []byte(asciiComment)); ok {
		return string(text)
	}
	text, ok := bytes.CutPrefix(value, []byte(unicodeComment))
	if !ok {
		return ""
	}
	units := make([]uint16, len(text)/2)
	for i := range units {
		units[i] = t.order.Uint16(text[2*i:])
	}
	return string(utf16.Decode(units))
}
