package instance_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/runner/protocol"
)

// BenchmarkNoop is a request from publishing to its terminal event, one at a time, through a runner that does
// nothing: what everything around a generation costs.
func BenchmarkNoop(b *testing.B) {
	r := newRig(b)
	r.start(nil)
	data := events.ImageGenerate{Model: protocol.NoopModel, Prompt: "x"}
	for b.Loop() {
		e, err := r.client.Wait(b.Context(), r.publish(data))
		require.NoError(b, err)
		require.Equal(b, events.TypeSucceeded, e.Type())
	}
}
