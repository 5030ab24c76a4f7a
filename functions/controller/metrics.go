package controller

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"genfn/events"
)

// states are all that is decided on instances.
var states = []string{
	events.StateReady, events.StateSuspect, events.StateShed, events.StateProbation, events.StateQuarantined, events.StateDraining, events.StateGone,
}

// Metrics are what a replica counts and measures, for Prometheus. Their names begin with genfn_controller_, and the label
// controller is the replica's name; those of the queue begin with genfn_queue_. Counts of decisions are of those that
// this replica has made; instances by state and the queue are told while it leads. deploy/METRICS.md lists them.
type Metrics struct {
	leader    *prometheus.GaugeVec
	term      *prometheus.GaugeVec
	decisions *prometheus.CounterVec
	refused   *prometheus.CounterVec
	instances *prometheus.GaugeVec
	duration  *prometheus.HistogramVec // input heard -> decision stored
	waiting   *prometheus.GaugeVec
	aside     *prometheus.HistogramVec
	connected *prometheus.GaugeVec
	queue     queueMetrics
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	label := []string{"controller"}
	var all []prometheus.Collector
	gaugeOf := func(subsystem string) func(name, help string, labels ...string) *prometheus.GaugeVec {
		return func(name, help string, labels ...string) *prometheus.GaugeVec {
			g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "genfn", Subsystem: subsystem, Name: name, Help: help}, append(label[:1:1], labels...))
			all = append(all, g)
			return g
		}
	}
	gauge := gaugeOf("controller")
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "genfn", Subsystem: "controller", Name: name, Help: help}, append(label[:1:1], labels...))
		all = append(all, c)
		return c
	}
	seconds := func(name, help string, least float64) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "genfn", Subsystem: "controller", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(least, 2, 16),
		}, label)
		all = append(all, h)
		return h
	}
	m := &Metrics{
		leader:    gauge("leader", "1 while this replica leads, else 0."),
		term:      gauge("term", "Term of this replica's last leadership; later leaders have higher ones."),
		decisions: counter("decisions_total", "Decisions, by the state they put an instance into and the reason.", "state", "reason"),
		refused:   counter("refused_commands_total", "Commands of operators that could not be followed."),
		instances: gauge("instances", "Instances by the state that is decided on them, while this replica leads.", "state"),
		duration:  seconds("decision_duration_seconds", "Time from the observation to the stored decision that it led to.", 0.0005),
		waiting:   gauge("waiting_inputs", "Observations and commands that were heard and wait to be judged."),
		aside:     seconds("set_aside_duration_seconds", "Time from the decision that an instance takes no requests to the one that it does again.", 0.1),
		connected: gauge("broker_connected", "1 while this replica is connected to the broker, else 0."),
		queue:     newQueueMetrics(gaugeOf("")),
	}
	for _, c := range all {
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

// expose shows the instances by state, and how many inputs wait.
func (l *leadership) expose() {
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

// count counts a decision, and how long an instance took no requests that takes them again.
func (l *leadership) count(d events.Decision) {
	since, stopped := l.stopped[d.Instance]
	switch {
	case d.Stops() && !stopped:
		l.stopped[d.Instance] = d.At
	case !d.Stops():
		delete(l.stopped, d.Instance)
	}
	m := l.config.Metrics
	if m == nil {
		return
	}
	m.decisions.WithLabelValues(l.config.Name, d.State, d.Reason).Inc()
	if stopped && d.State == events.StateReady {
		m.aside.WithLabelValues(l.config.Name).Observe(max(0, d.At.Sub(since).Seconds()))
	}
}

// connectionInterval is the time between two looks at the connection to the broker, for metrics.
const connectionInterval = time.Second

// watchConnection shows whether there is a connection to the broker until ctx ends or stop is called.
func (c *Controller) watchConnection(ctx context.Context) (stop func()) {
	m := c.config.Metrics
	if m == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(connectionInterval)
		defer ticker.Stop()
		for ctx.Err() == nil {
			connected := 0.0
			if c.config.Broker.Conn().IsConnected() {
				connected = 1
			}
			m.connected.WithLabelValues(c.config.Name).Set(connected)
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
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
