package broker

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDeadlinesComeInOrderAndAreBounded(t *testing.T) {
	var d deadlines
	began := time.Unix(1000, 0)
	random := rand.New(rand.NewPCG(1, 2))
	const n = 3 * maxDeadlines
	for _, i := range random.Perm(n) {
		d.add(deadline{began.Add(time.Duration(i)), uint64(i)})
		require.LessOrEqual(t, len(d.heap), maxDeadlines)
	}
	require.False(t, d.forgot(), "there is no room yet")
	for i := range maxDeadlines / 4 { // the nearest ones are kept
		_, ok := d.due(began.Add(time.Duration(i) - 1))
		require.False(t, ok)
		next, ok := d.due(began.Add(time.Duration(i)))
		require.True(t, ok)
		require.EqualValues(t, i, next.sequence)
	}
	for !d.forgot() {
		_, ok := d.due(began.Add(n))
		require.True(t, ok)
	}
	require.NotEmpty(t, d.heap)
}
