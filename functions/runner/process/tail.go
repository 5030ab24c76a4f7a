package process

import (
	"bytes"
	"regexp"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Of standard error, the last stderrTail bytes are kept. When Go reports a crash, the words before the report
// (a C++ runtime's last, a driver's) matter more than the stacks after it: then crashAfter bytes from the
// report on and the rest from before it are kept.
const (
	stderrTail = 8 << 10
	crashAfter = 2 << 10
)

// crashReport matches the first line of what Go writes when a process ends badly.
var crashReport = regexp.MustCompile(`^(?:(SIG[A-Z0-9]+): |fatal error: |panic: )`)

// tail is a writer that keeps the end of what was written.
type tail struct {
	mu     sync.Mutex
	buf    []byte
	line   int            // where the line that is being written starts in buf
	full   int            // after a crash report: the length at which to stop; 0: no report yet
	signal syscall.Signal // of the crash report
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := p; len(rest) > 0; {
		part := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			part = rest[:i+1]
		}
		rest = rest[len(part):]
		t.add(part)
	}
	return len(p), nil
}

// add appends a line or a part of one.
func (t *tail) add(part []byte) {
	if t.full > 0 {
		t.buf = append(t.buf, part[:min(len(part), t.full-len(t.buf))]...)
		return
	}
	t.buf = append(t.buf, part...)
	if part[len(part)-1] != '\n' {
		t.keep(2*stderrTail, stderrTail)
		return
	}
	if m := crashReport.FindSubmatch(t.buf[t.line:]); m != nil {
		t.signal = unix.SignalNum(string(m[1]))
		after := len(t.buf) - t.line
		t.keep(stderrTail-crashAfter+after, stderrTail-crashAfter+after)
		t.full = max(stderrTail, len(t.buf))
		return
	}
	t.keep(2*stderrTail, stderrTail)
	t.line = len(t.buf)
}

// keep cuts buf to its last n bytes if it is longer than limit.
func (t *tail) keep(limit, n int) {
	if cut := len(t.buf) - n; len(t.buf) > limit {
		t.buf = append(t.buf[:0], t.buf[cut:]...)
		t.line = max(0, t.line-cut)
	}
}

// Signal is the signal of the crash report, 0 if there was none.
func (t *tail) Signal() syscall.Signal {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.signal
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buf
	if len(b) > stderrTail {
		b = b[len(b)-stderrTail:]
	}
	return string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
}
