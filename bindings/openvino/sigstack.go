package openvino

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenVINO's CPU plugin replaces the alternate signal stack of the thread that happens to load it, and
// unmaps the replacement when it is unloaded, by whatever thread. Go's handlers run on that stack: the
// next signal that reaches the first thread, such as Go's own for preemption, then kills the process.
// (Seen with 2024.6 and 2026.4.) So calls that may load or unload a plugin put the thread's signal
// stack back.

// signalStack is stack_t of sigaltstack(2).
type signalStack struct {
	address uintptr
	flags   int32
	size    uintptr
}

// saveSignalStack returns the calling thread's signal stack; the goroutine is locked to its thread.
func saveSignalStack() (s signalStack) {
	// It fails only for bad pointers.
	_, _, _ = unix.RawSyscall(unix.SYS_SIGALTSTACK, 0, uintptr(unsafe.Pointer(&s)), 0)
	return s
}

// restore makes s the calling thread's signal stack if that has changed.
func (s *signalStack) restore() {
	if now := saveSignalStack(); now != *s {
		_, _, _ = unix.RawSyscall(unix.SYS_SIGALTSTACK, uintptr(unsafe.Pointer(s)), 0, 0)
	}
}

// GPU drivers bring LLVM, which takes the signals of a crash, and others that end a program, with handlers that do
// not run on the alternate stack: a nil dereference in Go is then no panic any more, but the end of the process
// ("split stack overflow"), and SIGTERM is not delivered to os/signal. So the same calls give the signals back to Go.
// (Seen with Intel's GPU driver and with Intel's OpenCL runtime for CPUs.)

// signalAction is struct sigaction of rt_sigaction(2) on Linux.
type signalAction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	signals     = 31 // the classic ones, from 1; Go's runtime uses no real-time signals that libraries take
	sigIgnore   = 1  // SIG_IGN; SIG_DFL is 0
	sizeOfMask  = 8
	sigKillMask = 1<<unix.SIGKILL | 1<<unix.SIGSTOP
)

// goActions are the actions of this process before OpenVINO was loaded, by signal.
var goActions = sync.OnceValue(func() (list [signals + 1]signalAction) {
	for i := range list {
		list[i] = signalActionOf(i)
	}
	return list
})

func signalActionOf(signal int) (a signalAction) {
	// It fails only for bad numbers, such as 0; a is then the default action.
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), 0, uintptr(unsafe.Pointer(&a)), sizeOfMask, 0, 0)
	return a
}

// restoreSignalActions gives each signal that Go handled back to it if a library has put its own handler in place.
func restoreSignalActions() {
	handlers := goActions()
	for i, before := range handlers {
		if before.handler <= sigIgnore || sigKillMask&(1<<i) != 0 {
			continue
		}
		if now := signalActionOf(i); now.handler != before.handler && now.handler > sigIgnore {
			_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(i), uintptr(unsafe.Pointer(&before)), 0, sizeOfMask, 0, 0)
		}
	}
}
