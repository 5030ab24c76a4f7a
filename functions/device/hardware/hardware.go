// Package hardware judges what the driver of a device tells of it: which of it is a condition that people should know,
// and which of it condemns the device. It is pure computation with an injected clock, free of native code.
//
// A device is condemned when its driver says that it cannot be used before somebody acts: it is lost or needs a reset, an
// Xid says so, errors in its memory were not corrected, or a row of it could not be replaced. It must prove itself then
// before it takes requests, and what holds it back for good keeps it from doing so. Heat, power, errors that wait for the
// next reset, and memory that others hold are warnings.
package hardware

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"genfn/events"
	"genfn/functions/device/fault"
)

// Finding is something that is not as it should be.
type Finding struct {
	Type     string // events.ConditionThermalThrottling and its like
	Level    string // events.LevelCritical condemns the device
	Message  string
	Evidence string
	fault    fault.Evidence // of a critical one
}

// Error is a critical finding as an error of the device.
func (f Finding) Error(device string) *events.Error {
	f.fault.Device = device
	if f.fault.Runtime != fault.RuntimeOwn {
		return fault.Classify(f.fault).Err
	}
	e := events.Errorf(events.CodeDeviceLost, "%s", f.Message)
	e.Device, e.DriverText = device, f.Evidence
	e.Advice = "Reset the device or restart its machine; if it comes back, exchange the device. Until then serve the model on another one."
	return e
}

// muchOfOthers is how many bytes others may hold of a device before it is a warning: less is a desktop's, or a tool's.
const muchOfOthers = 256 << 20

// Judge finds what is not as it should be. errorsBefore is how many uncorrected errors in memory are known already: more
// are a critical finding.
func Judge(h events.Hardware, errorsBefore int64) (list []Finding) {
	add := func(kind, level, message, evidence string, e fault.Evidence) {
		list = append(list, Finding{kind, level, message, evidence, e})
	}
	own := fault.Evidence{}
	switch h.State {
	case events.HardwareLost:
		add(events.ConditionDeviceLost, events.LevelCritical, "the device has fallen off the bus", "NVML_ERROR_GPU_IS_LOST", nvml("NVML_ERROR_GPU_IS_LOST"))
	case events.HardwareResetRequired:
		add(events.ConditionResetRequired, events.LevelCritical, "the device needs a reset", "NVML_ERROR_RESET_REQUIRED", nvml("NVML_ERROR_RESET_REQUIRED"))
	}
	if e := h.ECC; e != nil && e.Uncorrected > 0 {
		level := events.LevelWarning
		if e.Uncorrected > errorsBefore {
			level = events.LevelCritical
		}
		add(events.ConditionECCUncorrected, level, "errors in the device's memory were not corrected",
			fmt.Sprintf("%d uncorrected since the driver was loaded, %d in the device's life", e.Uncorrected, e.UncorrectedOfLife), own)
	}
	if r := h.RemappedRows; r != nil {
		evidence := fmt.Sprintf("%d rows replaced for uncorrectable errors, %d for correctable ones", r.Uncorrectable, r.Correctable)
		if r.Failed {
			add(events.ConditionRowRemapFailed, events.LevelCritical, "a row of the device's memory could not be replaced: the device is to be exchanged", evidence, own)
		}
		if r.Pending {
			add(events.ConditionRowRemapPending, events.LevelWarning, "a row of the device's memory is to be replaced: reset the device when it can be spared", evidence, own)
		}
	}
	if r := h.RetiredPages; r != nil && r.Pending {
		add(events.ConditionPageRetirementPending, events.LevelWarning, "pages of the device's memory are to be given up: reset the device when it can be spared",
			fmt.Sprintf("%d pages given up for uncorrected errors, %d for corrected ones", r.Uncorrected, r.Corrected), own)
	}
	if words := held(h, events.ThrottleSoftwareThermal, events.ThrottleHardwareThermal); words != "" {
		add(events.ConditionThermalThrottling, events.LevelWarning, "the device is hot and runs slower: look at its cooling", words+temperatures(h), own)
	}
	// A power cap alone is how busy devices run.
	if words := held(h, events.ThrottlePowerBrake); words != "" {
		add(events.ConditionPowerThrottling, events.LevelWarning, "the device runs slower because its power supply asks for it", words, own)
	}
	if o := h.Others; o != nil && o.Bytes >= muchOfOthers {
		add(events.ConditionMemoryOfOthers, events.LevelWarning, "other programs hold memory of the device, which is missing here",
			fmt.Sprintf("%d MiB in %d processes", o.Bytes>>20, o.Processes), own)
	}
	return list
}

func nvml(name string) fault.Evidence { return fault.Evidence{Runtime: fault.RuntimeNVML, Text: name} }

