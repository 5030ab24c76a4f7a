package instance

import (
	"github.com/prometheus/client_golang/prometheus"

	"genfn/events"
	"genfn/functions/device/memory"
)

// Metrics are what instances count and measure, for Prometheus. Instances of one process share them; their names
// begin with genfn_, and the labels instance, device and class tell them apart.
type Metrics struct {
	requests    *prometheus.CounterVec   // ended, by outcome
	faults      *prometheus.CounterVec   // attempts that failed, by cause and code
	notices     *prometheus.CounterVec   // what was done about them
	canaries    *prometheus.CounterVec   // by result
	duration    *prometheus.HistogramVec // of stages of successful generations
	state       *prometheus.GaugeVec     // 1 for the state the device is in
	busy        *prometheus.GaugeVec
	memory      *prometheus.GaugeVec // bytes, by kind
	generations *prometheus.GaugeVec
	pressure    *prometheus.GaugeVec
}

// device labels, in this order.
var deviceLabels = []string{"instance", "device", "class"}

// states are all that a device can be in.
var states = []string{
	events.StateValidating, events.StateReady, events.StateSuspect, events.StateShed, events.StateProbation, events.StateQuarantined,
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "genfn", Name: name, Help: help}, append(deviceLabels[:3:3], labels...))
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "genfn", Name: name, Help: help}, append(deviceLabels[:3:3], labels...))
	}
	m := &Metrics{
		requests: counter("requests_total", "Requests ended, by outcome (succeeded, failed, cancelled, moved, handed_back) and model.", "outcome", "model"),
		faults:   counter("attempt_failures_total", "Attempts that failed, by cause and error code.", "cause", "code"),
		notices:  counter("recoveries_total", "What was done about failed attempts.", "action"),
		canaries: counter("canaries_total", "Canaries that were compared with known values, by result (passed, failed).", "result"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "genfn", Name: "stage_duration_seconds", Help: "Time of the stages of successful generations; stage \"total\" is the whole attempt.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 20),
		}, append(deviceLabels[:3:3], "model", "stage")),
		state:       gauge("device_state", "1 for the state that the device is in, else 0.", "state"),
		busy:        gauge("busy_slots", "Slots with a request."),
		memory:      gauge("memory_bytes", "Memory by kind: rss, vms, swap and ledger of the runners, total, used, free and usable of the device, total and free of the host, and the swap in use on the machine.", "kind"),
		pressure:    gauge("memory_pressure", "How nearly the memory of the device or its host is used up: 0 normal, 1 warning, 2 critical."),
		generations: gauge("generations", "Generations since the instance started."),
	}
	for _, c := range []prometheus.Collector{m.requests, m.faults, m.notices, m.canaries, m.duration, m.state, m.busy, m.memory, m.generations, m.pressure} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// of returns the labels of an instance's device with more after them.
func (i *Instance) of(more ...string) []string {
	device := i.config.Runner.Hello.Device
	return append([]string{i.config.Name, device, events.ClassOf(device)}, more...)
}

func (i *Instance) countRequest(outcome, model string) {
	if m := i.config.Metrics; m != nil {
		m.requests.WithLabelValues(i.of(outcome, model)...).Inc()
	}
}

func (i *Instance) countFault(f failed) {
	if m := i.config.Metrics; m != nil {
		m.faults.WithLabelValues(i.of(f.cause, string(f.err.Code))...).Inc()
	}
}

func (i *Instance) countNotice(code string) {
	if m := i.config.Metrics; m != nil {
		m.notices.WithLabelValues(i.of(code)...).Inc()
	}
}

func (i *Instance) countCanary(passed bool) {
	if m := i.config.Metrics; m != nil {
		result := "passed"
		if !passed {
			result = "failed"
		}
		m.canaries.WithLabelValues(i.of(result)...).Inc()
	}
}

// observe notes the times of a successful generation, in milliseconds by stage.
func (i *Instance) observe(model string, timings map[string]float64) {
	if m := i.config.Metrics; m != nil {
		for stage, ms := range timings {
			m.duration.WithLabelValues(i.of(model, stage)...).Observe(ms / 1000)
		}
	}
}

// expose shows a status as gauges.
func (i *Instance) expose(s events.DeviceStatus) {
	m := i.config.Metrics
	if m == nil {
		return
	}
	for _, state := range states {
		value := 0.0
		if s.State == state {
			value = 1
		}
		m.state.WithLabelValues(i.of(state)...).Set(value)
	}
	m.busy.WithLabelValues(i.of()...).Set(float64(s.Busy))
	m.generations.WithLabelValues(i.of()...).Set(float64(s.GenerationCount))
	level := memory.Normal
	for _, c := range s.Conditions {
		for l := memory.Warning; l <= memory.Critical; l++ {
			if c.Type == events.ConditionMemoryPressure && c.Level == l.String() {
				level = l
			}
		}
	}
	m.pressure.WithLabelValues(i.of()...).Set(float64(level))
	info := s.MemoryInfo
	if info == nil {
		return
	}
	const mib = 1 << 20
	for kind, bytes := range map[string]float64{"rss": info.RSSMB * mib, "vms": info.VMSMB * mib, "swap": info.SwapMB * mib, "ledger": float64(info.Ledger),
		"host_total": float64(info.HostTotal), "host_free": float64(info.HostFree), "system_swap": float64(info.SystemSwapUsed),
	} {
		m.memory.WithLabelValues(i.of(kind)...).Set(bytes)
	}
	for kind, bytes := range map[string]*int64{"device_total": info.DeviceTotal, "device_used": info.DeviceUsed, "device_free": info.DeviceFree, "device_usable": info.DeviceUsable} {
		if bytes != nil {
			m.memory.WithLabelValues(i.of(kind)...).Set(float64(*bytes))
		}
	}
}
