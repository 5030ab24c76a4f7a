package pipeline

import (
	"context"
	"errors"
	"time"

	"genfn/bindings/libc"
	"genfn/events"
	"genfn/functions/model/session"
)

// Ways to make the same picture with less memory, see model.Economy.

// economize decides what of the economy a job uses: what the model's fixed shapes do not allow is left out.
func (p *TextToImage) economize(j *job) {
	j.sequential = (j.Economy.SequentialGuidance || j.GuidanceBatch == 1) && j.guided && p.unetBatch != 2
	if p.fixed == nil {
		j.tile = p.model.TileSide(j.Economy, j.Width, j.Height)
	}
}

// makeRoom frees the compiled forms that an economy replaces before the smaller ones are compiled.
func (p *TextToImage) makeRoom(j *job, unet, vae session.Shapes) error {
	var errs []error
	if j.sequential && j.Economy.SequentialGuidance {
		errs = append(errs, p.unet.KeepOnly(unet))
	}
	if j.tile > 0 {
		errs = append(errs, p.vae.KeepOnly(vae))
	}
	return errors.Join(errs...)
}

// degradations names what was done differently.
func (g *generation[V]) degradations() []string {
	var words []string
	for _, d := range []struct {
		used bool
		word string
	}{
		{g.nets.dynamic, events.DegradationDynamicShapes},
		{g.job.sequential && g.job.Economy.SequentialGuidance, events.DegradationSequentialGuidance},
		{g.job.tile > 0, events.DegradationTiledVAE},
		{g.job.Economy.OffloadModels, events.DegradationModelOffload},
	} {
		if d.used {
			words = append(words, d.word)
		}
	}
	return words
}

// runTiled does the stages after loading; the VAE's tiles load their shapes themselves.
func (g *generation[V]) runTiled(ctx context.Context) error {
	if err := g.stage(ctx, events.StageTextEncoder, g.encodeText); err != nil {
		return err
	}
	if err := g.stage(ctx, events.StageDenoise, g.denoise); err != nil {
		return err
	}
	return g.decodeTiled(ctx)
}

// runOffloaded does the stages after tokenizing with at most one network compiled at a time. What compiling costs
// is in the time of the load stage, and for each network in "load_" and its name.
func (g *generation[V]) runOffloaded(ctx context.Context) error {
	p := g.p
	text, unet, vae := p.shapes(g.job)
	g.nets = &networks{}
	if err := errors.Join(p.unet.Trim(), p.vae.Trim()); err != nil {
		return err
	}
	if err := g.offloaded(ctx, p.textEncoder, text, &g.nets.text, events.StageTextEncoder, g.encodeText); err != nil {
		return err
	}
	if err := g.offloaded(ctx, p.unet, unet, &g.nets.unet, events.StageDenoise, g.denoise); err != nil {
		return err
	}
	if g.job.tile > 0 {
		return errors.Join(g.decodeTiled(ctx), g.p.unload(p.vae))
	}
	return g.offloaded(ctx, p.vae, vae, &g.nets.vae, events.StageVAEDecode, g.decode)
}

// offloaded runs a stage between compiling its network and freeing it, whatever the outcome.
func (g *generation[V]) offloaded(ctx context.Context, n *session.Network, s session.Shapes, to **session.Executable, stage string, run func(context.Context) error) error {
	e, err := g.loadOne(ctx, n, s)
	if err == nil {
		*to = e
		err = g.stage(ctx, stage, run)
		e.Release()
	}
	return errors.Join(err, g.p.unload(n))
}

// loadOne compiles one network as a stage of its own, after freeing its other shapes.
func (g *generation[V]) loadOne(ctx context.Context, n *session.Network, s session.Shapes) (e *session.Executable, err error) {
	if err := n.KeepOnly(s); err != nil {
		return nil, err
	}
	load := func(ctx context.Context) error {
		start := time.Now()
		defer func() { g.times[events.StageLoad+"_"+n.Name()] += time.Since(start) }()
		if e, err = n.Acquire(ctx, s); err != nil {
			return g.p.shapeError(g.job, err)
		}
		g.nets.dynamic = g.nets.dynamic || e.Dynamic() != ""
		return nil
	}
	if n.Ready(s) {
		return e, staged(ctx, events.StageLoad, load(ctx))
	}
	return e, g.stage(ctx, events.StageLoad, load)
}

// unload frees all of a network and gives the memory back to the system.
func (p *TextToImage) unload(n *session.Network) error {
	err := n.Trim()
	libc.TrimMalloc()
	return err
}
