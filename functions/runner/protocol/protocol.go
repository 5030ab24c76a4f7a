// Package protocol is what an instance and its runner process say to each other: messages in frames of
// length-prefixed JSON over a Unix socket pair, and bulk bytes (images, latents) in a file of anonymous
// memory that both hold open. It has no native imports, so the instance stays free of native code.
//
// A conversation: the instance sends Hello and the runner answers Ready or Failed. After that the runner
// does one job (Devices, Load, Generate, Unload, Cleanup) at a time; Stage, Step and Preview tell of a job's
// progress, Usage of its memory, Hardware at any time of the device, and DeviceList, Loaded, Result, Unloaded, Cleaned or Failed ends it. Cancel asks a running job to end early, it then
// still ends with one of its answers. Shutdown, or the end of the socket, ends the runner.
package protocol

import (
	"errors"
	"fmt"

	"github.com/prometheus/procfs"

	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/model"
)

// Version is the version of the protocol, exchanged in Hello and Ready. Both sides come from one binary, so
// a difference is a mistake of deployment and ends the conversation.
const Version = 1

// The file descriptors a runner process inherits.
const (
	SocketFD = 3 // its end of the socket pair
	BulkFD   = 4 // the memory file
)

// NoopModel is the name of the built-in model that makes a plain picture without native code, served only
// with Hello.ServeNoop.
const NoopModel = "noop"

// CanaryPrompt is the prompt of the small generations by which a device proves itself.
const CanaryPrompt = "a canary"

// Kind names a message on the wire.
type Kind string

// The kinds of messages.
const (
	KindHello       Kind = "hello"
	KindDevices     Kind = "devices"
	KindLoad        Kind = "load"
	KindGenerate    Kind = "generate"
	KindCancel      Kind = "cancel"
	KindUnload      Kind = "unload"
	KindCleanup     Kind = "cleanup"
	KindPreviewRead Kind = "preview_read"
	KindShutdown    Kind = "shutdown"

	KindReady      Kind = "ready"
	KindDeviceList Kind = "device_list"
	KindLoaded     Kind = "loaded"
	KindUnloaded   Kind = "unloaded"
	KindCleaned    Kind = "cleaned"
	KindStage      Kind = "stage"
	KindStep       Kind = "step"
	KindPreview    Kind = "preview"
	KindUsage      Kind = "usage"
	KindHardware   Kind = "hardware"
	KindResult     Kind = "result"
	KindFailed     Kind = "failed"
)

// Message is one of the message structs of this package, as a pointer.
type Message interface {
	kind() Kind
	// validate checks what the types alone do not say. The receiver calls it before it hands a message out.
	validate() error
}

// KindOf returns the kind of a message.
func KindOf(m Message) Kind { return m.kind() }

// newMessage returns an empty message of kind k, nil if there is no such kind.
func newMessage(k Kind) Message {
	switch k {
	case KindHello:
		return &Hello{}
	case KindDevices:
		return &Devices{}
	case KindLoad:
		return &Load{}
	case KindGenerate:
		return &Generate{}
	case KindCancel:
		return &Cancel{}
	case KindUnload:
		return &Unload{}
	case KindCleanup:
		return &Cleanup{}
	case KindPreviewRead:
		return &PreviewRead{}
	case KindShutdown:
		return &Shutdown{}
	case KindReady:
		return &Ready{}
	case KindDeviceList:
		return &DeviceList{}
	case KindLoaded:
		return &Loaded{}
	case KindUnloaded:
		return &Unloaded{}
	case KindCleaned:
		return &Cleaned{}
	case KindStage:
		return &Stage{}
	case KindStep:
		return &Step{}
	case KindPreview:
		return &Preview{}
	case KindUsage:
		return &Usage{}
	case KindHardware:
		return &Hardware{}
	case KindResult:
		return &Result{}
	case KindFailed:
		return &Failed{}
	}
	return nil
}

