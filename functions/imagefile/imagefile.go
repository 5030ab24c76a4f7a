// Package imagefile encodes pictures as PNG, JPEG and WebP with the generation parameters inside, reads the
// parameters back, and reads and writes latents as NPY files.
//
// The parameters are there twice: as the text that image generation tools show and parse ("parameters"), and as
// JSON that repeats the request exactly. PNG carries them in text chunks with the keywords "parameters" and
// "genfn"; JPEG and WebP in EXIF, as UserComment and ImageDescription.
package imagefile

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"sync"

	"github.com/HugoSmits86/nativewebp"

	"genfn/events"
)

// Image is a picture of 8-bit RGB.
type Image struct {
	Width, Height int
	Pix           []byte // Height rows of Width pixels of 3 bytes: red, green, blue
}

// Parameters says how a picture was generated.
type Parameters struct {
	Text string // for people and for tools that parse the form of the Stable Diffusion web interfaces
	JSON []byte // one JSON object
}

// Options for Encode.
type Options struct {
	Quality int // of JPEG, 1 to 100; 0: 95
}

// Encoded is an image file.
type Encoded struct {
	Data      []byte
	MediaType string
	// ParametersOmitted: the parameters are not in the file. JPEG holds at most 64 KiB of them.
	ParametersOmitted bool
}

// Encode encodes an image as events.FormatPNG, events.FormatJPEG or events.FormatWebP (lossless) and embeds p,
// unless it is nil.
func Encode(format string, img Image, p *Parameters, o Options) (Encoded, error) {
	const limit = 16384 // pixels a side, WebP's
	if img.Width < 1 || img.Height < 1 || img.Width > limit || img.Height > limit || len(img.Pix) != 3*img.Width*img.Height {
		return Encoded{}, fmt.Errorf("imagefile: an image of %dx%d with %d bytes, expected sides of 1 to %d and 3 bytes a pixel", img.Width, img.Height, len(img.Pix), limit)
	}
	switch format {
	case events.FormatPNG:
		return encodePNG(img, p)
	case events.FormatJPEG:
		return encodeJPEG(img, p, o)
	case events.FormatWebP:
		return encodeWebP(img, p)
	}
	return Encoded{}, fmt.Errorf("imagefile: format %q, expected %s, %s or %s", format, events.FormatPNG, events.FormatJPEG, events.FormatWebP)
}

// ReadParameters returns the parameters embedded in a PNG, JPEG or WebP file, empty where there are none.
func ReadParameters(data []byte) (Parameters, error) {
	switch {
	case bytes.HasPrefix(data, []byte(pngSignature)):
		return readPNG(data)
	case bytes.HasPrefix(data, []byte{0xff, 0xd8}):
		return readJPEG(data)
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return readWebP(data)
	}
	return Parameters{}, errors.New("imagefile: the file is neither PNG, JPEG nor WebP")
}

// nrgba converts to the form that the encoders of the libraries take without a call for each pixel.
func nrgba(img Image) *image.NRGBA {
	out := image.NewNRGBA(image.Rect(0, 0, img.Width, img.Height))
	for i, k := 0, 0; i < len(img.Pix); i, k = i+3, k+4 {
		out.Pix[k], out.Pix[k+1], out.Pix[k+2], out.Pix[k+3] = img.Pix[i], img.Pix[i+1], img.Pix[i+2], 0xff
	}
	return out
}

// pngBuffers keeps the compressor's memory, more than a megabyte, from one picture to the next.
var pngBuffers encoderBuffers

type encoderBuffers struct{ pool sync.Pool }

var _ png.EncoderBufferPool = (*encoderBuffers)(nil)

func (b *encoderBuffers) Get() *png.EncoderBuffer {
	buffer, _ := b.pool.Get().(*png.EncoderBuffer)
	return buffer // nil: the encoder makes one
}

func (b *encoderBuffers) Put(buffer *png.EncoderBuffer) { b.pool.Put(buffer) }

func encodePNG(img Image, p *Parameters) (Encoded, error) {
	var b bytes.Buffer
	encoder := png.Encoder{BufferPool: &pngBuffers}
	if err := encoder.Encode(&b, nrgba(img)); err != nil {
		return Encoded{}, fmt.Errorf("imagefile: PNG: %w", err)
	}
	return Encoded{Data: withPNGText(b.Bytes(), p), MediaType: "image/png"}, nil
}

func encodeJPEG(img Image, p *Parameters, o Options) (Encoded, error) {
	quality := o.Quality
	if quality == 0 {
		quality = 95
	}
	if quality < 1 || quality > 100 {
		return Encoded{}, fmt.Errorf("imagefile: JPEG quality %d, expected 1 to 100", quality)
	}
	var b bytes.Buffer
	full := nrgba(img)
	// The encoder is fast for RGBA; of an opaque image it is the same bytes.
	opaque := &image.RGBA{Pix: full.Pix, Stride: full.Stride, Rect: full.Rect}
	if err := jpeg.Encode(&b, opaque, &jpeg.Options{Quality: quality}); err != nil {
		return Encoded{}, fmt.Errorf("imagefile: JPEG: %w", err)
	}
	data, fits := withJPEGExif(b.Bytes(), p)
	return Encoded{Data: data, MediaType: "image/jpeg", ParametersOmitted: !fits}, nil
}

func encodeWebP(img Image, p *Parameters) (Encoded, error) {
	var b bytes.Buffer
	if err := nativewebp.Encode(&b, nrgba(img), nil); err != nil {
		return Encoded{}, fmt.Errorf("imagefile: WebP: %w", err)
	}
	return Encoded{Data: withWebPExif(b.Bytes(), img, p), MediaType: "image/webp"}, nil
}
