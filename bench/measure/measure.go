// Package measure runs two things in turn, A B B A ..., and says how they compare: medians with confidence
// intervals, and the ratio pair by pair, which stays meaningful when the machine's speed drifts.
package measure

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/perf/benchmath"
)

// Confidence is the level of all intervals.
const Confidence = 0.95

// MaxSamples is how many samples a Value keeps.
const MaxSamples = 500

// Value is a median with its confidence interval, in the unit of its samples.
type Value struct {
	Median  float64   `json:"median"`
	Lo      float64   `json:"lo"`
	Hi      float64   `json:"hi"`
	N       int       `json:"n"`
	Samples []float64 `json:"samples,omitempty"` // in the order of the runs; of more than MaxSamples as many, evenly spread
}

// Summarize makes no assumption about the distribution of the samples of one process. Too few of them for the
// confidence give an interval from the smallest to the largest.
func Summarize(samples []float64) Value { return Set{samples, 1}.Summarize() }

// Summarize gives the interval of the median by those of batches, see Differ.
func (s Set) Summarize() Value {
	of := s.batches()
	summary := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(of), &benchmath.DefaultThresholds), Confidence)
	return Value{
		Median: summary.Center, N: len(s.Samples),
		Lo: max(summary.Lo, slices.Min(of)), Hi: min(summary.Hi, slices.Max(of)),
		Samples: spread(s.Samples),
	}
}

// spread returns at most MaxSamples of the samples, evenly spread over them.
func spread(samples []float64) []float64 {
	out := make([]float64, min(len(samples), MaxSamples))
	for i := range out {
		out[i] = samples[i*len(samples)/len(out)]
	}
	return out
}

// Ratios returns a[i]/b[i].
func Ratios(a, b []float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] / b[i]
	}
	return out
}

// Func does one run and returns its figures by name, such as wall and CPU seconds.
type Func func(ctx context.Context) (map[string]float64, error)

// Side is one of the things compared.
type Side struct {
	Name string
	Run  Func
}

// Samples are the figures of one side: by name, one value for each counted run.
type Samples map[string][]float64

// Interleave runs the sides in turn: warmup rounds that do not count, then rounds that do. In every other round they run
// in the opposite order, so that each follows the other as often; with backwards in the first. It stops at the first
// error, which names the side.
func Interleave(ctx context.Context, backwards bool, warmup, rounds int, progress func(round, of int), sides ...Side) ([]Samples, error) {
	out := make([]Samples, len(sides))
	order := make([]int, len(sides))
	for i := range sides {
		out[i], order[i] = Samples{}, i
	}
	if backwards {
		slices.Reverse(order)
	}
	for round := range warmup + rounds {
		for _, i := range order {
			figures, err := sides[i].Run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", sides[i].Name, round+1, err)
			}
			if round < warmup {
				continue
			}
			for name, v := range figures {
				out[i][name] = append(out[i][name], v)
			}
		}
		if slices.Reverse(order); progress != nil {
			progress(round+1, warmup+rounds)
		}
	}
	return out, nil
}

// Slope is the least-squares slope of values over their index: the trend per run.
func Slope(values []float64) float64 {
	n := float64(len(values))
	var sx, sy, sxx, sxy float64
	for i, v := range values {
		x := float64(i)
		sx, sy, sxx, sxy = sx+x, sy+v, sxx+x*x, sxy+x*v
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
