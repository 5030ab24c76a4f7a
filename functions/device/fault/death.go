package fault

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"syscall"

	"genfn/events"
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

// ClassifyDeath says what the end of a process means. Why this program killed it comes first, then the counters of
// the out-of-memory killer, then the process's last words, then the signal. The process is gone, so Replace is always
// true.
func ClassifyDeath(d Death) Fault {
	r, text := d.row()
	f := r.fault(text, d.Device)
	f.Replace = true
	f.Err.Message += d.how()
	f.Err.Stage, f.Err.Device, f.Err.Detail = d.Stage, d.Device, d.Stderr
	return f
}

// row returns what fits, and the words that say it.
func (d Death) row() (*deathRow, string) {
	if r := killedRows[d.Killed]; d.Killed != KilledNot && r != nil {
		return r, ""
	}
	if d.Signal == syscall.SIGKILL {
		if d.Before.OOMKilledSince(d.After) {
			return &oomRow, ""
		}
		return &outsideRow, ""
	}
	if r, words := lastWords(d.Stderr); r != nil {
		return r, words
	}
	for i := range signalRows {
		for _, s := range signalRows[i].signals {
			if s == d.Signal {
				return &signalRows[i], ""
			}
		}
	}
	if d.Signal != 0 {
		return &crashRow, ""
	}
	return &exitRow, ""
}

// how says in which way and where the process ended.
func (d Death) how() string {
	where := ""
	if d.Stage != "" {
		where = " in stage " + d.Stage
	}
	switch {
	case d.Killed != KilledNot:
		return where
	case d.Signal != 0:
		return fmt.Sprintf("%s (signal %d, %s)", where, int(d.Signal), d.Signal)
	default:
		return fmt.Sprintf("%s (exit code %d)", where, d.ExitCode)
	}
}

// deathRow is a row about a process.
type deathRow struct {
	row
	signals []syscall.Signal
}

var killedRows = map[KillReason]*deathRow{
	KilledForHang: {row: row{
		name: "killed_for_hang", verdict: verdictOf(events.CodeHang),
		message: "there was no progress within the time allowed",
		source:  "the instance's lease",
	}},
	KilledForCancel: {row: row{
		name: "killed_for_cancel", verdict: stopped,
		message: "the request was cancelled and the runner did not end its work by itself",
		source:  "the instance",
	}},
	KilledForDeadline: {row: row{
		name: "killed_for_deadline", verdict: verdictOf(events.CodeDeadlineExceeded),
		message: "the request's time was up and the runner did not end its work by itself",
		source:  "the instance",
	}},
	KilledForShutdown: {row: row{
		name: "killed_for_shutdown", verdict: stopped,
		message: "the instance ended while the request was being worked on",
		advice:  "Nothing is to be done: the request goes on elsewhere.",
		source:  "the instance",
	}},
}

var oomRow = deathRow{row: row{
	name: "oom_killed", verdict: hostMemory,
	message: "the out-of-memory killer ended the runner process", advice: adviceHostMemory,
	source: "oom_kill of memory.events (cgroup v2) or memory.oom_control (v1), Linux Documentation/admin-guide/cgroup-v2.rst; oom_kill of /proc/vmstat",
}}

var outsideRow = deathRow{row: row{
	title: "Runner process killed from outside",
	name:  "killed_from_outside", verdict: verdict{ClassKilled, ActionFreshRunner, true, events.CodeInternal},
	message: "another program, or a person, killed the runner process",
	advice:  "The request is tried again with a fresh runner. If it keeps happening, look for who ends processes on the instance's machine.",
	source:  "SIGKILL that neither the instance sent nor the kernel counted as out of memory",
}}

var crashRow = deathRow{row: row{
	title: "Runner process crashed",
	name:  "signal_other", verdict: gpuError,
	message: "a signal ended the runner process",
	advice:  adviceCrash,
	source:  "signal(7)",
}}

var exitRow = deathRow{row: row{
	title: "Runner process ended",
	name:  "exited", verdict: ownMistake,
	message: "the runner process ended without an answer",
	advice:  adviceCrash,
	source:  "no signal, and no words that are known",
}}

const adviceCrash = "The request is tried again with a fresh runner. If it fails each time, look at the detail for what the runtime or the driver said, or at the crash report (genfn devices --crashes)."

