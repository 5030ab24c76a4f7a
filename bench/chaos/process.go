package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// restartPause is how long a process that ended is gone, unless an action says otherwise.
const restartPause = 300 * time.Millisecond

// service is a process that is started again whenever it ends, as by an init system. Safe for concurrent use.
type service struct {
	name    string
	command []string
	dir     string // working directory
	log     string // file of its standard error
	ready   string // its first line on standard output has this; "": it is ready when it runs

	turn chan struct{} // holds one token: no action is under way with it

	mu    sync.Mutex
	pid   int           // 0: it does not run
	up    chan struct{} // closed when the process that runs is ready
	pause time.Duration // before the next start
	ends  int           // of processes
	ended chan struct{} // closed when run returned
}

func newService(name string, command []string, dir, ready string) *service {
	s := &service{
		name: name, command: command, dir: dir, log: filepath.Join(dir, name+".log"), ready: ready,
		turn: make(chan struct{}, 1), up: make(chan struct{}), pause: restartPause, ended: make(chan struct{}),
	}
	s.turn <- struct{}{}
	return s
}

// run keeps the process running until ctx ends.
func (s *service) run(ctx context.Context) error {
	defer close(s.ended)
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	for ctx.Err() == nil {
		if err := s.once(ctx, log); err != nil {
			return err
		}
		s.mu.Lock()
		pause := s.pause
		s.pause = restartPause
		s.mu.Unlock()
		if !sleep(ctx, pause) {
			break
		}
	}
	return nil
}

// once runs the process to its end, whatever that is. When ctx ends the process is asked to end, and killed if it does
// not.
func (s *service) once(ctx context.Context, log io.Writer) error {
	cmd := exec.CommandContext(ctx, s.command[0], s.command[1:]...) //nolint:gosec // its commands are this package's
	cmd.Dir, cmd.Stderr = s.dir, log
	cmd.Cancel = func() error { return errors.Join(cmd.Process.Signal(unix.SIGTERM), cmd.Process.Signal(unix.SIGCONT)) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.mu.Lock()
	s.pid = cmd.Process.Pid
	up := s.up
	s.mu.Unlock()
	if s.ready == "" {
		close(up)
	}
	lines := bufio.NewScanner(out)
	for told := s.ready == ""; lines.Scan(); {
		fmt.Fprintln(log, lines.Text()) // with --json an error comes here
		if !told && strings.Contains(lines.Text(), s.ready) {
			told = true
			close(up)
		}
	}
	err = cmd.Wait()
	fmt.Fprintf(log, "---- %s ended: %v\n", s.name, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid, s.ends = 0, s.ends+1
	select {
	case <-up:
		s.up = make(chan struct{})
	default:
	}
	return nil
}

// isUp waits until the process is ready, and returns its id.
func (s *service) isUp(ctx context.Context) (pid int, err error) {
	for {
		s.mu.Lock()
		up := s.up
		s.mu.Unlock()
		select {
		case <-up:
		case <-s.ended:
			return 0, fmt.Errorf("%s is not kept running any more", s.name)
		case <-ctx.Done():
			return 0, fmt.Errorf("%s is not ready, see %s: %w", s.name, s.log, ctx.Err())
		}
		s.mu.Lock()
		pid, same := s.pid, up == s.up
		s.mu.Unlock()
		if same && pid != 0 {
			return pid, nil
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return 0, ctx.Err()
		}
	}
}

// signal sends a signal to the process; one that has ended meanwhile is no error.
func (s *service) signal(sig unix.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return nil
	}
	if err := unix.Kill(s.pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// end signals the process and waits until it has ended, to be started again after pause.
func (s *service) end(ctx context.Context, sig unix.Signal, pause time.Duration) error {
	s.mu.Lock()
	s.pause = pause
	before, runs := s.ends, s.pid != 0
	s.mu.Unlock()
	if !runs {
		return nil
	}
	if err := s.signal(sig); err != nil {
		return err
	}
	for s.endings() == before && sleep(ctx, 5*time.Millisecond) {
	}
	return ctx.Err()
}

// endings returns how often a process has ended.
func (s *service) endings() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends
}

// stopFor stops the process for a while.
func (s *service) stopFor(ctx context.Context, d time.Duration) error {
	if err := s.signal(unix.SIGSTOP); err != nil {
		return err
	}
	sleep(ctx, d) // it goes on in any case
	return s.signal(unix.SIGCONT)
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
