package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"genfn/bindings/onnxruntime"
	"genfn/bindings/openvino"
	"genfn/events"
	"genfn/functions/device/tuning"
	"genfn/functions/hostcpu"
	"genfn/functions/model/session"
	"genfn/functions/runner/protocol"
)

// onnxEngine is the engine over ONNX Runtime, on the CPU. OpenVINO tokenizes: tokenizers come as its networks, and it takes a
// few milliseconds a prompt.
type onnxEngine struct {
	generator
	onnxRuntimes
}

var _ Engine = (*onnxEngine)(nil)

// OpenONNXRuntime loads ONNX Runtime, and OpenVINO for tokenizers.
func OpenONNXRuntime(_ context.Context, hello *protocol.Hello, log *slog.Logger) (Engine, error) {
	e := &onnxEngine{generator: newGenerator(hello, log)}
	e.memory = e.DeviceMemory
	if err := e.open(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

const onnxDevice = "CPU"

// onnxRuntimes are what engines over ONNX files have in common: what runs the networks, and what tokenizes.
type onnxRuntimes struct {
	onnx     *onnxruntime.Runtime
	openvino *openvino.Runtime
}

// open loads both, ONNX Runtime with CUDA's provider if it is wanted. What was loaded when the other fails is closed by close.
func (r *onnxRuntimes) open(g *generator, withCUDA bool) (err error) {
	r.onnx, err = onnxruntime.Open(onnxruntime.Options{LibraryDir: g.hello.ONNXRuntimeDir, CUDA: withCUDA, Ledger: g.ledger})
	if err != nil {
		return events.Errorf(events.CodeDeviceUnavailable, "ONNX Runtime cannot be loaded: %w", err)
	}
	r.openvino, err = openvino.Open(openvino.Options{LibraryDir: g.hello.LibraryDir, TokenizersLibrary: g.hello.TokenizersLibrary, Ledger: g.ledger})
	if err != nil {
		return events.Errorf(events.CodeDeviceUnavailable, "OpenVINO, which tokenizes, cannot be loaded: %w", err)
	}
	g.version = "onnxruntime " + r.onnx.Version()
	if g.info.Versions == nil {
		g.info.Versions = map[string]string{}
	}
	g.info.Versions["onnxruntime"], g.info.Versions["openvino"] = r.onnx.Version(), r.openvino.Version()
	return nil
}

// load makes the loader, with options that are the engine's own.
func (r *onnxRuntimes) load(g *generator, o session.Options) {
	o.ONNX, o.Kernels, o.Precision = r.onnx, g.kernels, g.hello.Precision
	o.CacheDir, o.CacheCompiled, o.Logger = g.hello.CacheDir, g.hello.CacheCompiled, g.log
	g.loader = session.NewLoader(r.openvino, o)
	g.loader.Prepare()
}

func (r *onnxRuntimes) close() error { return errors.Join(r.onnx.Close(), r.openvino.Close()) }

func (e *onnxEngine) open() (err error) {
	if d := e.hello.Device; d != "" && d != onnxDevice {
		f := events.Errorf(events.CodeDeviceUnavailable, "no model runs with ONNX Runtime on %s yet", d)
		f.Device, f.Expected = d, onnxDevice
		return f
	}
	if err := e.onnxRuntimes.open(&e.generator, false); err != nil {
		return err
	}
	if e.hello.Device == "" {
		return nil
	}
	if err := e.openKernels(); err != nil {
		return err
	}
	threads, err := e.tune()
	if err != nil {
		return err
	}
	e.load(&e.generator, session.Options{Threads: threads})
	processor, err := e.loader.DeviceName()
	if err != nil {
		return err
	}
	e.info.DeviceName = processor + ", ONNX Runtime" // what is learned of a device is not that of OpenVINO's
	if e.hello.Validate {
		e.info.Validation = e.validate()
	}
	return nil
}

// tune chooses the threads of an operation; 0: ONNX Runtime chooses.
func (e *onnxEngine) tune() (threads int, err error) {
	e.openTrials()
	cores, err := hostcpu.Read()
	if err != nil {
		e.log.Warn("the cores of this process are not known, the runtime chooses its threads", "error", err)
	}
	// Of what OpenVINO calls properties, ONNX Runtime has the threads.
	plan, err := tuning.Choose(
		tuning.Device{Name: e.hello.Device, Supported: []string{tuning.PropertyThreads}, Slots: e.hello.Slots, Cores: cores},
		tuning.Wishes{Threads: e.hello.Threads, GuidanceBatch: e.hello.GuidanceBatch, Properties: e.hello.Properties},
	)
	if err != nil {
		return 0, err
	}
	precision, err := onnxPrecision(e.hello.Precision)
	if err != nil {
		return 0, err
	}
	e.info.Tuning, e.uses = slices.Concat(plan.Settings, []events.DeviceSetting{precision}), plan.Properties
	n, chosen := plan.Properties[tuning.PropertyThreads]
	if !chosen {
		return 0, nil
	}
	if threads, err = strconv.Atoi(n); err != nil || threads < 1 {
		f := events.Errorf(events.CodeInvalidRequest, "%s=%s is no number of threads", tuning.PropertyThreads, n)
		f.Field, f.Expected = "property", "1 or more"
		return 0, f
	}
	return threads, nil
}

// onnxPrecision says in which files of the networks ONNX Runtime finds the precision that is asked for.
func onnxPrecision(asked string) (events.DeviceSetting, error) {
	switch asked {
	case "", "f32":
		return events.DeviceSetting{Name: tuning.Precision, Value: "f32", Reason: "the model.onnx of each network"}, nil
	case "f16":
		return events.DeviceSetting{Name: tuning.Precision, Value: asked, Reason: "the model_fp16.onnx of each network, as asked for; a CPU computes most of it in f32 and rounds"}, nil
	}
	f := events.Errorf(events.CodeInvalidRequest, "ONNX Runtime does not compute in %s here", asked)
	f.Field, f.Expected = "precision", "f32 or f16"
	return events.DeviceSetting{}, f
}

// validate says what there is. The CPU is not suspected of computing wrong.
func (e *onnxEngine) validate() *protocol.Validation {
	v := newValidation(onnxDevice)
	v.Name, v.Tuning = e.info.DeviceName, e.info.Tuning
	providers, err := e.onnx.Providers()
	v.check(checkDriver, fmt.Sprintf("ONNX Runtime %s with %v", e.onnx.Version(), providers), err)
	v.check(checkMemory, describeMemory(v.Memory), enough(v.Memory))
	return v.Validation
}

// Devices lists the CPU.
func (e *onnxEngine) Devices(_ context.Context, validate string) ([]protocol.Device, error) {
	if validate != "" && validate != onnxDevice {
		f := events.Errorf(events.CodeDeviceUnavailable, "ONNX Runtime runs no models on %s yet", validate)
		f.Device, f.Expected = validate, onnxDevice
		return nil, f
	}
	d := protocol.Device{Name: onnxDevice, FullName: e.info.DeviceName}
	if validate != "" {
		d.Validation = e.validate()
	}
	return []protocol.Device{d}, nil
}

// DeviceMemory is the host's.
func (e *onnxEngine) DeviceMemory() *protocol.DeviceMemory { return nil }

// Close implements Engine.
func (e *onnxEngine) Close() error {
	return errors.Join(e.closeModels(), e.onnxRuntimes.close(), e.leaks())
}
