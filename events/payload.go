package events

import "time"

// Values of ImageGenerate.Fallback: what may happen when the device fails.
const (
	FallbackNever    = "never"    // only devices of the same class
	FallbackAllowed  = "allowed"  // any device; the default
	FallbackDeadline = "deadline" // another class only if it will finish in time
)

// Values of ImageGenerate.Device that are no device's name: which class may work on the request.
const (
	DeviceAuto = "auto" // any class; the default
	DeviceCPU  = "cpu"
	DeviceGPU  = "gpu"
)

// Values of ImageGenerate.Degrade: what may be given up when memory runs out.
const (
	DegradeNever   = "never"   // the picture is as asked for, or none; the default
	DegradeAllowed = "allowed" // a smaller size or fewer pictures rather than none
)

// Values of ImageGenerate.Format.
const (
	FormatPNG  = "png" // the default
	FormatJPEG = "jpeg"
	FormatWebP = "webp"
)

// Values of Artifact.Role.
const (
	RoleImage    = "image"
	RoleLatents  = "latents"
	RoleMetadata = "metadata"
)

// Values of Succeeded.Degradations: what was done differently to make it work. Only the last two, which a request
// must allow, change the picture.
const (
	DegradationDynamicShapes      = "dynamic_shapes"      // a network ran with open dimensions: its static form does not compile
	DegradationSequentialGuidance = "sequential_guidance" // two passes of the UNet with a batch of one in place of one of two
	DegradationTiledVAE           = "tiled_vae"           // latents decoded in overlapping tiles
	DegradationModelOffload       = "model_offload"       // each network freed before the next was loaded
	DegradationFewerPictures      = "fewer_pictures"      // one in place of several
	DegradationSmallerSize        = "smaller_size"        // half the width and height
)

// Values of Progress.Stage.
const (
	StageQueue       = "queue"
	StageLoad        = "load"
	StageTokenize    = "tokenize"
	StageTextEncoder = "text_encoder"
	StageDenoise     = "denoise"
	StageVAEDecode   = "vae_decode"
	StageEncode      = "encode"
	StageStore       = "store"
)

// MaxSeed is the largest seed: the largest integer every JSON reader keeps exactly.
const MaxSeed = 1<<53 - 1

// ImageGenerate is the data of a TypeImageGenerate event. A nil or empty field
// takes the model's default. The schema image.generate.v1 states the limits.
type ImageGenerate struct {
	Model          string   `json:"model"`
	Prompt         string   `json:"prompt"`
	NegativePrompt string   `json:"negative_prompt,omitempty"`
	Width          *int     `json:"width,omitempty"`  // pixels
	Height         *int     `json:"height,omitempty"` // pixels
	Steps          *int     `json:"steps,omitempty"`
	GuidanceScale  *float64 `json:"guidance_scale,omitempty"` // 1 or less: no guidance
	Seed           *uint64  `json:"seed,omitempty"`           // at most MaxSeed; nil: the instance draws one
	Scheduler      string   `json:"scheduler,omitempty"`
	Count          *int     `json:"count,omitempty"`         // nil: 1
	Format         string   `json:"format,omitempty"`        // "": FormatPNG
	PreviewEvery   int      `json:"preview_every,omitempty"` // steps between previews; 0: none
	Latents        *Ref     `json:"latents,omitempty"`       // NPY file, float32, NCHW
	OutputLatents  bool     `json:"output_latents,omitempty"`
	Device         string   `json:"device,omitempty"`   // "": DeviceAuto
	Fallback       string   `json:"fallback,omitempty"` // "": FallbackAllowed
	Degrade        string   `json:"degrade,omitempty"`  // "": DegradeNever
}

// Cancel is the data of a TypeCancel event.
type Cancel struct {
	Reason string `json:"reason,omitempty"` // for people; at most 1000 characters
}

// Ref points to an object in the object store.
type Ref struct {
	Bucket    string `json:"bucket"`
	Object    string `json:"object"`
	SHA256    string `json:"sha256"` // of the bytes, lower-case hex
	Size      int64  `json:"size"`   // bytes
	MediaType string `json:"media_type"`
}

// Accepted is the data of a TypeAccepted event.
type Accepted struct {
	Instance string `json:"instance"`
	Attempt  int    `json:"attempt"`
}

// Started is the data of a TypeStarted event.
type Started struct {
	Instance string `json:"instance"`
	Device   string `json:"device"`
	Attempt  int    `json:"attempt"`
	Model    string `json:"model"`

	Process *Process `json:"process,omitempty"` // that works on it
}

