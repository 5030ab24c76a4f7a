package runner

import (
	"context"

	"genfn/events"
	"genfn/functions/imagefile"
	"genfn/functions/runner/protocol"
)

// isNoop reports whether m is the built-in model that makes a plain picture without native code. It is there
// to measure what everything around a generation costs, and only if the instance asked for it.
func (r *runner) isNoop(m protocol.Model) bool {
	return r.noop && m.Name == protocol.NoopModel && m.Dir == ""
}

// generateNoop goes through the stages of a generation without work in them. The pictures are gradients
// tinted by the seed.
func generateNoop(ctx context.Context, in Input, o Observer) (*Output, error) {
	r := in.Request
	for _, stage := range []string{events.StageTokenize, events.StageTextEncoder, events.StageDenoise} {
		o.Stage(stage)
	}
	for step := 1; step <= r.Steps; step++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.PreviewEvery > 0 && step%r.PreviewEvery == 0 {
			o.Preview(0, gradient(r.Width, r.Height, r.Seed))
		}
		o.Step(step, r.Steps)
	}
	o.Stage(events.StageVAEDecode)
	out := &Output{Scheduler: r.Scheduler, Precision: "u8"}
	for i := range r.Count {
		out.Images = append(out.Images, gradient(r.Width, r.Height, r.Seed+uint64(i)))
	}
	return out, nil
}

func gradient(width, height int, seed uint64) imagefile.Image {
	pix := make([]byte, 0, 3*width*height)
	for y := range height {
		for x := range width {
			pix = append(pix, byte(255*x/width), byte(255*y/height), byte(seed*37))
		}
	}
	return imagefile.Image{Width: width, Height: height, Pix: pix}
}
