package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"genfn/bindings/cuda"
	"genfn/bindings/onnxruntime"
	"genfn/events"
	"genfn/functions/cudadevice"
	"genfn/functions/device/tuning"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
	"genfn/functions/runner/protocol"
)

// cudaEngine is the engine over a CUDA device: ONNX Runtime runs the networks and genfn's kernels the rest, in the
// device's memory. OpenVINO tokenizes, on the CPU. Without a device it only looks at those there are.
type cudaEngine struct {
	generator
	onnxRuntimes
	cuda   *cuda.Runtime
	device *cudadevice.Device
}

var _ Engine = (*cudaEngine)(nil)

// OpenCUDA loads CUDA, and what else it takes to run models if hello names a device.
func OpenCUDA(_ context.Context, hello *protocol.Hello, log *slog.Logger) (Engine, error) {
	e, err := openCUDA(hello, cuda.Options{LibraryDir: hello.CUDADir}, log)
	if err != nil {
		return nil, err // and not a nil engine in the interface
	}
	return e, nil
}

func openCUDA(hello *protocol.Hello, o cuda.Options, log *slog.Logger) (*cudaEngine, error) {
	e := &cudaEngine{generator: newGenerator(hello, log)}
	e.memory = e.DeviceMemory
	o.Ledger = e.ledger
	var err error
	if e.cuda, err = cuda.Open(o); err != nil {
		return nil, events.Errorf(events.CodeDeviceUnavailable, "CUDA cannot be used: %w", err)
	}
	e.info.Versions = map[string]string{"cuda": e.cuda.Version().String()}
	if hello.Device == "" {
		return e, nil
	}
	if err := e.open(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// open makes the device and what runs models ready.
func (e *cudaEngine) open() error {
	ordinal, err := e.ordinal(e.hello.Device)
	if err != nil {
		return err
	}
	id, err := e.cuda.Identify(ordinal)
	if err != nil {
		return err
	}
	plan, err := e.plan(e.hello.Device, id.Name)
	if err != nil {
		return err
	}
	e.info.Tuning = plan.Settings
	e.info.DeviceName = id.Name + ", ONNX Runtime" // what is learned is learned of both
	if version := cuda.KernelDriver(); version != "" {
		e.info.Versions["driver"] = version
	}
	if e.hello.Validate { // before any model is loaded
		v, _ := e.validate(ordinal)
		if e.info.Validation = v; v.Error != nil {
			return v.Error
		}
	}
	if err := e.onnxRuntimes.open(&e.generator, true); err != nil {
		return err
	}
	if err := e.openKernels(); err != nil {
		return err
	}
	if err := cudadevice.CheckRuntime(e.onnx, id.Name); err != nil {
		return events.Errorf(events.CodeDeviceUnavailable, "ONNX Runtime cannot use %s: %w", e.hello.Device, err)
	}
	if e.device, err = cudadevice.Open(e.cuda, ordinal, e.options()); err != nil {
		return err
	}
	e.openTrials()
	e.load(&e.generator, session.Options{CUDA: e.device, Threads: e.hello.Threads})
	return nil
}

func (e *cudaEngine) options() cudadevice.Options {
	return cudadevice.Options{LibraryDir: e.hello.CUDADir, CacheDir: e.hello.CacheDir}
}

// plan is how a device is used.
func (e *cudaEngine) plan(device, fullName string) (tuning.Plan, error) {
	runsOn, why := cudadevice.RunsOn(fullName)
	return tuning.ChooseCUDA(tuning.CUDA{Name: device, RunsOn: runsOn, Reason: why}, tuning.Wishes{
		Streams: e.hello.Streams, Precision: e.hello.Precision, GuidanceBatch: e.hello.GuidanceBatch, Properties: e.hello.Properties,
	})
}

// cudaName names a device as it does everywhere outside CUDA: "cuda:0".
func cudaName(ordinal int) string { return cudaPrefix + strconv.Itoa(ordinal) }

const cudaPrefix = "cuda:"

// ordinal is the number of a device, which must be there.
func (e *cudaEngine) ordinal(device string) (int, error) {
	n, err := e.cuda.DeviceCount()
	if err != nil {
		return 0, err
	}
	number, named := strings.CutPrefix(strings.ToLower(device), cudaPrefix)
	ordinal, err := strconv.Atoi(number)
	if named && err == nil && ordinal >= 0 && ordinal < n {
		return ordinal, nil
	}
	f := events.Errorf(events.CodeDeviceUnavailable, "CUDA sees no device %s here", device)
	f.Device, f.Expected = device, fmt.Sprintf("one of %d, from %s on", n, cudaName(0))
	f.Advice = "Choose another device: genfn devices lists what there is."
	return 0, f
}

// Devices lists the devices that CUDA sees, without a context on any, or validates the one that is named.
func (e *cudaEngine) Devices(ctx context.Context, validate string) ([]protocol.Device, error) {
	if validate != "" {
		ordinal, err := e.ordinal(validate)
		if err != nil {
			return nil, err
		}
		d := protocol.Device{Name: cudaName(ordinal)}
		d.Validation, d.Properties = e.validate(ordinal)
		d.FullName = d.Validation.Name
		d.Validation.Tuning = append(d.Validation.Tuning, e.serves(d.FullName))
		return []protocol.Device{d}, nil
	}
	n, err := e.cuda.DeviceCount()
	if err != nil {
		return nil, err
	}
	var list []protocol.Device
	for ordinal := range n {
		list = append(list, protocol.Device{Name: cudaName(ordinal)})
	}
	return list, ctx.Err()
}

// SettingModels is the name of the setting that says what models run on a device that was looked at; NoModels is its
// value where none does.
const (
	SettingModels = "models"
	NoModels      = "none"
)

// serves says whether models run on a device of that name here. One on which none does is no worse for it.
func (e *cudaEngine) serves(fullName string) events.DeviceSetting {
	onnx, err := onnxruntime.Open(onnxruntime.Options{LibraryDir: e.hello.ONNXRuntimeDir, CUDA: true})
	if err == nil {
		err = errors.Join(cudadevice.CheckRuntime(onnx, fullName), onnx.Close())
	}
	if err != nil {
		return events.DeviceSetting{Name: SettingModels, Value: NoModels, Reason: err.Error()}
	}
	return events.DeviceSetting{Name: SettingModels, Value: "ONNX", Reason: "the model.onnx of each network, with ONNX Runtime " + onnx.Version()}
}

// warmUpSteps are as many as every scheduler can plan.
const warmUpSteps = 4

// Load makes the model ready and runs its networks once: on a GPU the first inference loads their kernels.
func (e *cudaEngine) Load(ctx context.Context, m protocol.Model, o Observer) error {
	if err := e.generator.Load(ctx, m, o); err != nil {
		return err
	}
	defer e.settle()
	l := e.models[len(e.models)-1]
	_, err := l.pipeline.Generate(ctx, pipeline.ImageRequest{
		Prompt: protocol.CanaryPrompt, GuidanceScale: l.model.DefaultGuidance, Steps: warmUpSteps,
	}, nil)
	return err
}

// DeviceMemory is that of the device, of which other programs may use some.
func (e *cudaEngine) DeviceMemory() *protocol.DeviceMemory {
	if e.device == nil {
		return nil
	}
	free, total, err := e.device.Memory()
	if err != nil {
		e.log.Debug("device memory not known", "error", err)
		return nil
	}
	return &protocol.DeviceMemory{Total: total, Used: total - free, Free: free}
}

// Close implements Engine.
func (e *cudaEngine) Close() error {
	return errors.Join(e.closeModels(), e.device.Close(), e.onnxRuntimes.close(), e.cuda.Close(), e.leaks())
}
