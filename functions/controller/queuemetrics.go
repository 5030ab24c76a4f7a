package controller

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"genfn/events"
	"genfn/events/broker"
)

const (
	// queueInterval is the time between two questions about the queue, for metrics.
	queueInterval = 5 * time.Second
	queueTimeout  = 4 * time.Second // for the answer
)

// queueMetrics are what the server tells of the queue. Only the controller that leads asks it.
type queueMetrics struct {
	pending     *prometheus.GaugeVec
	ackPending  *prometheus.GaugeVec
	redelivered *prometheus.GaugeVec
	requests    *prometheus.GaugeVec
	oldest      *prometheus.GaugeVec
	deadLetters *prometheus.GaugeVec
}

func newQueueMetrics(gauge func(name, help string, labels ...string) *prometheus.GaugeVec) queueMetrics {
	return queueMetrics{
		pending:     gauge("queue_pending_requests", "Requests that were delivered to nobody yet: num_pending of their consumer. KEDA's lag is this and genfn_queue_ack_pending_requests.", "lane", "model", "priority"),
		ackPending:  gauge("queue_ack_pending_requests", "Requests that were delivered and have not ended: worked on, or handed back: num_ack_pending of their consumer.", "lane", "model", "priority"),
		redelivered: gauge("queue_redelivered_requests", "Of those, requests that were delivered more than once: num_redelivered of their consumer.", "lane", "model", "priority"),
		requests:    gauge("queue_requests", "Requests in the queue in all, also those that no consumer delivers."),
		oldest:      gauge("queue_oldest_request_age_seconds", "Age of the oldest request that has not ended; 0: there is none."),
		deadLetters: gauge("dead_letters", "Dead letters that are kept."),
	}
}

// show shows the queue as it is at a time.
func (m queueMetrics) show(controller string, q broker.QueueState, dead uint64, now time.Time) {
	for _, d := range q.Depths {
		_, model, ok := events.ParsePoolToken(d.Pool)
		if !ok {
			continue
		}
		labels := []string{controller, string(d.Lane), model, string(d.Priority)}
		m.pending.WithLabelValues(labels...).Set(float64(d.Waiting))
		m.ackPending.WithLabelValues(labels...).Set(float64(d.Taken))
		m.redelivered.WithLabelValues(labels...).Set(float64(d.Again))
	}
	age := 0.0
	if !q.Oldest.IsZero() {
		age = max(0, now.Sub(q.Oldest).Seconds())
	}
	m.requests.WithLabelValues(controller).Set(float64(q.Requests))
	m.oldest.WithLabelValues(controller).Set(age)
	m.deadLetters.WithLabelValues(controller).Set(float64(dead))
}

// forget removes what a controller has shown: who does not lead does not know.
func (m queueMetrics) forget(controller string) {
	for _, g := range []*prometheus.GaugeVec{m.pending, m.ackPending, m.redelivered, m.requests, m.oldest, m.deadLetters} {
		g.DeletePartialMatch(prometheus.Labels{"controller": controller})
	}
}

// watchQueue keeps the metrics of the queue up to date until ctx ends.
func (c *Controller) watchQueue(ctx context.Context) {
	m := c.config.Metrics
	if m == nil {
		return
	}
	defer m.queue.forget(c.config.Name)
	ticker := time.NewTicker(queueInterval)
	defer ticker.Stop()
	for {
		asking, done := context.WithTimeout(ctx, queueTimeout)
		state, err := c.config.Broker.QueueState(asking)
		var dead uint64
		if err == nil {
			dead, err = c.config.Broker.CountDeadLetters(asking)
		}
		done()
		if err == nil {
			m.queue.show(c.config.Name, state, dead, time.Now())
		} else if ctx.Err() == nil {
			c.log.Warn("the state of the queue is not known", "error", err)
			m.queue.forget(c.config.Name)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
