package process

import (
	"fmt"
	"maps"
	"os"
	"sync"
	"syscall"
	"time"

	"genfn/functions/device/cgroup"
	"genfn/functions/device/fault"
	"genfn/functions/runner/crashreport"
	"genfn/functions/runner/protocol"
)

// Stage of a runner that is not ready yet.
const stageStart = "start"

// record is what the messages of a runner tell of it, kept for the moment when it ends.
type record struct {
	mu      sync.Mutex
	started time.Time
	before  cgroup.Memory
	work    crashreport.Work
	memory  protocol.Memory
	ready   protocol.Ready   // zero: it never was
	fault   *fault.Fault     // that the runner told, and after which it must be replaced
	killed  fault.KillReason // why this program ended it, if it did
	closing bool             // it has been asked to end
}

// SetWork says whose work the next job is, for a crash report. It holds until the job's answer.
func (p *Process) SetWork(w crashreport.Work) {
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	p.record.work = w
}

// note learns from a message of the runner.
func (r *record) note(m protocol.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m := m.(type) {
	case *protocol.Ready:
		r.ready, r.memory, r.work.Stage = *m, m.Memory, ""
	case *protocol.Stage:
		r.work.Stage = m.Name
	case *protocol.Step:
		if m.Step < m.Steps {
			r.work.Stage = fmt.Sprintf("denoise step %d of %d", m.Step+1, m.Steps)
		}
	case *protocol.Loaded:
		r.memory, r.work = m.Memory, crashreport.Work{}
	case *protocol.Unloaded:
		r.memory, r.work = m.Memory, crashreport.Work{}
	case *protocol.Usage:
		r.memory = m.Memory
	case *protocol.Result:
		r.memory, r.work = m.After, crashreport.Work{}
	case *protocol.DeviceList:
		r.work = crashreport.Work{}
	case *protocol.Failed:
		r.memory = m.Memory
		switch f := m.Fault(); {
		case m.Job == 0: // it cannot start, says so and ends: the stage stays
		case f.Replace:
			r.fault = &f
		default:
			r.work = crashreport.Work{}
		}
	}
}

// Death is how the process ended as evidence for the classifier. Stage is where its work was.
func (e Exit) Death(stage, device string) fault.Death {
	return fault.Death{
		Killed: e.Killed, Signal: e.Signal, ExitCode: e.Code, Stderr: e.Stderr, Before: e.Before, After: e.After, Stage: stage, Device: device,
	}
}

// lastMessages bounds how long a reaped process's last messages, which are in the socket already, are waited for.
const lastMessages = 200 * time.Millisecond

// reaped fills the exit in and leaves a crash report if the process did not end in peace.
func (p *Process) reaped(state *os.ProcessState) {
	timer := time.NewTimer(lastMessages)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
	}
	r := &p.record
	r.mu.Lock()
	defer r.mu.Unlock()
	p.exit = exitOf(state, p.stderr.Signal())
	p.exit.Stderr = p.stderr.String()
	p.exit.Killed, p.exit.Before, p.exit.After = r.killed, r.before, r.before.Again()
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		p.exit.PeakRSS = usage.Maxrss << 10
	}
	f, bad := r.verdict(p.exit, p.config.Hello.Device)
	if !bad {
		return
	}
	path, err := p.config.Reports.Write(p.report(f))
	switch {
	case err != nil:
		p.config.Logger.Warn("no crash report", "pid", p.pid, "error", err)
	case path != "":
		p.config.Logger.Info("crash report written", "pid", p.pid, "file", path, "fault", f.Rule, "class", string(f.Class))
	}
}

// verdict is why the process had to end, and whether that is worth a report: not if it was told to end, or told that
// it cannot start.
func (r *record) verdict(exit Exit, device string) (f fault.Fault, bad bool) {
	switch {
	case r.fault != nil:
		return *r.fault, true
	case exit.Killed != fault.KilledNot && exit.Killed != fault.KilledForHang:
		return f, false
	case exit.Killed == fault.KilledNot && exit.Code == 0 && exit.Signal == 0 && (r.closing || r.work.Stage == stageStart):
		return f, false
	}
	return fault.ClassifyDeath(exit.Death(r.work.Stage, device)), true
}

func (p *Process) report(f fault.Fault) crashreport.Report {
	r := &p.record
	c := crashreport.Report{
		Time: time.Now(), Started: r.started, PID: p.pid, Device: p.config.Hello.Device, DeviceName: r.ready.DeviceName, Work: r.work, Fault: f,
		End: p.exit.String(), Stderr: p.exit.Stderr, Versions: map[string]string{"genfn": p.config.Version, "kernels": r.ready.Kernels},
		Memory: crashreport.Memory{Last: r.memory, PeakRSS: p.exit.PeakRSS, Group: p.exit.After},
	}
	maps.Copy(c.Versions, r.ready.Versions)
	maps.DeleteFunc(c.Versions, func(_, version string) bool { return version == "" })
	return c
}