// Hello is the first message to a runner: everything it needs to know to start.
type Hello struct {
	Protocol          int    `json:"protocol"`
	Device            string `json:"device,omitempty"`             // as the runtime names it (CPU, GPU.0, cuda:0); empty: own no device, only list them
	Slots             int    `json:"slots,omitempty"`              // runners that share the device, this one among them; 0: 1
	Slot              int    `json:"slot"`                         // which of the device's slots to lock; AnySlot: the first free one
	RuntimeDir        string `json:"runtime_dir,omitempty"`        // where the lock files are; required with a device
	CacheDir          string `json:"cache_dir,omitempty"`          // compiled models, kernels, compile journals
	Runtime           string `json:"runtime,omitempty"`            // whose devices: RuntimeONNXRuntime, RuntimeCUDA; empty: OpenVINO
	LibraryDir        string `json:"library_dir,omitempty"`        // of OpenVINO; empty: searched for
	CUDADir           string `json:"cuda_dir,omitempty"`           // of CUDA; empty: searched for
	ONNXRuntimeDir    string `json:"onnxruntime_dir,omitempty"`    // of ONNX Runtime; empty: searched for
	TokenizersLibrary string `json:"tokenizers_library,omitempty"` // OpenVINO tokenizers; empty: beside OpenVINO
	MaxModels         int    `json:"max_models,omitempty"`         // models kept loaded; 0: 1
	Threads           int    `json:"threads,omitempty"`            // inference threads; 0: chosen by what the process may use
	Streams           int    `json:"streams,omitempty"`            // of the device; 0: 1
	GuidanceBatch     int    `json:"guidance_batch,omitempty"`     // 1: sequential guidance, 2: batched; 0: chosen by memory and measurement
	CacheCompiled     bool   `json:"cache_compiled,omitempty"`     // keep compiled networks under CacheDir
	ServeNoop         bool   `json:"serve_noop,omitempty"`         // also serve the built-in model "noop"
	CleanupEvery      int    `json:"cleanup_every,omitempty"`      // generations between forced clean-ups; 0: DefaultCleanupEvery; negative: none but those asked for
	Validate          bool   `json:"validate,omitempty"`           // look at the device before Ready; one that fails is not ready

	Properties map[string]string `json:"properties,omitempty"` // of the device, for everything that is compiled on it
	Precision  string            `json:"precision,omitempty"`  // one of tuning.Precisions; empty: f32 on the CPU, elsewhere what the device has in hardware
}

// RuntimeONNXRuntime as Hello.Runtime runs the networks on ONNX Runtime, and their tokenizers on OpenVINO.
const RuntimeONNXRuntime = "onnxruntime"

// RuntimeCUDA as Hello.Runtime is for NVIDIA's devices: ONNX Runtime runs the networks on them, OpenVINO their tokenizers
// on the CPU.
const RuntimeCUDA = "cuda"

// DefaultCleanupEvery is how many generations a runner makes between two forced clean-ups unless it is told.
const DefaultCleanupEvery = 5

// AnySlot as Hello.Slot takes the first slot of the device that no other runner has.
const AnySlot = -1

// Devices asks for the devices the runtime sees. Answer: DeviceList.
type Devices struct {
	Job      uint64 `json:"job"`
	Validate string `json:"validate,omitempty"` // validate this one and list no other
}

// Model says which model a job is about and where its folder is.
type Model struct {
	Name string `json:"name"`
	Dir  string `json:"dir,omitempty"` // empty for built-in models
}

// Load makes a model ready without generating. Answer: Loaded.
type Load struct {
	Job   uint64 `json:"job"`
	Model Model  `json:"model"`
}

// Unload frees a model; one that is not loaded is no error. Answer: Unloaded.
type Unload struct {
	Job  uint64 `json:"job"`
	Name string `json:"name"`
}

// Cleanup asks for a forced clean-up: infer requests are freed and made again, compiled shapes other than those of
// the last generation are freed, and freed host memory goes back to the system. Answer: Cleaned.
type Cleanup struct {
	Job uint64 `json:"job"`
}

