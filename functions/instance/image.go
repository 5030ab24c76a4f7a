package instance

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"

	"golang.org/x/image/draw"

	"genfn/events"
	"genfn/functions/imagefile"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// Previews are small, so that they fit into their event.
const (
	previewSide    = 256 // pixels of the longer side, at most
	previewQuality = 80
	previewBytes   = 40 << 10
)

// preview publishes a coarse picture of what there is so far. One that cannot be made does not stop the work.
func (a *attempt) preview(ctx context.Context, runner *process.Process, m *protocol.Preview) {
	pix, err := runner.Bulk().Read(m.Image.Block)
	if sendErr := runner.Send(&protocol.PreviewRead{Job: m.Job}); sendErr != nil || err != nil {
		a.log.Warn("preview not read", "error", err, "send", sendErr)
		return
	}
	data, err := encodePreview(m.Image.Width, m.Image.Height, pix)
	if err != nil {
		a.log.Warn("preview not encoded", "error", err)
		return
	}
	a.publishProgress(ctx, &events.Preview{MediaType: "image/jpeg", Data: data, Index: m.Index})
}

// encodePreview makes a JPEG of at most previewSide pixels a side and previewBytes.
func encodePreview(width, height int, pix []byte) ([]byte, error) {
	var src image.Image = rgba(width, height, pix)
	if longer := max(width, height); longer > previewSide {
		dst := image.NewRGBA(image.Rect(0, 0, max(1, width*previewSide/longer), max(1, height*previewSide/longer)))
		draw.ApproxBiLinear.Scale(dst, dst.Bounds(), src, src.Bounds(), draw.Src, nil)
		src = dst
	}
	for quality := previewQuality; ; quality /= 2 {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, src, &jpeg.Options{Quality: quality}); err != nil {
			return nil, err
		}
		if b.Len() <= previewBytes || quality < 10 {
			return b.Bytes(), nil
		}
	}
}

// rgba makes an image of HWC RGB bytes.
func rgba(width, height int, pix []byte) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for i, o := 0, 0; i+2 < len(pix); i, o = i+3, o+4 {
		img.Pix[o], img.Pix[o+1], img.Pix[o+2], img.Pix[o+3] = pix[i], pix[i+1], pix[i+2], 0xff
	}
	return img
}

// imageFile makes the artefact of the request's i-th picture, with the parameters it was generated with inside.
func imageFile(s events.Succeeded, id string, i int, img imagefile.Image) (file, error) {
	parameters, err := imagefile.Describe(imagefile.Description{
		Request: s.Request, Model: s.Model, Index: i, Device: s.Device, Precision: s.Precision, Versions: s.Versions, Generation: id,
	})
	if err != nil {
		return file{}, err
	}
	encoded, err := imagefile.Encode(s.Request.Format, img, parameters, imagefile.Options{})
	if err != nil {
		return file{}, err
	}
	return file{
		artifact: events.Artifact{
			Name: fmt.Sprintf("image-%d.%s", i, s.Request.Format), Role: events.RoleImage, Index: i,
			Width: img.Width, Height: img.Height, Seed: s.Request.Seed,
		},
		mediaType: encoded.MediaType, data: encoded.Data, omitted: encoded.ParametersOmitted,
	}, nil
}
