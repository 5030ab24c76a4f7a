package instance

import (
	"context"
	"slices"
	"sync"
	"time"

	"genfn/events"
)

// peers are the instances that heartbeats tell of, this one among them. Safe for concurrent use.
type peers struct {
	changed chan struct{} // holds one when who takes requests may have changed

	mu    sync.Mutex
	known map[string]peer
}

func newPeers() peers { return peers{changed: make(chan struct{}, 1)} }

type peer struct {
	status  events.DeviceStatus
	outline string
	heard   time.Time
}

// alive notes that an instance lives, and reports whether nothing else is new: that its status is known.
func (p *peers) alive(instance, outline string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, ok := p.known[instance]
	if !ok || o.outline != outline {
		return false
	}
	o.heard = time.Now()
	p.known[instance] = o
	return true
}

// note takes what an instance says of itself. It reports whether the instance is a new one.
func (p *peers) note(s events.DeviceStatus) (fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	was, old := p.known[s.Instance]
	if old && was.status.Incarnation == s.Incarnation && s.Sequence < was.status.Sequence {
		return false // it came late
	}
	if p.known == nil {
		p.known = map[string]peer{}
	}
	p.known[s.Instance] = peer{s, s.Outline(), now}
	if !old || !servesAlike(was.status, s) {
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
	for name, o := range p.known {
		if now.Sub(o.heard) > statusLife {
			delete(p.known, name)
		}
	}
	return !old
}

// servesAlike reports whether an instance takes the same requests as before.
func servesAlike(was, is events.DeviceStatus) bool {
	return was.State == is.State && was.Admitted() == is.Admitted() && was.Slots == is.Slots && was.Kind == is.Kind && slices.Equal(was.Models, is.Models)
}

// any reports whether some living instance is as asked for.
func (p *peers) any(is func(events.DeviceStatus) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.known {
		if time.Since(o.heard) <= statusLife && is(o.status) {
			return true
		}
	}
	return false
}

// serve reports whether an instance of the class takes requests for the model, or will when it has proved itself.
func (p *peers) serve(class, model string) bool {
	return p.any(func(s events.DeviceStatus) bool {
		return s.Class == class && s.Admitted() && slices.Contains(s.Models, model)
	})
}

// kinds lists the kinds of device of a class that serve a model, as far as they are known.
func (p *peers) kinds(class, model string) (kinds []string) {
	p.any(func(s events.DeviceStatus) bool {
		if s.Class == class && slices.Contains(s.Models, model) && s.Kind != "" {
			kinds = append(kinds, s.Kind)
		}
		return false
	})
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// meet takes what an instance says of itself.
func (i *Instance) meet(s events.DeviceStatus) {
	if i.peers.note(s) && s.Instance != i.config.Name {
		i.log.Debug("another instance is heard of", "peer", s.Instance, "device", s.Device, "state", s.State)
	}
	i.lacks(s)
}

// watch keeps the peers up to date until ctx ends. What cannot be watched now is tried again. known is called when those
// are known that were there before, or cannot be.
func (i *Instance) watch(ctx context.Context, known func()) {
	defer known()
	for ctx.Err() == nil {
		stop, err := i.config.Broker.WatchPeers(ctx, statusLife, i.peers.alive, i.meet)
		known()
		if err == nil {
			<-ctx.Done()
			stop()
			return
		}
		i.log.Debug("heartbeats of other instances cannot be watched", "error", err)
		sleep(ctx, minRestartPause)
	}
}
