package fault

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device/cgroup"
)

func group(oomKills int64) cgroup.Memory { return cgroup.Memory{Version: 2, OOMKills: oomKills} }

func TestDeaths(t *testing.T) {
	abort := "terminate called after throwing an instance of 'std::runtime_error'\n  what():  "
	trailer := "\nSIGABRT: abort\nPC=0x1 m=0 sigcode=0\n\ngoroutine 1 [running]: std::bad_alloc\n"
	for name, c := range map[string]struct {
		death Death
		rule  string
		class Class
		code  events.Code
	}{
		"hang":                {Death{Killed: KilledForHang, Signal: syscall.SIGKILL}, "killed_for_hang", ClassHang, events.CodeHang},
		"hang, and the OOM":   {Death{Killed: KilledForHang, Signal: syscall.SIGKILL, Before: group(0), After: group(1)}, "killed_for_hang", ClassHang, events.CodeHang},
		"cancel":              {Death{Killed: KilledForCancel, Signal: syscall.SIGKILL}, "killed_for_cancel", ClassStopped, events.CodeCancelled},
		"deadline":            {Death{Killed: KilledForDeadline, Signal: syscall.SIGKILL}, "killed_for_deadline", ClassStopped, events.CodeDeadlineExceeded},
		"shutdown":            {Death{Killed: KilledForShutdown, Signal: syscall.SIGKILL}, "killed_for_shutdown", ClassStopped, events.CodeCancelled},
		"OOM killer":          {Death{Signal: syscall.SIGKILL, Before: group(4), After: group(5)}, "oom_killed", ClassHost, events.CodeHostOutOfMemory},
		"kill -9":             {Death{Signal: syscall.SIGKILL, Before: group(5), After: group(5), Stderr: "fatal error: runtime: out of memory"}, "killed_from_outside", ClassKilled, events.CodeInternal},
		"kill":                {Death{Signal: syscall.SIGTERM}, "signal_from_outside", ClassKilled, events.CodeInternal},
		"segmentation fault":  {Death{Signal: syscall.SIGSEGV}, "signal_segv", ClassFatal, events.CodeGPURuntimeError},
		"with a warning":      {Death{Signal: syscall.SIGSEGV, Stderr: "[W] Failed to allocate memory for requested buffer of size 700, retrying\nCUDA failure 700: x\n"}, "signal_segv", ClassFatal, events.CodeGPURuntimeError},
		"abort":               {Death{Signal: syscall.SIGABRT}, "signal_abort", ClassFatal, events.CodeGPURuntimeError},
		"bus error":           {Death{Signal: syscall.SIGBUS}, "signal_bus", ClassHost, events.CodeInternal},
		"illegal instruction": {Death{Signal: syscall.SIGILL}, "signal_illegal_instruction", ClassHost, events.CodeInternal},
		"arithmetic":          {Death{Signal: syscall.SIGFPE}, "signal_arithmetic", ClassFatal, events.CodeGPURuntimeError},
		"limit":               {Death{Signal: syscall.SIGXCPU}, "signal_limit", ClassHost, events.CodeInternal},
		"seccomp":             {Death{Signal: syscall.SIGSYS}, "signal_forbidden_call", ClassHost, events.CodeInternal},
		"rare signal":         {Death{Signal: syscall.SIGPROF}, "signal_other", ClassFatal, events.CodeGPURuntimeError},
		"bad_alloc":           {Death{Signal: syscall.SIGABRT, Stderr: "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n" + trailer}, "host_out_of_memory", ClassHost, events.CodeHostOutOfMemory},
		"thrown by a driver":  {Death{Signal: syscall.SIGABRT, Stderr: abort + "[GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES" + trailer}, "opencl_out_of_resources", ClassFatal, events.CodeDeviceLost},
		"thrown by ONNX":      {Death{Signal: syscall.SIGABRT, Stderr: abort + "CUDA failure 700: an illegal memory access was encountered ; GPU=0" + trailer}, "cuda_illegal_address", ClassFatal, events.CodeDeviceLost},
		"thrown, not known":   {Death{Signal: syscall.SIGABRT, Stderr: abort + "odd" + trailer}, "signal_abort", ClassFatal, events.CodeGPURuntimeError},
		"Go without memory":   {Death{ExitCode: 2, Stderr: "words\nfatal error: runtime: out of memory\n\nruntime stack:\n"}, "go_out_of_memory", ClassHost, events.CodeHostOutOfMemory},
		"Go, cannot allocate": {Death{ExitCode: 2, Stderr: "runtime: out of memory: cannot allocate 31195136-byte block (1 in use)\nfatal error: out of memory\n"}, "go_out_of_memory", ClassHost, events.CodeHostOutOfMemory},
		"Go without threads":  {Death{ExitCode: 2, Stderr: "runtime: failed to create new OS thread (have 9 already; errno=11)\nfatal error: newosproc\n"}, "go_no_threads", ClassHost, events.CodeInternal},
		"Go's own":            {Death{ExitCode: 2, Stderr: "fatal error: concurrent map writes\n\ngoroutine 7 [running]:\n"}, "go_fatal_error", ClassFatal, events.CodeInternal},
		"Go panic":            {Death{ExitCode: 2, Stderr: "panic: runtime error: index out of range\n"}, "go_panic", ClassFatal, events.CodeInternal},
		"forced exit":         {Death{ExitCode: 255, Stderr: "[GPU] force exit.\n\tDue to the driver bug any subsequent OpenCL API call will cause application hang"}, "openvino_force_exit", ClassFatal, events.CodeDeviceLost},
		"exit":                {Death{ExitCode: 3, Stderr: "sorry\n"}, "exited", ClassFatal, events.CodeInternal},
	} {
		t.Run(name, func(t *testing.T) {
			c.death.Stage, c.death.Device = "denoise step 2 of 9", "GPU.0"
			f := ClassifyDeath(c.death)
			require.Equal(t, c.rule, f.Rule)
			require.Equal(t, c.class, f.Class)
			require.Equal(t, c.code, f.Err.Code)
			require.True(t, f.Replace, "the process is gone")
			require.Contains(t, f.Err.Message, " in stage denoise step 2 of 9")
			require.Equal(t, "denoise step 2 of 9", f.Err.Stage)
			require.Equal(t, "GPU.0", f.Err.Device)
			require.Equal(t, c.death.Stderr, f.Err.Detail)
			require.NotEmpty(t, f.Err.Title)
			require.NotEmpty(t, f.Err.Advice)
			require.NotContains(t, f.Err.Message, "{")
			require.Equal(t, events.Errorf(c.code, "").Retriable, f.Err.Retriable)
		})
	}
}

