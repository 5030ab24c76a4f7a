package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strconv"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/nvrtc"
	"genfn/bindings/kernels"
	"genfn/bindings/tensor"
	"genfn/events"
	"genfn/functions/runner/protocol"
)

// cudaEngine looks at NVIDIA's devices. It loads no model: that is refused in words.
type cudaEngine struct {
	hello   *protocol.Hello
	ledger  *tensor.Ledger
	runtime *cuda.Runtime
}

var _ Engine = (*cudaEngine)(nil)

// OpenCUDA loads CUDA to list devices and to validate them. A hello that names a device is refused.
func OpenCUDA(_ context.Context, hello *protocol.Hello, _ *slog.Logger) (Engine, error) {
	if hello.Device != "" {
		return nil, noModels(hello.Device)
	}
	e, err := openCUDA(hello, cuda.Options{LibraryDir: hello.LibraryDir})
	if err != nil {
		return nil, err // and not a nil engine in the interface
	}
	return e, nil
}

func openCUDA(hello *protocol.Hello, o cuda.Options) (*cudaEngine, error) {
	e := &cudaEngine{hello: hello, ledger: tensor.NewLedger()}
	o.Ledger = e.ledger
	var err error
	if e.runtime, err = cuda.Open(o); err != nil {
		return nil, events.Errorf(events.CodeDeviceUnavailable, "CUDA cannot be used: %w", err)
	}
	return e, nil
}

// noModels says that a device cannot serve.
func noModels(device string) error {
	f := events.Errorf(events.CodeDeviceUnavailable, "no model runs on CUDA yet")
	f.Device, f.Advice = device, "Serve the model on another device: genfn devices lists what there is."
	return f
}

// cudaName names a device as it does everywhere outside CUDA: "cuda:0".
func cudaName(ordinal int) string { return cudaPrefix + strconv.Itoa(ordinal) }

const cudaPrefix = "cuda:"

// Resident returns 0: no model is loaded.
func (e *cudaEngine) Resident() int64 { return 0 }

func (e *cudaEngine) Info() Info {
	return Info{Versions: map[string]string{"cuda": e.runtime.Version().String()}}
}

// Devices lists the devices that CUDA sees, without a context on any, or validates the one that is named.
func (e *cudaEngine) Devices(ctx context.Context, validate string) ([]protocol.Device, error) {
	n, err := e.runtime.DeviceCount()
	if err != nil {
		return nil, err
	}
	var list []protocol.Device
	for ordinal := range n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d := protocol.Device{Name: cudaName(ordinal)}
		if validate != "" && validate != d.Name {
			continue
		}
		if validate != "" {
			d.Validation, d.Properties = e.validate(ordinal)
			d.FullName = d.Validation.Name
		}
		list = append(list, d)
	}
	if len(list) == 0 && validate != "" {
		f := events.Errorf(events.CodeDeviceUnavailable, "CUDA sees no device %s here", validate)
		f.Device, f.Expected = validate, fmt.Sprintf("one of %d, from %s on", n, cudaName(0))
		return nil, f
	}
	return list, nil
}

// validate looks at a device as openVINO.validate does.
func (e *cudaEngine) validate(ordinal int) (*protocol.Validation, map[string]string) {
	v := newValidation(cudaName(ordinal))
	v.Driver = &protocol.Driver{Version: cuda.KernelDriver(), CUDA: e.runtime.DriverVersion().String(), Vendor: "NVIDIA"}
	if v.Driver.Version == "" {
		v.Driver.Why = "the kernel does not tell (/sys/module/nvidia/version)"
	}
	id, err := e.runtime.Identify(ordinal)
	v.Name, v.Driver.Name, v.Driver.UUID = id.Name, id.Name, id.UUID
	defer v.checkNVIDIA() // whatever else fails, it may say why
	var d *cuda.Device
	if err == nil {
		d, err = e.runtime.OpenDevice(ordinal)
	}
	if !v.check(checkDriver, describeNVIDIA(v.Driver), err) {
		return v.Validation, nil
	}
	defer d.Close()
	properties, err := cudaProperties(d, v.Driver)
	v.check(checkProperties, fmt.Sprintf("compute capability %s, %s multiprocessors, CUDA runtime %s from %s",
		properties["compute_capability"], properties["multiprocessors"], e.runtime.Version(), e.runtime.Library()), err)
	free, total, err := d.Memory()
	if err == nil {
		v.Memory = protocol.DeviceMemory{Total: total, Used: total - free, Free: free}
		v.Driver.Memory = total
	}
	v.check(checkMemory, fmt.Sprintf("%d MiB, %d MiB of it free", total>>20, free>>20), errors.Join(err, enough(v.Memory)))
	v.check(checkComputation, "a step of a scheduler is right to the last bit", e.compute(d))
	v.Tuning = []events.DeviceSetting{{Name: "models", Value: "none", Reason: "no model runs on CUDA yet: the device is only looked at"}}
	return v.Validation, properties
}

// describeNVIDIA puts a device and its driver on a line.
func describeNVIDIA(d *protocol.Driver) string {
	version := "NVIDIA driver " + d.Version
	if d.Version == "" {
		version = "driver version unknown: " + d.Why
	}
	return fmt.Sprintf("%s, %s for CUDA up to %s", d.Name, version, d.CUDA)
}

