// Package session compiles the networks of a model folder with OpenVINO and keeps them ready to run. It runs them on ONNX
// Runtime instead if Options say so, see onnx.go.
//
// A network is reshaped to the exact shapes of a request before it is compiled, which makes it faster than with
// open dimensions; a bounded number of compiled shapes is kept for each network. Inputs and outputs are bound
// once to buffers of our own.
//
// Some networks cannot be compiled with static shapes: OpenVINO fails, or crashes and takes the process with it.
// A journal in the cache directory remembers both, see journal.go; such a network is compiled with the dimensions its file leaves
// open, and Executable.Dynamic says so. What was compiled for the CPU is kept there for later processes, see cache.go.
package session

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"genfn/bindings/cuda"
	"genfn/bindings/kernels"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/openvino"
	"genfn/events"
	"genfn/functions/cudadevice"
	"genfn/functions/model"
)

// Options for a Loader.
type Options struct {
	Device  string // OpenVINO's name; "": CPU
	Threads int    // of an inference on the CPU; 0: OpenVINO chooses
	// Precision is OpenVINO's INFERENCE_PRECISION_HINT: f32, f16 or bf16. "": f32 on the CPU, so that results
	// do not depend on the processor, and the device's own choice elsewhere. With ONNX, f16 takes the networks' files that
	// compute in it.
	Precision string
	// Properties are more of the device's, which must have them; they win over what is set otherwise.
	Properties map[string]string
	// MaxShapes bounds the compiled shapes kept for each network; 0: 2. Each holds its own copy of the weights.
	MaxShapes int
	// CacheDir holds the compile journal and, with CacheCompiled, compiled networks. "": neither.
	CacheDir string
	// CacheCompiled keeps compiled networks under CacheDir, see cache.go; those of other devices than the CPU
	// OpenVINO keeps there. The files are twice as large as fp16 weights.
	CacheCompiled bool
	// RetryCrashedAfter is how long a crash of the compiler counts: a process may also have been killed from
	// outside while it compiled. 0: 24 hours.
	RetryCrashedAfter time.Duration
	// OnCompile, if not nil, is told of each compilation before it begins.
	OnCompile func(component string, shapes string, static bool)
	Logger    *slog.Logger // nil: none
	// ONNX runs the networks on ONNX Runtime; OpenVINO then has the tokenizers only. Of the options above Threads, Precision,
	// MaxShapes and those of the cache count, the latter for tokenizers. nil: OpenVINO runs all.
	ONNX *onnxruntime.Runtime
	// Kernels convert the float16 of ONNX networks on the host; nil: kernels.Reference.
	Kernels *kernels.Set
	// CUDA has the inputs and outputs of networks in this device's memory, and ONNX run them there. nil: the host.
	CUDA *cudadevice.Device
}

// Loader opens networks on one device. It is safe for concurrent use.
type Loader struct {
	runtime *openvino.Runtime
	options Options
	journal *journal // nil: without cache directory
	cache   *cache   // nil: nothing is kept
	compile func(m *openvino.Model, device string) (*openvino.CompiledModel, error)
	// compiling is held for writing by a compilation that ended a process and may be to blame.
	compiling sync.RWMutex

	networks, tokenizers *core
	onnx                 environment
}

