package openvino

import (
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
