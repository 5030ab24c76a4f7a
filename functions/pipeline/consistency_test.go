package pipeline_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/functions/model"
	"genfn/functions/model/session"
)

// TestConsistencyModel: a UNet that takes the guidance scale as an input runs once a step, as in diffusers'
// LatentConsistencyModelPipeline.
func TestConsistencyModel(t *testing.T) {
	dir := copyTiny(t, "", nil)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "unet")))
	for _, file := range []string{"model_index.json", "scheduler/scheduler_config.json"} {
		require.NoError(t, os.Remove(filepath.Join(dir, file)))
	}
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/tiny-lcm")))
	b := open(t, dir, session.Options{})
	assert.Equal(t, model.ClassLatentConsistency, b.model.Class)
	assert.Equal(t, 9, b.model.TimeCondProjDim)

	r := request()
	r.Prompt, r.Steps, r.GuidanceScale, r.Seed = goldenNamed(t, "ddim").Prompt, b.model.DefaultSteps, b.model.DefaultGuidance, 12
	got, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	want := golden{Name: "consistency", dir: goldens}.array(t, "final")
	assert.LessOrEqual(t, relative(got.Latents.Data, want.Data), 1e-3)

	r.GuidanceScale = 2
	other, err := b.Generate(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Greater(t, relative(other.Latents.Data, want.Data), 1e-2, "the guidance scale matters")
}