// NewLoader prepares a Loader; the runtime must outlive it.
func NewLoader(runtime *openvino.Runtime, o Options) *Loader {
	if o.Device == "" {
		o.Device = "CPU"
	}
	if o.MaxShapes <= 0 {
		o.MaxShapes = 2
	}
	if o.RetryCrashedAfter <= 0 {
		o.RetryCrashedAfter = 24 * time.Hour
	}
	if o.Kernels == nil {
		o.Kernels = kernels.Reference()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Loader{runtime: runtime, options: o}
	l.compile = l.compileNative
	if o.CacheDir != "" {
		l.journal = &journal{dir: filepath.Join(o.CacheDir, "compile-journal"), retryAfter: o.RetryCrashedAfter, process: rand.Text()}
	}
	if o.CacheDir != "" && o.CacheCompiled {
		l.cache = &cache{dir: filepath.Join(o.CacheDir, "compiled")}
	}
	l.networks = &core{device: o.Device, properties: l.properties(o.Device), open: l.openNetworks}
	l.tokenizers = &core{device: "CPU", properties: map[string]string{"INFERENCE_NUM_THREADS": "1"}, open: l.openTokenizers}
	l.onnx.runtime = o.ONNX
	return l
}

// Prepare starts to load what every model needs, in the background. An error is that of the first use.
func (l *Loader) Prepare() {
	go func() { _, _ = l.tokenizers.get() }()
}

// Device returns OpenVINO's name of the device.
func (l *Loader) Device() string { return l.options.Device }

// CUDA returns the device whose memory networks have their inputs and outputs in, nil for the host.
func (l *Loader) CUDA() *cudadevice.Device { return l.options.CUDA }

// SupportedProperties lists the properties that the device has.
func (l *Loader) SupportedProperties() ([]string, error) {
	native, err := l.networks.get()
	if err != nil {
		return nil, err
	}
	return native.SupportedProperties(l.options.Device)
}

// Configure sets more of Options.Properties before the first network is opened.
func (l *Loader) Configure(properties map[string]string) error {
	l.options.Properties = maps.Clone(l.options.Properties)
	if l.options.Properties == nil {
		l.options.Properties = map[string]string{}
	}
	maps.Copy(l.options.Properties, properties)
	return l.networks.configure(l.properties(l.options.Device))
}

// Property reads a property of a device in the context in which the networks are.
func (l *Loader) Property(device, key string) (string, error) {
	native, err := l.networks.get()
	if err != nil {
		return "", err
	}
	return native.Property(device, key)
}

var errClosed = errors.New("session: the loader is closed")

// openNetworks makes the core that reads and compiles networks.
func (l *Loader) openNetworks() (*openvino.Core, error) {
	native, err := l.runtime.NewCore()
	if err != nil {
		return nil, events.Errorf(events.CodeDeviceUnavailable, "OpenVINO cannot start: %w", err)
	}
	return native, nil
}

// openTokenizers makes the core for tokenizers, with their operations. It is one of its own, so that networks need
// not wait until that library is loaded.
func (l *Loader) openTokenizers() (*openvino.Core, error) {
	native, err := l.openNetworks()
	if err != nil {
		return nil, err
	}
	path, err := l.runtime.TokenizersLibrary()
	if err == nil {
		err = native.AddExtension(path)
	}
	if err != nil {
		e := events.Errorf(events.CodeModelLoadFailed, "the tokenizers extension of OpenVINO cannot be loaded: %w", errors.Join(err, native.Close()))
		e.Advice = "Install openvino-tokenizers of the same release beside OpenVINO."
		return nil, e
	}
	return native, nil
}

// DeviceName asks the device for its full name, for which its plugin is loaded, and no other device's.
func (l *Loader) DeviceName() (string, error) {
	return l.Property(l.options.Device, "FULL_DEVICE_NAME")
}

// Close frees the cores once all networks are closed. It may be called twice.
func (l *Loader) Close() error {
	return errors.Join(l.networks.close(), l.tokenizers.close(), l.onnx.close())
}

// properties are those for compilation on the device.
func (l *Loader) properties(device string) map[string]string {
	p := map[string]string{"PERFORMANCE_HINT": "LATENCY"}
	switch {
	case l.options.Precision != "":
		p["INFERENCE_PRECISION_HINT"] = l.options.Precision
	case device == "CPU":
		p["INFERENCE_PRECISION_HINT"] = "f32"
	}
	if device == "CPU" && l.options.Threads > 0 {
		p["INFERENCE_NUM_THREADS"] = strconv.Itoa(l.options.Threads)
	}
	if l.options.CacheCompiled && l.options.CacheDir != "" && device != "CPU" {
		p["CACHE_DIR"] = filepath.Join(l.options.CacheDir, "openvino")
	}
	if device == l.options.Device { // a tokenizer runs on the CPU
		maps.Copy(p, l.options.Properties)
	}
	return p
}

// loadFailed is model_load_failed for a component.
func loadFailed(c model.Component, doing string, err error) *events.Error {
	var (
		native *openvino.Error
		onnx   *onnxruntime.Error
		gpu    *cuda.Error
	)
	runtime, code, text := "OpenVINO", "", ""
	switch {
	case errors.As(err, &native):
		code, text = strconv.Itoa(native.Status), native.Detail
	case errors.As(err, &onnx):
		runtime, code, text = "ONNX Runtime", strconv.Itoa(onnx.Code), onnx.Text
	case errors.As(err, &gpu):
		runtime, code, text = "CUDA", strconv.Itoa(gpu.Code), gpu.Text
	}
	e := events.Errorf(events.CodeModelLoadFailed, "%s: %s could not %s %s", c.Name, runtime, doing, filepath.Base(c.Path))
	e.Detail, e.Cause, e.DriverCode, e.DriverText = err.Error(), err, code, text
	return e
}

// read reads the network of a component.
func (l *Loader) read(c model.Component) (*openvino.Model, error) { return readOn(l.networks, c) }

func readOn(on *core, c model.Component) (*openvino.Model, error) {
	native, err := on.get()
	if err != nil {
		return nil, err
	}
	m, err := native.ReadModel(c.Path, c.Weights)
	if err != nil {
		return nil, loadFailed(c, "read", err)
	}
	return m, nil
}

// compileNative compiles a network that has been read.
func (l *Loader) compileNative(m *openvino.Model, device string) (*openvino.CompiledModel, error) {
	native, err := l.networks.get()
	if err != nil {
		return nil, err
	}
	compiled, err := native.Compile(m, device, l.properties(device))
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return compiled, nil
}