// cudaProperties asks the device what it is, and completes driver with what it says.
func cudaProperties(d *cuda.Device, driver *protocol.Driver) (map[string]string, error) {
	properties := map[string]string{}
	for _, p := range []struct {
		name string
		cuda.Attribute
	}{
		{"major", cuda.ComputeMajor}, {"minor", cuda.ComputeMinor}, {"multiprocessors", cuda.MultiProcessorCount}, {"l2_cache_bytes", cuda.L2CacheSize},
		{"ecc", cuda.ECCEnabled}, {"memory_bus_bits", cuda.GlobalMemoryBusWidth}, {"memory_clock_khz", cuda.MemoryClockRate}, {"integrated", cuda.Integrated},
	} {
		value, err := d.Attribute(p.Attribute)
		if err != nil {
			return properties, err
		}
		properties[p.name] = strconv.Itoa(value)
	}
	properties["compute_capability"] = properties["major"] + "." + properties["minor"]
	delete(properties, "major")
	delete(properties, "minor")
	driver.Unified = properties["integrated"] == "1"
	var err error
	driver.PCI, err = d.PCI()
	return properties, err
}

// cudaValues is how many values the known computation has: several blocks of threads, the last not full.
const cudaValues = 3*2048 + 77

// compute runs one guided scheduler step through genfn's own kernels and compares every bit with the Go reference.
func (e *cudaEngine) compute(d *cuda.Device) (err error) {
	architecture, err := d.Architecture()
	if err != nil {
		return err
	}
	compiler, err := nvrtc.Open(nvrtc.Options{LibraryDir: e.hello.LibraryDir, Newest: e.runtime.DriverVersion().Major()})
	if err != nil {
		return events.Errorf(events.CodeDeviceUnavailable, "the kernels cannot be compiled for %s: %w", architecture, err)
	}
	code, err := kernels.Cubin(compiler, architecture, filepath.Join(e.hello.CacheDir, "cuda"))
	if err != nil {
		return err
	}
	gpu, err := kernels.OpenGPU(d, code)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gpu.Close()) }()
	want := knownStep()
	if err := kernels.Reference().Step(want); err != nil {
		return err
	}
	got, err := stepOn(d, gpu, knownStep())
	if err != nil {
		return err
	}
	return compareStep(got, want.Prev)
}

// knownStep is a step of which no value is special and every sum is rounded.
func knownStep() *kernels.StepArgs {
	values := func(seed int) []float32 {
		out := make([]float32, cudaValues)
		for i := range out {
			out[i] = validationValue(i, i/7, seed) + float32(i)*0x1p-13
		}
		return out
	}
	return &kernels.StepArgs{
		Sample: values(0), Cond: values(5), Uncond: values(8), Guidance: 7.5, SampleCoef: 0.98, OutputCoef: -0.13, Prev: make([]float32, cudaValues),
	}
}

// stepOn makes the step on a device and returns its result.
func stepOn(d *cuda.Device, gpu *kernels.GPU, a *kernels.StepArgs) (out []float32, err error) {
	stream, err := d.NewStream("validation")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	buffer, err := d.Malloc("validation", 4*4*cudaValues)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, buffer.Close()) }()
	var views [4]cuda.View
	for i, values := range [][]float32{a.Sample, a.Cond, a.Uncond, a.Prev} {
		if views[i], err = buffer.All().Slice(int64(4*cudaValues*i), 4*cudaValues); err != nil {
			return nil, err
		}
		if err := stream.WriteF32(views[i], values); err != nil {
			return nil, err
		}
	}
	if err := gpu.Step(stream, &kernels.DeviceStepArgs{
		Sample: views[0], Cond: views[1], Uncond: views[2], Prev: views[3], Guidance: a.Guidance, SampleCoef: a.SampleCoef, OutputCoef: a.OutputCoef,
	}); err != nil {
		return nil, err
	}
	out = make([]float32, cudaValues)
	return out, stream.ReadF32(out, views[3]) // a hang is for the parent to find
}

// compareStep returns numerical_error for the first value that is wrong.
func compareStep(got, want []float32) error {
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			return wrong("the known computation is wrong at value %d of %d: %g, expected %g", i, len(want), got[i], want[i])
		}
	}
	return nil
}

// Load refuses.
func (e *cudaEngine) Load(_ context.Context, m protocol.Model, _ Observer) error {
	return fmt.Errorf("model %s: %w", m.Name, noModels("cuda"))
}

// Generate refuses.
func (e *cudaEngine) Generate(_ context.Context, in Input, _ Observer) (*Output, error) {
	return nil, fmt.Errorf("model %s: %w", in.Model.Name, noModels("cuda"))
}

// Keep has nothing to keep: what is compiled is kept at once.
func (e *cudaEngine) Keep(context.Context) error { return nil }

// Cleanup has nothing to free between jobs.
func (e *cudaEngine) Cleanup(context.Context) error { return nil }

// Unload has no model.
func (e *cudaEngine) Unload(string) error { return nil }

func (e *cudaEngine) Ledger() (bytes, peak int64) { return e.ledger.Bytes(), e.ledger.Peak() }

// DeviceMemory is that of no device: validation tells it.
func (e *cudaEngine) DeviceMemory() *protocol.DeviceMemory { return nil }

func (e *cudaEngine) Close() error {
	errs := []error{e.runtime.Close()}
	for _, entry := range e.ledger.Outstanding() {
		errs = append(errs, fmt.Errorf("native memory not freed: %s", entry))
	}
	return errors.Join(errs...)
}
