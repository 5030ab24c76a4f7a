package imagefile_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"image"
	"image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/image/webp"

	"genfn/events"
	"genfn/functions/imagefile"
)

// picture is smooth with some noise; odd sides find stride mistakes.
func picture(width, height int) imagefile.Image {
	rng := rand.New(rand.NewPCG(1, 2))
	img := imagefile.Image{Width: width, Height: height, Pix: make([]byte, 3*width*height)}
	for y := range height {
		for x := range width {
			for c := range 3 {
				img.Pix[3*(y*width+x)+c] = byte(min(255, 40*c+100*x/width+80*y/height+rng.IntN(8)))
			}
		}
	}
	return img
}

func decode(t *testing.T, format string, data []byte) image.Image {
	t.Helper()
	var img image.Image
	var err error
	switch format {
	case events.FormatPNG:
		img, err = png.Decode(bytes.NewReader(data))
	case events.FormatJPEG:
		img, err = jpeg.Decode(bytes.NewReader(data))
	case events.FormatWebP:
		img, err = webp.Decode(bytes.NewReader(data))
	}
	require.NoError(t, err)
	return img
}

var formats = []string{events.FormatPNG, events.FormatJPEG, events.FormatWebP}

func description(prompt string) imagefile.Description {
	width, height, steps, count, guidance, seed := 33, 17, 20, 2, 7.5, uint64(events.MaxSeed)
	return imagefile.Description{
		Request: events.ImageGenerate{
			Model: "tiny", Prompt: prompt, NegativePrompt: "<blurry>", Width: &width, Height: &height, Steps: &steps, Count: &count,
			GuidanceScale: &guidance, Seed: &seed, Scheduler: "ddim",
		},
		Model: events.ModelRef{Name: "tiny", SHA256: strings.Repeat("ab", 32)}, Index: 1,
	}
}

func TestRoundTrip(t *testing.T) {
	img := picture(33, 17)
	for _, format := range formats {
		for _, prompt := range []string{"a red fox", "naïve café 猫 🍎 \"quoted\" \\ \n second line"} {
			t.Run(format, func(t *testing.T) {
				p, err := imagefile.Describe(description(prompt))
				require.NoError(t, err)
				e, err := imagefile.Encode(format, img, p, imagefile.Options{})
				require.NoError(t, err)
				assert.Equal(t, "image/"+format, e.MediaType)
				assert.False(t, e.ParametersOmitted)
				back := decode(t, format, e.Data)
				require.Equal(t, image.Rect(0, 0, 33, 17), back.Bounds())
				tolerance := 0.0
				if format == events.FormatJPEG {
					tolerance = 30 // chroma is subsampled
				}
				for y := range 17 {
					for x := range 33 {
						r, g, b, _ := back.At(x, y).RGBA()
						for c, v := range []uint32{r, g, b} {
							require.InDelta(t, float64(img.Pix[3*(y*33+x)+c]), float64(v>>8), tolerance, "pixel %d,%d", x, y)
						}
					}
				}
				got, err := imagefile.ReadParameters(e.Data)
				require.NoError(t, err)
				assert.Equal(t, p.Text, got.Text)
				assert.JSONEq(t, string(p.JSON), string(got.JSON))
			})
		}
	}
}

func TestDescribe(t *testing.T) {
	p, err := imagefile.Describe(description("a red fox"))
	require.NoError(t, err)
	assert.Equal(t, "a red fox\nNegative prompt: <blurry>\nSteps: 20, Sampler: ddim, CFG scale: 7.5, Seed: 9007199254740991, Size: 33x17, "+
		"Model hash: ababababab, Model: tiny, Batch size: 2, Batch pos: 1, Version: genfn", p.Text)
	var d imagefile.Description
	require.NoError(t, json.Unmarshal(p.JSON, &d))
	assert.Equal(t, "genfn", d.Generator)
	assert.Equal(t, uint64(events.MaxSeed), *d.Request.Seed)
	assert.Contains(t, string(p.JSON), "<blurry>")
}

func TestWithoutParameters(t *testing.T) {
	for _, format := range formats {
		e, err := imagefile.Encode(format, picture(3, 2), nil, imagefile.Options{Quality: 50})
		require.NoError(t, err)
		decode(t, format, e.Data)
		p, err := imagefile.ReadParameters(e.Data)
		require.NoError(t, err)
		assert.Equal(t, imagefile.Parameters{}, p)
	}
}

