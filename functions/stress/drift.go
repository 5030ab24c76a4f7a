package stress

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"genfn/events"
)

// MaxSlope is the growth of a runner's resident memory that counts as a leak, in bytes a generation.
const MaxSlope = 4096

// Check is one thing that must not drift.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Judged bool   `json:"judged"` // false: there was too little to judge by
	Detail string `json:"detail"`
}

// Summary is what a run saw.
type Summary struct {
	Run     string        `json:"run"`
	Seed    uint64        `json:"seed"`
	Elapsed time.Duration `json:"-"`
	Seconds float64       `json:"seconds"`
	Counts
	PerSecond float64  `json:"per_second"`
	P50MS     float64  `json:"p50_ms"`
	P99MS     float64  `json:"p99_ms"`
	Processes int      `json:"processes"` // runner processes that were heard of
	Checks    []Check  `json:"checks"`
	Problems  []Record `json:"problems"` // the requests that ended otherwise than they may

	marks   []Mark
	samples []sample
	began   time.Time
}

// Drift returns the checks that failed.
func (s *Summary) Drift() []Check {
	return slices.DeleteFunc(slices.Clone(s.Checks), func(c Check) bool { return c.OK })
}

// Mark is when something was done to the system.
type Mark struct {
	At   time.Time
	Kind Kind
}

// queuePatience is how long an answered request may stay in the queue.
const queuePatience = 10 * time.Second

func (s *Stress) summarize(ctx context.Context, before, after *settled) *Summary {
	left, leftErr := s.watch.emptied(context.WithoutCancel(ctx), queuePatience)
	shot := s.Snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &Summary{
		Run: s.run, Seed: s.config.Seed, Elapsed: shot.Elapsed, Seconds: shot.Elapsed.Seconds(), Counts: shot.Counts,
		PerSecond: shot.PerSecond, P50MS: 1e3 * shot.P50.Seconds(), P99MS: 1e3 * shot.P99.Seconds(),
		marks: s.marks, samples: s.watch.all(), began: s.began, Problems: []Record{},
	}
	for _, r := range s.tally.records {
		if r.Problem != "" {
			out.Problems = append(out.Problems, r)
		}
	}
	none, several := s.watch.counts()
	out.Processes = len(processesOf(out.samples))
	out.Checks = []Check{
		checkf("lost", none == 0 && out.Lost == 0, "%d requests without an answer", max(none, out.Lost)),
		checkf("answered twice", several == 0, "%d requests with several answers", several),
		checkf("outcomes", out.Wrong == 0, "%d requests ended otherwise than they may", out.Wrong),
		queueCheck(left, leftErr),
		ledgerCheck(out.samples, s.tally.records),
		deviceCheck(before, after),
		trendCheck(s.tally.records, s.config.Warmup),
		swapCheck(before, after),
		filesCheck(before, after),
	}
	return out
}

func checkf(name string, ok bool, format string, args ...any) Check {
	return Check{Name: name, OK: ok, Judged: true, Detail: fmt.Sprintf(format, args...)}
}

func unjudged(name, why string) Check {
	return Check{Name: name, OK: true, Detail: "not judged: " + why}
}

func queueCheck(left []string, err error) Check {
	if err != nil {
		return unjudged("queue", err.Error())
	}
	return checkf("queue", len(left) == 0, "%d answered requests left in the queue", len(left))
}

// processKey tells processes apart also when a process id is used again.
type processKey struct {
	pid     int
	started int64
}

func keyOf(p events.Process) processKey { return processKey{p.PID, p.StartedAt.UnixMilli()} }

func processesOf(samples []sample) map[processKey]bool {
	seen := map[processKey]bool{}
	for _, x := range samples {
		if x.status.MemoryInfo == nil {
			continue
		}
		for _, p := range x.status.MemoryInfo.Processes {
			seen[keyOf(p.Process)] = true
		}
	}
	return seen
}

// ledgerCheck compares the ledger with what loaded models hold by right: after each generation and in each heartbeat.
func ledgerCheck(samples []sample, records []Record) Check {
	n, off, worst := 0, 0, int64(0)
	look := func(ledger, baseline int64) {
		n++
		if ledger != baseline {
			off++
			worst = max(worst, ledger-baseline)
		}
	}
	for _, x := range samples {
		if x.status.MemoryInfo == nil {
			continue
		}
		for _, p := range x.status.MemoryInfo.Processes {
			look(p.Ledger, p.LedgerBaseline)
		}
	}
	for _, r := range records {
		if r.memory != nil && r.process != nil { // one of an earlier release tells no baseline
			look(r.memory.LedgerAfter, r.memory.LedgerBaseline)
		}
	}
	if n == 0 {
		return unjudged("ledger", "no process told of its memory")
	}
	return checkf("ledger", off == 0, "%d of %d readings differ from the loaded models' baseline, by at most %d bytes", off, n, worst)
}