// Generate makes pictures. Answer: Result.
type Generate struct {
	Job     uint64  `json:"job"`
	Model   Model   `json:"model"`
	Request Request `json:"request"`
	Latents *Array  `json:"latents,omitempty"` // initial noise, NCHW f32; nil: drawn from the seed
}

// Request is a text to image request with every default filled in.
type Request struct {
	Prompt         string  `json:"prompt"`
	NegativePrompt string  `json:"negative_prompt,omitempty"`
	Width          int     `json:"width"`
	Height         int     `json:"height"`
	Steps          int     `json:"steps"`
	GuidanceScale  float64 `json:"guidance_scale"`
	Seed           uint64  `json:"seed"`
	Scheduler      string  `json:"scheduler,omitempty"` // empty: the model's own
	Count          int     `json:"count"`
	PreviewEvery   int     `json:"preview_every,omitempty"`
	OutputLatents  bool    `json:"output_latents,omitempty"`
	// Economy asks for the same picture with less memory; Result.Degradations tells what was used of it.
	Economy model.Economy `json:"economy,omitzero"`
}

// Cancel asks the job to end early. It is no error if that job is over.
type Cancel struct {
	Job uint64 `json:"job"`
}

// PreviewRead says that the bytes of the job's last Preview have been read and may be overwritten.
type PreviewRead struct {
	Job uint64 `json:"job"`
}

// Shutdown asks the runner to free everything and to exit.
type Shutdown struct{}

// Ready answers Hello.
type Ready struct {
	Protocol   int               `json:"protocol"`
	PID        int               `json:"pid"`
	Device     string            `json:"device,omitempty"`
	DeviceName string            `json:"device_name,omitempty"` // full name as the runtime gives it
	Slot       int               `json:"slot"`
	Kernels    string            `json:"kernels,omitempty"`  // which backend the numeric kernels run on
	Versions   map[string]string `json:"versions,omitempty"` // component -> version
	Memory     Memory            `json:"memory"`
	Validation *Validation       `json:"validation,omitempty"` // with Hello.Validate

	Tuning []events.DeviceSetting `json:"tuning,omitempty"` // how the device is used, and why
}

// Validation is what looking at a device before any model is loaded found.
type Validation struct {
	Class      string            `json:"class"` // events.DeviceCPU, DeviceGPU
	Name       string            `json:"name"`
	Driver     *Driver           `json:"driver,omitempty"`     // nil: the device has none of its own
	Properties map[string]string `json:"properties,omitempty"` // it is used with
	Memory     DeviceMemory      `json:"memory"`
	Hardware   *events.Hardware  `json:"hardware,omitempty"` // nil: its driver tells nothing of it

	Tuning []events.DeviceSetting `json:"tuning,omitempty"` // how it is used, and why
	Checks []events.DeviceCheck   `json:"checks"`
	Error  *events.Error          `json:"error,omitempty"` // of the first failed check; nil: the device may be used
}

// Driver is what OpenCL or CUDA says of a GPU and of its driver.
type Driver struct {
	Version       string `json:"version"`       // "": not known
	Why           string `json:"why,omitempty"` // it is not known
	OpenCL        string `json:"opencl,omitempty"`
	CUDA          string `json:"cuda,omitempty"` // the newest version that the driver supports: "13.0"
	Vendor        string `json:"vendor,omitempty"`
	Name          string `json:"name,omitempty"` // of the device
	UUID          string `json:"uuid,omitempty"`
	PCI           string `json:"pci,omitempty"`
	MatchedBy     string `json:"matched_by,omitempty"` // how it is known to be the device that the runtime means
	Memory        int64  `json:"global_memory,omitempty"`
	MaxAllocation int64  `json:"max_allocation,omitempty"`
	Unified       bool   `json:"host_unified_memory"` // its memory is the host's
}

