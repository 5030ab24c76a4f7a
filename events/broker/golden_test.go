package broker_test

import (
	"math"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"genfn/events/broker"
)

func golden(values ...float32) broker.Golden {
	return broker.Golden{Model: "emoji", SHA256: "ab", Work: "64x64", Kind: broker.KindReference, Precision: "f32", Values: values, By: "one", Places: []string{"host CPU"}}
}

// TestGolden: known values outlive the server, are replaced only by who knows what it replaces, and what is none is
// neither stored nor believed.
func TestGolden(t *testing.T) {
	b := newBench(t)
	none, err := b.Golden(t.Context(), golden())
	require.NoError(t, err)
	require.Nil(t, none)
	require.NoError(t, b.PutGolden(t.Context(), golden(1, 2.5), 0))
	require.ErrorIs(t, b.PutGolden(t.Context(), golden(3), 0), broker.ErrConflict)
	b.server.Restart()
	stored, err := b.Golden(t.Context(), golden())
	require.NoError(t, err)
	require.Equal(t, golden(1, 2.5), stored.Golden)
	require.NoError(t, b.PutGolden(t.Context(), golden(4), stored.Revision))
	other := golden(7)
	other.Kind = "gpu x"
	require.NoError(t, b.PutGolden(t.Context(), other, 0))
	stored, err = b.Golden(t.Context(), golden())
	require.NoError(t, err)
	require.Equal(t, []float32{4}, stored.Values)

	require.ErrorContains(t, b.PutGolden(t.Context(), golden(), stored.Revision), "expected 1 to")
	require.ErrorContains(t, b.PutGolden(t.Context(), golden(float32(math.NaN())), stored.Revision), "value 0 is NaN")
	many := make([]float32, broker.MaxGoldenValues)
	for i := range many {
		many[i] = -1.2345678e-30 // the longest in JSON
	}
	require.NoError(t, b.PutGolden(t.Context(), golden(many...), stored.Revision), "they fit into a message")

	js, err := jetstream.New(b.Conn())
	require.NoError(t, err)
	bucket, err := js.KeyValue(t.Context(), broker.BucketGolden)
	require.NoError(t, err)
	keys, err := bucket.Keys(t.Context())
	require.NoError(t, err)
	for _, key := range keys {
		_, err := bucket.PutString(t.Context(), key, `{"values": [1]}`)
		require.NoError(t, err)
	}
	none, err = b.Golden(t.Context(), golden())
	require.NoError(t, err)
	require.Nil(t, none)
}
