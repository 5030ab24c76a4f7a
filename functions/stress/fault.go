package stress

import (
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
	GPULost:      "clFlush:code=-5,times=1",
	GPUMemory:    "clFlush:code=-4,times=1",
	GPUTransient: "clFlush:code=-2,times=1",
	GPUCrash:     "clFlush:crash=SEGV",
}

// faultFile is where the virtual GPU's faults are written, one at a time. Safe for concurrent use.
type faultFile struct {
	path  string
	mu    sync.Mutex
	owner int // number of the request whose fault is written; 0: none is
}

// arm writes the fault of a request and reports whether it is written: another's may be.
func (f *faultFile) arm(c Case) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owner != 0 {
		return false, nil
	}
	if err := virtualgpu.WriteFaults(f.path, deviceRules[c.Kind]); err != nil {
		return false, err
	}
	f.owner = c.Number
	return true, nil
}

// disarm takes back the fault of a request, once it was seen or the request has ended: in a fresh process a rule
// would count from the start.
func (f *faultFile) disarm(c Case) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owner != c.Number {
		return nil
	}
	f.owner = 0
	return virtualgpu.WriteFaults(f.path, "")
}

func (f *faultFile) clear() error {
	if f.path == "" {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owner = 0
	return virtualgpu.WriteFaults(f.path, "")
}

// startTolerance is how far the start of a process may be from when it was told: boot times are rounded.
const startTolerance = 5 * time.Second

// signal sends the signal of a kind to a runner process. It is an error if that is not on this machine.
func signal(k Kind, p *events.Process) error {
	if p == nil {
		return fmt.Errorf("the instance does not tell of its runner process")
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