// DeviceMemory is the memory of a device in bytes; -1 where the driver does not tell, or where it is the host's.
type DeviceMemory struct {
	Total int64 `json:"total"`
	Used  int64 `json:"used"` // by this process; on CUDA by all
	Free  int64 `json:"free"`
	// Peak is the highest Used that was seen since the last generation began, 0: none was looked for.
	Peak int64 `json:"peak,omitempty"`
	// Shared says that the device has no memory of its own: what it uses is the host's.
	Shared bool `json:"shared,omitempty"`
}

// Device is one device the runtime sees.
type Device struct {
	Name       string            `json:"name"`
	FullName   string            `json:"full_name"`
	Properties map[string]string `json:"properties,omitempty"`
	Validation *Validation       `json:"validation,omitempty"` // if it was asked for
}

// DeviceList answers Devices.
type DeviceList struct {
	Job      uint64            `json:"job"`
	Devices  []Device          `json:"devices"`
	Versions map[string]string `json:"versions,omitempty"`
}

// Loaded answers Load.
type Loaded struct {
	Job       uint64 `json:"job"`
	Model     string `json:"model"`
	ElapsedMS int64  `json:"elapsed_ms"`
	Memory    Memory `json:"memory"`
}

// Unloaded answers Unload.
type Unloaded struct {
	Job    uint64 `json:"job"`
	Memory Memory `json:"memory"`
}

// Cleaned answers Cleanup.
type Cleaned struct {
	Job    uint64 `json:"job"`
	Before Memory `json:"memory_before"`
	After  Memory `json:"memory_after"`
}

// Stage says that a job has entered a stage: load, tokenize, text_encoder, denoise or vae_decode.
type Stage struct {
	Job  uint64 `json:"job"`
	Name string `json:"name"`
}

// Step says that denoising step Step of Steps is done; the first is 1.
type Step struct {
	Job   uint64 `json:"job"`
	Step  int    `json:"step"`
	Steps int    `json:"steps"`
}

// Preview is a coarse picture of what a job has so far. The runner sends no further preview, and leaves the
// block as it is, until PreviewRead arrives.
type Preview struct {
	Job   uint64 `json:"job"`
	Index int    `json:"index"` // which of the request's pictures
	Image Image  `json:"image"`
}

// Usage is the runner's memory while it generates, told at an interval. It is no sign of progress: a job that hangs
// goes on telling it.
type Usage struct {
	Job    uint64 `json:"job"`
	Memory Memory `json:"memory"`
}

// Hardware is what the device's driver tells of it, at an interval from Ready on, and at once with an Xid. No job has to
// run for it.
type Hardware struct {
	Hardware *events.Hardware `json:"hardware,omitempty"` // nil: not looked at, there is an Xid
	Xid      int              `json:"xid,omitempty"`      // that came just now; 0: none
}

// Result answers Generate. Its blocks hold until the next job is sent.
type Result struct {
	Job             uint64   `json:"job"`
	Images          []Image  `json:"images"`
	Latents         *Array   `json:"latents,omitempty"`
	Scheduler       string   `json:"scheduler,omitempty"`
	Precision       string   `json:"precision,omitempty"`
	PromptTruncated bool     `json:"prompt_truncated,omitempty"`
	Degradations    []string `json:"degradations,omitempty"`
	// Guidance is how guidance was done, and why; nil: there was none.
	Guidance  *events.DeviceSetting `json:"guidance,omitempty"`
	TimingsMS map[string]float64    `json:"timings_ms,omitempty"`
	Before    Memory                `json:"memory_before"`
	After     Memory                `json:"memory_after"`
}

// Failed ends a job, or answers Hello (then Job is 0), with an error.
type Failed struct {
	Job    uint64        `json:"job"`
	Error  *events.Error `json:"error"`
	Fatal  bool          `json:"fatal,omitempty"`  // this process must not be used again
	Rule   string        `json:"rule,omitempty"`   // how the error was classified: see package fault
	Class  fault.Class   `json:"class,omitempty"`  // empty: the error's code says all
	Action fault.Action  `json:"action,omitempty"` // empty with an empty class
	Memory Memory        `json:"memory"`
}

