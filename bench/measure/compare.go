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
// although they come from one distribution, by the Mann-Whitney U test; and the least that so many samples could give,
// 0 if all samples are the same, for then there is nothing to tell apart.
//
// Samples are no independent witnesses: a machine that is slow is so for many of them, and a process has its own speed.
// So the medians of equal consecutive batches are compared (the method of batch means; Law, Simulation Modeling and
// Analysis, section 9.5): one for each process if the samples come from several, and at most maxBatches. Where these
// still follow one another, with an autocorrelation of r, n of them tell as much as n(1-r)/(1+r) independent ones (the
// same, section 4.4).
func Differ(before, after Set, r float64) (p, least float64) {
	a, b := before.batches(), after.batches()
	if all := slices.Concat(a, b); slices.Min(all) == slices.Max(all) {
		return 1, 0
	}
	least = min(1, 2/choose(len(a)+len(b), len(a)))
	p = benchmath.AssumeNothing.Compare(benchmath.NewSample(a, &benchmath.DefaultThresholds), benchmath.NewSample(b, &benchmath.DefaultThresholds)).P
	return weaker(p, r), weaker(least, r)
}

// weaker returns the p-value of a test whose samples have the autocorrelation r, of one that took them for independent.
func weaker(p, r float64) float64 {
	r = min(max(0, r), 0.9)
	z := math.Erfinv(1-p) / math.Sqrt((1+r)/(1-r))
	return math.Erfc(z)
}

// Autocorrelation returns that of the ranks of successive batches, corrected for being estimated too low by (1+3r)/n (Kendall,
// Note on bias in the estimation of autocorrelation, 1954). Of few batches it is a poor estimate: take the mean of those
// of several sets that were measured at the same time.
func (s Set) Autocorrelation() float64 {
	values := s.batches()
	n := float64(len(values))
	ranks := make([]float64, len(values)) // from the middle one
	for i, v := range values {
		for _, w := range values {
			ranks[i] += float64(cmp.Compare(v, w)) / 2
		}
	}
	var product, square float64
	for i, r := range ranks {
		square += r * r
		if i > 0 {
			product += r * ranks[i-1]
		}
	}
	if square == 0 || n <= 3 {
		return 0
	}
	return (product/square + 1/n) / (1 - 3/n)
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
