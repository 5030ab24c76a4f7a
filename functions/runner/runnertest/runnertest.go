// Package runnertest is a runner with a scripted engine in place of native code, to test what happens around
// a runner that crashes, hangs or fails. A test binary becomes such a runner by calling Main in its TestMain.
package runnertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"genfn/bindings/openvino"
	"genfn/events"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/runner"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// Env says in a child's environment that it is to be a scripted runner.
const Env = "GENFN_TEST_RUNNER"

// Main runs the scripted runner and ends the process if this process was started as one by a Config of this
// package; otherwise it returns at once.
func Main() {
	if os.Getenv(Env) == "" {
		return
	}
	if err := runner.Main(context.Background(), runner.Options{Open: open}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Config starts this test binary as a scripted runner of the device "TEST". Locks go to runtimeDir.
func Config(runtimeDir string) process.Config {
	return process.Config{
		Command: []string{"/proc/self/exe"},
		Env:     []string{Env + "=1"},
		Hello:   protocol.Hello{Device: "TEST", Slot: protocol.AnySlot, RuntimeDir: runtimeDir, ServeNoop: true},
	}
}

// Action is what a script does.
type Action string

// The actions.
const (
	Kill  Action = "kill"  // SIGKILL itself
	Crash Action = "crash" // SIGSEGV, as a null handle in native code would
	Abort Action = "abort" // words on standard error, then SIGABRT, as a C++ exception would
	Hang  Action = "hang"  // never return, deaf to cancellation
	Wait  Action = "wait"  // return when cancelled or when File, a FIFO, is opened for writing
	Panic Action = "panic"
	Fail  Action = "fail"  // return an error of the vocabulary
	Odd   Action = "odd"   // return an error without a code
	Lost  Action = "lost"  // return what OpenVINO says when a GPU's context is dead
	Full  Action = "full"  // return what OpenVINO says when the device's memory is not enough
	Shaky Action = "shaky" // return a fault of the device that lets the process live
	NaN   Action = "nan"   // return that the numbers are invalid
	Stuck Action = "stuck" // hang so that the process is not reaped for a second after SIGKILL
)

// Script is what a generation does at one moment. It travels as the request's prompt, or as a model's folder
// to act when that is loaded. A prompt that is no script generates plainly.
type Script struct {
	Do    Action `json:"do"`
	Stage string `json:"stage"`          // when: at the start of this stage
	Step  int    `json:"step,omitempty"` // or after this step of it
	Once  string `json:"once,omitempty"` // a file made when the script acts; if it exists it does not
	File  string `json:"file,omitempty"` // of Wait
	On    string `json:"on,omitempty"`   // only on devices whose name begins so
	// Enough is the degradation, of those of package events, with which Full has enough memory.
	Enough string `json:"enough,omitempty"`
	// Uses is the device memory that the generation takes, in bytes, on a device of EnvMemory; each economy that is
	// asked for saves a quarter of it. It stays allocated for the model until that is unloaded.
	Uses int64 `json:"uses,omitempty"`
	// Degradation is one that the result tells of beside those asked for.
	Degradation string `json:"degradation,omitempty"`
}

// Prompt returns the script as a prompt.
func (s Script) Prompt() string {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err) // a struct of strings
	}
	return string(raw)
}

// Files whose existence makes a device sick, by variables of the runner's environment.
const (
	EnvInvalid = "GENFN_TEST_INVALID" // it fails its validation
	EnvCanary  = "GENFN_TEST_CANARY"  // a canary ends with a dead context
	EnvWrong   = "GENFN_TEST_WRONG"   // a canary gives wrong numbers
)

// EnvMemory is the bytes of memory that the device has of its own, by a variable of the runner's environment; absent:
// it has none. What is more than that is refused as OpenVINO refuses it.
const EnvMemory = "GENFN_TEST_MEMORY"

// EnvSlow names a FIFO, by a variable of the runner's environment. While it exists a process that starts waits there
// until somebody opens it for writing.
const EnvSlow = "GENFN_TEST_SLOW"

// sick reports whether the file that the variable names exists.
func sick(variable string) bool {
	name := os.Getenv(variable)
	if name == "" {
		return false
	}
	_, err := os.Stat(name)
	return err == nil
}

type engine struct {
	device     string
	validation *protocol.Validation
	memory     *deviceMemory
}

// deviceMemory is what models hold of a device's own memory. Safe for concurrent use.
type deviceMemory struct {
	total int64

	mu   sync.Mutex
	held map[string]int64 // by model
}

func newDeviceMemory() *deviceMemory {
	total, err := strconv.ParseInt(os.Getenv(EnvMemory), 10, 64)
	if err != nil {
		return nil
	}
	return &deviceMemory{total: total, held: map[string]int64{}}
}