func TestDeathRowsAreReachable(t *testing.T) {
	seen := map[syscall.Signal]string{}
	for _, r := range signalRows {
		for _, s := range r.signals {
			require.Empty(t, seen[s], "%s: in two rows", s)
			seen[s] = r.name
			require.Equal(t, r.name, ClassifyDeath(Death{Signal: s}).Rule)
			require.NotEmpty(t, r.source)
		}
	}
	for _, w := range wordRows {
		require.NotEmpty(t, w.row.source, w.row.name)
	}
	for reason := range killedRows {
		require.Equal(t, killedRows[reason].name, ClassifyDeath(Death{Killed: reason}).Rule)
	}
}

func TestDeathOnTheCPU(t *testing.T) {
	f := ClassifyDeath(Death{Signal: syscall.SIGSEGV, Device: "CPU"})
	require.Equal(t, events.CodeInternal, f.Err.Code, "a CPU is no GPU")
	require.Equal(t, "Runner process crashed", f.Err.Title)
	require.Equal(t, "the runtime or a driver crashed the runner process (signal 11, segmentation fault)", f.Err.Message)
}

// FuzzLastWords: whatever a process wrote, its death is told.
func FuzzLastWords(f *testing.F) {
	f.Add("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\nSIGABRT: abort\n", 6)
	f.Add("fatal error: runtime: out of memory", 0)
	f.Add(strings.Repeat("'", 100), 11)
	f.Fuzz(func(t *testing.T, stderr string, signal int) {
		got := ClassifyDeath(Death{Signal: syscall.Signal(signal), Stderr: stderr})
		require.NotEmpty(t, got.Rule)
		require.NotEmpty(t, got.Err.Message)
		require.True(t, got.Replace)
	})
}