// deviceCheck compares the memory in use on devices that have their own, before and after, each time after the same
// pictures.
func deviceCheck(before, after *settled) Check {
	const name = "device memory"
	if before == nil || after == nil {
		return unjudged(name, "the run ended early")
	}
	var words []string
	ok, n := true, 0
	for _, instance := range slices.Sorted(maps.Keys(before.instances)) {
		was, is := memoryOf(before.instances[instance]), memoryOf(after.instances[instance])
		if was.DeviceUsed == nil {
			continue
		}
		if is.DeviceUsed == nil {
			words = append(words, instance+" is not heard of any more")
			continue
		}
		n++
		ok = ok && *is.DeviceUsed == *was.DeviceUsed
		words = append(words, fmt.Sprintf("%s: %d bytes before, %d after", was.Device, *was.DeviceUsed, *is.DeviceUsed))
	}
	words = append(words, after.unwell...)
	if n == 0 {
		return unjudged(name, strings.Join(append(words, "no device that serves has memory of its own"), "; "))
	}
	return checkf(name, ok, "%s", strings.Join(words, "; "))
}

func swapCheck(before, after *settled) Check {
	if before == nil || after == nil {
		return unjudged("swap", "the run ended early")
	}
	total := func(x *settled) (bytes int64) {
		for _, status := range x.instances {
			bytes += memoryOf(status).Swap
		}
		return bytes
	}
	was, is := total(before), total(after)
	return checkf("swap", is <= was, "%d bytes of the runners before, %d after", was, is)
}

// filesCheck compares what the processes of the instances hold open. Each fault gives a runner a new process, with
// sockets and a memory file.
func filesCheck(before, after *settled) Check {
	const name, slack = "open files", 8
	if before == nil || after == nil {
		return unjudged(name, "the run ended early")
	}
	var words []string
	ok := true
	seen := map[int]bool{}
	for _, instance := range slices.Sorted(maps.Keys(before.instances)) {
		was, is := before.instances[instance].MemoryInfo, after.instances[instance].MemoryInfo
		if was == nil || is == nil || was.Instance == nil || is.Instance == nil || seen[was.Instance.PID] || was.Instance.PID != is.Instance.PID {
			continue
		}
		seen[was.Instance.PID] = true
		a, b := was.Instance, is.Instance
		ok = ok && b.OpenFiles <= a.OpenFiles+slack && b.Goroutines <= a.Goroutines+slack
		words = append(words, fmt.Sprintf("process %d: %d files and %d goroutines before, %d and %d after", a.PID, a.OpenFiles, a.Goroutines, b.OpenFiles, b.Goroutines))
	}
	if len(words) == 0 {
		return unjudged(name, "no instance lived through the run")
	}
	return checkf(name, ok, "%s", strings.Join(words, "; "))
}

// window is how many generations of a process count once in the trend of its memory, by the lowest reading: at least
// one of them comes right after a forced clean-up.
const window = 10

// trendCheck fits the resident memory of runner processes over how many generations they had made. Each process has a
// level of its own; the slope is common to all.
func trendCheck(records []Record, warmup int) Check {
	const name = "resident memory"
	type place struct {
		process processKey
		window  int64
	}
	lowest, readings := map[place][2]float64{}, map[place]int{}
	for _, r := range records {
		if r.memory == nil || r.process == nil || r.process.Generations <= int64(warmup) {
			continue
		}
		at := place{keyOf(*r.process), r.process.Generations / window}
		readings[at]++
		point := [2]float64{float64(r.process.Generations), float64(r.memory.RSSBefore)}
		if low, ok := lowest[at]; !ok || point[1] < low[1] {
			lowest[at] = point
		}
	}
	groups := map[processKey][][2]float64{}
	for at, point := range lowest {
		if readings[at] < window/2 { // no clean-up may be among them
			continue
		}
		groups[at.process] = append(groups[at.process], point)
	}
	slope, margin, n := commonSlope(groups)
	if n == 0 {
		return unjudged(name, fmt.Sprintf("no process lived past its first %d generations for long enough", warmup))
	}
	detail := fmt.Sprintf("%.0f ± %.0f bytes a generation, by the lowest of each %d generations past the first %d of their process, %d readings", slope, margin, window, warmup, n)
	if math.IsNaN(margin) || slope-margin < MaxSlope && slope+margin >= MaxSlope {
		return unjudged(name, "too few generations in one process: "+detail)
	}
	return checkf(name, slope < MaxSlope, "%s", detail)
}

// commonSlope is the least-squares slope of groups with a level each, and half the width of its 95 % confidence
// interval; NaN with too few points.
func commonSlope(groups map[processKey][][2]float64) (slope, margin float64, n int) {
	var sxx, sxy, syy float64
	free := -1
	for _, points := range groups {
		var mx, my float64
		for _, p := range points {
			mx, my = mx+p[0], my+p[1]
		}
		k := float64(len(points))
		mx, my = mx/k, my/k
		for _, p := range points {
			dx, dy := p[0]-mx, p[1]-my
			sxx, sxy, syy = sxx+dx*dx, sxy+dx*dy, syy+dy*dy
		}
		n += len(points)
		free += len(points) - 1
	}
	if free < 1 || sxx == 0 {
		return 0, math.NaN(), n
	}
	slope = sxy / sxx
	return slope, 1.96 * math.Sqrt(max(0, syy-slope*sxy)/float64(free)/sxx), n
}
