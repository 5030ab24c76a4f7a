package broker

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"genfn/events"
)

const (
	maxDeadlines = 1 << 16 // remembered, of 32 bytes each

	// holderGrace is how long after its time is up a request that was begun is left to its instance, which ends it
	// itself if it lives.
	holderGrace = 30 * time.Second
	// sweepAgain is when a request that could not be answered is looked at again.
	sweepAgain = 5 * time.Second
)

// deadline is when a queued request has to be looked at.
type deadline struct {
	at       time.Time
	sequence uint64 // in the queue
}

// deadlines are those of the queued requests, of a bounded number: of more, the far ones are forgotten. The zero
// value is empty.
type deadlines struct {
	heap deadlineHeap
	lost bool // some were forgotten
}

func (d *deadlines) add(one deadline) {
	if len(d.heap) >= maxDeadlines {
		slices.SortFunc(d.heap, func(a, b deadline) int { return a.at.Compare(b.at) }) // which leaves it a heap
		d.heap, d.lost = d.heap[:maxDeadlines/2], true
	}
	heap.Push(&d.heap, one)
}

// due removes and returns the first one if it is not after now.
func (d *deadlines) due(now time.Time) (deadline, bool) {
	if at, ok := d.first(); !ok || at.After(now) {
		return deadline{}, false
	}
	return heap.Pop(&d.heap).(deadline), true
}

func (d *deadlines) first() (at time.Time, ok bool) {
	if len(d.heap) == 0 {
		return time.Time{}, false
	}
	return d.heap[0].at, true
}

// forgot reports whether some were forgotten and there is room for them again.
func (d *deadlines) forgot() bool { return d.lost && len(d.heap) < maxDeadlines/4 }

// deadlineHeap is for package container/heap.
type deadlineHeap []deadline

var _ heap.Interface = (*deadlineHeap)(nil)

func (h deadlineHeap) Len() int           { return len(h) }
func (h deadlineHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h deadlineHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *deadlineHeap) Push(x any)        { *h = append(*h, x.(deadline)) }
func (h *deadlineHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// expireDue looks at the requests whose time has come.
func (s *Sweeper) expireDue(ctx context.Context) error {
	var failed []error // of single requests: they must not keep the others waiting
	for len(failed) < maxSweepErrors {
		d, ok := s.deadlines.due(s.b.now())
		if !ok {
			break
		}
		again, err := s.settle(ctx, d.sequence)
		if err != nil {
			failed = append(failed, fmt.Errorf("request of sequence %d: %w", d.sequence, err))
			again = s.b.now().Add(sweepAgain)
		}
		if !again.IsZero() {
			s.deadlines.add(deadline{again, d.sequence})
		}
	}
	return errors.Join(failed...)
}

// settle ends a queued request whose time is up, or puts it away if nobody can wait for it. It returns when to look
// again, zero for never.
func (s *Sweeper) settle(ctx context.Context, sequence uint64) (again time.Time, err error) {
	m, err := s.b.readLeader(ctx, StreamRequests, messageGet{Sequence: sequence})
	if err != nil || m == nil {
		return time.Time{}, err
	}
	a, ok := ParseSubject(m.Subject)
	if !ok {
		return time.Time{}, nil
	}
	if !a.literal() {
		if err := storedJob(s.b, a, m).buryUnread(ctx, a.wildcard()); err != nil {
			return time.Time{}, err
		}
		return time.Time{}, s.b.removeRequest(ctx, sequence)
	}
	request, err := events.Decode(m.Header, m.Data)
	if err != nil || request.ExpiryTime().IsZero() {
		return time.Time{}, nil //nolint:nilerr // not the message that was remembered: the stream was made anew
	}
	if s.b.now().Before(request.ExpiryTime()) {
		return request.ExpiryTime(), nil
	}
	return s.expire(ctx, storedJob(s.b, a, m), request)
}

// expire ends a request whose time is up, then removes it: with expired if nobody has begun it, else with
// deadline_exceeded. One that is being worked on is left to its instance first.
func (s *Sweeper) expire(ctx context.Context, j *Job, request events.Event) (again time.Time, err error) {
	h, err := s.b.readHistory(ctx, j.Tenant, j.ID)
	if err != nil {
		return time.Time{}, err
	}
	if last := request.ExpiryTime().Add(holderGrace); h.open() && s.b.now().Before(last) {
		return last, nil
	}
	var terminal events.Event
	if len(h.Records) == 0 {
		terminal, err = s.b.expire(ctx, j.Address, request)
	} else {
		terminal, err = s.b.fail(ctx, j.Address, request, timeIsUp(request, len(h.Records)), h.Records)
	}
	if err != nil {
		return time.Time{}, err
	}
	delete(s.unserved, j.Subject())
	return time.Time{}, j.remove(ctx, terminal)
}

// timeIsUp is the error of a request whose time was up after some attempts.
func timeIsUp(request events.Event, attempts int) *events.Error {
	return events.Errorf(events.CodeDeadlineExceeded, "the request's time was up at %s, after %d attempts", request.ExpiryTime().UTC().Format(timeFormat), attempts)
}
