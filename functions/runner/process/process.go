// Package process starts, watches and ends runner processes. It is the instance's half of what package
// runner is in the child, and free of native code.
//
// These details have caused bugs:
//   - A child with a parent-death signal gets it when the thread that started it ends, not the process
//     (golang/go#27505). So each child is started and waited for on a thread of its own, locked until it is reaped.
//   - The child is in a process group of its own: Ctrl-C in a terminal must reach the instance only, which
//     then decides what happens to the running work.
//   - Work is handed back only after Kill has returned: until then the child may still be at it.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"genfn/events"
	"genfn/functions/device/cgroup"
	"genfn/functions/device/fault"
	"genfn/functions/runner/crashreport"
	"genfn/functions/runner/protocol"
)

// Defaults of Config.
const (
	DefaultStartTimeout = 60 * time.Second
	DefaultReapTimeout  = 10 * time.Second
	DefaultSendTimeout  = 10 * time.Second
)

// closeTimeout bounds how long Close waits for a runner to free everything by itself.
const closeTimeout = 3 * time.Second

// endTimeout bounds how long a runner whose socket has ended may take to end too: until then its own end tells more
// than a signal would.
const endTimeout = 2 * time.Second

// Config says how to start a runner.
type Config struct {
	Command      []string           // program and arguments; nil: this program with the argument "runner"
	Env          []string           // added to this process's environment
	Hello        protocol.Hello     // Protocol is filled in
	Stderr       io.Writer          // also gets what the runner writes to standard error; may be nil
	Reports      *crashreport.Store // keeps a report of each runner that ends badly; nil: none
	Version      string             // of the program, for those reports
	StartTimeout time.Duration      // from the start to Ready; 0: DefaultStartTimeout
	ReapTimeout  time.Duration      // from SIGKILL to the end; 0: DefaultReapTimeout
	SendTimeout  time.Duration      // for the runner to read a message; 0: DefaultSendTimeout
	Logger       *slog.Logger       // nil: discard
	// Hardware is told what the runner's driver tells of the device, whether anybody reads Messages or not; nil: nobody is.
	// It must not wait for the runner.
	Hardware func(*protocol.Hardware)
}

func (c Config) withDefaults() Config {
	if len(c.Command) == 0 {
		// Unlike the path it was started with, this is the running binary even if that file was replaced.
		c.Command = []string{"/proc/self/exe", "runner"}
	}
	if c.StartTimeout <= 0 {
		c.StartTimeout = DefaultStartTimeout
	}
	if c.ReapTimeout <= 0 {
		c.ReapTimeout = DefaultReapTimeout
	}
	if c.SendTimeout <= 0 {
		c.SendTimeout = DefaultSendTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Hello.Protocol = protocol.Version
	return c
}

// DefaultRuntimeDir is where the locks of this user's devices are: $XDG_RUNTIME_DIR/genfn, else a folder of the
// user's own among the temporary files.
func DefaultRuntimeDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "genfn")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("genfn-%d", os.Getuid()))
}

// ErrUnkillable is returned by Kill for a process that SIGKILL does not end: it is stuck in the kernel, and
// with it its device. Its lock file stays locked, so that no other runner gets the device.
var ErrUnkillable = errors.New("the runner process does not end on SIGKILL: its device is stuck in the driver")

// ErrHung is returned by Send for a runner that does not read its messages. It must be killed.
var ErrHung = errors.New("the runner process does not read its messages")

// Process is a running runner. Its methods are safe for concurrent use.
type Process struct {
	config   Config
	conn     *protocol.Conn
	bulk     *protocol.Bulk
	ready    *protocol.Ready
	messages chan protocol.Message
	ended    chan struct{} // closed when the socket has ended
	stop     chan struct{} // closed when nobody reads messages any more
	stopOnce sync.Once
	stderr   tail
	record   record

	pid  int
	kill func() error
	done chan struct{} // closed when the process is reaped; exit is set before
	exit Exit
}

