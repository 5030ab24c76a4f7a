// Package tuning chooses how a device is used: threads, streams, precision, batch of guidance, and the properties of the
// runtime that follow, each with the reason for people. It is pure: what the device reports goes in, a plan comes out.
//
// These details have caused bugs:
//   - A property that the plugin does not have makes every compilation fail, so only those it lists are set.
//   - OpenVINO counts cores, not the quota of a control group.
//   - OpenVINO pins the threads of every process from core 0 on: two processes with one thread each ran on the same core
//     (seen with 2026.4 in 3 of 3 runs), and with two pinned threads each on two cores an inference of the demo model's
//     UNet took 137 ms instead of 65 without pinning, and 49 with one thread each.
package tuning

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"genfn/events"
	"genfn/functions/hostcpu"
)

// Names of settings.
const (
	Threads   = "threads"
	Pinning   = "pinning"
	Streams   = "streams"
	Precision = "precision"
	Guidance  = "guidance"
	Unrolling = "loop_unrolling"
	Reuse     = "kernels_reuse"
)

// PropertyThreads is OpenVINO's property of the threads of an inference, which other runtimes can set too.
const PropertyThreads = "INFERENCE_NUM_THREADS"

// More properties of OpenVINO that are set.
const (
	propertyPinning   = "ENABLE_CPU_PINNING"
	propertyStreams   = "NUM_STREAMS"
	propertyPrecision = "INFERENCE_PRECISION_HINT"
	propertyUnrolling = "GPU_ENABLE_LOOP_UNROLLING"
	propertyReuse     = "GPU_ENABLE_KERNELS_REUSE"
)

// PrecisionAuto as Wishes.Precision is the fastest that the device lists.
const PrecisionAuto = "auto"

// Precisions are those that can be asked for.
var Precisions = []string{"f32", "f16", "bf16", PrecisionAuto}

// Device is what is known of a device and of the machine around it.
type Device struct {
	Name         string        // OpenVINO's, such as GPU.0
	Supported    []string      // properties it has
	Capabilities []string      // OPTIMIZATION_CAPABILITIES: FP32, BF16, ...; nil: not known
	Cores        hostcpu.Cores // of the machine, for a CPU
	Slots        int           // runner processes that share it; 0: 1
	Virtual      bool          // a virtual GPU
}

// Wishes are what an operator asks for. Zero values leave it to Choose.
type Wishes struct {
	Threads, Streams int
	Precision        string // one of Precisions
	GuidanceBatch    int    // 1: two passes a step with a batch of one; 2: one pass with a batch of two
	Properties       map[string]string
}

// Plan is how a device is used.
type Plan struct {
	Properties map[string]string // to compile with
	Settings   []events.DeviceSetting
}

// Choose makes the plan. A property that the device does not have is an invalid_request error with those it has; the
// plan then holds everything else.
func Choose(d Device, w Wishes) (Plan, error) {
	p := &plan{device: d, wishes: w, Plan: Plan{Properties: map[string]string{}}}
	if events.ClassOf(d.Name) == events.DeviceGPU {
		p.gpu()
	} else {
		p.cpu()
	}
	p.precision()
	p.guidance()
	err := p.given()
	return p.Plan, err
}

type plan struct {
	Plan
	device Device
	wishes Wishes
}

func (p *plan) say(name, value, reason string, args ...any) {
	p.Settings = append(p.Settings, events.DeviceSetting{Name: name, Value: value, Reason: fmt.Sprintf(reason, args...)})
}

// set sets a property if the device has it.
func (p *plan) set(key, value string) bool {
	if !slices.Contains(p.device.Supported, key) {
		return false
	}
	p.Properties[key] = value
	return true
}

func (p *plan) cpu() {
	p.threads()
	if slots := p.device.Slots; slots > 1 && p.set(propertyPinning, "NO") {
		p.say(Pinning, "no", "%d runners, each of which would pin its threads to the same cores", slots)
	}
	p.streams()
}

// threads sets no property where the runtime's own choice is the right one: the physical cores it may use.
func (p *plan) threads() {
	c, slots := p.device.Cores, max(p.device.Slots, 1)
	if n := p.wishes.Threads; n > 0 {
		p.set(PropertyThreads, strconv.Itoa(n))
		p.say(Threads, strconv.Itoa(n), "asked for")
		return
	}
	if c.Physical == 0 {
		p.say(Threads, "auto", "the runtime's choice: it is not known which cores this process may use")
		return
	}
	n, why := c.Whole(), cores(c)
	share := max(1, n/slots)
	if slots > 1 {
		why = fmt.Sprintf("%s, shared by %d runners", why, slots)
	}
	if share != c.Physical {
		p.set(PropertyThreads, strconv.Itoa(share))
	}
	p.say(Threads, strconv.Itoa(share), "%s", why)
}

