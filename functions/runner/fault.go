package runner

import (
	"errors"
	"strings"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/nvrtc"
	"genfn/bindings/nvml"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/openvino"
	"genfn/functions/device/fault"
)

// classify turns an error of the engine into evidence and has it classified.
func classify(err error, stage, device string) fault.Fault {
	e := fault.Evidence{Stage: stage, Device: device, Err: err}
	var (
		native   *openvino.Error
		onnx     *onnxruntime.Error
		gpu      *cuda.Error
		compiler *nvrtc.Error
		manager  *nvml.Error
	)
	switch {
	case errors.As(err, &native):
		e.Runtime, e.Status, e.Text = fault.RuntimeOpenVINO, native.Status, native.Detail
	case errors.As(err, &onnx):
		e.Runtime, e.Status, e.Text = fault.RuntimeONNXRuntime, onnx.Code, onnx.Text
	case errors.As(err, &gpu):
		e.Runtime, e.Status, e.Text = fault.RuntimeCUDA, gpu.Code, gpu.Text
	case errors.As(err, &compiler):
		e.Runtime, e.Status, e.Text = fault.RuntimeNVRTC, compiler.Code, strings.TrimSpace(compiler.Text+"\n"+compiler.Log)
	case errors.As(err, &manager):
		e.Runtime, e.Status, e.Text = fault.RuntimeNVML, manager.Code, manager.Text
	}
	return fault.Classify(e)
}
