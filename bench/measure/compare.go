package measure

import (
	"cmp"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// maxBatches is how many values a side of Differ is reduced to, of at least as many samples.
const maxBatches = 25

// Set is samples with the number of processes that they come from, of each as many, one after the other.
type Set struct {
	Samples   []float64
	Processes int
}

// Differ returns the probability that two sets of samples, each in the order of its runs, differ as much as they do
// although they come from one distribution, by the Mann-Whitney U test; and the least that so many samples could give.
//
// Samples are no independent witnesses: a machine that is slow is so for many of them, and a process has its own speed.
// So the medians of equal consecutive batches are compared (the method of batch means; Law, Simulation Modeling and
// Analysis, section 9.5): one for each process if the samples come from several, and at most maxBatches.
func Differ(before, after Set) (p, least float64) {
	a, b := before.batches(), after.batches()
	least = min(1, 2/choose(len(a)+len(b), len(a)))
	return benchmath.AssumeNothing.Compare(benchmath.NewSample(a, &benchmath.DefaultThresholds), benchmath.NewSample(b, &benchmath.DefaultThresholds)).P, least
}

// batches returns the medians of consecutive samples; the last may be of fewer than the others.
func (s Set) batches() (out []float64) {
	n := maxBatches
	if s.Processes > 1 {
		n = min(n, s.Processes)
	}
	size := (len(s.Samples) + n - 1) / n
	for batch := range slices.Chunk(s.Samples, max(1, size)) {
		out = append(out, median(batch))
	}
	return out
}

func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// choose is the number of ways to take k of n things.
func choose(n, k int) float64 {
	c := 1.0
	for i := 1; i <= k; i++ {
		c *= float64(n-k+i) / float64(i)
	}
	return c
}

// Holm returns p-values adjusted for being several: each that is at most alpha is significant, and the probability that
// any of them is so by chance is at most alpha (Holm, A simple sequentially rejective multiple test procedure, 1979).
func Holm(ps []float64) []float64 {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(ps[a], ps[b]) })
	out := make([]float64, len(ps))
	highest := 0.0
	for rank, i := range order {
		highest = math.Min(1, max(highest, float64(len(ps)-rank)*ps[i]))
		out[i] = highest
	}
	return out
}
