package process_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/runner/crashreport"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
	"genfn/functions/runner/runnertest"
)

// reporting is a runner's configuration with a store of its own.
func reporting(t *testing.T) (process.Config, func() []crashreport.Report) {
	t.Helper()
	c := runnertest.Config(t.TempDir())
	c.Reports, c.Version = crashreport.NewStore(t.TempDir()), "v1"
	return c, func() []crashreport.Report {
		list, err := c.Reports.List()
		require.NoError(t, err)
		return list
	}
}

func TestReportOfADeath(t *testing.T) {
	for do, class := range map[runnertest.Action]fault.Class{runnertest.Kill: fault.ClassKilled, runnertest.Abort: fault.ClassHost} {
		c, reports := reporting(t)
		p := start(t, c)
		p.SetWork(crashreport.Work{Request: "r1", Attempt: 3, Model: "m"})
		require.NoError(t, p.Send(generate(1, runnertest.Script{Do: do, Stage: events.StageDenoise, Step: 2})))
		<-p.Done()
		require.Len(t, reports(), 1)
		r := reports()[0]
		require.Equal(t, crashreport.Work{Request: "r1", Attempt: 3, Model: "m", Stage: "denoise step 3 of 4"}, r.Work)
		require.Equal(t, class, r.Fault.Class)
		require.Equal(t, "denoise step 3 of 4", r.Fault.Err.Stage)
		require.Equal(t, p.PID(), r.PID)
		require.Equal(t, "Test Device", r.DeviceName)
		require.Equal(t, map[string]string{"genfn": "v1", "kernels": "none", "scripted": "1"}, r.Versions)
		require.WithinRange(t, r.Started, r.Time.Add(-time.Minute), r.Time)
		require.Contains(t, r.End, "signal")
		require.Positive(t, r.Memory.Last.RSS)
		require.Positive(t, r.Memory.PeakRSS)
		require.GreaterOrEqual(t, r.Memory.Group.SystemOOMKills, int64(0))
		exit, _ := p.Exit()
		require.Equal(t, exit.Stderr, r.Stderr)
	}
}

func TestReportOfAHang(t *testing.T) {
	c, reports := reporting(t)
	p := start(t, c)
	require.NoError(t, p.Send(generate(1, runnertest.Script{Do: runnertest.Hang, Stage: events.StageTokenize})))
	for next[*protocol.Stage](t, p).Name != events.StageTokenize {
	}
	require.NoError(t, p.KillFor(fault.KilledForHang))
	require.NoError(t, p.Kill())
	require.Len(t, reports(), 1)
	require.Equal(t, fault.ClassHang, reports()[0].Fault.Class)
	exit, _ := p.Exit()
	require.Equal(t, fault.KilledForHang, exit.Killed, "the first reason counts")
}

func TestReportOfAFaultThatTheRunnerTold(t *testing.T) {
	c, reports := reporting(t)
	p := start(t, c)
	p.SetWork(crashreport.Work{Request: "r1"})
	require.NoError(t, p.Send(generate(1, runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise})))
	f := next[*protocol.Failed](t, p)
	require.Equal(t, fault.ClassFatal, f.Class)
	require.Equal(t, fault.ActionFreshRunner, f.Fault().Action)
	require.NoError(t, p.Kill())
	require.Len(t, reports(), 1)
	require.Equal(t, "opencl_out_of_resources", reports()[0].Fault.Rule)
	require.Equal(t, "r1", reports()[0].Work.Request)
}

func TestReportOfAStart(t *testing.T) {
	c, reports := reporting(t)
	c.Command = []string{"/bin/sh", "-c", "echo 'fatal error: runtime: out of memory' >&2; exit 2"}
	_, err := process.Start(t.Context(), c)
	require.ErrorContains(t, err, "exit code 2")
	require.Len(t, reports(), 1)
	require.Equal(t, "go_out_of_memory", reports()[0].Fault.Rule)
	require.Equal(t, "start", reports()[0].Work.Stage)

	c, reports = reporting(t)
	c.Hello.Device, c.StartTimeout = "STUCK", 200*time.Millisecond
	_, err = process.Start(t.Context(), c)
	require.ErrorContains(t, err, "not ready within its time")
	require.Len(t, reports(), 1)
	require.Equal(t, fault.ClassHang, reports()[0].Fault.Class)
}

// TestNoReportOfAPeacefulEnd: asked to end, not needed any more, an answer, or a start that was refused in words.
func TestNoReportOfAPeacefulEnd(t *testing.T) {
	c, reports := reporting(t)
	p := start(t, c)
	require.NoError(t, p.Send(generate(1, runnertest.Script{})))
	next[*protocol.Result](t, p)
	require.NoError(t, p.Close())

	p = start(t, c)
	require.NoError(t, p.Send(generate(1, runnertest.Script{Do: runnertest.Hang, Stage: events.StageDenoise})))
	require.NoError(t, p.Close())

	for _, reason := range []fault.KillReason{fault.KilledForCancel, fault.KilledForDeadline, fault.KilledForShutdown} {
		p = start(t, c)
		require.NoError(t, p.KillFor(reason))
		exit, _ := p.Exit()
		require.Equal(t, reason, exit.Killed)
		require.Equal(t, syscall.SIGKILL, exit.Signal)
	}
	c.Hello.Device = "BROKEN"
	_, err := process.Start(t.Context(), c)
	require.ErrorContains(t, err, "the device is broken")
	_, err = process.Devices(t.Context(), c)
	require.NoError(t, err)
	require.Empty(t, reports())
}

// TestAReasonDoesNotHideADeath: the instance gives a reason, but the process had ended by itself before.
func TestAReasonDoesNotHideADeath(t *testing.T) {
	c, reports := reporting(t)
	p := start(t, c)
	require.NoError(t, p.Send(generate(1, runnertest.Script{Do: runnertest.Abort, Stage: events.StageDenoise})))
	for range p.Messages() { // until the socket ends
	}
	require.NoError(t, p.KillFor(fault.KilledForDeadline))
	exit, _ := p.Exit()
	require.Equal(t, fault.KilledNot, exit.Killed)
	require.Len(t, reports(), 1)
}