// Exit is how a runner ended.
type Exit struct {
	Code   int            // exit code; -1 if a signal ended it at once
	Signal syscall.Signal // what ended it, 0 if no signal did
	Stderr string         // the last 8 KiB of standard error, or those around a crash report

	Killed        fault.KillReason // why this program ended it, if it did
	Before, After cgroup.Memory    // of its control group when it started and when it was reaped
	PeakRSS       int64            // bytes; never less than that of the process that started it
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return fmt.Sprintf("the runner process was ended by signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("the runner process ended with exit code %d", e.Code)
}

// Start starts a runner and waits until it is ready. ctx and Config.StartTimeout bound that wait, not the
// life of the process. An error of the runner itself (device in use, libraries missing) comes back as the
// *events.Error it sent. With an error there is no process, except with ErrUnkillable: then the process may still
// hold its device, and starting another would only spread to the next slot; Kill it again before.
func Start(ctx context.Context, c Config) (*Process, error) {
	p := &Process{
		config:   c.withDefaults(),
		messages: make(chan protocol.Message, 64),
		ended:    make(chan struct{}),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	p.record.work.Stage = stageStart
	if err := p.spawn(); err != nil {
		return nil, err
	}
	go p.receive()
	if err := p.handshake(ctx); err != nil {
		killed := p.KillFor(startKill(ctx, err))
		var said *events.Error
		if !errors.As(err, &said) {
			err = p.startError(err)
		}
		if killed != nil {
			return p, errors.Join(err, killed)
		}
		return nil, err
	}
	p.config.Logger.Debug("runner is ready", "pid", p.pid, "device", p.ready.Device, "slot", p.ready.Slot)
	return p, nil
}

// spawn makes the channels to the child and starts it.
func (p *Process) spawn() (err error) {
	bulk, err := protocol.CreateBulk()
	if err != nil {
		return err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return errors.Join(err, bulk.Close())
	}
	defer theirs.Close()
	command := p.config.Command
	cmd := exec.Command(command[0], command[1:]...) //nolint:noctx // it outlives Start, Kill ends it
	cmd.Env = append(os.Environ(), p.config.Env...)
	cmd.ExtraFiles = []*os.File{theirs, bulk.File()} // descriptors SocketFD and BulkFD
	cmd.Stderr = &p.stderr
	if p.config.Stderr != nil {
		cmd.Stderr = io.MultiWriter(&p.stderr, p.config.Stderr)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = time.Second // a grandchild may hold standard error open
	if err := p.run(cmd); err != nil {
		return errors.Join(fmt.Errorf("start runner process %s: %w", command[0], err), ours.Close(), bulk.Close())
	}
	p.conn, p.bulk = protocol.NewConn(ours), bulk
	p.conn.SetSendTimeout(p.config.SendTimeout)
	return nil
}

// run starts cmd on a thread that lives until cmd is reaped (golang/go#27505).
func (p *Process) run(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid, p.kill = cmd.Process.Pid, cmd.Process.Kill
		p.record.started = time.Now()
		started <- nil
		p.record.before = cgroup.Read(os.Getpid()) // the child is in the same group
		err := cmd.Wait()
		p.reaped(cmd.ProcessState)
		p.config.Logger.Debug("runner ended", "pid", p.pid, "exit", p.exit.String(), "wait", err)
		close(p.done)
	}()
	return <-started
}

// exitOf tells how a process ended. Go catches the signals of a crash in native code, reports them on standard
// error and exits with code 2; crash is the signal of such a report.
func exitOf(state *os.ProcessState, crash syscall.Signal) Exit {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return Exit{Code: -1, Signal: status.Signal()}
	}
	return Exit{Code: state.ExitCode(), Signal: crash}
}

// socketPair returns our end as a connection with deadlines and theirs as a file to inherit.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair for the runner: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "runner-socket")
	file := os.NewFile(uintptr(fds[0]), "instance-socket")
	defer file.Close()
	ours, err := net.FileConn(file)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("socket pair for the runner: %w", err), theirs.Close())
	}
	return ours, theirs, nil
}

func (p *Process) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.config.StartTimeout)
	defer cancel()
	if err := p.Send(&p.config.Hello); err != nil {
		return err
	}
	select {
	case m, ok := <-p.messages:
		if !ok {
			return errors.New("the socket was closed before the runner was ready")
		}
		switch m := m.(type) {
		case *protocol.Ready:
			if m.Protocol != protocol.Version {
				return fmt.Errorf("the runner speaks protocol version %d, expected %d: use one build of the program for both", m.Protocol, protocol.Version)
			}
			p.ready = m
			return nil
		case *protocol.Failed:
			return m.Error
		default:
			return fmt.Errorf("the runner answered hello with %s", protocol.KindOf(m))
		}
	case <-ctx.Done():
		return fmt.Errorf("the runner was not ready within its time: %w", ctx.Err())
	}
}

