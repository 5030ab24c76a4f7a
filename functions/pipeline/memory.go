package pipeline

import (
	"context"
	"errors"

	"genfn/functions/model/session"
)

// What a pipeline holds between generations, and ways to hold less.

func (p *TextToImage) networks() []*session.Network {
	return []*session.Network{p.textEncoder, p.unet, p.vae}
}

// Resident returns the bytes of the ledger that belong to compiled networks: between generations the ledger has no
// others of this pipeline.
func (p *TextToImage) Resident() int64 {
	var total int64
	for _, n := range p.networks() {
		total += n.Resident()
	}
	return total
}

// Trim frees the compiled networks; the next request compiles again.
func (p *TextToImage) Trim(ctx context.Context) error { return p.each(ctx, (*session.Network).Trim) }

// Release frees the compiled forms of each network but the one that was used last.
func (p *TextToImage) Release(ctx context.Context) error {
	return p.each(ctx, (*session.Network).TrimIdle)
}

// Renew frees the infer requests of the compiled networks with their buffers and makes them again.
func (p *TextToImage) Renew(ctx context.Context) error { return p.each(ctx, (*session.Network).Renew) }

// each does something to every network between generations, also when it fails for one.
func (p *TextToImage) each(ctx context.Context, do func(*session.Network) error) error {
	release, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	var errs []error
	for _, n := range p.networks() {
		errs = append(errs, do(n))
	}
	return errors.Join(errs...)
}