// Process is a runner process: what owns a device and makes the pictures.
type Process struct {
	PID         int       `json:"pid"` // on the instance's machine
	StartedAt   time.Time `json:"started_at"`
	Generations int64     `json:"generations"` // it has made so far
}

// Progress is the data of a TypeProgress event.
type Progress struct {
	Stage     string   `json:"stage"`
	Step      int      `json:"step,omitempty"`  // finished steps of the stage, from 1
	Steps     int      `json:"steps,omitempty"` // steps of the stage; 0: the stage has none
	ElapsedMS int64    `json:"elapsed_ms"`      // since the attempt began
	EtaMS     int64    `json:"eta_ms,omitempty"`
	Instance  string   `json:"instance,omitempty"`
	Device    string   `json:"device,omitempty"`
	Preview   *Preview `json:"preview,omitempty"`
	Notice    *Notice  `json:"notice,omitempty"`
}

// Values of Notice.Code: what an attempt does about trouble.
const (
	NoticeFault         = "fault"          // a failure, classified, in Error
	NoticeRetry         = "retry"          // another try on the same device
	NoticeFreshRunner   = "fresh_runner"   // the process that owned the device is replaced
	NoticeCanary        = "canary"         // the device proves itself by a small generation, or failed to
	NoticeFallback      = "fallback"       // another class of device takes over
	NoticeDegraded      = "degraded"       // the next try needs less memory; Memory tells before and after
	NoticeMemoryWarning = "memory_warning" // memory is about to run out
	NoticeUnloaded      = "unloaded"       // what was idle is unloaded to make room; Memory tells before and after
)

// Notice tells people and programs what an attempt does about trouble.
type Notice struct {
	Code        string  `json:"code"`
	Message     string  `json:"message"`
	Error       *Error  `json:"error,omitempty"`
	PredictedMS int64   `json:"predicted_ms,omitempty"` // time the other device is expected to take
	Memory      *Memory `json:"memory,omitempty"`
	// PredictedBytes is what a try is expected to need of the device's memory, and AvailableBytes what there is for
	// it; 0: not known.
	PredictedBytes int64 `json:"predicted_bytes,omitempty"`
	AvailableBytes int64 `json:"available_bytes,omitempty"`
}

// Preview is an early look at one image of the batch, in the event (Data) or in
// the object store (Ref).
type Preview struct {
	MediaType string `json:"media_type"`
	Data      []byte `json:"data,omitempty"` // base64 in JSON
	Ref       *Ref   `json:"ref,omitempty"`
	Index     int    `json:"index"` // which image, from 0
}

// Succeeded is the data of a TypeSucceeded event: the results and everything
// needed to repeat them.
type Succeeded struct {
	Artifacts    []Artifact         `json:"artifacts"`
	Request      ImageGenerate      `json:"request"` // as run: defaults filled in, seed drawn
	Model        ModelRef           `json:"model"`
	Device       string             `json:"device"`
	DeviceName   string             `json:"device_name,omitempty"`
	Precision    string             `json:"precision,omitempty"` // f32, f16, bf16
	Versions     map[string]string  `json:"versions,omitempty"`
	Degradations []string           `json:"degradations,omitempty"`
	Warnings     []Warning          `json:"warnings,omitempty"`
	TimingsMS    map[string]float64 `json:"timings_ms,omitempty"` // by stage
	Memory       *Memory            `json:"memory,omitempty"`
	Process      *Process           `json:"process,omitempty"` // that made it
	Attempts     []Attempt          `json:"attempts,omitempty"`
}

// Artifact is one file of the result.
type Artifact struct {
	Name   string  `json:"name"`
	Role   string  `json:"role"`
	Index  int     `json:"index"`            // which image, from 0
	Width  int     `json:"width,omitempty"`  // pixels
	Height int     `json:"height,omitempty"` // pixels
	Seed   *uint64 `json:"seed,omitempty"`
	Ref    Ref     `json:"ref"`
}

// ModelRef names a model and the bytes it consists of.
type ModelRef struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256,omitempty"`
}

// WarningShortened is the Warning.Code of an answer whose texts had to be cut.
const WarningShortened = "answer_shortened"

