package tensor_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/tensor"
)

func TestShares(t *testing.T) {
	var s tensor.Shares
	require.False(t, s.Use(), "it was never live")
	require.False(t, s.Close())
	s.Own()
	require.True(t, s.Use())
	s.Add()
	require.True(t, s.Close())
	require.False(t, s.Close(), "once")
	require.True(t, s.Closed())
	require.False(t, s.Use())
	require.Equal(t, []bool{false, false, true}, []bool{s.Done(), s.Done(), s.Done()}, "two users and the owner")
}

func TestSharesAreGivenUpOnce(t *testing.T) {
	for range 200 {
		var s tensor.Shares
		var freed, used atomic.Int64
		done := func() {
			if s.Done() {
				freed.Add(1)
			}
		}
		s.Own()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if s.Use() {
					if freed.Load() > 0 {
						used.Add(1)
					}
					done()
				}
			})
		}
		all.Go(func() {
			if s.Close() {
				done()
			}
		})
		all.Wait()
		require.EqualValues(t, 1, freed.Load())
		require.Zero(t, used.Load(), "used after it was freed")
	}
}
