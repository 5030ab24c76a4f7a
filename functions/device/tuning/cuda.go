package tuning

import (
	"slices"

	"genfn/events"
)

// Names of settings of CUDA devices.
const (
	Networks = "networks"
	Arena    = "arena"
)

// CUDA is what is known of a CUDA device.
type CUDA struct {
	Name           string // "cuda:0"
	RunsOn, Reason string // what runs the networks, and why
}

// ChooseCUDA makes the plan for a CUDA device, which has no properties. What it cannot do is an invalid_request error.
func ChooseCUDA(d CUDA, w Wishes) (Plan, error) {
	p := &plan{device: Device{Name: d.Name}, wishes: w, Plan: Plan{Properties: map[string]string{}}}
	p.say(Networks, d.RunsOn, "%s", d.Reason)
	if w.Precision == "f16" {
		p.say(Precision, w.Precision, "the model_fp16.onnx of each network, as asked for; latents and scheduler stay in f32")
	} else {
		p.say(Precision, "f32", "that of the model's ONNX files, without TF32: the same picture as on other devices, within rounding")
	}
	p.streams()
	p.say(Arena, "as requested", "it grows by what networks ask for, up to what is free when they are loaded")
	p.guidance()
	switch {
	case !slices.Contains([]string{"", "f32", "f16", PrecisionAuto}, w.Precision):
		return p.Plan, refuseCUDA(d.Name, "precision", "f32 or f16", "networks run in f32 or f16 on CUDA, not in %s", w.Precision)
	case w.Streams > 1:
		return p.Plan, refuseCUDA(d.Name, "streams", "1", "a runner works in one stream on CUDA, not in %d", w.Streams)
	case len(w.Properties) > 0:
		return p.Plan, refuseCUDA(d.Name, "property", "none", "properties are OpenVINO's: a CUDA device has none")
	}
	return p.Plan, nil
}

func refuseCUDA(device, field, expected, format string, args ...any) *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, format, args...)
	e.Field, e.Expected, e.Device = field, expected, device
	return e
}
