package instance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"genfn/events"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/runner/crashreport"
	"genfn/functions/runner/protocol"
)

// The canary: a generation of the model's own size whose result must be the same each time.
const (
	canarySteps = 2
	canarySeed  = 20260131
)

// stageCanary is the stage of a runner that dies in a canary.
const stageCanary = "canary"

// canary makes a small generation of the model on the slot's runner and compares its latents with known values.
func (s *slot) canary(ctx context.Context, name string, economy model.Economy) error {
	m, err := s.instance.catalog.get(name)
	if err != nil {
		return err
	}
	began := time.Now()
	sum := s.instance.catalog.sum(ctx, m) // beside the generation
	made, err := s.makeCanary(ctx, m, economy)
	if err != nil {
		return err
	}
	made.sha256 = (<-sum).sha256 // without it nothing is known of the model's values
	judged, err := s.instance.canaries.judge(ctx, s.config.Broker, made, s.log)
	s.instance.canaries.note(events.LastCanary{
		At: began.UTC(), Model: name, Passed: err == nil, ElapsedMS: time.Since(began).Milliseconds(), Against: judged.against, Apart: judged.apart,
	})
	s.instance.countCanary(err == nil, time.Since(began))
	if err != nil {
		return err
	}
	s.canaryModel, s.economy, s.warmed = name, economy, s.runner
	return s.runner.Bulk().Trim()
}

// makeCanary makes the generation.
func (s *slot) makeCanary(ctx context.Context, m Model, economy model.Economy) (made canaryValues, err error) {
	s.jobs++
	job := s.jobs
	s.runner.SetWork(crashreport.Work{Model: m.Name})
	s.uses(m.Name, shapeKey(m.Name, m.Width, m.Height, 1, m.GuidanceScale > 1, economy))
	request := protocol.Request{
		Prompt: protocol.CanaryPrompt, Width: m.Width, Height: m.Height, Steps: canarySteps, GuidanceScale: m.GuidanceScale,
		Seed: canarySeed, Count: 1, OutputLatents: true, Economy: economy,
	}
	if err := s.runner.Send(&protocol.Generate{Job: job, Model: m.protocol(), Request: request}); err != nil {
		return made, s.died(stageCanary, err)
	}
	answer, err := s.await(ctx, job, stageCanary)
	if err != nil {
		return made, err
	}
	result, ok := answer.(*protocol.Result)
	if !ok {
		return made, fmt.Errorf("the runner answered the canary with %s", protocol.KindOf(answer))
	}
	latents, err := s.latentsOf(result)
	if err != nil {
		return made, err
	}
	ready := s.runner.Ready()
	return canaryValues{
		model: m.Name, precision: result.Precision, class: s.class(), by: s.config.Name, place: hostName() + " " + s.device(),
		work: fmt.Sprintf("genfn %s %dx%d steps %d guidance %g seed %d", s.config.Version, m.Width, m.Height, canarySteps, m.GuidanceScale, canarySeed),
		kind: fmt.Sprintf("%s %s %s openvino %s driver %s", s.class(), ready.DeviceName, result.Precision, ready.Versions["openvino"], ready.Versions["driver"]),
		all:  slices.Clone(latents),
	}, nil
}

func (s *slot) latentsOf(r *protocol.Result) ([]float32, error) {
	if r.Latents == nil || len(r.Images) == 0 {
		return nil, events.Errorf(events.CodeNumericalError, "the canary gave no picture")
	}
	pix, err := s.runner.Bulk().Read(r.Images[0].Block)
	if err != nil {
		return nil, err
	}
	if err := notBlank(imagefile.Image{Width: r.Images[0].Width, Height: r.Images[0].Height, Pix: pix}); err != nil {
		return nil, err
	}
	return s.runner.Bulk().ReadF32(r.Latents.Block)
}

// notBlank returns numerical_error for a picture that is black: what broken numbers look like.
func notBlank(image imagefile.Image) error {
	if slices.Max(image.Pix) == 0 {
		return events.Errorf(events.CodeNumericalError, "the picture is black (%dx%d)", image.Width, image.Height)
	}
	return nil
}

// warm runs the first canary of a model on a GPU's runner, before the first request for it: the device proves that
// it can, and what it makes is what later canaries must make.
func (s *slot) warm(ctx context.Context, m Model, economy model.Economy) error {
	if s.class() != events.DeviceGPU || s.warmed == s.runner && s.canaryModel == m.Name || m.Dir == "" {
		return nil
	}
	began := time.Now()
	if err := s.canary(ctx, m.Name, economy); err != nil {
		if errors.Is(err, &events.Error{Code: events.CodeNumericalError}) {
			s.canaryModel = m.Name // by which the device is to prove itself
		}
		return fmt.Errorf("warm-up of %s: %w", m.Name, err)
	}
	s.log.Info(s.field("model warmed up"), "model", m.Name, "ms", time.Since(began).Milliseconds())
	return nil
}
