package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
)

const (
	pngSignature   = "\x89PNG\r\n\x1a\n"
	keywordText    = "parameters" // the keyword that image generation tools agree on
	keywordJSON    = "genfn"
	exifHeader     = "Exif\x00\x00"
	maxJPEGSegment = 65535 - 2 // the length counts itself
)

var errTruncated = errors.New("imagefile: the file is truncated")

// withPNGText inserts the text chunks behind IHDR (PNG specification, 11.3.3).
func withPNGText(file []byte, p *Parameters) []byte {
	if p == nil {
		return file
	}
	const ihdrEnd = len(pngSignature) + 12 + 13
	chunks := pngText(keywordText, p.Text)
	if len(p.JSON) > 0 {
		chunks = append(chunks, pngText(keywordJSON, string(p.JSON))...)
	}
	return slices.Concat(file[:ihdrEnd], chunks, file[ihdrEnd:])
}

// pngText makes a tEXt chunk of ASCII and an uncompressed iTXt chunk of other text.
func pngText(keyword, text string) []byte {
	kind, body := "tEXt", keyword+"\x00"+text
	if strings.IndexFunc(text, func(r rune) bool { return r >= 0x80 }) >= 0 {
		kind, body = "iTXt", keyword+"\x00\x00\x00\x00\x00"+text
	}
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	chunk = append(chunk, kind+body...)
	return binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(chunk[4:]))
}

func readPNG(file []byte) (p Parameters, err error) {
	for rest := file[len(pngSignature):]; ; {
		if len(rest) < 12 {
			return p, errTruncated
		}
		n, kind := int(binary.BigEndian.Uint32(rest)), string(rest[4:8])
		if n > len(rest)-12 {
			return p, errTruncated
		}
		body := rest[8 : 8+n]
		rest = rest[12+n:]
		keyword, text, ok := bytes.Cut(body, []byte{0})
		switch {
		case kind == "IEND":
			return p, nil
		case kind == "iTXt" && ok && len(text) >= 2 && text[0] == 0:
			// compression flag and method, then language and translated keyword, each ended by 0
			parts := bytes.SplitN(text[2:], []byte{0}, 3)
			if len(parts) < 3 {
				continue
			}
			text = parts[2]
		case kind != "tEXt" || !ok:
			continue
		}
		switch string(keyword) {
		case keywordText:
			p.Text = string(text)
		case keywordJSON:
			p.JSON = bytes.Clone(text)
		}
	}
}

// withJPEGExif inserts an APP1 segment at the start; fits is false if the parameters are too long for one.
func withJPEGExif(file []byte, p *Parameters) (out []byte, fits bool) {
	if p == nil {
		return file, true
	}
	segment := exifHeader + string(exif(*p))
	if len(segment) > maxJPEGSegment {
		return file, false
	}
	head := append(bytes.Clone(file[:2]), 0xff, 0xe1)
	head = binary.BigEndian.AppendUint16(head, uint16(len(segment)+2))
	return slices.Concat(head, []byte(segment), file[2:]), true
}

func readJPEG(file []byte) (Parameters, error) {
	for rest := file[2:]; ; {
		if len(rest) < 4 || rest[0] != 0xff {
			return Parameters{}, errTruncated
		}
		marker, n := rest[1], int(binary.BigEndian.Uint16(rest[2:]))
		if marker == 0xda || marker == 0xd9 { // the picture begins: no EXIF before it
			return Parameters{}, nil
		}
		if n < 2 || n > len(rest)-2 {
			return Parameters{}, errTruncated
		}
		if body := rest[4 : 2+n]; marker == 0xe1 && bytes.HasPrefix(body, []byte(exifHeader)) {
			return readExif(body[len(exifHeader):])
		}
		rest = rest[2+n:]
	}
}

// withWebPExif turns the simple file into an extended one: VP8X, the picture, EXIF.
func withWebPExif(file []byte, img Image, p *Parameters) []byte {
	if p == nil {
		return file
	}
	const exifFlag = 0x08
	header := make([]byte, 10)
	header[0] = exifFlag
	for i := range 3 {
		header[4+i], header[7+i] = byte((img.Width-1)>>(8*i)), byte((img.Height-1)>>(8*i))
	}
	body := slices.Concat([]byte("WEBP"), riffChunk("VP8X", header), file[12:], riffChunk("EXIF", exif(*p)))
	return riffChunk("RIFF", body)
}

func riffChunk(kind string, body []byte) []byte {
	out := binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(body)))
	out = append(out, body...)
	if len(body)%2 == 1 {
		out = append(out, 0)
	}
	return out
}

func readWebP(file []byte) (Parameters, error) {
	for rest := file[12:]; len(rest) > 0; {
		if len(rest) < 8 {
			return Parameters{}, errTruncated
		}
		n := int(binary.LittleEndian.Uint32(rest[4:]))
		if n > len(rest)-8 {
			return Parameters{}, errTruncated
		}
		if string(rest[:4]) == "EXIF" {
			return readExif(bytes.TrimPrefix(rest[8:8+n], []byte(exifHeader)))
		}
		rest = rest[min(8+n+n%2, len(rest)):]
	}
	return Parameters{}, nil
}