// hold has a model hold so many bytes, if there are as many.
func (m *deviceMemory) hold(model string, bytes int64) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	others := int64(0)
	bytes = max(bytes, m.held[model]) // what is compiled stays
	for name, n := range m.held {
		if name != model {
			others += n
		}
	}
	if others+bytes > m.total {
		return &openvino.Error{Op: "infer", Status: -1, StatusText: "general error", Detail: fmt.Sprintf("[CL ext] Can not allocate %d bytes for USM Device. ptr: nullptr, error code: -4", bytes)}
	}
	m.held[model] = bytes
	return nil
}

func (m *deviceMemory) free(model string) {
	if m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.held, model)
	}
}

func (m *deviceMemory) state() *protocol.DeviceMemory {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	used := int64(0)
	for _, n := range m.held {
		used += n
	}
	return &protocol.DeviceMemory{Total: m.total, Used: used, Free: m.total - used}
}

var _ runner.Engine = engine{}

// validateCUDA looks at a device of CUDA, a virtual one, as a real runner does.
func validateCUDA(ctx context.Context, hello *protocol.Hello, log *slog.Logger) (*protocol.Validation, error) {
	look := *hello
	look.Device = ""
	e, err := runner.OpenCUDA(ctx, &look, log)
	if err != nil {
		return nil, err
	}
	list, err := e.Devices(ctx, hello.Device)
	if err := errors.Join(err, e.Close()); err != nil {
		return nil, err
	}
	return list[0].Validation, nil
}

func validate(device string) *protocol.Validation {
	v := &protocol.Validation{
		Class: events.DeviceCPU, Name: "Test Device", Memory: protocol.DeviceMemory{Total: -1, Used: -1, Free: -1},
		Checks: []events.DeviceCheck{{Name: "computation", OK: true}},
	}
	if strings.HasPrefix(device, "GPU") {
		v.Class = events.DeviceGPU
	}
	if sick(EnvInvalid) {
		v.Error = events.Errorf(events.CodeNumericalError, "the known computation is wrong")
		v.Checks[0] = events.DeviceCheck{Name: "computation", Detail: v.Error.Message}
	}
	return v
}

// open fails for the device "BROKEN".
func open(ctx context.Context, hello *protocol.Hello, log *slog.Logger) (runner.Engine, error) {
	if sick(EnvSlow) {
		if err := wait(ctx, os.Getenv(EnvSlow)); err != nil {
			return nil, err
		}
	}
	if hello.Device == "BROKEN" {
		return nil, events.Errorf(events.CodeDeviceUnavailable, "the device is broken")
	}
	if hello.Device == "STUCK" {
		select {}
	}
	if !hello.Validate {
		return engine{device: hello.Device, memory: newDeviceMemory()}, nil
	}
	v := validate(hello.Device)
	if strings.HasPrefix(hello.Device, protocol.RuntimeCUDA) {
		var err error
		if v, err = validateCUDA(ctx, hello, log); err != nil {
			return nil, err
		}
	}
	if v.Error != nil {
		return nil, v.Error
	}
	return engine{hello.Device, v, newDeviceMemory()}, nil
}

// Info implements runner.Engine.
func (e engine) Info() runner.Info {
	return runner.Info{DeviceName: "Test Device", Kernels: "none", Versions: map[string]string{"scripted": "1"}, Validation: e.validation}
}

// Devices implements runner.Engine.
func (engine) Devices(_ context.Context, name string) ([]protocol.Device, error) {
	list := []protocol.Device{{Name: "CPU", FullName: "Test Processor"}, {Name: "GPU.0", FullName: "Test Device"}}
	for _, d := range list {
		if d.Name == name {
			d.Validation = validate(name)
			return []protocol.Device{d}, nil
		}
	}
	return list, nil
}

// Load implements runner.Engine.
func (engine) Load(_ context.Context, _ protocol.Model, o runner.Observer) error {
	o.Stage(events.StageLoad)
	return nil
}

// Cleanup implements runner.Engine.
func (engine) Cleanup(context.Context) error { return nil }

// Keep implements runner.Engine.
func (engine) Keep(context.Context) error { return nil }

// Unload implements runner.Engine.
func (e engine) Unload(name string) error {
	e.memory.free(name)
	return nil
}

// Ledger implements runner.Engine.
func (engine) Ledger() (int64, int64) { return 0, 0 }

// Resident implements runner.Engine.
func (engine) Resident() int64 { return 0 }

// DeviceMemory implements runner.Engine.
func (e engine) DeviceMemory() *protocol.DeviceMemory { return e.memory.state() }

// Close implements runner.Engine.
func (engine) Close() error { return nil }

