package fault

import (
	"syscall"

	"genfn/functions/device/cgroup"
)

// Death is how a process ended and what was known of it.
type Death struct {
	Killed   KillReason     // why this program ended it, if it did
	Signal   syscall.Signal // what ended it; 0 if it ended by itself
	ExitCode int            // if no signal ended it
	Stderr   string         // the last of what it wrote to standard error
	Before   cgroup.Memory  // of its control group when it started, or at any later moment of its life
	After    cgroup.Memory  // of the same control group after it was reaped
	Stage    string         // where in the work it was; may be empty
	Device   string         // may be empty
}
