package nvml

import (
	"errors"
	"fmt"
	"math"

	"genfn/bindings/nvml/internal/capi"
)

// Device is a device of the driver. It is good until its Library is closed.
type Device struct {
	library *Library
	handle  capi.Device
}

// device finds a device.
func (l *Library) device(op string, find func(a *capi.API, out *capi.Device) capi.Status) (*Device, error) {
	handle := new(capi.Device)
	if err := l.call(op, always, func(a *capi.API) capi.Status { return find(a, handle) }); err != nil {
		return nil, err
	}
	return &Device{l, *handle}, nil
}

// DeviceByIndex returns the n-th device of DeviceCount. The order is that of the PCI bus, not CUDA's.
func (l *Library) DeviceByIndex(n int) (*Device, error) {
	if n < 0 || n > math.MaxInt32 {
		return nil, fmt.Errorf("nvml: device %d: expected 0 or more", n)
	}
	return l.device(fmt.Sprintf("find device %d", n), func(a *capi.API, out *capi.Device) capi.Status {
		return a.DeviceGetHandleByIndexV2(uint32(n), out)
	})
}

// DeviceByUUID returns the device with a UUID as NVML writes it: "GPU-1af180de-73c3-a443-6098-98b25db3a396".
func (l *Library) DeviceByUUID(uuid string) (*Device, error) {
	name := append([]byte(uuid), 0)
	return l.device("find device "+uuid, func(a *capi.API, out *capi.Device) capi.Status { return a.DeviceGetHandleByUUID(&name[0], out) })
}

// DeviceByPCI returns the device with a PCI bus id as CUDA and the system write it: "0000:06:00.0".
func (l *Library) DeviceByPCI(busID string) (*Device, error) {
	name := append([]byte(busID), 0)
	return l.device("find device at "+busID, func(a *capi.API, out *capi.Device) capi.Status { return a.DeviceGetHandleByPCIBusIDV2(&name[0], out) })
}

// call makes a call about the device.
func (d *Device) call(op string, f func(a *capi.API, d capi.Device) capi.Status) error {
	return d.callIf(op, func(*capi.Table) uintptr { return always }, f)
}

// callIf is call of an optional symbol.
func (d *Device) callIf(op string, symbol func(*capi.Table) uintptr, f func(a *capi.API, d capi.Device) capi.Status) error {
	if d == nil || d.library == nil {
		return closedError(op)
	}
	return d.library.call(op, symbol(&d.library.api.Table), func(a *capi.API) capi.Status { return f(a, d.handle) })
}

// number makes a call that fills in a number.
func (d *Device) number(op string, f func(a *capi.API, d capi.Device, out *uint32) capi.Status) (int, error) {
	out := new(uint32)
	err := d.call(op, func(a *capi.API, d capi.Device) capi.Status { return f(a, d, out) })
	return int(*out), err
}

// Name returns the device's name: "NVIDIA H200".
func (d *Device) Name() (string, error) {
	return text(func(out *byte, room uint32) error {
		return d.call("get name", func(a *capi.API, d capi.Device) capi.Status { return a.DeviceGetName(d, out, room) })
	})
}

// UUID returns the device's UUID as NVML writes it.
func (d *Device) UUID() (string, error) {
	return text(func(out *byte, room uint32) error {
		return d.call("get UUID", func(a *capi.API, d capi.Device) capi.Status { return a.DeviceGetUUID(d, out, room) })
	})
}

// Memory is the memory of a device in bytes.
type Memory struct {
	Total    int64 // of which the other three are parts
	Reserved int64 // by driver and firmware
	Used     int64 // by processes
	Free     int64
}

// Memory returns the device's memory and how it is used by all processes.
func (d *Device) Memory() (Memory, error) {
	m := &capi.Memory{Version: capi.MemoryVersion}
	err := d.callIf("get memory", func(t *capi.Table) uintptr { return t.DeviceGetMemoryInfoV2 }, func(a *capi.API, d capi.Device) capi.Status {
		return a.DeviceGetMemoryInfoV2(d, m)
	})
	if err != nil {
		return Memory{}, err
	}
	return Memory{Total: bytesOf(m.Total), Reserved: bytesOf(m.Reserved), Used: bytesOf(m.Used), Free: bytesOf(m.Free)}, nil
}

// Unknown is a count of bytes that the driver does not tell.
const Unknown = -1

// bytesOf is a count of bytes; NVML_VALUE_NOT_AVAILABLE, which is -1, is Unknown.
func bytesOf(n uint64) int64 { return int64(n) } //nolint:gosec // no device has more, and -1 is meant

