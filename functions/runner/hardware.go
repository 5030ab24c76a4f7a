package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"genfn/bindings/nvml"
	"genfn/events"
	"genfn/functions/device/hardware"
	"genfn/functions/runner/protocol"
)

// checkHardware is the check of what the driver tells of the device itself.
const checkHardware = "hardware"

// hardwareInterval is how often the device is looked at. Xids are told at once.
const hardwareInterval = 2 * time.Second

// nvidiaVendor is protocol.Driver.Vendor of the devices that NVML tells of.
const nvidiaVendor = "NVIDIA"

// openNVIDIA finds a device in NVML. The caller closes the library.
func openNVIDIA(driver *protocol.Driver) (*nvml.Library, *nvml.Device, error) {
	l, err := nvml.Open(nvml.Options{})
	if err != nil {
		return nil, nil, err
	}
	var d *nvml.Device
	if driver.PCI != "" {
		d, err = l.DeviceByPCI(driver.PCI)
	} else {
		d, err = l.DeviceByUUID(nvmlUUID(driver.UUID))
	}
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return l, d, nil
}

// nvmlUUID writes a UUID of 32 hexadecimal digits as NVML does.
func nvmlUUID(digits string) string {
	if len(digits) != 32 {
		return digits // which names nothing
	}
	return fmt.Sprintf("GPU-%s-%s-%s-%s-%s", digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
}

// checkNVIDIA asks NVML how the device is. What condemns it fails the check; what nobody can tell does not.
func (v validation) checkNVIDIA() {
	l, d, err := openNVIDIA(v.Driver)
	if err == nil {
		v.Hardware = lookAt(d)
		defer l.Close()
	} else {
		v.Hardware = notSeen(err)
	}
	known := int64(0)
	if v.Hardware.ECC != nil { // from before this process
		known = v.Hardware.ECC.Uncorrected
	}
	details := []string{hardware.Describe(*v.Hardware)}
	for _, f := range hardware.Judge(*v.Hardware, known) {
		if f.Level == events.LevelCritical {
			v.check(checkHardware, "", f.Error(v.device))
			return
		}
		details = append(details, f.Message+" ("+f.Evidence+")")
	}
	v.check(checkHardware, strings.Join(details, "; "), nil)
}

// notSeen is what is known of a device that cannot be asked: that it does not answer, or nothing.
func notSeen(err error) *events.Hardware {
	h := &events.Hardware{At: time.Now().UTC(), State: hardwareState(err)}
	if h.State == "" {
		h.Unknown = err.Error()
	}
	return h
}

// hardwareState is the state that an error of NVML tells; "": it tells none.
func hardwareState(err error) string {
	switch {
	case errors.Is(err, nvml.ErrLost):
		return events.HardwareLost
	case errors.Is(err, nvml.ErrResetRequired):
		return events.HardwareResetRequired
	}
	return ""
}

// look is a look at a device that is being taken. A device that does not answer any more ends it.
type look struct {
	events.Hardware
	err error
}

// get asks one thing. A device that does not have it, and a driver that refuses to tell it, leave it absent.
func get[T any](l *look, ask func() (T, error), take func(T)) {
	if l.err != nil {
		return
	}
	value, err := ask()
	switch {
	case err == nil:
		take(value)
	case hardwareState(err) != "":
		l.err = err
	}
}

// lookAt asks NVML for everything that is told of a device.
func lookAt(d *nvml.Device) *events.Hardware {
	l := &look{Hardware: events.Hardware{At: time.Now().UTC()}}
	get(l, d.Temperature, func(n int) { l.Temperature = &n })
	get(l, func() (int, error) { return d.TemperatureThreshold(nvml.SlowdownThreshold) }, func(n int) { l.SlowdownAt = &n })
	get(l, func() (int, error) { return d.TemperatureThreshold(nvml.ShutdownThreshold) }, func(n int) { l.ShutdownAt = &n })
	get(l, d.Throttling, func(t nvml.Throttling) { l.Throttling = throttling(t) })
	get(l, d.Utilization, func(u nvml.Utilization) { l.Busy = &u.GPU })
	get(l, d.Power, func(n int) { l.Power = watts(n) })
	get(l, d.PowerLimit, func(n int) { l.PowerLimit = watts(n) })
	get(l, d.ECCMode, func(m nvml.ECCMode) { l.ECC = &events.ECC{Enabled: m.Current} })
	if l.ECC != nil && l.ECC.Enabled {
		l.countErrors(d)
	}
	get(l, d.RetiredPages, func(r nvml.RetiredPages) {
		l.RetiredPages = &events.RetiredPages{Corrected: r.Corrected, Uncorrected: r.Uncorrected, Pending: r.Pending}
	})
	get(l, d.RemappedRows, func(r nvml.RemappedRows) {
		l.RemappedRows = &events.RemappedRows{Correctable: r.Correctable, Uncorrectable: r.Uncorrectable, Pending: r.Pending, Failed: r.Failed}
	})
	get(l, d.Processes, func(list []nvml.Process) { l.Own, l.Others = holders(list, os.Getpid()) })
	l.State = hardwareState(l.err)
	return &l.Hardware
}

func (l *look) countErrors(d *nvml.Device) {
	for _, c := range []struct {
		kind  nvml.MemoryError
		since nvml.Counter
		out   *int64
	}{
		{nvml.Corrected, nvml.Volatile, &l.ECC.Corrected}, {nvml.Uncorrected, nvml.Volatile, &l.ECC.Uncorrected},
		{nvml.Corrected, nvml.Aggregate, &l.ECC.CorrectedOfLife}, {nvml.Uncorrected, nvml.Aggregate, &l.ECC.UncorrectedOfLife},
	} {
		get(l, func() (int64, error) { return d.ECCErrors(c.kind, c.since) }, func(n int64) { *c.out = n })
	}
}

// throttling is the reasons that slow work down, as words.
func throttling(t nvml.Throttling) (words []string) {
	for _, r := range []struct {
		reason nvml.Throttling
		word   string
	}{
		{nvml.PowerCap, events.ThrottlePowerCap}, {nvml.HardwareSlowdown, events.ThrottleHardwareSlowdown}, {nvml.SoftwareThermal, events.ThrottleSoftwareThermal},
		{nvml.HardwareThermal, events.ThrottleHardwareThermal}, {nvml.PowerBrake, events.ThrottlePowerBrake},
	} {
		if t&r.reason != 0 {
			words = append(words, r.word)
		}
	}
	return words
}

func watts(milliwatts int) *float64 {
	w := float64(milliwatts) / 1000
	return &w
}

// holders says what a process has of a device's memory, nil if the driver does not tell, and what others have.
func holders(list []nvml.Process, pid int) (own *int64, others *events.OtherMemory) {
	others = &events.OtherMemory{}
	for _, p := range list {
		switch {
		case p.PID == pid && p.Memory != nvml.Unknown:
			own = &p.Memory
		case p.PID != pid:
			others.Processes++
			others.Bytes += max(0, p.Memory)
		}
	}
	return own, others
}

// watchHardware tells the instance how a device of NVIDIA's is, from now on until ctx ends: at an interval, and of Xids
// as they come. Native code that does not come back costs only this.
func (r *runner) watchHardware(ctx context.Context, v *protocol.Validation) {
	if v == nil || v.Driver == nil || v.Driver.Vendor != nvidiaVendor {
		return
	}
	go func() {
		l, d, err := openNVIDIA(v.Driver)
		if err != nil {
			r.log.Warn("the device's hardware is not watched", "device", r.device, "error", err)
			_ = r.conn.Send(&protocol.Hardware{Hardware: notSeen(err)}) // the parent is gone, which receive sees too
			return
		}
		defer l.Close()
		xids, err := d.Xids()
		if err != nil {
			r.log.Warn("Xids of the device are not told", "device", r.device, "error", err)
		} else {
			defer xids.Close()
			go r.watchXids(ctx, xids)
		}
		ticker := time.NewTicker(hardwareInterval)
		defer ticker.Stop()
		for r.conn.Send(&protocol.Hardware{Hardware: lookAt(d)}) == nil {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// watchXids tells of each Xid until ctx ends. A device that is lost has no more: the looks at it say so.
func (r *runner) watchXids(ctx context.Context, xids *nvml.Xids) {
	for {
		number, err := xids.Wait(ctx)
		if err == nil {
			err = r.conn.Send(&protocol.Hardware{Xid: number})
		}
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, nvml.ErrClosed) {
				r.log.Warn("Xids of the device are not told any more", "device", r.device, "error", err)
			}
			return
		}
	}
}
