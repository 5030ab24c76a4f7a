package instance

import (
	"cmp"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/fault"
	"genfn/functions/device/memory"
	"genfn/functions/runner/process"
)

// Metrics are what instances count and measure, for Prometheus. Instances of one process share them; their names
// begin with genfn_, and the labels instance, device and class tell them apart. deploy/METRICS.md lists them.
type Metrics struct {
	requests     *prometheus.CounterVec
	attempts     *prometheus.CounterVec
	faults       *prometheus.CounterVec
	notices      *prometheus.CounterVec
	canaries     *prometheus.CounterVec
	xids         *prometheus.CounterVec
	states       *prometheus.CounterVec
	runnerStarts *prometheus.CounterVec
	runnerExits  *prometheus.CounterVec

	waits       *prometheus.HistogramVec
	durations   *prometheus.HistogramVec
	stages      *prometheus.HistogramVec
	canaryTimes *prometheus.HistogramVec
	aside       *prometheus.HistogramVec

	state      *prometheus.GaugeVec
	slots      *prometheus.GaugeVec
	busy       *prometheus.GaugeVec
	minPending *prometheus.GaugeVec
	memory     *prometheus.GaugeVec
	pressure   *prometheus.GaugeVec
	condition  *prometheus.GaugeVec
	heat       *prometheus.GaugeVec
	power      *prometheus.GaugeVec
	throttled  *prometheus.GaugeVec
	eccErrors  *prometheus.GaugeVec
	connected  *prometheus.GaugeVec
}

// device labels, in this order.
var deviceLabels = []string{"instance", "device", "class"}

// states are all that a device can be in.
var states = []string{
	events.StateValidating, events.StateReady, events.StateSuspect, events.StateShed, events.StateProbation, events.StateQuarantined,
}

var canaryResults = [2]string{"passed", "failed"}

