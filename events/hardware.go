package events

import "time"

// Hardware is what the driver of a device tells of the device itself, whoever uses it. What it does not tell is absent.
type Hardware struct {
	At          time.Time `json:"at"`
	Unknown     string    `json:"unknown,omitempty"`     // why nothing is known
	State       string    `json:"state,omitempty"`       // HardwareLost or HardwareResetRequired; absent: it answers
	Temperature *int      `json:"temperature,omitempty"` // degrees Celsius
	SlowdownAt  *int      `json:"slowdown_at,omitempty"` // the temperature from which on it is slowed down
	ShutdownAt  *int      `json:"shutdown_at,omitempty"` // and from which on it is shut down
	Throttling  []string  `json:"throttling,omitempty"`  // why its clocks are held down
	Busy        *int      `json:"busy,omitempty"`        // percent of the time in which something ran on it
	Power       *float64  `json:"power,omitempty"`       // watts
	PowerLimit  *float64  `json:"power_limit,omitempty"` // watts

	ECC          *ECC          `json:"ecc,omitempty"`
	RetiredPages *RetiredPages `json:"retired_pages,omitempty"`
	RemappedRows *RemappedRows `json:"remapped_rows,omitempty"`

	Own    *int64       `json:"own_memory,omitempty"` // bytes of the device's memory that the driver counts for its runner
	Others *OtherMemory `json:"other_memory,omitempty"`

	LastXid *Xid `json:"last_xid,omitempty"`
}

// States of hardware that does not answer.
const (
	HardwareLost          = "lost"           // it has fallen off the bus
	HardwareResetRequired = "reset_required" // the driver does not use it before it is reset
)

// Words of Hardware.Throttling.
const (
	ThrottlePowerCap         = "power_cap"         // at its power limit, as busy devices often are
	ThrottlePowerBrake       = "power_brake"       // the machine's power supply asks for it
	ThrottleSoftwareThermal  = "software_thermal"  // the driver keeps it below its maximum temperature
	ThrottleHardwareThermal  = "hardware_thermal"  // it is too hot
	ThrottleHardwareSlowdown = "hardware_slowdown" // by one of the two before, or the reason is not known
)

// ECC is what a device's memory tells of errors in it. The driver counts some since it was loaded, and all of the
// device's life.
type ECC struct {
	Enabled           bool  `json:"enabled"`
	Corrected         int64 `json:"corrected"`   // since the driver was loaded
	Uncorrected       int64 `json:"uncorrected"` // since the driver was loaded
	CorrectedOfLife   int64 `json:"corrected_of_life"`
	UncorrectedOfLife int64 `json:"uncorrected_of_life"`
}

// RetiredPages are parts of the memory of older devices that are not used any more.
type RetiredPages struct {
	Corrected   int  `json:"corrected"`   // for several corrected errors
	Uncorrected int  `json:"uncorrected"` // for one that was not
	Pending     bool `json:"pending"`     // more follow at the next reset
}

// RemappedRows are parts of the memory that spare ones took the place of.
type RemappedRows struct {
	Correctable   int  `json:"correctable"`
	Uncorrectable int  `json:"uncorrectable"`
	Pending       bool `json:"pending"` // more follow at the next reset
	Failed        bool `json:"failed"`  // there was no spare one
}

// OtherMemory is what processes besides its runner hold of a device.
type OtherMemory struct {
	Bytes     int64 `json:"bytes"`
	Processes int   `json:"processes"`
}

// Xid is a failure that NVIDIA's kernel driver reported of a device: https://docs.nvidia.com/deploy/xid-errors
type Xid struct {
	Number  int       `json:"number"`
	At      time.Time `json:"at"`
	Meaning string    `json:"meaning,omitempty"`
}

// Types of conditions of hardware.
const (
	ConditionDeviceLost            = "device_lost"
	ConditionResetRequired         = "reset_required"
	ConditionXid                   = "xid"
	ConditionECCUncorrected        = "ecc_uncorrected"
	ConditionRowRemapFailed        = "row_remap_failed"
	ConditionRowRemapPending       = "row_remap_pending"
	ConditionPageRetirementPending = "page_retirement_pending"
	ConditionThermalThrottling     = "thermal_throttling"
	ConditionPowerThrottling       = "power_throttling"
	ConditionMemoryOfOthers        = "memory_of_others"
)
