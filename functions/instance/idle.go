package instance

import (
	"context"
	"errors"
	"time"
)

// errIdle says that nothing is fetched because something has not been used for as long as it is kept.
var errIdle = errors.New("something is idle for too long")

// idleness is what a slot knows of when it was used. Only requests count as use: canaries keep nothing alive.
type idleness struct {
	since   time.Time            // the runner's start or its last request
	used    map[string]time.Time // a model's last request
	resting bool                 // the runner was ended because it was idle; the next request starts one
}

// began notes a fresh runner.
func (i *idleness) began() {
	*i = idleness{since: time.Now(), used: map[string]time.Time{}}
}

// served notes that a request for a model is over.
func (i *idleness) served(model string) {
	i.since = time.Now()
	if i.used != nil {
		i.used[model] = i.since
	}
}

// idleModels are the loaded models that have been idle for so long at a moment, and when the next will be; zero:
// never. The model that is loaded ahead stays.
func (s *slot) idleModels(now time.Time) (due []string, next time.Time) {
	if s.config.IdleModels <= 0 {
		return nil, next
	}
	for _, name := range s.models {
		if name == s.config.Preload {
			continue
		}
		used, ok := s.idle.used[name]
		if !ok { // by a canary only
			used = s.idle.since
		}
		switch at := used.Add(s.config.IdleModels); {
		case !at.After(now):
			due = append(due, name)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return due, next
}

// idleRunner is when the runner will have been idle for as long as it is kept; zero: never, or there is none.
func (s *slot) idleRunner() (at time.Time) {
	if s.config.IdleRunner <= 0 || s.config.Preload != "" || !s.ready() {
		return at
	}
	return s.idle.since.Add(s.config.IdleRunner)
}

// whenIdle calls call as soon as something of the slot's is idle for too long, until stop is called.
func (s *slot) whenIdle(call func()) (stop func()) {
	now := time.Now()
	due, next := s.idleModels(now)
	if at := s.idleRunner(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
		next = at
	}
	switch {
	case len(due) > 0 && s.ready():
		next = now
	case next.IsZero():
		return func() {}
	}
	timer := time.AfterFunc(next.Sub(now), call)
	return func() { timer.Stop() }
}

// rest ends the runner if it is idle for too long, else it unloads the models that are. What the runner held on its
// device is free then, and any other process may use it: the lock of the device is given back with it.
func (s *slot) rest(soft context.Context) {
	now := time.Now()
	if at := s.idleRunner(); !at.IsZero() && !at.After(now) {
		idle := now.Sub(s.idle.since).Round(time.Millisecond)
		if !s.close() {
			s.condemned = true
			return
		}
		s.idle.resting = true
		s.log.Info(s.field("idle runner ended, the next request starts one"), "idle_for", idle)
		s.instance.beat()
		return
	}
	due, _ := s.idleModels(now)
	if len(due) == 0 || !s.ready() {
		return
	}
	ctx, cancel := context.WithTimeout(soft, s.config.Budgets.Load)
	defer cancel()
	before := s.instance.usage.of(s.runner.PID())
	if err := s.unload(ctx, due); err != nil {
		if soft.Err() == nil {
			s.condemned = true // it may hold them yet
			s.log.Warn(s.field("idle models not unloaded, the runner is replaced"), "models", due, "error", err)
		}
		return
	}
	after := s.instance.usage.of(s.runner.PID())
	s.log.Info(s.field("idle models unloaded"), "models", due, "rss_before", before.RSS, "rss_after", after.RSS)
	s.instance.beat()
}