// Outcomes of a request's time in the hands of an instance, as metrics tell them.
const (
	outcomeSucceeded  = "succeeded"
	outcomeFailed     = "failed"
	outcomeCancelled  = "cancelled"
	outcomeMoved      = "moved"
	outcomeHandedBack = "handed_back"
	outcomeTriedAgain = "tried_again" // an attempt after which the instance goes on, or does not know the end
)

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	var all []prometheus.Collector
	names := func(labels []string) []string { return append(deviceLabels[:3:3], labels...) }
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "genfn", Name: name, Help: help}, names(labels))
		all = append(all, c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		c := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "genfn", Name: name, Help: help}, names(labels))
		all = append(all, c)
		return c
	}
	seconds := func(name, help string, least float64, labels ...string) *prometheus.HistogramVec {
		c := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "genfn", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(least, 3, 13),
		}, names(labels))
		all = append(all, c)
		return c
	}
	m := &Metrics{
		requests:     counter("requests_total", "Requests that left the instance, by outcome (succeeded, failed, cancelled, moved to another class of device, handed_back) and model.", "model", "outcome"),
		attempts:     counter("attempts_total", "Attempts that ended, by cause: answered, or what ended them, such as device_fault, runner_crash, hang, out_of_memory, shutdown, routed.", "cause"),
		faults:       counter("attempt_failures_total", "Attempts that ended with an error, by cause and error code.", "cause", "code"),
		notices:      counter("recoveries_total", "What was done about failed attempts.", "action"),
		canaries:     counter("canaries_total", "Canaries that were compared with known values, by result (passed, failed).", "result"),
		xids:         counter("device_xids_total", "Failures that NVIDIA's kernel driver reported of the device, by their number (Xid).", "xid"),
		states:       counter("device_state_changes_total", "Times the device came into a state, by reason: state shed counts how often it was set aside, state ready how often it was taken back.", "reason", "state"),
		runnerStarts: counter("runner_starts_total", "Runner processes that became ready."),
		runnerExits:  counter("runner_exits_total", "Runner processes that ended while the instance served, by reason: signal and exit_code were their own end, the others (hang, cancel, deadline, shutdown) the instance's will.", "reason"),

		waits:       seconds("request_queue_duration_seconds", "Time from the queueing of a request in its lane to its first delivery, if work began then.", 0.001, "lane", "model", "priority"),
		durations:   seconds("request_duration_seconds", "Time from the queueing of a request in its lane to its end here, by outcome as in genfn_requests_total.", 0.001, "model", "outcome"),
		stages:      seconds("stage_duration_seconds", "Time of the stages of attempts, by outcome (those of genfn_requests_total, and tried_again); stage total is the whole attempt.", 0.001, "model", "outcome", "stage"),
		canaryTimes: seconds("canary_duration_seconds", "Time of canaries.", 0.001),
		aside:       seconds("device_recovery_duration_seconds", "Time from the moment the device was not ready any more to when it was again.", 0.01),

		state:      gauge("device_state", "1 for the state that the device is in, else 0.", "state"),
		slots:      gauge("slots", "Requests that the instance can work on at the same time."),
		busy:       gauge("busy_slots", "Slots with a request."),
		minPending: gauge("overflow_min_pending_requests", "Requests that must wait in the any lane for this CPU to take one; no sample: one.", "model"),
		memory:     gauge("memory_bytes", "Memory by kind: rss, vms, swap and ledger of the runners, total, used, free and usable of the device, total and free of the host, the swap in use on the machine, and own and others, what the driver counts of the device for its runner and for other processes.", "kind"),
		pressure:   gauge("memory_pressure", "The condition memory_pressure, how nearly the memory of the device or its host is used up: 0 none, 1 warning, 2 critical."),
		condition:  gauge("device_condition", "What the driver tells of the device that is not as it should be: 1 warning, 2 critical; no sample: it is not so.", "type"),
		heat:       gauge("device_temperature_celsius", "Temperature of the device."),
		power:      gauge("device_power_watts", "What the device draws."),
		throttled:  gauge("device_throttled", "1 while the device's clocks are held down, by reason; no sample: not for that one.", "reason"),
		eccErrors:  gauge("device_ecc_errors", "Errors in the device's memory since its driver was loaded, by kind (corrected, uncorrected).", "kind"),
		connected:  gauge("broker_connected", "1 while the instance is connected to the broker, else 0."),
	}
	for _, c := range all {
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

// begin begins to count from 0 what is worth an alert at the first: Prometheus does not see the step to 1 of what was not
// there before.
func (i *Instance) begin() {
	if m := i.config.Metrics; m != nil {
		for _, result := range canaryResults {
			m.canaries.WithLabelValues(i.of(result)...)
		}
	}
}

// countRequest counts the end of a request here.
func (i *Instance) countRequest(job *broker.Job, outcome string) {
	if m := i.config.Metrics; m != nil {
		model := job.Asked().Model
		m.requests.WithLabelValues(i.of(model, outcome)...).Inc()
		m.durations.WithLabelValues(i.of(model, outcome)...).Observe(since(job.Queued))
	}
}

// since is the time since something happened at the server, in seconds, by the clocks of both machines.
func since(at time.Time) float64 { return max(0, time.Since(at).Seconds()) }

// countDelivery notes how long a request has waited.
func (i *Instance) countDelivery(job *broker.Job) {
	if m := i.config.Metrics; m != nil && job.Delivered == 1 {
		m.waits.WithLabelValues(i.of(string(job.Lane), job.Asked().Model, string(job.Priority))...).Observe(since(job.Queued))
	}
}

// countAttempt counts the end of an attempt by cause.
func (i *Instance) countAttempt(cause string) {
	if m := i.config.Metrics; m != nil {
		m.attempts.WithLabelValues(i.of(cause)...).Inc()
	}
}

// settle notes that the request has left this instance, and why the attempt ended unless that is known.
func (a *attempt) settle(cause, outcome string) {
	a.cause, a.outcome = cmp.Or(a.cause, cause), outcome
	a.slot.instance.countRequest(a.work.job, outcome)
}

// count counts the attempt, which has ended, and how long its stages have taken.
func (a *attempt) count() {
	a.slot.instance.countAttempt(cmp.Or(a.cause, causeUnknown))
	m := a.slot.config.Metrics
	if m == nil || a.track == nil {
		return
	}
	if a.timings == nil {
		a.timings = maps.Clone(a.track.timings)
		if a.track.stage != "" { // in which it ended
			a.timings[a.track.stage] += milliseconds(a.track.stepped + time.Since(a.track.since))
		}
		a.timings["total"] = milliseconds(time.Since(a.began))
	}
	for stage, ms := range a.timings {
		m.stages.WithLabelValues(a.slot.instance.of(a.work.asked.Model, cmp.Or(a.outcome, outcomeTriedAgain), stage)...).Observe(ms / 1000)
	}
}

// countState counts a new state of the device, and how long it was not ready. Calls do not overlap.
func (i *Instance) countState(s events.DeviceStatus) {
	m := i.config.Metrics
	if m == nil || s.State == i.counted {
		return
	}
	m.states.WithLabelValues(i.of(s.Reason, s.State)...).Inc()
	switch {
	case i.counted == events.StateReady:
		i.unready = s.Since
	case s.State == events.StateReady && !i.unready.IsZero():
		m.aside.WithLabelValues(i.of()...).Observe(s.Since.Sub(i.unready).Seconds())
	}
	i.counted = s.State
}

func (i *Instance) countRunnerStart() {
	if m := i.config.Metrics; m != nil {
		m.runnerStarts.WithLabelValues(i.of()...).Inc()
	}
}

func (i *Instance) countRunnerExit(e process.Exit) {
	m := i.config.Metrics
	if m == nil {
		return
	}
	reason := "exit_code"
	switch {
	case e.Killed != fault.KilledNot:
		reason = string(e.Killed)
	case e.Signal != 0:
		reason = "signal"
	}
	m.runnerExits.WithLabelValues(i.of(reason)...).Inc()
}

// exposeLimits shows how many requests must wait for this CPU to take one.
func (i *Instance) exposeLimits(limits map[string]int) {
	m := i.config.Metrics
	if m == nil {
		return
	}
	m.minPending.DeletePartialMatch(prometheus.Labels{"instance": i.config.Name})
	for model, n := range limits {
		m.minPending.WithLabelValues(i.of(model)...).Set(float64(n))
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

func (i *Instance) countCanary(passed bool, took time.Duration) {
	if m := i.config.Metrics; m != nil {
		result := canaryResults[0]
		if !passed {
			result = canaryResults[1]
		}
		m.canaries.WithLabelValues(i.of(result)...).Inc()
		m.canaryTimes.WithLabelValues(i.of()...).Observe(took.Seconds())
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
	m.slots.WithLabelValues(i.of()...).Set(float64(s.Slots))
	m.busy.WithLabelValues(i.of()...).Set(float64(s.Busy))
	connected := 0.0
	if i.config.Broker.Conn().IsConnected() {
		connected = 1
	}
	m.connected.WithLabelValues(i.of()...).Set(connected)
	level := memory.Normal
	for _, c := range s.Conditions {
		for l := memory.Warning; l <= memory.Critical; l++ {
			if c.Type == events.ConditionMemoryPressure && c.Level == l.String() {
				level = l
			}
		}
	}
	m.pressure.WithLabelValues(i.of()...).Set(float64(level))
	i.exposeHardware(s)
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
