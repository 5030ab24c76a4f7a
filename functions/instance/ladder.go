package instance

import (
	"slices"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/tuning"
	"genfn/functions/model"
)

// The ladder of memory: when a device has too little for a request, the next try needs less, in this order. Each
// rung keeps what the ones before it gave up. The first four leave the picture as it is.
const (
	rungFreshProcess       = "fresh_process" // nothing but this model in it, no compiled shapes of other requests
	rungSequentialGuidance = events.DegradationSequentialGuidance
	rungTiledVAE           = events.DegradationTiledVAE
	rungModelOffload       = events.DegradationModelOffload
	rungFewerPictures      = events.DegradationFewerPictures
	rungSmallerSize        = events.DegradationSmallerSize
)

// rungs lists what can be given up for a request, with its defaults filled in: what would change nothing is left
// out, because a try that is the same as the one before is never made. used says whether the process had made
// other pictures before, sequential whether its guidance is sequential already.
func rungs(r events.ImageGenerate, m Model, used, sequential bool) []string {
	var list []string
	add := func(rung string, useful bool) {
		if useful {
			list = append(list, rung)
		}
	}
	add(rungFreshProcess, used)
	add(rungSequentialGuidance, *r.GuidanceScale > 1 && !sequential)
	add(rungTiledVAE, m.Folder != nil && m.Folder.TileSide(model.Economy{TiledVAE: true}, *r.Width, *r.Height) > 0)
	add(rungModelOffload, m.Dir != "")
	if r.Degrade == events.DegradeAllowed && r.Latents == nil { // initial latents have the size of the picture
		add(rungFewerPictures, *r.Count > 1)
		smaller := shrunk(r, m)
		add(rungSmallerSize, *smaller.Width < *r.Width || *smaller.Height < *r.Height)
	}
	return list
}

// sequential reports whether a request's guidance is sequential without any rung: because the operator wants it, or
// because the device is predicted to have too little memory for a batch of two.
func (s *slot) sequential(r events.ImageGenerate, m Model) bool {
	if batch := s.config.Runner.Hello.GuidanceBatch; batch != 0 {
		return batch == tuning.Sequential
	}
	_, short := tuning.ByMemory(m.Folder, model.Workload{Width: *r.Width, Height: *r.Height, Count: *r.Count, Guided: *r.GuidanceScale > 1}, s.instance.usage.deviceTotal())
	return short
}

// tried is the rung of the last attempt on a class that ran out of memory, "" if that was on the floor; ok is false
// if there was none.
func tried(records []broker.AttemptRecord, class string) (rung string, ok bool) {
	for _, r := range records {
		if events.ClassOf(r.Device) == class && r.Cause == causeMemory {
			rung, ok = r.Rung, true
		}
	}
	return rung, ok
}

// nextRung is the rung for an attempt on a class after the given ones: "" if memory was enough so far. left is how
// many more there are above it.
func nextRung(list []string, records []broker.AttemptRecord, class string) (rung string, left int) {
	last, ok := tried(records, class)
	if !ok {
		return "", len(list)
	}
	at := slices.Index(list, last) + 1 // 0 after the floor
	if at >= len(list) {
		return last, 0
	}
	return list[at], len(list) - at - 1
}

// economyOf is what a rung, and all below it, give up.
func economyOf(rung string) model.Economy {
	order := []string{rungSequentialGuidance, rungTiledVAE, rungModelOffload, rungFewerPictures, rungSmallerSize}
	at := slices.Index(order, rung)
	return model.Economy{SequentialGuidance: at >= 0, TiledVAE: at >= 1, OffloadModels: at >= 2}
}

// reduced is the request as a rung makes it, and what that gives up of the picture.
func reduced(r events.ImageGenerate, m Model, rung string) (events.ImageGenerate, []string) {
	if r.Degrade != events.DegradeAllowed {
		return r, nil
	}
	var given []string
	if (rung == rungFewerPictures || rung == rungSmallerSize) && *r.Count > 1 {
		one := 1
		r.Count = &one
		given = append(given, rungFewerPictures)
	}
	if rung == rungSmallerSize {
		r = shrunk(r, m)
		given = append(given, rungSmallerSize)
	}
	return r, given
}

// minShrunk is the side in pixels below which no picture is made smaller.
const minShrunk = 64

// shrunk is the request for half of each side, in the steps the model takes.
func shrunk(r events.ImageGenerate, m Model) events.ImageGenerate {
	if m.Folder == nil || m.Folder.FixedSizes != nil {
		return r
	}
	half := func(side int) *int {
		s := max(minShrunk, side/2/m.Folder.SizeStep*m.Folder.SizeStep)
		s = min(side, s)
		return &s
	}
	r.Width, r.Height = half(*r.Width), half(*r.Height)
	return r
}

// describeRung says for people what a try gives up.
func describeRung(rung string) string {
	switch rung {
	case rungFreshProcess:
		return "with a fresh process that holds nothing else"
	case rungSequentialGuidance:
		return "with sequential guidance: two passes of half the size in place of one"
	case rungTiledVAE:
		return "also with the VAE decoding in tiles"
	case rungModelOffload:
		return "also with only one network in memory at a time"
	case rungFewerPictures:
		return "also with one picture in place of several"
	case rungSmallerSize:
		return "also with half the width and height"
	}
	return "as before"
}
