package pipeline_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/functions/diffusion"
	"genfn/functions/model/session"
)

// TestConformance compares with diffusers' own pipeline: final latents within 1e-3 relative, pixels within 1.
func TestConformance(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range cases(t) {
		covered[c.Scheduler] = true
		t.Run(c.Name, func(t *testing.T) {
			b := sharedTiny(t)
			if c.PredictionType != "" {
				b = open(t, copyTiny(t, "scheduler/scheduler_config.json", map[string]any{"prediction_type": c.PredictionType}), session.Options{})
			}
			r, err := b.Generate(t.Context(), c.request(t), nil)
			require.NoError(t, err)
			want := c.array(t, "final")
			require.Equal(t, want.Shape, r.Latents.Shape)
			diff := relative(r.Latents.Data, want.Data)
			assert.LessOrEqual(t, diff, 1e-3)
			require.Len(t, r.Images, c.Count)
			worst := 0
			for i, img := range r.Images {
				golden := c.image(t, i)
				require.Equal(t, []int{golden.Width, golden.Height}, []int{img.Width, img.Height})
				worst = max(worst, worstPixel(img.Pix, golden.Pix))
			}
			assert.LessOrEqual(t, worst, 1, "of 255")
			t.Logf("latents differ by %.1e, pixels by %d", diff, worst)
			assert.Equal(t, c.Name == "long_prompt", r.PromptTruncated)
			assert.Equal(t, "f32", r.Precision)
			assert.Empty(t, r.Degradations)
		})
	}
	for _, name := range diffusion.Names() {
		if strings.HasSuffix(name, "Scheduler") {
			continue // the diffusers class of one of the others
		}
		assert.True(t, covered[name], "scheduler %q has no golden", name)
	}
}

// TestTokens compares with the tokenizer of transformers.
func TestTokens(t *testing.T) {
	b := sharedTiny(t)
	tokenizer, err := session.NewLoader(b.runtime, session.Options{}).OpenTokenizer(b.model)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tokenizer.Close()) })
	var want []struct {
		Prompt string  `json:"prompt"`
		IDs    []int64 `json:"input_ids"`
		Cut    bool    `json:"cut"`
	}
	readJSON(t, filepath.Join(goldens, "tokens.json"), &want)
	require.NotEmpty(t, want)
	for _, w := range want {
		got, err := tokenizer.Tokenize(t.Context(), w.Prompt)
		require.NoError(t, err)
		assert.Equal(t, w.IDs, got.IDs, w.Prompt)
		assert.Equal(t, w.Cut, got.Truncated, w.Prompt)
	}
}
