package measure

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDiffer(t *testing.T) {
	p, least := Differ(Set{[]float64{1, 2, 3, 4}, 4}, Set{[]float64{5, 6, 7, 8}, 4})
	assert.InDelta(t, 2.0/70, p, 1e-12)
	assert.InDelta(t, p, least, 1e-12, "they could not differ more")
	p, _ = Differ(Set{[]float64{1, 2, 3}, 1}, Set{[]float64{1, 2, 3}, 1})
	assert.InDelta(t, 1, p, 1e-12)
	p, _ = Differ(Set{[]float64{0, 0, 0}, 1}, Set{[]float64{0, 0, 0}, 1})
	assert.InDelta(t, 1, p, 1e-12, "all the same is no difference")
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
