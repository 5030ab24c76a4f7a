package stress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"genfn/events"
	"genfn/functions/device/virtualgpu"
)

// deviceRules are the faults of a virtual GPU in its own words (native/vgpu).
var deviceRules = map[Kind]string{
	GPULost:      "clFlush error=-5 times=1",
	GPUMemory:    "clFlush error=-4 times=1",
	GPUTransient: "clFlush error=-2 times=1",
	GPUCrash:     "clFlush crash=SIGSEGV",
}

// faultFile is where the virtual GPU's faults are written, one at a time. Safe for concurrent use.
type faultFile struct {
	path string
	turn chan struct{} // holds one token: no fault is under way

	mu     sync.Mutex
	struck bool // the fault that is written was seen
}

func newFaultFile(path string) *faultFile {
	f := &faultFile{path: path, turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	return f
}

// arm waits until no other fault is under way and writes one. release must be called when the device is well again.
func (f *faultFile) arm(ctx context.Context, k Kind) (release func(), err error) {
	select {
	case <-f.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release = func() { f.turn <- struct{}{} }
	f.mu.Lock()
	defer f.mu.Unlock()
	f.struck = false
	if err := virtualgpu.WriteFaults(f.path, deviceRules[k]); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// seen takes the fault back because a request, of this fault or of another, told of one: a fresh process would count
// a rule's calls from the start.
func (f *faultFile) seen() error {
	if f.path == "" {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.struck = true
	return virtualgpu.WriteFaults(f.path, "")
}

// clear takes back what is written, and reports whether it had been seen.
func (f *faultFile) clear() (struck bool, err error) {
	if f.path == "" {
		return false, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.struck, virtualgpu.WriteFaults(f.path, "")
}

// startTolerance is how far the start of a process may be from when it was told: boot times are rounded.
const startTolerance = 5 * time.Second

// signal sends the signal of a kind to a runner process. It is an error if that is not on this machine.
func signal(k Kind, p *events.Process) error {
	if p == nil {
		return errors.New("the instance does not tell of its runner process")
	}
	if err := isRunner(p); err != nil {
		return fmt.Errorf("process %d is not a runner of this machine: %w", p.PID, err)
	}
	return unix.Kill(p.PID, map[Kind]unix.Signal{Kill: unix.SIGKILL, Crash: unix.SIGSEGV, Abort: unix.SIGABRT, Hang: unix.SIGSTOP}[k])
}

func isRunner(p *events.Process) error {
	proc, err := procfs.NewProc(p.PID)
	if err != nil {
		return err
	}
	command, err := proc.CmdLine()
	if err != nil {
		return err
	}
	if !slices.Contains(command, "runner") {
		return fmt.Errorf("its command is %q", command)
	}
	stat, err := proc.Stat()
	if err != nil {
		return err
	}
	began, err := stat.StartTime()
	if err != nil {
		return err
	}
	if started := time.Unix(0, int64(began*float64(time.Second))); started.Sub(p.StartedAt).Abs() > startTolerance {
		return fmt.Errorf("it began at %s, the runner at %s", started, p.StartedAt)
	}
	return nil
}
