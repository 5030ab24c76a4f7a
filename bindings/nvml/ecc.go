package nvml

import (
	"errors"

	"genfn/bindings/nvml/internal/capi"
)

// ECCMode says whether errors in memory are found and corrected.
type ECCMode struct {
	Current bool
	Pending bool // after the next restart or reset
}

// ECCMode returns the device's mode; ErrNotSupported: its memory has no ECC.
func (d *Device) ECCMode() (ECCMode, error) {
	current, pending := new(capi.EnableState), new(capi.EnableState)
	err := d.call("get ECC mode", func(a *capi.API, d capi.Device) capi.Status { return a.DeviceGetECCMode(d, current, pending) })
	return ECCMode{*current == capi.Enabled, *pending == capi.Enabled}, err
}

// MemoryError is a kind of error in memory.
type MemoryError uint32

// The kinds.
const (
	Corrected   MemoryError = 0 // NVML_MEMORY_ERROR_TYPE_CORRECTED
	Uncorrected MemoryError = 1 // NVML_MEMORY_ERROR_TYPE_UNCORRECTED
)

// Counter is since when errors are counted.
type Counter uint32

// The counters.
const (
	Volatile  Counter = 0 // NVML_VOLATILE_ECC: since the driver was loaded or the device reset
	Aggregate Counter = 1 // NVML_AGGREGATE_ECC: in the life of the device
)

// ECCErrors returns how many errors of a kind there were in all memories of the device.
func (d *Device) ECCErrors(kind MemoryError, since Counter) (int64, error) {
	out := new(uint64)
	err := d.call("count ECC errors", func(a *capi.API, d capi.Device) capi.Status {
		return a.DeviceGetTotalECCErrors(d, capi.MemoryErrorType(kind), capi.ECCCounterType(since), out)
	})
	return int64(*out), err //nolint:gosec // no device has so many
}

// RetiredPages is what devices before Ampere do about cells of memory that fail.
type RetiredPages struct {
	Corrected   int  // pages given up for several corrected errors
	Uncorrected int  // for one that was not
	Pending     bool // more are to be given up at the next reset
}

// RetiredPages returns the pages that are not used any more; ErrNotSupported from Ampere on, see RemappedRows.
func (d *Device) RetiredPages() (r RetiredPages, err error) {
	for cause, out := range map[capi.PageRetirementCause]*int{0: &r.Corrected, 1: &r.Uncorrected} {
		count := new(uint32)
		err := d.call("count retired pages", func(a *capi.API, d capi.Device) capi.Status { return a.DeviceGetRetiredPages(d, cause, count, nil) })
		if known := (*Error)(nil); errors.As(err, &known) && known.Code == int(capi.InsufficientSize) { // only the addresses have no room
			err = nil
		}
		if err != nil {
			return r, err
		}
		*out = int(*count)
	}
	pending := new(capi.EnableState)
	err = d.call("get pending page retirement", func(a *capi.API, d capi.Device) capi.Status {
		return a.DeviceGetRetiredPagesPendingStatus(d, pending)
	})
	r.Pending = *pending == capi.Enabled
	return r, err
}

// RemappedRows is what devices from Ampere on do about rows of memory that fail: spare ones take their place.
type RemappedRows struct {
	Correctable   int  // rows replaced for corrected errors
	Uncorrectable int  // for ones that were not
	Pending       bool // a row is to be replaced at the next reset, and is not used until then
	Failed        bool // a row could not be replaced: the device is to be exchanged
}

// RemappedRows returns the rows that were replaced.
func (d *Device) RemappedRows() (RemappedRows, error) {
	var n [4]uint32
	err := d.callIf("get remapped rows", func(t *capi.Table) uintptr { return t.DeviceGetRemappedRows }, func(a *capi.API, d capi.Device) capi.Status {
		return a.DeviceGetRemappedRows(d, &n[0], &n[1], &n[2], &n[3])
	})
	return RemappedRows{int(n[0]), int(n[1]), n[2] != 0, n[3] != 0}, err
}