func TestParametersTooLongForJPEG(t *testing.T) {
	p, err := imagefile.Describe(description(strings.Repeat("猫", 10_000)))
	require.NoError(t, err)
	for _, format := range formats {
		e, err := imagefile.Encode(format, picture(3, 2), p, imagefile.Options{})
		require.NoError(t, err)
		decode(t, format, e.Data)
		assert.Equal(t, format == events.FormatJPEG, e.ParametersOmitted, format)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, c := range []struct {
		format string
		img    imagefile.Image
		o      imagefile.Options
		word   string
	}{
		{"gif", picture(2, 2), imagefile.Options{}, "expected png, jpeg or webp"},
		{"png", imagefile.Image{Width: 2, Height: 2, Pix: make([]byte, 11)}, imagefile.Options{}, "11 bytes"},
		{"png", imagefile.Image{}, imagefile.Options{}, "0x0"},
		{"webp", imagefile.Image{Width: 16385, Height: 1, Pix: make([]byte, 3*16385)}, imagefile.Options{}, "16384"},
		{"jpeg", picture(2, 2), imagefile.Options{Quality: 101}, "1 to 100"},
	} {
		_, err := imagefile.Encode(c.format, c.img, nil, c.o)
		require.ErrorContains(t, err, c.word)
	}
}

func TestReadParametersOfDamagedFiles(t *testing.T) {
	_, err := imagefile.ReadParameters([]byte("GIF89a"))
	require.ErrorContains(t, err, "neither PNG, JPEG nor WebP")
	p, err := imagefile.Describe(description("a red fox"))
	require.NoError(t, err)
	for _, format := range formats {
		e, err := imagefile.Encode(format, picture(9, 9), p, imagefile.Options{})
		require.NoError(t, err)
		for n := range e.Data {
			if got, err := imagefile.ReadParameters(e.Data[:n]); err == nil && got.Text != "" {
				require.Equal(t, p.Text, got.Text, "%s cut to %d bytes", format, n)
			}
		}
	}
}

func FuzzReadParameters(f *testing.F) {
	p, err := imagefile.Describe(description("é"))
	require.NoError(f, err)
	for _, format := range formats {
		e, err := imagefile.Encode(format, picture(2, 2), p, imagefile.Options{})
		require.NoError(f, err)
		f.Add(e.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := imagefile.ReadParameters(data)
		if err == nil && len(p.JSON) > len(data) {
			t.Fatalf("%d bytes of JSON from %d", len(p.JSON), len(data))
		}
	})
}

func TestNPYRoundTrip(t *testing.T) {
	for _, shape := range [][]int{{}, {3}, {2, 4, 3, 5}, {1, 1, 1, 1}} {
		n := 1
		for _, d := range shape {
			n *= d
		}
		a := imagefile.Array{Shape: shape, Data: make([]float32, n)}
		for i := range a.Data {
			a.Data[i] = float32(i) - 0.5
		}
		a.Data[0] = float32(math.Inf(1))
		var b bytes.Buffer
		require.NoError(t, imagefile.WriteNPY(&b, a))
		assert.Zero(t, (b.Len()-4*n)%64, "the data is aligned")
		back, err := imagefile.ReadNPY(&b, n)
		require.NoError(t, err)
		assert.Equal(t, a.Data, back.Data)
		assert.Len(t, back.Shape, len(shape))
	}
	require.ErrorContains(t, imagefile.WriteNPY(&bytes.Buffer{}, imagefile.Array{Shape: []int{2}, Data: make([]float32, 3)}), "3 values")
}

func npy(version byte, header string, data int) []byte {
	out := append([]byte("\x93NUMPY"), version, 0)
	if version == 1 {
		out = binary.LittleEndian.AppendUint16(out, uint16(len(header)))
	} else {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(header)))
	}
	return append(append(out, header...), make([]byte, data)...)
}

func TestNPYErrors(t *testing.T) {
	good := "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, 2, 2), }\n"
	for _, version := range []byte{1, 2, 3} {
		a, err := imagefile.ReadNPY(bytes.NewReader(npy(version, good, 64)), 1000)
		require.NoError(t, err)
		assert.Equal(t, []int{1, 4, 2, 2}, a.Shape)
	}
	for _, c := range []struct {
		file []byte
		word string
	}{
		{nil, "does not begin"},
		{[]byte("PK\x03\x04 is an npz file"), "does not begin"},
		{npy(4, good, 64), "version 4"},
		{npy(1, strings.Replace(good, "<f4", "<f8", 1), 128), `"<f8", expected "<f4"`},
		{npy(1, strings.Replace(good, "<f4", ">f4", 1), 64), `">f4"`},
		{npy(1, strings.Replace(good, "False", "True", 1), 64), "Fortran"},
		{npy(1, strings.Replace(good, "4", "0", 2), 64), `"<f0"`},
		{npy(1, strings.Replace(good, "2, 2", "0, 2", 1), 64), "dimensions of 1 or more"},
		{npy(1, strings.Replace(good, "2, 2", "99999999, 99999999", 1), 64), "more than the 1000 values"},
		{npy(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", 4), "structured"},
		{npy(1, good, 63), "truncated: it holds 63 of 64"},
		{npy(1, good, 65), "goes on"},
		{npy(1, good, 0)[:9], "truncated in its header"},
		{npy(1, good, 0)[:20], "truncated in its header"},
		{npy(2, strings.Repeat(" ", 1<<17), 0), "header of 131072 bytes"},
	} {
		_, err := imagefile.ReadNPY(bytes.NewReader(c.file), 1000)
		require.ErrorContains(t, err, c.word)
	}
}

func FuzzReadNPY(f *testing.F) {
	f.Add(npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n", 8))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := imagefile.ReadNPY(bytes.NewReader(data), 1000)
		if err == nil && (len(a.Data) < 1 || len(a.Data) > 1000) {
			t.Fatalf("%d values", len(a.Data))
		}
	})
}
