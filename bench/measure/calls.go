package measure

import (
	"runtime"
	"time"
)

// timings is how many parts the calls of a measurement are timed in.
const timings = 50

// Calls runs f n times, at least once, and returns "ns" and "allocs", both per call. Allocations of other goroutines count
// too, so that nothing else should run in the process; those that are fewer than the calls do not.
//
// The time is the median of those of equal parts of the calls: on a busy machine the scheduler takes the processor away
// now and then, for longer than all of them take together.
func Calls(n int, f func() error) (map[string]float64, error) {
	var before, after runtime.MemStats
	size := max(1, n/timings)
	times := make([]float64, 0, n/size+1)
	runtime.ReadMemStats(&before)
	done := 0
	for ; done < max(1, n); done += size {
		began := time.Now()
		for range size {
			if err := f(); err != nil {
				return nil, err
			}
		}
		times = append(times, float64(time.Since(began).Nanoseconds())/float64(size))
	}
	runtime.ReadMemStats(&after)
	return map[string]float64{
		"ns":     median(times),
		"allocs": float64((after.Mallocs - before.Mallocs) / uint64(done)),
	}, nil
}
