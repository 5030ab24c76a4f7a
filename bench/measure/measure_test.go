package measure

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSummarize(t *testing.T) {
	v := Summarize([]float64{5, 1, 4, 2, 3, 6, 7, 8, 9})
	assert.InDelta(t, 5, v.Median, 0)
	assert.LessOrEqual(t, v.Lo, v.Median)
	assert.GreaterOrEqual(t, v.Hi, v.Median)
	assert.Equal(t, 9, v.N)
	assert.Equal(t, Value{Median: 2, Lo: 1, Hi: 3, N: 3, Samples: []float64{3, 1, 2}}, Summarize([]float64{3, 1, 2}))
}

func TestSummarizeLeavesTheOrderOfTheRuns(t *testing.T) {
	samples := []float64{3, 1, 2}
	Summarize(samples)
	assert.Equal(t, []float64{3, 1, 2}, samples)
}

func TestSummarizeKeepsManySamplesEvenlySpread(t *testing.T) {
	samples := make([]float64, 3*MaxSamples)
	for i := range samples {
		samples[i] = float64(i)
	}
	v := Summarize(samples)
	assert.Equal(t, len(samples), v.N)
	require.Len(t, v.Samples, MaxSamples)
	assert.Equal(t, []float64{0, 3, 6}, v.Samples[:3])
	assert.InDelta(t, 3*MaxSamples-3, v.Samples[MaxSamples-1], 0)
}

func TestInterleave(t *testing.T) {
	var order []string
	side := func(name string, v float64) Side {
		return Side{name, func(context.Context) (map[string]float64, error) {
			order = append(order, name)
			return map[string]float64{"wall": v}, nil
		}}
	}
	got, err := Interleave(t.Context(), false, 1, 2, nil, side("a", 1), side("b", 2))
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b", "b", "a", "a", "b"}, order)
	order = nil
	_, err = Interleave(t.Context(), true, 0, 2, nil, side("a", 1), side("b", 2))
	require.NoError(t, err)
	assert.Equal(t, []string{"b", "a", "a", "b"}, order)
	assert.Equal(t, []float64{0.5, 0.5}, Ratios(got[0]["wall"], got[1]["wall"]))
}

func TestInterleaveNamesTheSideThatFails(t *testing.T) {
	bad := Side{"peer", func(context.Context) (map[string]float64, error) { return nil, errors.New("broke") }}
	_, err := Interleave(t.Context(), false, 0, 1, nil, bad)
	require.ErrorContains(t, err, "peer, round 1: broke")
}

func TestSlope(t *testing.T) {
	assert.InDelta(t, 3, Slope([]float64{1, 4, 7, 10}), 1e-12)
	assert.Zero(t, Slope([]float64{2}))
}

var sink []byte

func TestCalls(t *testing.T) {
	n := 0
	got, err := Calls(1000, func() error { n++; sink = make([]byte, 64); return nil })
	require.NoError(t, err)
	assert.Equal(t, 1000, n)
	assert.Positive(t, got["ns"])
	assert.InDelta(t, 1, got["allocs"], 0.5)
	_, err = Calls(3, func() error { return errors.New("broke") })
	require.ErrorContains(t, err, "broke")
}