// Process is a process that computes on a device.
type Process struct {
	PID    int
	Memory int64 // bytes of the device's memory, Unknown if the driver does not tell
}

// Processes lists the processes that have a context on the device.
func (d *Device) Processes() ([]Process, error) {
	for room := uint32(16); ; room *= 2 {
		count, infos := new(uint32), make([]capi.ProcessInfo, room)
		*count = room
		err := d.callIf("list processes", func(t *capi.Table) uintptr { return t.DeviceGetComputeRunningProcessesV3 }, func(a *capi.API, d capi.Device) capi.Status {
			return a.DeviceGetComputeRunningProcessesV3(d, count, &infos[0])
		})
		if known := (*Error)(nil); errors.As(err, &known) && known.Code == int(capi.InsufficientSize) && room < maxProcesses {
			continue
		}
		if err != nil {
			return nil, err
		}
		list := make([]Process, 0, *count)
		for _, p := range infos[:min(*count, room)] {
			list = append(list, Process{int(p.PID), bytesOf(p.UsedGPUMemory)})
		}
		return list, nil
	}
}

// maxProcesses bounds the list: there are no more contexts on a device.
const maxProcesses = 1 << 14

// Temperature returns the temperature of the device's die in degrees Celsius.
func (d *Device) Temperature() (int, error) {
	return d.number("get temperature", func(a *capi.API, d capi.Device, out *uint32) capi.Status {
		return a.DeviceGetTemperature(d, capi.TemperatureGPU, out)
	})
}

// Threshold is a temperature at which something happens.
type Threshold uint32

// The thresholds.
const (
	ShutdownThreshold Threshold = 0 // NVML_TEMPERATURE_THRESHOLD_SHUTDOWN
	SlowdownThreshold Threshold = 1 // NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
	MaximumThreshold  Threshold = 3 // NVML_TEMPERATURE_THRESHOLD_GPU_MAX
)

// TemperatureThreshold returns a threshold in degrees Celsius: where the hardware shuts the device down, where it slows
// it down, and where clocks may fall below the base clock.
func (d *Device) TemperatureThreshold(t Threshold) (int, error) {
	return d.number("get temperature threshold", func(a *capi.API, d capi.Device, out *uint32) capi.Status {
		return a.DeviceGetTemperatureThreshold(d, capi.TemperatureThreshold(t), out)
	})
}

// Throttling is why the clocks of a device are lower than they could be: a set of reasons.
type Throttling uint64

// The reasons that slow work down. Others, such as an idle device, are no trouble.
const (
	PowerCap         Throttling = 4   // nvmlClocksEventReasonSwPowerCap: at its power limit, as a busy device often is
	HardwareSlowdown Throttling = 8   // nvmlClocksThrottleReasonHwSlowdown: by one of the two below, or the reason is not known
	SoftwareThermal  Throttling = 32  // nvmlClocksEventReasonSwThermalSlowdown: the driver keeps it below its maximum temperature
	HardwareThermal  Throttling = 64  // nvmlClocksThrottleReasonHwThermalSlowdown: too hot, clocks at half or less
	PowerBrake       Throttling = 128 // nvmlClocksThrottleReasonHwPowerBrakeSlowdown: the machine's power supply asks for it
)

// Throttling returns the reasons that hold now.
func (d *Device) Throttling() (Throttling, error) {
	out := new(uint64)
	err := d.call("get clocks' throttle reasons", func(a *capi.API, d capi.Device) capi.Status {
		return a.DeviceGetCurrentClocksThrottleReasons(d, out)
	})
	return Throttling(*out), err
}

// Utilization is how busy a device was in the last sample period of the driver, in percent of the time.
type Utilization struct {
	GPU    int // a kernel ran
	Memory int // memory was read or written
}

// Utilization returns how busy the device is.
func (d *Device) Utilization() (Utilization, error) {
	u := new(capi.Utilization)
	err := d.call("get utilization", func(a *capi.API, d capi.Device) capi.Status { return a.DeviceGetUtilizationRates(d, u) })
	return Utilization{int(u.GPU), int(u.Memory)}, err
}

// Power returns what the device draws, in milliwatts.
func (d *Device) Power() (int, error) {
	return d.number("get power", func(a *capi.API, d capi.Device, out *uint32) capi.Status { return a.DeviceGetPowerUsage(d, out) })
}

// PowerLimit returns what the device may draw, in milliwatts.
func (d *Device) PowerLimit() (int, error) {
	return d.number("get power limit", func(a *capi.API, d capi.Device, out *uint32) capi.Status {
		return a.DeviceGetEnforcedPowerLimit(d, out)
	})
}