// cores says which limit counts.
func cores(c hostcpu.Cores) string {
	switch {
	case c.Quota > 0 && int(c.Quota) < c.Physical:
		return fmt.Sprintf("a quota of %s processors in the control group, of %s", strconv.FormatFloat(c.Quota, 'g', 4, 64), count(c.Physical, "core"))
	case c.Logical < c.Machine:
		return fmt.Sprintf("%s allowed by affinity or cpuset, of %s of the machine", count(c.Physical, "core"), count(c.Machine, "logical processor"))
	case c.Physical < c.Logical:
		return fmt.Sprintf("%s with %d logical processors, which share the arithmetic units", count(c.Physical, "core"), c.Logical)
	}
	return count(c.Physical, "core")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (p *plan) gpu() {
	if p.set(propertyUnrolling, "NO") {
		p.say(Unrolling, "no", "fewer kernels take less memory")
	}
	if p.set(propertyReuse, "YES") {
		p.say(Reuse, "yes", "one kernel for equal operations takes less memory")
	} else {
		p.say(Reuse, "no", "this release of the plugin does not have %s", propertyReuse)
	}
	p.streams()
}

// streams is what the hint LATENCY makes of it too; said explicitly it holds for every release.
func (p *plan) streams() {
	n, why := max(p.wishes.Streams, 1), "a runner has one request at a time, and each stream takes memory of its own"
	if p.wishes.Streams > 0 {
		why = "asked for"
	}
	if p.wishes.Streams > 0 || events.ClassOf(p.device.Name) == events.DeviceGPU {
		p.set(propertyStreams, strconv.Itoa(n))
	}
	p.say(Streams, strconv.Itoa(n), "%s", why)
}

// can reports whether the device lists a precision.
func (p *plan) can(precision string) bool {
	name := map[string]string{"f32": "FP32", "f16": "FP16", "bf16": "BF16"}[precision]
	return slices.Contains(p.device.Capabilities, name)
}

func (p *plan) precision() {
	isGPU, capabilities := events.ClassOf(p.device.Name) == events.DeviceGPU, strings.Join(p.device.Capabilities, " ")
	var value, why string
	switch asked := p.wishes.Precision; {
	case asked == PrecisionAuto && !isGPU && p.can("bf16"):
		value, why = "bf16", "the processor has it in hardware (AMX or AVX512_BF16), and the fastest was asked for"
	case asked == PrecisionAuto && !isGPU:
		value, why = "f32", "the fastest was asked for, and the processor lists no BF16 among "+capabilities
	case isGPU && p.device.Virtual && (asked == "" || asked == "f32"):
		value, why = "f32", "the virtual GPU computes right in f32 only"
	case asked != "" && asked != PrecisionAuto && (isGPU || asked != "f32"):
		value, why = asked, "asked for"
		if len(p.device.Capabilities) > 0 && !p.can(asked) {
			why += "; the device does not list it among " + capabilities
		}
	case isGPU && p.can("f16"):
		value, why = "f16", "the device has it in hardware (FP16)"
	case isGPU && len(p.device.Capabilities) > 0:
		value, why = "f32", "the device lists no FP16 among "+capabilities
	case isGPU:
		p.say(Precision, "auto", "the runtime's choice: the device does not tell what it has")
		return
	case p.can("bf16"):
		value, why = "f32", "the same picture on every processor; this one has BF16 in hardware, --precision auto takes it"
	default:
		value, why = "f32", "the same picture on every processor"
	}
	p.set(propertyPrecision, value)
	p.say(Precision, value, "%s", why)
}

func (p *plan) guidance() {
	switch p.wishes.GuidanceBatch {
	case 1:
		p.say(Guidance, "sequential", "asked for")
	case 2:
		p.say(Guidance, "batched", "asked for")
	default:
		p.say(Guidance, "auto", "batched until memory or measured steps say otherwise, for each model and size")
	}
}

// settingOf are the settings that a property overrides.
var settingOf = map[string]string{
	PropertyThreads: Threads, propertyPinning: Pinning, propertyStreams: Streams, propertyPrecision: Precision, propertyUnrolling: Unrolling, propertyReuse: Reuse,
}

// given takes over the properties that were asked for by name: they win.
func (p *plan) given() error {
	for _, key := range slices.Sorted(maps.Keys(p.wishes.Properties)) {
		value := p.wishes.Properties[key]
		if !p.set(key, value) {
			return refuse(p.device, key)
		}
		setting := events.DeviceSetting{Name: settingOf[key], Value: value, Reason: "asked for by the property " + key}
		if setting.Name == "" {
			setting.Name, setting.Reason = strings.ToLower(key), "asked for"
		}
		p.Settings = append(slices.DeleteFunc(p.Settings, func(s events.DeviceSetting) bool { return s.Name == setting.Name }), setting)
	}
	return nil
}

// instead lists properties that people ask for and OpenVINO never had, and what does what they hoped for.
var instead = map[string]string{
	"GPU_MAX_BATCH_SIZE": "sequential guidance (--guidance-batch 1): the network then runs with a batch of one. It is used by itself when memory is short.",
	"GPU_MEMORY_REUSE":   "GPU_ENABLE_KERNELS_REUSE=YES, which is set by itself where the plugin has it. Buffers are reused by the plugin's own pool.",
}

// refuse is the error for a property that the device does not have.
func refuse(d Device, key string) *events.Error {
	e := events.Errorf(events.CodeInvalidRequest, "the device %s has no property %q", d.Name, key)
	e.Field, e.Expected, e.Device = "property", "one of "+strings.Join(slices.Sorted(slices.Values(d.Supported)), ", "), d.Name
	e.Advice = "Leave it out, or take one of those the device has (genfn devices --properties)."
	if other := instead[key]; other != "" {
		e.Message, e.Advice = e.Message+": no release of OpenVINO has it", "What does the same is "+other
	}
	return e
}