// held are those of the reasons for which the device is throttled.
func held(h events.Hardware, reasons ...string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(h.Throttling), func(r string) bool { return !slices.Contains(reasons, r) }), ", ")
}

func temperatures(h events.Hardware) string {
	if h.Temperature == nil {
		return ""
	}
	words := fmt.Sprintf(" at %d °C", *h.Temperature)
	if h.SlowdownAt != nil {
		words += fmt.Sprintf(", slowed down from %d °C on", *h.SlowdownAt)
	}
	return words
}

// linger is how long a warning stays after it was true last: clocks go up and down many times a minute.
const linger = 30 * time.Second

// Monitor follows one device. Safe for concurrent use.
type Monitor struct {
	device string
	now    func() time.Time

	mu         sync.Mutex
	last       *events.Hardware
	lastXid    *events.Xid
	errors     int64 // uncorrected errors in memory that are known; -1: it was not asked yet
	conditions map[string]*condition
}

type condition struct {
	Finding
	since, seen time.Time
}

// NewMonitor returns a monitor of a device of which nothing is known. now nil is time.Now.
func NewMonitor(device string, now func() time.Time) *Monitor {
	if now == nil {
		now = time.Now
	}
	return &Monitor{device: device, now: now, errors: -1, conditions: map[string]*condition{}}
}

// Verdict is what a look at a device means.
type Verdict struct {
	Changed   bool          // conditions came, went or changed their level
	Condemned *events.Error // the device must not be used before somebody acts; nil: it may be
	Suspect   *events.Error // nobody knows whether it may be used: it is to prove itself; nil: nothing is suspect
}

// Observe takes a look at the device. What condemns it does so once, until Proved.
func (m *Monitor) Observe(h events.Hardware) (v Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := max(m.errors, 0)
	if h.ECC != nil {
		if m.errors < 0 { // from before this program
			before = h.ECC.Uncorrected
		}
		m.errors = h.ECC.Uncorrected
	}
	now := m.now()
	found := Judge(h, before)
	for _, f := range found {
		if old := m.conditions[f.Type]; old != nil && old.Level == events.LevelCritical && f.Type == events.ConditionECCUncorrected {
			f.Level = old.Level // until it has proved itself
		}
		if m.hold(f, now) {
			v.Changed = true
			if f.Level == events.LevelCritical {
				v.Condemned = f.Error(m.device)
			}
		}
	}
	for kind, c := range m.conditions {
		stays := kind == events.ConditionXid || c.Level == events.LevelWarning && now.Sub(c.seen) < linger
		if !stays && !slices.ContainsFunc(found, func(f Finding) bool { return f.Type == kind }) {
			delete(m.conditions, kind)
			v.Changed = true
		}
	}
	m.last = &h
	return v
}

// hold notes a finding, and reports whether it is new, or of a new level. The lock is held.
func (m *Monitor) hold(f Finding, now time.Time) bool {
	old := m.conditions[f.Type]
	if old != nil && old.Level == f.Level {
		old.Finding, old.seen = f, now
		return false
	}
	m.conditions[f.Type] = &condition{f, now, now}
	return true
}

// Xid takes an Xid of the device. An application's fault is no condition of the device: the application hears of it
// by the call that failed. One that nobody knows makes the device suspect.
func (m *Monitor) Xid(number int) (v Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	e := fault.Evidence{Runtime: fault.RuntimeXid, Status: number, Text: fmt.Sprintf("Xid %d", number), Device: m.device}
	f := fault.Classify(e)
	m.lastXid = &events.Xid{Number: number, At: now.UTC(), Meaning: f.Err.Message}
	switch {
	case f.Rule == fault.Unknown:
		v.Suspect = f.Err
	case f.Action == fault.ActionOtherDevice:
		v.Changed = m.hold(Finding{events.ConditionXid, events.LevelCritical, f.Err.Message, e.Text, e}, now)
		v.Condemned = f.Err
	}
	return v
}

// Proved forgets what condemned the device: it has proved itself.
func (m *Monitor) Proved() {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.conditions, func(_ string, c *condition) bool { return c.Level == events.LevelCritical })
}

// Conditions are what is not as it should be.
func (m *Monitor) Conditions() (list []events.Condition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(m.conditions)) {
		c := m.conditions[kind]
		list = append(list, events.Condition{Type: kind, Level: c.Level, Since: c.since.UTC(), Message: c.Message, Evidence: c.Evidence})
	}
	return list
}

// Hardware is what was seen last; nil: nothing yet.
func (m *Monitor) Hardware() *events.Hardware {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil && m.lastXid == nil {
		return nil
	}
	h := events.Hardware{At: m.now().UTC()}
	if m.last != nil {
		h = *m.last
	}
	h.LastXid = m.lastXid
	return &h
}
