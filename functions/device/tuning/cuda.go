package tuning

import (
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
	p.say(Precision, "f32", "that of the model's ONNX files, without TF32: the same picture as on other devices, within rounding")
	p.streams()
	p.say(Arena, "as requested", "it grows by what networks ask for, up to what is free when they are loaded")
	p.guidance()
	switch {
	case w.Precision != "" && w.Precision != "f32" && w.Precision != PrecisionAuto:
		return p.Plan, refuseCUDA(d.Name, "precision", "f32", "networks run in %s on CUDA, not in %s", "f32", w.Precision)
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
