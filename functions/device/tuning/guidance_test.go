package tuning

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/functions/model"
)

// generation is one that is long enough for a trial.
func generation() Generation {
	return Generation{Key: "emoji 64x64", Steps: 20, Compile: 10 * time.Millisecond, Room: func() bool { return true }}
}

func TestTrialsTakeTheFaster(t *testing.T) {
	for name, c := range map[string]struct {
		sequential time.Duration
		want       int
	}{
		"sequential": {8 * time.Millisecond, Sequential}, "batched": {12 * time.Millisecond, Batched}, "too close to tell": {9800 * time.Microsecond, Batched},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			trials := NewTrials(0, dir)
			batch, s := trials.Choose(generation())
			require.Equal(t, Batched, batch)
			require.Equal(t, "not measured yet", s.Reason)
			require.NoError(t, trials.Note(generation(), batch, batch, 10*time.Millisecond))
			batch, s = trials.Choose(generation())
			require.Equal(t, Sequential, batch)
			require.Equal(t, "being compared: a step takes 10ms batched", s.Reason)
			require.NoError(t, trials.Note(generation(), batch, batch, c.sequential))
			batch, s = trials.Choose(generation())
			require.Equal(t, c.want, batch)
			require.Contains(t, s.Reason, "a step takes 10ms batched and "+c.sequential.String()+" sequential")
			require.NoError(t, trials.Note(generation(), batch, batch, time.Hour), "a busy machine changes nothing")
			again, _ := trials.Choose(generation())
			require.Equal(t, batch, again)

			again, s = NewTrials(0, dir).Choose(generation())
			require.Equal(t, c.want, again, "the next process knows it")
			require.Contains(t, s.Reason, "a step takes")
			again, _ = NewTrials(0, t.TempDir()).Choose(generation())
			require.Equal(t, Batched, again)
			again, s = NewTrials(Sequential, dir).Choose(generation())
			require.Equal(t, Sequential, again)
			require.Equal(t, "asked for", s.Reason)
		})
	}
}

// TestTrialsDelayNobodyMuch: a trial needs memory, enough steps, and a compilation that is short beside them.
func TestTrialsDelayNobodyMuch(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Generation)
		reason string
	}{
		"no room":               {func(g *Generation) { g.Room = func() bool { return false } }, "no memory to compare"},
		"a canary":              {func(g *Generation) { g.Steps = 2 }, "not compared yet"},
		"told not to":           {func(g *Generation) { g.NoTrials = true }, "not compared yet"},
		"compiles for long":     {func(g *Generation) { g.Compile = time.Second }, "of 20 steps by more than a tenth"},
		"compiles nobody knows": {func(g *Generation) { g.Compile = 0 }, "of 20 steps by more than a tenth"},
	} {
		t.Run(name, func(t *testing.T) {
			trials := NewTrials(0, "")
			require.NoError(t, trials.Note(generation(), Batched, Batched, 10*time.Millisecond))
			g := generation()
			c.change(&g)
			batch, s := trials.Choose(g)
			assert.Equal(t, Batched, batch)
			assert.Contains(t, s.Reason, c.reason)
		})
	}
}

func TestTrialsOfANetworkWithOneBatch(t *testing.T) {
	trials := NewTrials(0, t.TempDir())
	require.NoError(t, trials.Note(generation(), Batched, Sequential, time.Millisecond))
	batch, s := trials.Choose(generation())
	require.Equal(t, Batched, batch)
	require.Contains(t, s.Reason, "one batch only")
}

func TestDamagedMeasurements(t *testing.T) {
	for _, text := range []string{"", "{", `{"emoji 64x64": null}`, `[]`} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "guidance.json"), []byte(text), 0o600))
		batch, _ := NewTrials(0, dir).Choose(generation())
		require.Equal(t, Batched, batch, text)
	}
}

func TestGuidanceByMemory(t *testing.T) {
	m, err := model.Open(filepath.Join("..", "..", "..", "deploy", "models", "emoji"))
	require.NoError(t, err)
	w := model.Workload{Width: 512, Height: 512, Count: 1, Guided: true}
	need := m.PeakBytes(w)
	s, sequential := ByMemory(m, w, need-1)
	require.True(t, sequential)
	require.Contains(t, s.Reason, "a batch of 2 needs about")
	for _, total := range []int64{need, 0, -1} {
		_, sequential = ByMemory(m, w, total)
		require.False(t, sequential)
	}
	w.Guided = false
	_, sequential = ByMemory(m, w, 1)
	require.False(t, sequential)
}