// Generate implements runner.Engine.
func (e engine) Generate(ctx context.Context, in runner.Input, o runner.Observer) (*runner.Output, error) {
	var s Script
	_ = json.Unmarshal([]byte(in.Request.Prompt), &s)
	if !strings.HasPrefix(e.device, s.On) {
		s = Script{}
	}
	if s.Enough != "" && slices.Contains(degradations(in.Request.Economy), s.Enough) {
		s = Script{}
	}
	r := in.Request
	if r.Prompt == protocol.CanaryPrompt {
		if sick(EnvCanary) {
			return nil, Script{Do: Lost}.act(ctx)
		}
		if sick(EnvWrong) {
			in.Request.Seed /= 2
		}
	}
	uses := s.Uses
	for range degradations(r.Economy) {
		uses -= s.Uses / 4
	}
	if err := e.memory.hold(in.Model.Name, uses); err != nil {
		return nil, err
	}
	for _, stage := range []string{events.StageLoad, events.StageTokenize, events.StageTextEncoder, events.StageDenoise, events.StageVAEDecode} {
		act := s.at(stage, 0) // before the moment is told: who hears of it finds Once made
		o.Stage(stage)
		if err := act(ctx); err != nil {
			return nil, err
		}
		if stage != events.StageDenoise {
			continue
		}
		for step := 1; step <= r.Steps; step++ {
			if r.PreviewEvery > 0 && step%r.PreviewEvery == 0 {
				o.Preview(0, picture(r.Width, r.Height, byte(step)))
			}
			act := s.at(stage, step)
			o.Step(step, r.Steps)
			if err := act(ctx); err != nil {
				return nil, err
			}
		}
	}
	out := output(in)
	if s.Degradation != "" {
		out.Degradations = append(out.Degradations, s.Degradation)
	}
	return out, nil
}

// degradations are what an economy asks for.
func degradations(e model.Economy) (words []string) {
	for word, asked := range map[string]bool{
		events.DegradationSequentialGuidance: e.SequentialGuidance, events.DegradationTiledVAE: e.TiledVAE, events.DegradationModelOffload: e.OffloadModels,
	} {
		if asked {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return words
}

// output is a picture of the seed's last byte, and as latents what came in, or the seed.
func output(in runner.Input) *runner.Output {
	r := in.Request
	out := &runner.Output{Scheduler: "scripted", Precision: "f32", TimingsMS: map[string]float64{events.StageDenoise: 1}, Degradations: degradations(r.Economy)}
	for i := range r.Count {
		out.Images = append(out.Images, picture(r.Width, r.Height, byte(r.Seed+uint64(i))))
	}
	if r.OutputLatents {
		out.Latents = in.Latents
		if out.Latents == nil {
			out.Latents = &imagefile.Array{Shape: []int{1, 1, 1, 1}, Data: []float32{float32(r.Seed)}}
		}
	}
	return out
}

func picture(width, height int, value byte) imagefile.Image {
	pix := make([]byte, 3*width*height)
	for i := range pix {
		pix[i] = value
	}
	return imagefile.Image{Width: width, Height: height, Pix: pix}
}

// at returns what the script does at this moment.
func (s Script) at(stage string, step int) func(context.Context) error {
	nothing := func(context.Context) error { return nil }
	if s.Do == "" || s.Stage != stage || s.Step != step {
		return nothing
	}
	if s.Once != "" {
		f, err := os.OpenFile(s.Once, os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			return nothing
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return func(context.Context) error { return err }
		}
	}
	return s.act
}

func (s Script) act(ctx context.Context) error {
	switch s.Do {
	case Kill:
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case Crash:
		fmt.Fprintln(os.Stderr, "scripted crash")
		return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGSEGV), wait(ctx, ""))
	case Abort:
		fmt.Fprintln(os.Stderr, "terminate called after throwing an instance of 'std::bad_alloc'")
		return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGABRT), wait(ctx, ""))
	case Hang:
		select {}
	case Stuck: // a grandchild holds standard error open, which delays the reaping
		holder := exec.Command("sleep", "3") //nolint:noctx // it outlives this process on purpose
		holder.Stderr = os.Stderr
		if err := holder.Start(); err != nil {
			return err
		}
		select {}
	case Wait:
		return wait(ctx, s.File)
	case Panic:
		panic("scripted panic")
	case Fail:
		e := events.Errorf(events.CodeNumericalError, "scripted failure")
		return e
	case Lost:
		return &openvino.Error{Op: "infer", Status: -1, StatusText: "general error", Detail: "[GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES"}
	case Full:
		return &openvino.Error{Op: "infer", Status: -1, StatusText: "general error", Detail: "[GPU] Exceeded max size of memory object allocation: requested 3221225472 bytes, but max alloc size supported by device is 1073741824 bytes."}
	case Shaky:
		return &openvino.Error{Op: "infer", Status: -1, StatusText: "general error", Detail: "[GPU] clFlush, error code: -2 CL_DEVICE_NOT_AVAILABLE"}
	case NaN:
		return events.Errorf(events.CodeNumericalError, "latents hold NaN")
	case Odd:
		return errors.New("scripted error without a code")
	}
	return fmt.Errorf("unknown action %q", s.Do)
}

// wait returns when ctx ends or when somebody opens the FIFO for writing.
func wait(ctx context.Context, fifo string) error {
	opened := make(chan error, 1)
	if fifo != "" {
		go func() {
			f, err := os.Open(fifo)
			if err == nil {
				err = f.Close()
			}
			opened <- err
		}()
	}
	select {
	case err := <-opened:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