// startKill says why a runner is ended whose start ended with err; outer is the context of the caller.
func startKill(outer context.Context, err error) fault.KillReason {
	var said *events.Error
	switch {
	case errors.As(err, &said), outer.Err() != nil:
		return fault.KilledForShutdown
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrHung):
		return fault.KilledForHang
	default:
		return fault.KilledNot
	}
}

// startError adds how the process ended, if it did, and what it said.
func (p *Process) startError(err error) error {
	exit, ok := p.Exit()
	if !ok {
		return fmt.Errorf("runner start: %w; its last words: %q", err, exit.Stderr)
	}
	return fmt.Errorf("runner start: %w; %s; its last words: %q", err, exit, exit.Stderr)
}

// receive passes messages on until the socket ends.
func (p *Process) receive() {
	defer close(p.messages)
	for {
		m, err := p.conn.Receive()
		if err != nil {
			close(p.ended)
			if !errors.Is(err, io.EOF) {
				p.config.Logger.Debug("runner socket", "pid", p.pid, "error", err)
			}
			return
		}
		p.record.note(m)
		if h, ok := m.(*protocol.Hardware); ok {
			if p.config.Hardware != nil {
				p.config.Hardware(h)
			}
			continue
		}
		select {
		case p.messages <- m:
		case <-p.stop:
			return
		}
	}
}

// Ready is what the runner said of itself; nil before it was ready.
func (p *Process) Ready() *protocol.Ready { return p.ready }

// PID is the process id.
func (p *Process) PID() int { return p.pid }

// Started is when the process was started.
func (p *Process) Started() time.Time { return p.record.started }

// Bulk is the memory file shared with the runner.
func (p *Process) Bulk() *protocol.Bulk { return p.bulk }

// Messages are the runner's messages. The channel is closed when its socket ends or makes no sense any more;
// the process may then still run: Kill it.
func (p *Process) Messages() <-chan protocol.Message { return p.messages }

func (p *Process) socketEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Alive reports whether the process runs and can be talked to.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return !p.socketEnded()
	}
}

// Exit tells how the process ended; ok is false while it runs.
func (p *Process) Exit() (exit Exit, ok bool) {
	select {
	case <-p.done:
		return p.exit, true
	default:
		return Exit{Stderr: p.stderr.String()}, false
	}
}

// Send sends a message to the runner. It waits for room in the socket for Config.SendTimeout at most: then it
// closes the socket, because half a message may be in it, and returns ErrHung.
func (p *Process) Send(m protocol.Message) error {
	err := p.conn.Send(m)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.conn.Close()
		return fmt.Errorf("%w: %w", ErrHung, err)
	}
	return err
}

// Kill ends the process with SIGKILL because it is not needed any more: see KillFor.
func (p *Process) Kill() error { return p.KillFor(fault.KilledForShutdown) }

// KillFor ends the process with SIGKILL and waits until it is reaped, at most Config.ReapTimeout: then it returns
// ErrUnkillable. A process that has closed its socket has begun to end by itself, and gets a moment to do so:
// that is also what fault.KilledNot asks for. Of several reasons the first counts. It is no error if the process has
// ended already, or to call it again.
func (p *Process) KillFor(reason fault.KillReason) error {
	if reason != fault.KilledForHang && p.socketEnded() {
		reason = fault.KilledNot
	}
	if reason == fault.KilledNot && p.endsWithin(endTimeout) {
		p.release()
		return nil
	}
	p.noteKill(cmp.Or(reason, fault.KilledForHang))
	_ = p.kill() // fails only for a process that has ended
	if !p.endsWithin(p.config.ReapTimeout) {
		return fmt.Errorf("%w (pid %d)", ErrUnkillable, p.pid)
	}
	p.release()
	return nil
}

// noteKill records why the process is about to be killed.
func (p *Process) noteKill(reason fault.KillReason) {
	select {
	case <-p.done:
		return
	default:
	}
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	if p.record.killed == fault.KilledNot {
		p.record.killed = reason
	}
}

// endsWithin waits until the process is reaped, for d at most, and reports whether it is.
func (p *Process) endsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// Close asks the runner to free everything and end, and kills it if it does not. Safe to call twice.
func (p *Process) Close() error {
	p.record.mu.Lock()
	p.record.closing = true
	p.record.mu.Unlock()
	if err := p.Send(&protocol.Shutdown{}); err == nil {
		p.endsWithin(closeTimeout)
	}
	return p.Kill()
}

// release closes this side's descriptors.
func (p *Process) release() {
	p.stopOnce.Do(func() {
		close(p.stop)
		p.conn.Close()
		p.bulk.Close()
	})
}
