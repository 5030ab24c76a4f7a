package instance

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"genfn/events/broker"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// Pauses between tries to start a runner.
const (
	minRestartPause = time.Second
	maxRestartPause = 30 * time.Second
)

// slot does one request at a time with one runner process.
type slot struct {
	instance  *Instance
	config    Config
	log       *slog.Logger
	queue     *broker.Queue
	runner    *process.Process // nil: none
	condemned bool             // SIGKILL did not end the runner
	exit      process.Exit     // of the last runner
	preloaded *process.Process // the runner that was told to load Config.Preload
	jobs      uint64           // number of the last job sent to a runner
}

func newSlot(i *Instance, n int) *slot {
	return &slot{instance: i, config: i.config, log: i.log.With("slot", n)}
}

// run takes requests until soft ends.
func (s *slot) run(soft, hard context.Context) {
	pause := minRestartPause
	for soft.Err() == nil {
		if err := s.start(soft); soft.Err() != nil {
			return
		} else if err != nil {
			s.log.Error("no runner, no requests are taken", "error", err, "next_try_in", pause)
			if !sleep(soft, pause) {
				return
			}
			pause = min(2*pause, maxRestartPause)
			continue
		}
		pause = minRestartPause
		if s.config.Preload != "" && s.preloaded != s.runner {
			s.preloaded = s.runner
			s.preload(soft)
		}
		job, err := s.queue.Next(soft)
		if err == nil {
			s.serve(soft, hard, job)
			continue
		}
		if soft.Err() == nil && !errors.Is(err, broker.ErrQueueClosed) {
			s.log.Error("no requests can be fetched", "error", err)
			sleep(soft, pause)
		}
	}
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

// start makes sure that there is a living runner.
func (s *slot) start(ctx context.Context) error {
	if s.runner != nil {
		if s.runner.Alive() && !s.condemned {
			return nil
		}
		if err := s.kill(); err != nil {
			return err
		}
		s.log.Warn("runner ended between requests", "exit", s.exit.String(), "stderr", s.exit.Stderr)
	}
	p, err := process.Start(ctx, s.config.Runner)
	s.runner, s.condemned = p, err != nil && p != nil
	return err
}

// preload loads the configured model. If that fails, the first request says so in words.
func (s *slot) preload(ctx context.Context) {
	m, err := s.instance.catalog.get(s.config.Preload)
	if err != nil {
		s.log.Error("model cannot be loaded ahead", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Budgets.Load)
	defer cancel()
	s.jobs++
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

// kill ends the runner and returns when it is reaped. If SIGKILL does not end it the slot keeps it, and start
// will not replace it: the device is in quarantine.
func (s *slot) kill() error {
	if s.runner == nil {
		return nil
	}
	if err := s.runner.Kill(); err != nil {
		s.condemned = true
		return err
	}
	s.exit, _ = s.runner.Exit()
	s.runner, s.condemned = nil, false
	return nil
}

// close ends the runner in peace.
func (s *slot) close() {
	if s.runner == nil {
		return
	}
	if err := s.runner.Close(); err != nil {
		s.log.Error("runner does not end", "error", err)
		return
	}
	s.runner = nil
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

func isGPU(device string) bool {
	return strings.HasPrefix(device, "GPU") || strings.HasPrefix(device, "CUDA") || strings.HasPrefix(device, "cuda")
}
