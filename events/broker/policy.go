package broker

import (
	"slices"
	"time"
)

// priorityGroup is the group of the pulls on the any lane, whose consumers have
// the overflow policy: a pull may say how many requests must wait for it to get
// one (ADR-42 of NATS). There is only one group, and every pull names it.
const priorityGroup = "devices"

// DefaultBatchEvery is how many requests are handed out for one batch request,
// while both priorities wait.
const DefaultBatchEvery = 5

// SetMinPending has requests of a pool's any lane taken only while at least n of
// the same priority wait there; 0: whenever one does. It is in force at once. Only
// a pull without a limit, or with a lower one, that waits at the server already
// may bring one more request, within 5 s. What was handed back there does not
// count as waiting: see Job.HandBack.
func (q *Queue) SetMinPending(pool string, n int) {
	n = max(n, 0)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, priority := range Priorities() {
		s := q.byName(consumerName(pool, LaneAny, priority))
		if s == nil || s.minPending == n {
			continue
		}
		if n < s.minPending { // the pull that is out may wait for long
			s.empty = false
			if s.state != idle {
				s.state, s.deadline = idle, time.Time{}
			}
		}
		s.minPending = n
	}
	q.schedule()
}

// SetBatchEvery has every n-th request that is handed out be a batch one while
// both priorities wait; 0: batch requests wait until there is no interactive one.
func (q *Queue) SetBatchEvery(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.every = max(n, 0)
}

// count notes that a request is handed out.
func (q *Queue) count(p Priority) {
	q.urgent++
	if p == Batch {
		q.urgent = 0
	}
}

// inOrder returns the sources in the order in which they are looked into now, and
// the priority of the first.
func (q *Queue) inOrder() (first Priority, sources []*source) {
	if q.every == 0 || q.urgent < q.every-1 {
		return Interactive, q.sources
	}
	at := slices.IndexFunc(q.sources, func(s *source) bool { return s.priority == Batch })
	if at < 0 {
		return Interactive, q.sources
	}
	return Batch, slices.Concat(q.sources[at:], q.sources[:at])
}