// Warning says what did not go as asked although the request succeeded.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Memory is what an attempt did to memory, in bytes. Ledger counts the native
// memory this program allocated; afterwards it is LedgerBaseline, what the loaded
// models hold by right, unless something leaks. RSS is the resident memory of the runner
// process; Device is the driver's count, absent where the driver gives none. Peaks of what neither counts itself are
// the highest of Samples taken while it ran.
type Memory struct {
	LedgerBefore int64 `json:"ledger_before"`
	LedgerPeak   int64 `json:"ledger_peak"`
	LedgerAfter  int64 `json:"ledger_after"`

	LedgerBaseline int64 `json:"ledger_baseline,omitempty"`

	RSSBefore    int64  `json:"rss_before,omitempty"`
	RSSPeak      int64  `json:"rss_peak,omitempty"`
	RSSAfter     int64  `json:"rss_after,omitempty"`
	DeviceBefore *int64 `json:"device_before,omitempty"`
	DevicePeak   *int64 `json:"device_peak,omitempty"`
	DeviceAfter  *int64 `json:"device_after,omitempty"`
	DeviceTotal  *int64 `json:"device_total,omitempty"`

	VMSPeak    int64   `json:"vms_peak,omitempty"`         // virtual memory of the runner process
	SwapPeak   int64   `json:"swap_peak,omitempty"`        // of the runner process
	Percent    float64 `json:"percent,omitempty"`          // RSSPeak of HostTotal
	HostTotal  int64   `json:"host_total,omitempty"`       // what machine and control group allow
	HostFree   int64   `json:"host_free_least,omitempty"`  // the least that was free while it ran
	SystemSwap int64   `json:"system_swap_peak,omitempty"` // in use on the machine
	Samples    int     `json:"samples,omitempty"`
}

// States of a device, as its instance decides them.
const (
	StateValidating  = "validating"  // being looked at before any model is loaded
	StateReady       = "ready"       // takes requests
	StateSuspect     = "suspect"     // a fault was seen: takes none until it has proved itself
	StateShed        = "shed"        // failed to prove itself, or failed again: others do the work
	StateProbation   = "probation"   // proving itself after it was shed
	StateQuarantined = "quarantined" // failed so often that it is left alone for long, or stuck in its driver
)

// ConditionChanged is the data of a TypeConditionChanged event, sent when the
// state of a device changes.
type ConditionChanged DeviceStatus

// Heartbeat is the data of a TypeHeartbeat event, sent at an interval.
type Heartbeat DeviceStatus

// DeviceStatus is a device, the instance that owns it, and how they are.
type DeviceStatus struct {
	Instance   string            `json:"instance"`
	Device     string            `json:"device"`
	DeviceName string            `json:"device_name,omitempty"`
	Class      string            `json:"class"` // DeviceCPU, DeviceGPU
	State      string            `json:"state"`
	Previous   string            `json:"previous_state,omitempty"`
	Since      time.Time         `json:"since"`             // of the state
	Reason     string            `json:"reason"`            // one word
	Message    string            `json:"message,omitempty"` // the reason for people
	NextTry    *time.Time        `json:"next_try,omitempty"`
	Versions   map[string]string `json:"versions,omitempty"` // of driver and runtime
	Properties map[string]string `json:"properties,omitempty"`
	Tuning     []DeviceSetting   `json:"tuning,omitempty"` // how it is used, and why
	Checks     []DeviceCheck     `json:"checks,omitempty"` // of the last validation
	Models     []string          `json:"models,omitempty"`
	Slots      int               `json:"slots"`
	Busy       int               `json:"busy"` // slots with a request

	// MinPending is how many requests of a model must wait in the lane of any device for this CPU to take one, by model;
	// of models that are not in it: one.
	MinPending map[string]int `json:"min_pending,omitempty"`
	Leaving    bool           `json:"leaving,omitempty"` // the instance ends and takes no more requests

	GenerationCount int64         `json:"generation_count"` // since the instance started
	FaultCount      int64         `json:"fault_count"`
	Kind            string        `json:"kind,omitempty"`       // what devices have in common that share learned times and memory
	Conditions      []Condition   `json:"conditions,omitempty"` // what is not as it should be; the state tells whether the device takes requests nevertheless
	Hardware        *Hardware     `json:"hardware,omitempty"`   // what its driver tells of it; absent: nothing was asked yet, or it has none that tells
	GPUFailed       bool          `json:"gpu_failed"`           // a GPU that takes no requests because of faults
	MemoryInfo      *MemoryInfo   `json:"memory_info,omitempty"`
	LastFaults      []DeviceFault `json:"last_faults,omitempty"` // the newest last
	LastCanary      *LastCanary   `json:"last_canary,omitempty"` // absent: there was none

	Incarnation string     `json:"incarnation"` // drawn when the instance starts: tells one that was started again
	Sequence    uint64     `json:"sequence"`    // of what this incarnation says of itself, from 1
	InFlight    []InFlight `json:"in_flight,omitempty"`
	Obeys       *Obeyed    `json:"obeys,omitempty"` // absent: nothing was decided, as far as the instance has heard
}

