package pipeline

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTimestepCond compares with diffusers' get_guidance_scale_embedding.
func TestTimestepCond(t *testing.T) {
	data, err := os.ReadFile("testdata/golden/guidance_embedding.json")
	require.NoError(t, err)
	var cases []struct {
		Scale     float64   `json:"scale"`
		Embedding []float32 `json:"embedding"`
	}
	require.NoError(t, json.Unmarshal(data, &cases))
	require.NotEmpty(t, cases)
	for _, c := range cases {
		got := make([]float32, len(c.Embedding))
		timestepCond(got, c.Scale)
		for i := range got {
			// One unit in the last place of an angle of thousands of radians is 5e-4.
			require.InDelta(t, c.Embedding[i], got[i], 1e-3, "scale %v, value %d", c.Scale, i)
		}
	}
}