// NewFailed returns f as the answer to a job.
func NewFailed(job uint64, f fault.Fault, m Memory) *Failed {
	return &Failed{Job: job, Error: f.Err, Fatal: f.Replace, Rule: f.Rule, Class: f.Class, Action: f.Action, Memory: m}
}

// Fault is what the runner made of the failure.
func (m *Failed) Fault() fault.Fault {
	if m.Class == "" {
		f := fault.Of(m.Error)
		f.Replace = m.Fatal
		return f
	}
	return fault.Fault{Rule: m.Rule, Class: m.Class, Action: m.Action, Replace: m.Fatal, Err: m.Error}
}

// Memory is what a runner process holds, in bytes.
type Memory struct {
	RSS        int64 `json:"rss"`         // resident set now
	PeakRSS    int64 `json:"peak_rss"`    // its highest since the last generation began, where the system can tell, else since the start
	VMS        int64 `json:"vms"`         // virtual memory
	Swap       int64 `json:"swap"`        // swapped out
	Ledger     int64 `json:"ledger"`      // native bytes this program allocated and has not freed
	LedgerPeak int64 `json:"ledger_peak"` // their highest since the last generation began

	LedgerBaseline int64 `json:"ledger_baseline"` // those of them that belong to loaded models: between jobs there are no others

	Device *DeviceMemory `json:"device,omitempty"` // nil: the device has none of its own
}

// SetStatus takes what the kernel says of a process: /proc/<pid>/status.
func (m *Memory) SetStatus(s procfs.ProcStatus) {
	m.RSS, m.PeakRSS, m.VMS, m.Swap = int64(s.VmRSS), int64(s.VmHWM), int64(s.VmSize), int64(s.VmSwap) //nolint:gosec // no process has that much
}

// Block is a range of the memory file.
type Block struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
}

// Image is a picture in the memory file: HWC, 3 channels RGB, u8, no padding.
type Image struct {
	Width  int   `json:"width"`
	Height int   `json:"height"`
	Block  Block `json:"block"`
}

// Array is a tensor in the memory file: f32, little-endian, row-major.
type Array struct {
	Shape []int `json:"shape"`
	Block Block `json:"block"`
}

func (*Hello) kind() Kind       { return KindHello }
func (*Devices) kind() Kind     { return KindDevices }
func (*Load) kind() Kind        { return KindLoad }
func (*Generate) kind() Kind    { return KindGenerate }
func (*Cancel) kind() Kind      { return KindCancel }
func (*Unload) kind() Kind      { return KindUnload }
func (*Cleanup) kind() Kind     { return KindCleanup }
func (*PreviewRead) kind() Kind { return KindPreviewRead }
func (*Shutdown) kind() Kind    { return KindShutdown }
func (*Ready) kind() Kind       { return KindReady }
func (*DeviceList) kind() Kind  { return KindDeviceList }
func (*Loaded) kind() Kind      { return KindLoaded }
func (*Unloaded) kind() Kind    { return KindUnloaded }
func (*Cleaned) kind() Kind     { return KindCleaned }
func (*Stage) kind() Kind       { return KindStage }
func (*Step) kind() Kind        { return KindStep }
func (*Preview) kind() Kind     { return KindPreview }
func (*Usage) kind() Kind       { return KindUsage }
func (*Hardware) kind() Kind    { return KindHardware }
func (*Result) kind() Kind      { return KindResult }
func (*Failed) kind() Kind      { return KindFailed }

func (m *Hello) validate() error {
	if m.Device != "" && m.RuntimeDir == "" {
		return errors.New("runtime_dir is missing: a device needs a folder for its lock file")
	}
	if m.Slot < AnySlot {
		return fmt.Errorf("slot %d: expected %d or more", m.Slot, AnySlot)
	}
	return nil
}

