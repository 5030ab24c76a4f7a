// Package memory decides what fits into the memory of a device, or of the host for devices that have none of their
// own. It is pure computation over what was measured and predicted, with an injected clock, and free of native code.
//
// What a process may hold in all is its capacity:
//
//	min(free + held, total, what is believed usable) - reserve
//
// Work fits if its predicted peak is no more than that, in a process that holds nothing else.
package memory

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Unknown is a count of bytes that nobody tells.
const Unknown = -1

// maxShare bounds what a share keeps free: of large memories less is enough.
const maxShare = 1 << 30

// Reserve is what is left free for others: of a total, so many bytes, or a share and at most 1 GiB.
type Reserve struct {
	Bytes int64
	Share float64 // 0 to 1; used if Bytes is 0
}

// units are the suffixes of bytes.
var units = []struct {
	suffix string
	shift  int
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}}

// ParseReserve reads a percentage such as 5%, or bytes such as 512MiB.
func ParseReserve(text string) (Reserve, error) {
	bad := fmt.Errorf("memory reserve %q: expected a share such as 5%%, below 100%%, or bytes such as 512MiB or 2GiB", text)
	if number, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(percent >= 0 && percent < 100) {
			return Reserve{}, bad
		}
		return Reserve{Share: percent / 100}, nil
	}
	number, shift := text, 0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			number, shift = strings.TrimSpace(rest), u.shift
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return Reserve{}, bad
	}
	return Reserve{Bytes: n << shift}, nil
}

// Of returns the bytes of a total that are kept free.
func (r Reserve) Of(total int64) int64 {
	if r.Bytes > 0 {
		return r.Bytes
	}
	return min(maxShare, int64(r.Share*float64(max(0, total))))
}

// Room is the memory that one process works in, in bytes.
type Room struct {
	Total   int64 // of the device; Unknown
	Free    int64 // for anybody, now; Unknown
	Held    int64 // by the process now
	Base    int64 // by such a process before it has loaded anything
	Usable  int64 // of Total that is believed usable, see Limit; Unknown: all
	Reserve int64
}

// Capacity returns how much the process may hold in all; ok is false if that is not known.
func (r Room) Capacity() (bytes int64, ok bool) {
	bytes = math.MaxInt64
	for _, n := range []int64{r.Total, r.Usable} {
		if n >= 0 {
			bytes, ok = min(bytes, n), true
		}
	}
	if r.Free >= 0 {
		bytes, ok = min(bytes, r.Free+r.Held), true
	}
	if !ok {
		return 0, false
	}
	return max(0, bytes-r.Reserve), true
}

// Fits reports whether work with a peak fits into a process that holds nothing else.
func (r Room) Fits(peak int64) bool {
	capacity, ok := r.Capacity()
	return !ok || peak <= capacity
}

// FitsBeside reports whether work with a peak fits into the process as it is. again says that it has done such work
// before, for which it holds what it holds.
func (r Room) FitsBeside(peak int64, again bool) bool {
	if again {
		return r.Fits(max(peak, r.Held))
	}
	return r.Fits(max(0, r.Held-r.Base) + peak)
}

// halfLife is how long it takes until half of what a refusal took away is believed to be usable again: others may
// have freed their memory, and only another try can tell.
const halfLife = 10 * time.Minute

// Limit is what is believed usable of a device's memory, from what it refused and what it gave. Safe for concurrent
// use.
type Limit struct {
	now func() time.Time

	mu      sync.Mutex
	usable  int64 // when it was refused
	refused time.Time
	given   int64 // the most that was held
}

// NewLimit returns a limit that knows nothing. now nil is time.Now.
func NewLimit(now func() time.Time) *Limit {
	if now == nil {
		now = time.Now
	}
	return &Limit{now: now}
}

// Refused notes that memory ran out when a process held some bytes and asked for more; asked 0: it is not known for
// how much.
func (l *Limit) Refused(held, asked int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	usable := max(held+max(0, asked-1), l.given)
	if usable > 0 {
		l.usable, l.refused = usable, l.now()
	}
}

// Given notes that a process held some bytes. What was held once can be held again: no later refusal lowers the
// limit below it for as long as the process lives.
func (l *Limit) Given(held int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.given = max(l.given, held)
	l.usable = max(l.usable, l.given)
}

// Usable returns what is believed usable of a total; Unknown if nothing was refused.
func (l *Limit) Usable(total int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused.IsZero() || total < 0 || l.usable >= total {
		return Unknown
	}
	gone := float64(total-l.usable) * math.Exp2(-float64(l.now().Sub(l.refused))/float64(halfLife))
	return total - int64(gone)
}

// Level says how little memory is left.
type Level int

// The levels.
const (
	Normal Level = iota
	Warning
	Critical
)

// String returns the level's word.
func (l Level) String() string { return [...]string{"normal", "warning", "critical"}[l] }

// Thresholds are the shares of memory in use, 0 to 1, from which levels begin. A level ends Hysteresis below its
// threshold, so that memory that goes up and down a little does not warn again and again.
type Thresholds struct{ Warning, Critical, Hysteresis float64 }

// DefaultThresholds warn at 85 and 95 percent.
func DefaultThresholds() Thresholds { return Thresholds{0.85, 0.95, 0.05} }

// Check reports what is wrong with the thresholds.
func (t Thresholds) Check() error {
	if !(t.Warning > 0 && t.Warning <= t.Critical && t.Critical <= 1) || !(t.Hysteresis >= 0 && t.Hysteresis < t.Warning) {
		return errors.New("thresholds of memory: expected 0 < warning <= critical <= 100 %, and a hysteresis below the warning")
	}
	return nil
}

// Next returns the level after the one before it when a share is in use.
func (t Thresholds) Next(before Level, share float64) Level {
	level := Normal
	for l, from := range map[Level]float64{Warning: t.Warning, Critical: t.Critical} {
		if before >= l {
			from -= t.Hysteresis
		}
		if share >= from {
			level = max(level, l)
		}
	}
	return level
}
