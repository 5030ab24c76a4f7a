package measure

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDiffer(t *testing.T) {
	p, least := Differ(Set{[]float64{1, 2, 3, 4}, 4}, Set{[]float64{5, 6, 7, 8}, 4}, 0)
	assert.InDelta(t, 2.0/70, p, 1e-12)
	assert.InDelta(t, p, least, 1e-12, "they could not differ more")
	p, least = Differ(Set{[]float64{1, 2, 3, 4}, 4}, Set{[]float64{5, 6, 7, 8}, 4}, 0.5)
	assert.InDelta(t, 0.2062, p, 1e-4, "two-sided normal, z = 2.189 / sqrt(3)")
	assert.InDelta(t, p, least, 1e-12)
	p, _ = Differ(Set{[]float64{1, 2, 3}, 1}, Set{[]float64{1, 2, 3}, 1}, 0)
	assert.InDelta(t, 1, p, 1e-12)
	p, least = Differ(Set{[]float64{0, 0, 0}, 1}, Set{[]float64{0, 0, 0}, 1}, 0)
	assert.InDelta(t, 1, p, 1e-12, "all the same is no difference")
	assert.Zero(t, least)
}

func TestAutocorrelation(t *testing.T) {
	assert.InDelta(t, 2, Set{[]float64{1, 2, 3, 400}, 4}.Autocorrelation(), 1e-12, "((0.75 - 0.25 + 0.75) / 5 + 1/4) / (1 - 3/4)")
	assert.Zero(t, Set{[]float64{1, 1, 1, 1}, 4}.Autocorrelation())
	random, r := rand.New(rand.NewPCG(5, 6)), [2]float64{}
	const sets = 500
	for range sets {
		var independent, following []float64
		last := random.NormFloat64()
		for range 12 {
			independent = append(independent, random.NormFloat64())
			last = 0.5*last + math.Sqrt(0.75)*random.NormFloat64()
			following = append(following, last)
		}
		r[0] += Set{independent, 12}.Autocorrelation() / sets
		r[1] += Set{following, 12}.Autocorrelation() / sets
	}
	assert.InDelta(t, 0, r[0], 0.03)
	assert.InDelta(t, 0.48, r[1], 0.05, "of the ranks of such values")
}

func TestBatches(t *testing.T) {
	assert.Equal(t, []float64{2, 6}, Set{[]float64{1, 2, 9, 0, 6, 7}, 2}.batches(), "a median for each process")
	assert.Equal(t, []float64{3, 1, 2}, Set{[]float64{3, 1, 2}, 1}.batches())
	long := Set{make([]float64, 40), 1}
	require.Len(t, long.batches(), 20, "batches of two")
	long.Processes = 40
	require.Len(t, long.batches(), 20)
}

func TestHolm(t *testing.T) {
	assert.InDeltaSlice(t, []float64{0.03, 0.06, 0.06, 0.02}, Holm([]float64{0.01, 0.04, 0.03, 0.005}), 1e-12)
	assert.Equal(t, []float64{1, 1}, Holm([]float64{0.9, 0.8}))
	assert.Empty(t, Holm(nil))
}
