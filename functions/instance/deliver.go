package instance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/imagefile"
	"genfn/functions/runner/protocol"
)

// maxParallel bounds how many results are encoded or stored at the same time.
const maxParallel = 4

// file is one artefact before it is stored.
type file struct {
	artifact  events.Artifact
	mediaType string
	data      []byte
	omitted   bool // the generation parameters did not fit into the file
}

// deliver encodes and stores what the runner made and answers the request.
func (a *attempt) deliver(ctx context.Context, p *plan, result *protocol.Result) error {
	a.enter(ctx, events.StageEncode)
	sum := <-p.sum
	if sum.err != nil {
		return sum.err
	}
	s := a.answer(p, result, sum.sha256)
	may := a.mayFinish(ctx, s)
	files, err := a.encode(ctx, s, result)
	if err != nil {
		return err
	}
	if err := a.slot.runner.Bulk().Trim(); err != nil {
		a.log.Warn("memory file not trimmed", "error", err)
	}
	if slices.ContainsFunc(files, func(f file) bool { return f.omitted }) {
		s.Warnings = append(s.Warnings, events.Warning{Code: "parameters_omitted", Message: "The generation parameters do not fit into a file of this format; they are in this answer."})
	}
	a.enter(ctx, events.StageStore)
	if s.Artifacts, err = a.store(ctx, files); err != nil {
		return err
	}
	if err := <-may; err != nil {
		return err
	}
	a.track.leave(time.Now())
	timings := maps.Clone(a.track.timings)
	maps.Copy(timings, s.TimingsMS) // the runner's own are nearer to the work
	s.TimingsMS = timings
	s.TimingsMS["total"] = float64(time.Since(a.began)) / float64(time.Millisecond)
	if !s.Fits() {
		if err := a.storeWhole(ctx, &s); err != nil {
			return err
		}
		s = s.Fit()
	}
	if err := a.finish(ctx, events.TypeSucceeded, s); err != nil {
		return err
	}
	a.learn(p, result)
	a.slot.instance.health.Succeeded()
	a.timings = s.TimingsMS
	a.settle(causeAnswered, outcomeSucceeded)
	a.log.Info("request succeeded", "model", p.model.Name, "images", len(result.Images), "ms", s.TimingsMS["total"])
	return nil
}

// answer is the terminal event's data without artefacts: what is needed to repeat the request.
func (a *attempt) answer(p *plan, result *protocol.Result, sum string) events.Succeeded {
	r := p.request
	if result.Scheduler != "" {
		r.Scheduler = result.Scheduler
	}
	ready := a.slot.runner.Ready()
	versions := maps.Clone(ready.Versions)
	if versions == nil {
		versions = map[string]string{}
	}
	versions["genfn"] = a.slot.config.Version
	s := events.Succeeded{
		Request: r, Model: events.ModelRef{Name: p.model.Name, SHA256: sum},
		Device: ready.Device, DeviceName: ready.DeviceName, Precision: result.Precision, Versions: versions,
		Degradations: slices.Concat(result.Degradations, p.given), TimingsMS: result.TimingsMS, Memory: a.memory(result), Process: a.slot.instance.usage.process(a.slot.runner.PID()),
		Attempts: broker.EventAttempts(a.begun.Records()),
	}
	if result.PromptTruncated {
		s.Warnings = append(s.Warnings, events.Warning{Code: "prompt_truncated", Message: "The prompt is longer than the model reads: its end was cut off."})
	}
	return s
}

// encode makes files of the pictures and latents in the memory file.
func (a *attempt) encode(ctx context.Context, s events.Succeeded, result *protocol.Result) ([]file, error) {
	files := make([]file, len(result.Images))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallel)
	for i, image := range result.Images {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			pix, err := a.slot.runner.Bulk().Read(image.Block)
			if err != nil {
				return err
			}
			files[i], err = imageFile(s, a.work.job.ID, i, imagefile.Image{Width: image.Width, Height: image.Height, Pix: pix})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if result.Latents != nil {
		data, err := a.slot.runner.Bulk().ReadF32(result.Latents.Block)
		if err != nil {
			return nil, err
		}
		latents, err := latentsFile(imagefile.Array{Shape: result.Latents.Shape, Data: data})
		if err != nil {
			return nil, err
		}
		files = append(files, latents)
	}
	return files, nil
}

// mayFinish finds out, while pictures are encoded and stored, what has to be known before the attempt may finish: that
// it is still the current one, and that the answer, which has no artefacts yet, is valid.
func (a *attempt) mayFinish(ctx context.Context, s events.Succeeded) <-chan error {
	s.Artifacts = []events.Artifact{}
	meta := a.meta()
	done := make(chan error, 1)
	go func() {
		e, err := events.NewAnswer(events.TypeSucceeded, meta, s.Fit())
		if err == nil {
			err = events.Validate(e)
		}
		if err != nil {
			done <- events.Errorf(events.CodeInternal, "the answer is not valid: %w", err)
			return
		}
		if current, err := a.begun.Current(ctx); err == nil && !current { // if it is not known, Finish asks again
			done <- errStale
		}
		close(done)
	}()
	return done
}

// storeWhole stores the answer, which has to be shortened, as a file beside the pictures, of which it tells.
func (a *attempt) storeWhole(ctx context.Context, s *events.Succeeded) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	stored, err := a.store(ctx, []file{{artifact: events.Artifact{Name: "metadata.json", Role: events.RoleMetadata}, mediaType: "application/json", data: data}})
	s.Artifacts = append(s.Artifacts, stored...)
	return err
}

// store puts the files into the object store.
func (a *attempt) store(ctx context.Context, files []file) ([]events.Artifact, error) {
	artifacts := make([]events.Artifact, len(files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallel)
	for i, f := range files {
		g.Go(func() error {
			ref, err := a.put(ctx, f)
			artifacts[i] = f.artifact
			artifacts[i].Ref = ref
			return err
		})
	}
	return artifacts, g.Wait()
}