var signalRows = []deathRow{
	{signals: []syscall.Signal{syscall.SIGSEGV}, row: row{
		title: "Runner process crashed",
		name:  "signal_segv", verdict: gpuError,
		message: "the runtime or a driver crashed the runner process", advice: adviceCrash,
		source: "signal(7): invalid memory reference",
	}},
	{signals: []syscall.Signal{syscall.SIGABRT}, row: row{
		title: "Runner process crashed",
		name:  "signal_abort", verdict: gpuError,
		message: "the runtime or a driver gave up and aborted the runner process", advice: adviceCrash,
		source: "abort(3): a failed assertion or an exception that nobody caught",
	}},
	{signals: []syscall.Signal{syscall.SIGBUS}, row: row{
		title: "Memory-mapped file unreadable",
		name:  "signal_bus", verdict: hostTrouble,
		message: "the runner process read memory that has no storage behind it",
		advice:  "Check that nobody changes the model's files while they are in use, that the disk is well, and that /dev/shm is not full.",
		source:  "mmap(2): access to a part of a mapping beyond the end of the file; also hardware memory errors",
	}},
	{signals: []syscall.Signal{syscall.SIGILL}, row: row{
		title: "Processor not supported",
		name:  "signal_illegal_instruction", verdict: hostTrouble,
		message: "the runtime used an instruction that the machine's processor does not have",
		advice:  "Serve the model on a newer processor, or install a build of the runtime for this one.",
		source:  "signal(7)",
	}},
	{signals: []syscall.Signal{syscall.SIGFPE, syscall.SIGTRAP}, row: row{
		title: "Runner process crashed",
		name:  "signal_arithmetic", verdict: gpuError,
		message: "the runtime or a driver crashed the runner process", advice: adviceCrash,
		source: "signal(7); mlcommons/inference_results_v0.5 issue 26",
	}},
	{signals: []syscall.Signal{syscall.SIGXCPU, syscall.SIGXFSZ}, row: row{
		title: "Resource limit exceeded",
		name:  "signal_limit", verdict: hostTrouble,
		message: "the runner process exceeded a limit of the instance's machine",
		advice:  "Raise the limits of processor time and file size for the instance (ulimit -t, ulimit -f).",
		source:  "setrlimit(2)",
	}},
	{signals: []syscall.Signal{syscall.SIGSYS}, row: row{
		title: "System call forbidden",
		name:  "signal_forbidden_call", verdict: hostTrouble,
		message: "the runtime made a system call that the instance's machine forbids",
		advice:  "Loosen the seccomp profile of the container, or run the instance without it.",
		source:  "seccomp(2)",
	}},
	{signals: []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM}, row: row{
		title: "Runner process killed from outside",
		name:  "signal_from_outside", verdict: outsideRow.verdict,
		message: outsideRow.message, advice: outsideRow.advice,
		source: "signal(7)",
	}},
}

// wordRows are the last words that tell more than the signal after them.
var wordRows = []struct {
	pattern *regexp.Regexp
	row     deathRow
}{
	{regexp.MustCompile(`(?m)^fatal error: (?:runtime: )?(?:out of memory|cannot allocate memory)`), deathRow{row: row{
		name: "go_out_of_memory", verdict: hostMemory,
		message: "the runner process got no memory from the machine", advice: adviceHostMemory,
		source: "Go runtime mem_linux.go, malloc.go; golang/go issues 12233, 23922",
	}}},
	{regexp.MustCompile(`(?m)^runtime: failed to create new OS thread|^runtime: may need to increase max user processes`), deathRow{row: row{
		title: "Resource limit exceeded",
		name:  "go_no_threads", verdict: hostTrouble,
		message: "the operating system gave the runner process no more threads",
		advice:  "Raise the limit of processes and threads for the instance (ulimit -u, or the container's pids limit).",
		source:  "Go runtime os_linux.go",
	}}},
	{regexp.MustCompile(`(?m)^fatal error: (?:concurrent map|all goroutines are asleep|stack overflow|sync: |invalid pointer|found bad pointer|unexpected signal|sweep|workbuf|bulkBarrier)`), deathRow{row: row{
		title: "Runner process crashed",
		name:  "go_fatal_error", verdict: ownMistake,
		message: "the runner process found its own memory or state damaged", advice: adviceCrash,
		source: "Go runtime, throw and fatal: a mistake of this program, or of native code in its memory",
	}}},
	{regexp.MustCompile(`(?m)^panic: `), deathRow{row: row{
		title: "Runner process crashed",
		name:  "go_panic", verdict: ownMistake,
		message: "the runner process ended over a mistake in this program", advice: adviceCrash,
		source: "Go: a panic outside of a job",
	}}},
	{regexp.MustCompile(`(?m)^\[GPU\] (?:force exit|WA: Force exit)`), deathRow{row: row{
		name: "openvino_force_exit", verdict: contextLost,
		message: "the driver gave up (out of resources) and OpenVINO ended the runner process", advice: adviceDriver,
		source: "OpenVINO 2023.0 to 2024.6, intel_gpu ocl_common.hpp force_exit; openvino PR 16724, 23826, issue 25141",
	}}},
}

// thrown matches what the C++ runtime writes about an exception that nobody caught, with its own words.
var thrown = regexp.MustCompile(`(?m)^terminate called after throwing an instance of '([^']+)'(?:\n\s*what\(\):\s*((?s:.*)))?`)

// lastWords returns the row that the last words of a process tell, nil if they tell nothing. Only words that a process
// writes when it ends count: warnings before are none of them.
func lastWords(stderr string) (*deathRow, string) {
	for i := range wordRows {
		if at := wordRows[i].pattern.FindStringIndex(stderr); at != nil {
			return &wordRows[i].row, stderr[at[0]:]
		}
	}
	m := thrown.FindStringSubmatch(stderr)
	if m == nil {
		return nil, ""
	}
	words := m[1] + "\n" + m[2]
	if crash := crashReport.FindStringIndex(words); crash != nil {
		words = words[:crash[0]]
	}
	r, _ := rows().byQuotation(words)
	if r = cmp.Or(r, rows().byText(words)); r == nil {
		return nil, ""
	}
	return &deathRow{row: *r}, strings.TrimSpace(words)
}

// crashReport is the first line of what Go writes after native code aborted.
var crashReport = regexp.MustCompile(`(?m)^SIG[A-Z]+: `)