// ConditionMemoryPressure is a Condition.Type: the memory of the device or its host is nearly used up.
const ConditionMemoryPressure = "memory_pressure"

// Levels of conditions.
const (
	LevelWarning  = "warning"
	LevelCritical = "critical"
)

// Condition is something about a device that its user should know.
type Condition struct {
	Type    string    `json:"type"`
	Level   string    `json:"level"` // LevelWarning or LevelCritical
	Since   time.Time `json:"since"` // of the level
	Message string    `json:"message"`

	Evidence string `json:"evidence,omitempty"` // what was seen, in the words or numbers of whoever told it
}

// DeviceSetting is one choice of how a device is used.
type DeviceSetting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Reason string `json:"reason"` // for people
}

// DeviceCheck is one check of a device's validation.
type DeviceCheck struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// DeviceFault is a fault that a device had.
type DeviceFault struct {
	At      time.Time `json:"at"`
	Request string    `json:"request,omitempty"`
	Cause   string    `json:"cause"`
	Error   *Error    `json:"error"`
}

// MemoryInfo is the memory of the processes that own a device, and the device's.
type MemoryInfo struct {
	RSSMB   float64 `json:"rss_mb"`  // resident memory, MiB
	VMSMB   float64 `json:"vms_mb"`  // virtual memory, MiB
	SwapMB  float64 `json:"swap_mb"` // swapped out, MiB
	Percent float64 `json:"percent"` // resident memory of what this machine or its cgroup allows
	Ledger  int64   `json:"ledger"`  // native bytes the program allocated

	DeviceTotal *int64 `json:"device_total,omitempty"` // bytes; absent: the driver does not tell
	DeviceUsed  *int64 `json:"device_used,omitempty"`  // by us, bytes
	DeviceFree  *int64 `json:"device_free,omitempty"`  // bytes
	// DeviceUsable is what is believed usable of DeviceTotal since memory ran out, bytes; absent: all.
	DeviceUsable *int64 `json:"device_usable,omitempty"`

	HostTotal       int64 `json:"host_total,omitempty"` // what machine and control group allow, bytes
	HostFree        int64 `json:"host_free,omitempty"`  // bytes
	SystemSwapTotal int64 `json:"system_swap_total,omitempty"`
	SystemSwapUsed  int64 `json:"system_swap_used,omitempty"`

	Processes []ProcessMemory `json:"processes,omitempty"` // those that own the device, each by itself
	Instance  *InstanceMemory `json:"instance,omitempty"`  // the process that supervises them
}

// ProcessMemory is the memory of one runner process, in bytes. Ledger and device are as they were after its last
// generation: between generations the ledger is LedgerBaseline, what the loaded models hold by right.
type ProcessMemory struct {
	Process        Process `json:"process"`
	RSS            int64   `json:"rss"`
	Swap           int64   `json:"swap"`
	Ledger         int64   `json:"ledger"`
	LedgerBaseline int64   `json:"ledger_baseline"`
	DeviceUsed     *int64  `json:"device_used,omitempty"` // absent: the device has no memory of its own
}

// InstanceMemory is what the process of an instance holds. Several instances, and a broker, may share one.
type InstanceMemory struct {
	PID        int   `json:"pid"`
	RSS        int64 `json:"rss"` // bytes
	OpenFiles  int   `json:"open_files"`
	Goroutines int   `json:"goroutines"`
}

// Attempt is one try at a request.
type Attempt struct {
	Number    int       `json:"number"` // from 1
	Instance  string    `json:"instance"`
	Device    string    `json:"device,omitempty"`
	Cause     string    `json:"cause,omitempty"` // why the attempt before this one ended; "" for the first
	Error     *Error    `json:"error,omitempty"` // how this attempt ended, if badly
	StartedAt time.Time `json:"started_at"`
}

// Failed is the data of a TypeFailed event.
type Failed struct {
	Error    *Error    `json:"error"`
	Attempts []Attempt `json:"attempts,omitempty"`
}

// Cancelled is the data of a TypeCancelled event.
type Cancelled struct {
	Reason   string    `json:"reason,omitempty"`
	Stage    string    `json:"stage,omitempty"` // where the work stopped
	Attempts []Attempt `json:"attempts,omitempty"`
}

// Expired is the data of a TypeExpired event.
type Expired struct {
	ExpiryTime time.Time `json:"expiry_time"`
	FoundAt    time.Time `json:"found_at"` // when an instance found the request expired
}
