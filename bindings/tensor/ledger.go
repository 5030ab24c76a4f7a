package tensor

import (
	"cmp"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Ledger records what is outstanding outside the Go heap: buffers with their bytes, and native
// objects, whose own memory the native runtime allocates and does not tell. It is safe for concurrent
// use.
type Ledger struct {
	mu      sync.Mutex
	records map[*Record]struct{}
	created uint64 // records made so far
	bytes   int64
	peak    int64
}

// Record is one line of a Ledger.
type Record struct {
	ledger      *Ledger
	number      uint64
	kind, owner string
	bytes       int64
	stack       [12]uintptr
}

// Entry describes an outstanding Record.
type Entry struct {
	Kind  string // "buffer", "core", "compiled model", ...
	Owner string // for whom: "unet", "latents", ...
	Bytes int64  // allocated by this program; 0 for objects of a native runtime
	Site  string // the calls that created it, innermost first
}

func (e Entry) String() string {
	return fmt.Sprintf("%s %q, %d bytes, created at %s", e.Kind, e.Owner, e.Bytes, e.Site)
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{records: map[*Record]struct{}{}} }

// Add records something of the given kind and size. The creation site is the caller's, without the
// frames of the bindings themselves. The caller releases the Record when the thing is gone.
func (l *Ledger) Add(kind, owner string, bytes int64) *Record {
	r := &Record{ledger: l, kind: kind, owner: owner, bytes: bytes}
	runtime.Callers(2, r.stack[:])
	l.mu.Lock()
	defer l.mu.Unlock()
	l.created++
	r.number = l.created
	l.records[r] = struct{}{}
	l.bytes += bytes
	l.peak = max(l.peak, l.bytes)
	return r
}

// Release strikes the record out. It may be called twice.
func (r *Record) Release() {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.records[r]; !ok {
		return
	}
	delete(l.records, r)
	l.bytes -= r.bytes
}

// Bytes returns the outstanding bytes.
func (l *Ledger) Bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// Peak returns the most bytes that were ever outstanding at once, since ResetPeak if that was called.
func (l *Ledger) Peak() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peak
}

// ResetPeak makes the outstanding bytes the new peak.
func (l *Ledger) ResetPeak() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peak = l.bytes
}

// Outstanding lists what has not been released, oldest first.
func (l *Ledger) Outstanding() []Entry {
	l.mu.Lock()
	records := make([]*Record, 0, len(l.records))
	for r := range l.records {
		records = append(records, r)
	}
	l.mu.Unlock()
	slices.SortFunc(records, func(a, b *Record) int { return cmp.Compare(a.number, b.number) })
	entries := make([]Entry, len(records))
	for i, r := range records {
		entries[i] = Entry{Kind: r.kind, Owner: r.owner, Bytes: r.bytes, Site: r.site()}
	}
	return entries
}

// site names up to three calls, the innermost first, from outside the bindings; tests of the bindings
// count as outside.
func (r *Record) site() string {
	const wanted = 3
	n := slices.Index(r.stack[:], 0)
	if n < 0 {
		n = len(r.stack)
	}
	var calls []string
	frames := runtime.CallersFrames(r.stack[:n])
	for len(calls) < wanted {
		f, more := frames.Next()
		_, function, inside := strings.Cut(f.Function, "genfn/bindings/")
		outside := !inside || strings.HasSuffix(f.File, "_test.go")
		if f.Function != "" && (outside || !more && len(calls) == 0) {
			if !inside {
				function = f.Function
			}
			file := filepath.Join(filepath.Base(filepath.Dir(f.File)), filepath.Base(f.File))
			calls = append(calls, fmt.Sprintf("%s:%d (%s)", file, f.Line, function))
		}
		if !more {
			break
		}
	}
	return strings.Join(calls, " < ")
}
