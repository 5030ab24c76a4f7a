package tuning

import (
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events"
)

func TestChooseCUDA(t *testing.T) {
	d := CUDA{Name: "cuda:0", RunsOn: "CUDA", Reason: "its provider"}
	p, err := ChooseCUDA(d, Wishes{})
	require.NoError(t, err)
	require.Empty(t, p.Properties)
	var names []string
	for _, s := range p.Settings {
		require.NotEmpty(t, s.Value)
		require.NotEmpty(t, s.Reason)
		names = append(names, s.Name)
	}
	require.Equal(t, []string{Networks, Precision, Streams, Arena, Guidance}, names)
	for _, precision := range []string{"f32", "f16", PrecisionAuto} {
		p, err = ChooseCUDA(d, Wishes{Precision: precision, Streams: 1, GuidanceBatch: 1})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"f32": "f32", "f16": "f16", PrecisionAuto: "f32"}[precision], p.Settings[1].Value)
	}
	for field, w := range map[string]Wishes{"precision": {Precision: "bf16"}, "streams": {Streams: 2}, "property": {Properties: map[string]string{"A": "B"}}} {
		p, err := ChooseCUDA(d, w)
		require.Len(t, p.Settings, 5, "what is right is told nevertheless")
		var e *events.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, events.CodeInvalidRequest, e.Code)
		require.Equal(t, field, e.Field)
		require.Equal(t, "cuda:0", e.Device)
		require.NotEmpty(t, e.Expected)
	}
}
