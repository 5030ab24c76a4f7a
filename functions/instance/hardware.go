package instance

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"genfn/events"
	"genfn/functions/device/hardware"
	"genfn/functions/runner/protocol"
)

// hardwareWatch is what the driver tells of the device through its runners. It outlives them. Safe for concurrent use.
type hardwareWatch struct {
	*hardware.Monitor

	mu    sync.Mutex
	cause *events.Error // why the device must not be used; nil: it may
	ends  map[*func(*events.Error)]bool
}

func newHardwareWatch(device string) *hardwareWatch {
	return &hardwareWatch{Monitor: hardware.NewMonitor(device, nil), ends: map[*func(*events.Error)]bool{}}
}

// whenCondemned calls call when the device must not be used any more, at once if that is so, until stop is called.
func (w *hardwareWatch) whenCondemned(call func(*events.Error)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends[&call] = true
	if w.cause != nil {
		call(w.cause)
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.ends, &call)
	}
}

// condemn calls those who wait for it.
func (w *hardwareWatch) condemn(cause *events.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cause = cause
	for call := range w.ends {
		(*call)(cause)
	}
}

// proved notes that the device may be used again.
func (w *hardwareWatch) proved() {
	w.Proved()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cause = nil
}

// condemnedError ends an attempt on a device that must not be used any more.
type condemnedError struct{ err *events.Error }

func (e condemnedError) Error() string { return e.err.Error() }
func (e condemnedError) Unwrap() error { return e.err }

// heard takes what a runner tells of the device, on the goroutine that reads from it.
func (i *Instance) heard(m *protocol.Hardware) {
	var v hardware.Verdict
	if m.Hardware != nil {
		v = i.hardware.Observe(*m.Hardware)
	}
	if m.Xid != 0 {
		i.countXid(m.Xid)
		xid := i.hardware.Xid(m.Xid)
		i.log.Warn(i.field("Xid"), "xid", m.Xid, "meaning", i.hardware.Hardware().LastXid.Meaning)
		v.Changed = v.Changed || xid.Changed
		if xid.Condemned != nil {
			v.Condemned = xid.Condemned
		}
		v.Suspect = xid.Suspect
	}
	switch {
	case v.Condemned != nil:
		i.log.Error(i.field("device set aside for what its driver says of it"), "error", v.Condemned, "driver_text", v.Condemned.DriverText)
		i.health.Condemn(v.Condemned)
		i.hardware.condemn(v.Condemned)
	case v.Suspect != nil:
		i.health.Fault(events.DeviceFault{Cause: causeHardware, Error: v.Suspect})
	}
	if v.Changed {
		for _, c := range i.hardware.Conditions() {
			i.log.Warn(i.field("condition of the device"), "type", c.Type, "level", c.Level, "since", c.Since, "message", c.Message, "evidence", c.Evidence)
		}
		i.tellConditions()
	}
}

// field puts the device's class before a log line, as people grep for it: "[GPU] ...".
func (i *Instance) field(words string) string {
	return "[" + strings.ToUpper(events.ClassOf(i.config.Runner.Hello.Device)) + "] " + words
}

// condemned gives the request back whose device must not be used any more: others go on with it, and no attempt is
// charged.
func (a *attempt) condemned(hard context.Context, cause *events.Error) {
	a.log.Error(a.slot.field("attempt ended: the device must not be used"), "stage", a.stage, "error", cause, "driver_text", cause.DriverText)
	a.notice(hard, events.Notice{Code: events.NoticeFault, Message: cause.Title + ": " + cause.Message, Error: cause})
	a.handBack(hard, causeHardware, cause)
}

// countXid counts an Xid.
func (i *Instance) countXid(number int) {
	if m := i.config.Metrics; m != nil {
		m.xids.WithLabelValues(i.of(strconv.Itoa(number))...).Inc()
	}
}

// exposeHardware shows what the driver tells of the device as gauges.
func (i *Instance) exposeHardware(s events.DeviceStatus) {
	m, h := i.config.Metrics, s.Hardware
	if h == nil {
		return
	}
	mine := prometheus.Labels{deviceLabels[0]: i.config.Name}
	m.condition.DeletePartialMatch(mine)
	for _, c := range i.hardware.Conditions() {
		level := 1.0
		if c.Level == events.LevelCritical {
			level = 2
		}
		m.condition.WithLabelValues(i.of(c.Type)...).Set(level)
	}
	m.throttled.DeletePartialMatch(mine)
	for _, reason := range h.Throttling {
		m.throttled.WithLabelValues(i.of(reason)...).Set(1)
	}
	if h.Temperature != nil {
		m.heat.WithLabelValues(i.of()...).Set(float64(*h.Temperature))
	}
	if h.Power != nil {
		m.power.WithLabelValues(i.of()...).Set(*h.Power)
	}
	if e := h.ECC; e != nil {
		m.eccErrors.WithLabelValues(i.of("corrected")...).Set(float64(e.Corrected))
		m.eccErrors.WithLabelValues(i.of("uncorrected")...).Set(float64(e.Uncorrected))
	}
	if h.Own != nil {
		m.memory.WithLabelValues(i.of("own")...).Set(float64(*h.Own))
	}
	if h.Others != nil {
		m.memory.WithLabelValues(i.of("others")...).Set(float64(h.Others.Bytes))
	}
}