func (m *Devices) validate() error     { return nil }
func (m *Load) validate() error        { return m.Model.validate() }
func (m *Cancel) validate() error      { return nil }
func (m *Unload) validate() error      { return Model{Name: m.Name}.validate() }
func (m *Cleanup) validate() error     { return nil }
func (m *Cleaned) validate() error     { return nil }
func (m *PreviewRead) validate() error { return nil }
func (m *Shutdown) validate() error    { return nil }
func (m *Ready) validate() error       { return nil }
func (m *DeviceList) validate() error  { return nil }
func (m *Loaded) validate() error      { return nil }
func (m *Unloaded) validate() error    { return nil }
func (m *Usage) validate() error       { return nil }

func (m *Hardware) validate() error {
	if m.Hardware == nil && m.Xid < 1 {
		return errors.New("hardware with neither a look at it nor an Xid")
	}
	return nil
}

func (m *Generate) validate() error {
	if err := m.Model.validate(); err != nil {
		return err
	}
	r := m.Request
	if r.Width < 1 || r.Height < 1 || r.Steps < 1 || r.Count < 1 || r.PreviewEvery < 0 {
		return fmt.Errorf("request of %dx%d, %d steps, count %d, preview every %d: expected positive numbers", r.Width, r.Height, r.Steps, r.Count, r.PreviewEvery)
	}
	if r.Economy.TileSize < 0 {
		return fmt.Errorf("tile size of %d pixels: expected 0 or more", r.Economy.TileSize)
	}
	return m.Latents.validate()
}

func (m Model) validate() error {
	if m.Name == "" {
		return errors.New("model name is empty")
	}
	return nil
}

func (m *Stage) validate() error {
	if m.Name == "" {
		return errors.New("stage name is empty")
	}
	return nil
}

func (m *Step) validate() error {
	if m.Step < 1 || m.Step > m.Steps {
		return fmt.Errorf("step %d of %d: expected 1 to %d", m.Step, m.Steps, m.Steps)
	}
	return nil
}

func (m *Preview) validate() error {
	if m.Index < 0 {
		return fmt.Errorf("preview index %d is negative", m.Index)
	}
	return m.Image.validate()
}

func (m *Result) validate() error {
	for i := range m.Images {
		if err := m.Images[i].validate(); err != nil {
			return err
		}
	}
	return m.Latents.validate()
}

func (m *Failed) validate() error {
	if m.Error == nil {
		return errors.New("failed without an error")
	}
	return nil
}

// maxSide bounds the sides of images, so that products of three of them stay far from overflow.
const maxSide = 1 << 16

func (i Image) validate() error {
	if i.Width < 1 || i.Height < 1 || i.Width > maxSide || i.Height > maxSide {
		return fmt.Errorf("image of %dx%d: expected sides of 1 to %d", i.Width, i.Height, maxSide)
	}
	if want := int64(i.Width) * int64(i.Height) * 3; i.Block.Size != want {
		return fmt.Errorf("image of %dx%d has %d bytes: expected %d", i.Width, i.Height, i.Block.Size, want)
	}
	return i.Block.validate()
}

func (a *Array) validate() error {
	if a == nil {
		return nil
	}
	elements := int64(1)
	for _, n := range a.Shape {
		if n < 1 || elements > MaxBulk/int64(n) {
			return fmt.Errorf("array of shape %v: expected positive sizes and at most %d elements", a.Shape, int64(MaxBulk))
		}
		elements *= int64(n)
	}
	if a.Block.Size != 4*elements {
		return fmt.Errorf("array of shape %v has %d bytes: expected %d", a.Shape, a.Block.Size, 4*elements)
	}
	return a.Block.validate()
}

func (b Block) validate() error {
	if b.Offset < 0 || b.Size < 0 || b.Offset > MaxBulk-b.Size {
		return fmt.Errorf("block at %d of %d bytes is outside of 0 to %d", b.Offset, b.Size, int64(MaxBulk))
	}
	return nil
}
