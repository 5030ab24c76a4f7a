package measure

import (
	"runtime"
	"time"
)

// Calls runs f n times and returns "ns" and "allocs", both per call. Allocations of other goroutines count too,
// so that nothing else should run in the process.
func Calls(n int, f func() error) (map[string]float64, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	for range n {
		if err := f(); err != nil {
			return nil, err
		}
	}
	elapsed := time.Since(began)
	runtime.ReadMemStats(&after)
	return map[string]float64{
		"ns":     float64(elapsed.Nanoseconds()) / float64(n),
		"allocs": float64(after.Mallocs-before.Mallocs) / float64(n),
	}, nil
}
