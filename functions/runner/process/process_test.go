package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"genfn/events"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
	"genfn/functions/runner/runnertest"
)

// envParent makes the test binary start a runner, print its pid and wait to be killed.
const envParent = "GENFN_TEST_PARENT"

func TestMain(m *testing.M) {
	runnertest.Main()
	if dir := os.Getenv(envParent); dir != "" {
		p, err := process.Start(context.Background(), runnertest.Config(dir))
		if err == nil {
			err = p.Send(generate(1, runnertest.Script{Do: runnertest.Hang, Stage: events.StageDenoise}))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for m := range p.Messages() {
			if s, ok := m.(*protocol.Stage); ok && s.Name == events.StageDenoise {
				fmt.Println(p.PID())
			}
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func generate(job uint64, s runnertest.Script) *protocol.Generate {
	return &protocol.Generate{Job: job, Model: protocol.Model{Name: "m"}, Request: protocol.Request{Prompt: s.Prompt(), Width: 8, Height: 8, Steps: 4, Count: 1, Seed: 5}}
}

func start(t *testing.T, c process.Config) *process.Process {
	t.Helper()
	p, err := process.Start(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	return p
}

// next returns the next message of type M; a Failed on the way fails the test unless it is asked for.
func next[M protocol.Message](t *testing.T, p *process.Process) M {
	t.Helper()
	var none M
	for {
		select {
		case m, ok := <-p.Messages():
			require.True(t, ok, "the runner's socket ended")
			if want, ok := m.(M); ok {
				return want
			}
			if f, ok := m.(*protocol.Failed); ok {
				require.NoError(t, f.Error)
			}
		case <-time.After(30 * time.Second):
			require.FailNow(t, "no message", "waiting for %T", none)
		}
	}
}

func TestGenerateOverTheMemoryFile(t *testing.T) {
	p := start(t, runnertest.Config(t.TempDir()))
	require.Equal(t, "Test Device", p.Ready().DeviceName)
	require.Equal(t, p.PID(), p.Ready().PID)
	require.Positive(t, p.Ready().Memory.RSS)

	latents := []float32{1, -2, 3, 4.5}
	block, err := p.Bulk().WriteF32(0, latents)
	require.NoError(t, err)
	g := generate(1, runnertest.Script{})
	g.Latents = &protocol.Array{Shape: []int{1, 1, 2, 2}, Block: block}
	g.Request.Count, g.Request.OutputLatents, g.Request.PreviewEvery = 3, true, 1
	require.NoError(t, p.Send(g))
	for step := byte(1); step <= 4; step++ {
		preview := next[*protocol.Preview](t, p)
		pix, err := p.Bulk().Read(preview.Image.Block)
		require.NoError(t, err)
		require.Equal(t, step, pix[0], "no preview is overwritten before it is read")
		require.NoError(t, p.Send(&protocol.PreviewRead{Job: 1}))
		require.EqualValues(t, step, next[*protocol.Step](t, p).Step)
	}
	r := next[*protocol.Result](t, p)
	require.Len(t, r.Images, 3)
	for i, image := range r.Images {
		pix, err := p.Bulk().Read(image.Block)
		require.NoError(t, err)
		require.EqualValues(t, 5+i, pix[len(pix)-1])
	}
	got, err := p.Bulk().ReadF32(r.Latents.Block)
	require.NoError(t, err)
	require.Equal(t, latents, got)
	require.Positive(t, r.After.RSS)

	require.NoError(t, p.Close())
	require.NoError(t, p.Close(), "Close is safe twice")
	exit, ok := p.Exit()
	require.True(t, ok)
	require.Zero(t, exit.Code, exit.Stderr)
}

func TestResultDoesNotOverwriteAnUnreadPreview(t *testing.T) {
	p := start(t, runnertest.Config(t.TempDir()))
	g := generate(1, runnertest.Script{})
	g.Request.PreviewEvery = 4
	require.NoError(t, p.Send(g))
	preview := next[*protocol.Preview](t, p)
	r := next[*protocol.Result](t, p)
	pix, err := p.Bulk().Read(preview.Image.Block)
	require.NoError(t, err)
	require.EqualValues(t, 4, pix[0])
	pix, err = p.Bulk().Read(r.Images[0].Block)
	require.NoError(t, err)
	require.EqualValues(t, 5, pix[0])
}

func TestJobErrors(t *testing.T) {
	p := start(t, runnertest.Config(t.TempDir()))
	for i, c := range []struct {
		do    runnertest.Action
		code  events.Code
		text  string
		fatal bool
	}{
		{runnertest.Fail, events.CodeNumericalError, "scripted failure", false},
		{runnertest.Panic, events.CodeInternal, "a mistake in this program", true},
		{runnertest.Odd, events.CodeInternal, "", true},
		{"dance", events.CodeInternal, "", true},
	} {
		job := uint64(i + 1)
		require.NoError(t, p.Send(generate(job, runnertest.Script{Do: c.do, Stage: events.StageDenoise, Step: 2})))
		f := next[*protocol.Failed](t, p)
		require.Equal(t, job, f.Job)
		require.Equal(t, c.code, f.Error.Code)
		require.Contains(t, f.Error.Error(), c.text)
		if c.do == runnertest.Panic {
			require.Contains(t, f.Error.Detail, "panic: scripted panic", "operators get the panic and its trace")
			require.Contains(t, f.Error.Detail, "runnertest.go")
		}
		require.Equal(t, "denoise step 3 of 4", f.Error.Stage)
		require.Equal(t, "TEST", f.Error.Device)
		require.Equal(t, c.fatal, f.Fatal)
	}
	require.NoError(t, p.Send(generate(9, runnertest.Script{})))
	require.Len(t, next[*protocol.Result](t, p).Images, 1, "the runner lives on")
}

func TestCancel(t *testing.T) {
	p := start(t, runnertest.Config(t.TempDir()))
	require.NoError(t, p.Send(&protocol.Cancel{Job: 77}), "a job that is over cannot be cancelled, which is no error")
	require.NoError(t, p.Send(generate(1, runnertest.Script{Do: runnertest.Wait, Stage: events.StageVAEDecode})))
	for next[*protocol.Stage](t, p).Name != events.StageVAEDecode {
	}
	require.NoError(t, p.Send(generate(2, runnertest.Script{})))
	require.NoError(t, p.Send(generate(3, runnertest.Script{})))
	busy := next[*protocol.Failed](t, p)
	require.EqualValues(t, 3, busy.Job, "one job runs, one waits, a third is refused")
	require.NoError(t, p.Send(&protocol.Cancel{Job: 1}))
	f := next[*protocol.Failed](t, p)
	require.EqualValues(t, 1, f.Job)
	require.Equal(t, events.CodeCancelled, f.Error.Code)
	require.Equal(t, events.StageVAEDecode, f.Error.Stage)
	require.EqualValues(t, 2, next[*protocol.Result](t, p).Job)
}

func TestLoadUnloadNoop(t *testing.T) {
	p := start(t, runnertest.Config(t.TempDir()))
	require.NoError(t, p.Send(&protocol.Load{Job: 1, Model: protocol.Model{Name: "a", Dir: "/a"}}))
	require.Equal(t, "a", next[*protocol.Loaded](t, p).Model)
	require.NoError(t, p.Send(&protocol.Unload{Job: 2, Name: "a"}))
	require.Positive(t, next[*protocol.Unloaded](t, p).Memory.RSS)
	require.NoError(t, p.Send(&protocol.Load{Job: 3, Model: protocol.Model{Name: protocol.NoopModel}}))
	require.Equal(t, protocol.NoopModel, next[*protocol.Loaded](t, p).Model)
	g := generate(4, runnertest.Script{Do: runnertest.Hang, Stage: events.StageDenoise})
	g.Model.Name, g.Request.PreviewEvery, g.Request.Width = protocol.NoopModel, 4, 9
	require.NoError(t, p.Send(g))
	require.Equal(t, 9, next[*protocol.Preview](t, p).Image.Width)
	require.Equal(t, 9, next[*protocol.Result](t, p).Images[0].Width)
}

func TestSignalAndLastWords(t *testing.T) {
	for do, want := range map[runnertest.Action]syscall.Signal{runnertest.Kill: syscall.SIGKILL, runnertest.Abort: syscall.SIGABRT} {
		p := start(t, runnertest.Config(t.TempDir()))
		require.NoError(t, p.Send(generate(1, runnertest.Script{Do: do, Stage: events.StageDenoise, Step: 1})))
		<-p.Done()
		exit, ok := p.Exit()
		require.True(t, ok)
		require.Equal(t, want, exit.Signal, exit.Stderr)
		if do == runnertest.Abort {
			require.Contains(t, exit.Stderr, "bad_alloc")
			require.LessOrEqual(t, len(exit.Stderr), 8<<10)
		}
	}
}

func TestKillEndsAHungRunner(t *testing.T) {
	p := start(t, runnertest.Config(t.TempDir()))
	require.NoError(t, p.Send(generate(1, runnertest.Script{Do: runnertest.Hang, Stage: events.StageTokenize})))
	for next[*protocol.Stage](t, p).Name != events.StageTokenize {
	}
	require.NoError(t, p.Kill())
	exit, ok := p.Exit()
	require.True(t, ok, "Kill returns after the process is reaped")
	require.Equal(t, syscall.SIGKILL, exit.Signal)
	require.NoError(t, p.Kill(), "Kill is safe twice")
	require.ErrorIs(t, syscall.Kill(p.PID(), 0), syscall.ESRCH)
}

func TestCloseKillsAHungRunner(t *testing.T) {
	p := start(t, runnertest.Config(t.TempDir()))
	require.NoError(t, p.Send(generate(1, runnertest.Script{Do: runnertest.Hang, Stage: events.StageTokenize})))
	require.NoError(t, p.Close())
	_, ok := p.Exit()
	require.True(t, ok)
}

func TestSendToARunnerThatDoesNotRead(t *testing.T) {
	c := runnertest.Config(t.TempDir())
	c.SendTimeout = 50 * time.Millisecond
	p := start(t, c)
	require.NoError(t, syscall.Kill(p.PID(), syscall.SIGSTOP))
	g := generate(1, runnertest.Script{})
	g.Request.Prompt = strings.Repeat("x", protocol.MaxFrame/2)
	var err error
	for range 100 { // more than any socket holds
		if err = p.Send(g); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, process.ErrHung)
	for range p.Messages() { // the socket is closed
	}
	require.False(t, p.Alive())
	require.NoError(t, p.Kill())
}

func TestOneRunnerPerSlot(t *testing.T) {
	c := runnertest.Config(t.TempDir())
	first, second := start(t, c), start(t, c)
	require.Equal(t, 0, first.Ready().Slot)
	require.Equal(t, 1, second.Ready().Slot)
	c.Hello.Slot = 0
	_, err := process.Start(t.Context(), c)
	require.ErrorIs(t, err, &events.Error{Code: events.CodeDeviceUnavailable})
	require.ErrorContains(t, err, "slot 0 is taken by process "+strconv.Itoa(first.PID()))
	require.NoError(t, first.Kill())
	require.Equal(t, 0, start(t, c).Ready().Slot, "the lock ends with its process")
}

func TestStartErrors(t *testing.T) {
	c := runnertest.Config(t.TempDir())
	c.Hello.Device = "BROKEN"
	_, err := process.Start(t.Context(), c)
	require.ErrorContains(t, err, "the device is broken")

	c.Hello.Device, c.StartTimeout = "STUCK", 200*time.Millisecond
	_, err = process.Start(t.Context(), c)
	require.ErrorContains(t, err, "not ready within its time")

	c.Command = []string{"/bin/sh", "-c", "echo sorry >&2; exit 3"}
	c.StartTimeout = 0
	_, err = process.Start(t.Context(), c)
	require.ErrorContains(t, err, "exit code 3")
	require.ErrorContains(t, err, "sorry")

	c.Command = []string{"/no/such/program"}
	_, err = process.Start(t.Context(), c)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestStartReturnsTheProcessThatDoesNotEnd(t *testing.T) {
	c := runnertest.Config(t.TempDir())
	// A child that holds standard error open delays the reaping, as a driver could.
	c.Command = []string{"/bin/sh", "-c", "sleep 3 & echo sorry >&2; wait"}
	c.StartTimeout, c.ReapTimeout = 100*time.Millisecond, 10*time.Millisecond
	p, err := process.Start(t.Context(), c)
	require.ErrorIs(t, err, process.ErrUnkillable)
	require.ErrorContains(t, err, "not ready within its time")
	require.NotNil(t, p)
	<-p.Done()
	require.NoError(t, p.Kill(), "it has ended after all")
}

func TestDevices(t *testing.T) {
	list, err := process.Devices(t.Context(), runnertest.Config(t.TempDir()))
	require.NoError(t, err)
	require.Equal(t, "Test Processor", list.Devices[0].FullName)
	require.Equal(t, "1", list.Versions["scripted"])
}

// TestRunnerOutlivesTheThreadThatStartedIt is the trap of golang/go#27505: with the parent-death signal set,
// a child started from a thread that ends is killed although the process lives.
func TestRunnerOutlivesTheThreadThatStartedIt(t *testing.T) {
	started := make(chan *process.Process)
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		p, err := process.Start(context.Background(), runnertest.Config(t.TempDir()))
		errs <- err
		started <- p
	}()
	require.NoError(t, <-errs)
	p := <-started
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	for i := range uint64(20) {
		require.NoError(t, p.Send(generate(i+1, runnertest.Script{})))
		next[*protocol.Result](t, p)
	}
}

// TestRunnerDiesWithItsParent: the runner hangs in a job, so it cannot notice the end of the socket in time
// by itself; the kernel ends it.
func TestRunnerDiesWithItsParent(t *testing.T) {
	parent := exec.CommandContext(t.Context(), "/proc/self/exe")
	parent.Env = append(os.Environ(), envParent+"="+t.TempDir())
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	handle, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(handle)
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	poll := []unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 10_000)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, 1, n, "the runner must end when its parent does")
		return
	}
}
