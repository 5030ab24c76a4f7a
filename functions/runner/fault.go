package runner

import (
	"errors"

	"genfn/bindings/openvino"
	"genfn/functions/device/fault"
)

// classify turns an error of the engine into evidence and has it classified.
func classify(err error, stage, device string) fault.Fault {
	e := fault.Evidence{Stage: stage, Device: device, Err: err}
	var native *openvino.Error
	if errors.As(err, &native) {
		e.Runtime, e.Status, e.Text = fault.RuntimeOpenVINO, native.Status, native.Detail
	}
	return fault.Classify(e)
}
