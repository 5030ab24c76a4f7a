package instance

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"genfn/events/broker"
	"genfn/functions/device/fault"
	"genfn/functions/model"
	"genfn/functions/runner/crashreport"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// Pauses between tries to start a runner.
const (
	minRestartPause = time.Second
	maxRestartPause = 30 * time.Second
)

// ackTimeout bounds the acknowledgement of a request. What it does not reach in time is acknowledged when it is
// delivered again.
const ackTimeout = 5 * time.Second

// queue hands out requests.
type queue interface {
	Next(ctx context.Context) (*broker.Job, error)
}

var _ queue = (*broker.Queue)(nil)

// slot does one request at a time with one runner process.
type slot struct {
	instance  *Instance
	config    Config
	log       *slog.Logger
	queue     queue
	runner    *process.Process // nil: none
	condemned bool             // to be replaced before the next request; SIGKILL may not have ended it
	exit      process.Exit     // of the last runner
	preloaded *process.Process // the runner that was told to load Config.Preload
	jobs      uint64           // number of the last job sent to a runner
	made      int              // generations of the current runner
	models    []string         // that the current runner has loaded, the one used last comes last
	shapes    map[string]bool  // of work that it has done, and for which it may hold something

	canaryModel string           // the model that a canary uses: the last one that passed; "": none yet
	economy     model.Economy    // with which it passed
	warmed      *process.Process // the runner on which it passed
	acks        sync.WaitGroup   // acknowledgements under way, one at most
	idle        idleness
}

func newSlot(i *Instance, n int) *slot {
	return &slot{instance: i, config: i.config, log: i.log.With("slot", n)}
}

// run takes requests until soft ends.
func (s *slot) run(soft, hard context.Context) {
	defer s.acks.Wait()
	pause, failures := minRestartPause, 0
	for soft.Err() == nil {
		if !s.admit(soft) {
			continue
		}
		if err := s.wake(soft); soft.Err() != nil {
			return
		} else if err != nil {
			failures++
			e := unavailableError{err}.failure()
			s.log.Error("no runner, no requests are taken", "error", err, "failures_in_a_row", failures, "next_try_in", pause)
			s.instance.health.NoRunner(e, pause)
			if !sleep(soft, pause) {
				return
			}
			pause = min(2*pause, maxRestartPause)
			continue
		}
		if failures > 0 {
			s.log.Info("a runner has started again", "failures_before", failures)
			s.instance.health.Runner()
		}
		pause, failures = minRestartPause, 0
		if s.config.Preload != "" && s.preloaded != s.runner {
			s.preloaded = s.runner
			s.preload(soft)
		}
		job, err := s.fetch(soft)
		if err == nil {
			s.instance.usage.busy.Add(1)
			s.idle.served(s.serve(soft, hard, job))
			s.instance.usage.busy.Add(-1)
			continue
		}
		if errors.Is(err, errCheckup) {
			s.checkup(soft)
			continue
		}
		if errors.Is(err, errIdle) {
			s.rest(soft)
			continue
		}
		if soft.Err() == nil && !errors.Is(err, broker.ErrQueueClosed) && !errors.Is(err, errStopped) {
			s.log.Error("no requests can be fetched", "error", err)
			sleep(soft, pause)
		}
	}
}

// acknowledge acknowledges an answered request in the background, so that the next can be taken meanwhile.
func (s *slot) acknowledge(job *broker.Job, log *slog.Logger) {
	s.acks.Wait()
	s.acks.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
		defer cancel()
		if err := job.Done(ctx); err != nil {
			log.Warn("answered request not acknowledged, it is delivered again and then acknowledged", "error", err)
		}
	})
}

// sleep reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ready reports whether there is a living runner.
func (s *slot) ready() bool { return s.runner != nil && s.runner.Alive() && !s.condemned }

// wake makes sure that there is a living runner, unless the last one was ended because nobody needed it.
func (s *slot) wake(ctx context.Context) error {
	if s.idle.resting {
		return nil
	}
	return s.start(ctx)
}

// start makes sure that there is a living runner.
func (s *slot) start(ctx context.Context) error {
	if s.ready() {
		return nil
	}
	if s.runner != nil {
		why := fault.KilledNot
		if s.runner.Alive() {
			why = fault.KilledForHang // of its load ahead, or stuck in the kernel; or it told of a fault, which says more
		}
		if err := s.kill(why); err != nil {
			return err
		}
		s.log.Warn("runner ended between requests", "exit", s.exit.String(), "stderr", s.exit.Stderr)
	}
	p, err := process.Start(ctx, s.config.Runner)
	s.runner, s.condemned, s.made = p, err != nil && p != nil, 0
	s.models, s.shapes = nil, nil
	s.idle.began()
	if err == nil {
		s.instance.found(p)
	}
	return err
}

// first starts the slot's first runner. A device that cannot be used ends the instance before it serves.
func (s *slot) first(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return err
	}
	s.instance.health.Proved()
	return nil
}

// preload loads the configured model. If that fails, the first request says so in words.
func (s *slot) preload(ctx context.Context) {
	m, err := s.instance.catalog.get(s.config.Preload)
	if err != nil {
		s.log.Error("model cannot be loaded ahead", "error", err)
		return
	}
	if err := s.fitsAhead(m); err != nil {
		s.log.Error("model cannot be loaded ahead", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Budgets.Load)
	defer cancel()
	s.jobs++
	s.runner.SetWork(crashreport.Work{Model: m.Name})
	s.uses(m.Name, "ahead")
	if err := s.runner.Send(&protocol.Load{Job: s.jobs, Model: m.protocol()}); err != nil {
		s.log.Error("model cannot be loaded ahead", "error", err)
		return
	}
	for {
		select {
		case m, ok := <-s.runner.Messages():
			if !ok {
				s.log.Error("the runner ended while it loaded a model ahead", "model", s.config.Preload)
				return
			}
			switch m := m.(type) {
			case *protocol.Loaded:
				s.log.Info("model loaded", "model", m.Model, "ms", m.ElapsedMS)
				return
			case *protocol.Failed:
				s.log.Error("model cannot be loaded ahead", "error", m.Error)
				s.condemned = m.Fatal // to be replaced
				return
			}
		case <-ctx.Done():
			s.condemned = true // it may load for ever
			return
		}
	}
}

// kill ends the runner, for the reason given, and returns when it is reaped. If SIGKILL does not end it the slot keeps
// it, and start will not replace it: the device is in quarantine.
func (s *slot) kill(why fault.KillReason) error {
	if s.runner == nil {
		return nil
	}
	if err := s.runner.KillFor(why); err != nil {
		s.condemned = true
		return err
	}
	s.exit, _ = s.runner.Exit()
	s.instance.countRunnerExit(s.exit)
	s.instance.usage.ended(s.runner.PID())
	s.runner, s.condemned = nil, false
	return nil
}

// close ends the runner in peace, and reports whether there is none any more.
func (s *slot) close() bool {
	if s.runner == nil {
		return true
	}
	if err := s.runner.Close(); err != nil {
		s.log.Error("runner does not end", "error", err)
		return false
	}
	s.instance.usage.ended(s.runner.PID())
	s.runner, s.models, s.shapes, s.made = nil, nil, nil, 0
	return true
}

// printable replaces control characters, which cost six bytes each in JSON.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return '.'
		}
		return r
	}, s)
}
