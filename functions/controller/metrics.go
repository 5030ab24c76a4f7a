package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"genfn/events"
)

// states are all that is decided on instances.
var states = []string{
	events.StateReady, events.StateSuspect, events.StateShed, events.StateProbation, events.StateQuarantined, events.StateDraining, events.StateGone,
}

// Metrics are what a replica counts and measures, for Prometheus. Their names begin with genfn_controller_, and the label
// controller is the replica's name. Counts of decisions are of those that this replica has made; instances by state are
// told while it leads.
type Metrics struct {
	leader    *prometheus.GaugeVec
	term      *prometheus.GaugeVec
	decisions *prometheus.CounterVec
	refused   *prometheus.CounterVec
	instances *prometheus.GaugeVec
	duration  *prometheus.HistogramVec // input heard -> decision stored
	waiting   *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	label := []string{"controller"}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "genfn", Subsystem: "controller", Name: name, Help: help}, append(label[:1:1], labels...))
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "genfn", Subsystem: "controller", Name: name, Help: help}, append(label[:1:1], labels...))
	}
	m := &Metrics{
		leader:    gauge("leader", "1 while this replica leads, else 0."),
		term:      gauge("term", "Term of this replica's last leadership; later leaders have higher ones."),
		decisions: counter("decisions_total", "Decisions, by the state they put an instance into and the reason.", "state", "reason"),
		refused:   counter("refused_commands_total", "Commands of operators that could not be followed."),
		instances: gauge("instances", "Instances by the state that is decided on them, while this replica leads.", "state"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "genfn", Subsystem: "controller", Name: "decision_duration_seconds", Help: "Time from the observation to the stored decision that it led to.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, label),
		waiting: gauge("waiting_inputs", "Observations and commands that were heard and wait to be judged."),
	}
	for _, c := range []prometheus.Collector{m.leader, m.term, m.decisions, m.refused, m.instances, m.duration, m.waiting} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// leading notes the begin of a leadership, until stop is called.
func (c *Controller) leading(term uint64) (stop func()) {
	m := c.config.Metrics
	if m == nil {
		return func() {}
	}
	m.leader.WithLabelValues(c.config.Name).Set(1)
	m.term.WithLabelValues(c.config.Name).Set(float64(term))
	return func() {
		m.leader.WithLabelValues(c.config.Name).Set(0)
		m.waiting.WithLabelValues(c.config.Name).Set(0)
		m.instances.DeletePartialMatch(prometheus.Labels{"controller": c.config.Name})
	}
}

// count shows the instances by state, and how many inputs wait.
func (l *leadership) count() {
	m := l.config.Metrics
	if m == nil {
		return
	}
	n := l.core.Count()
	for _, state := range states {
		m.instances.WithLabelValues(l.config.Name, state).Set(float64(n[state]))
	}
	m.waiting.WithLabelValues(l.config.Name).Set(float64(len(l.inputs)))
}

func (c *Controller) countDecision(d events.Decision) {
	if m := c.config.Metrics; m != nil {
		m.decisions.WithLabelValues(c.config.Name, d.State, d.Reason).Inc()
	}
}

func (c *Controller) countRefusal() {
	if m := c.config.Metrics; m != nil {
		m.refused.WithLabelValues(c.config.Name).Inc()
	}
}

// measured returns what is to be called when a decision on what was heard at a time is stored.
func (c *Controller) measured(heard time.Time) (stored func()) {
	m := c.config.Metrics
	if m == nil {
		return func() {}
	}
	return func() { m.duration.WithLabelValues(c.config.Name).Observe(time.Since(heard).Seconds()) }
}
