package session

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/tensor"
	"genfn/functions/model"
)

// kept is what one process after another finds in a cache.
type kept struct {
	cache, models string
	compiled      []string // what had to be compiled
	logged        bytes.Buffer
}

// start makes a text encoder and a tokenizer ready as a new process does, keeps them, and returns what they say.
func (k *kept) start(t *testing.T, shapes Shapes) ([]float32, []int64) {
	t.Helper()
	k.compiled = nil
	k.logged.Reset()
	l, _ := newLoader(t, Options{
		CacheDir: k.cache, CacheCompiled: true, Threads: 1, Logger: slog.New(slog.NewTextHandler(&k.logged, nil)),
		OnCompile: func(component, _ string, _ bool) { k.compiled = append(k.compiled, component) },
	})
	l.Prepare()
	m, err := model.Open(k.models)
	require.NoError(t, err)
	tokenizer, err := l.OpenTokenizer(m)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tokenizer.Close()) })
	n := openNetwork(t, l, m.TextEncoder)
	e := acquire(t, n, shapes)
	defer e.Release()
	tokens, err := tokenizer.Tokenize(t.Context(), "a red fox")
	require.NoError(t, err)
	tokenizer.Keep()
	n.Keep()
	copy(e.Buffer("input_ids").I64(), tokens.IDs)
	require.NoError(t, e.Infer(t.Context()))
	return slices.Clone(e.Buffer("last_hidden_state").F32()), tokens.IDs
}

func textShapes(batch int64) Shapes {
	return Shapes{
		Inputs:  map[string]tensor.Shape{"input_ids": {batch, 77}},
		Outputs: map[string]tensor.Shape{"last_hidden_state": {batch, 77, 32}},
	}
}

// newKept copies the model, so that its files may be changed.
func newKept(t *testing.T) *kept {
	t.Helper()
	k := &kept{cache: t.TempDir(), models: filepath.Join(t.TempDir(), "tiny")}
	require.NoError(t, os.CopyFS(k.models, os.DirFS(tiny)))
	return k
}

func (k *kept) files(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(k.cache, "compiled", "*"))
	require.NoError(t, err)
	return files
}

func TestCompiledNetworksAreKept(t *testing.T) {
	k, shapes := newKept(t), textShapes(1)
	hidden, ids := k.start(t, shapes)
	assert.Equal(t, []string{"tokenizer", "text_encoder"}, k.compiled)
	assert.Len(t, k.files(t), 3, "tokenizer, text encoder, and what is known of its file")

	again, sameIDs := k.start(t, shapes)
	assert.Empty(t, k.compiled)
	assert.Equal(t, hidden, again, "bit by bit")
	assert.Equal(t, ids, sameIDs)

	k.start(t, textShapes(2))
	assert.Equal(t, []string{"text_encoder"}, k.compiled, "another shape is another form")
	k.start(t, textShapes(2))
	assert.Empty(t, k.compiled)

	weights := filepath.Join(k.models, "text_encoder", "openvino_model.bin")
	data, err := os.ReadFile(weights)
	require.NoError(t, err)
	st, err := os.Stat(weights)
	require.NoError(t, err)
	for i := 0; i < 600*32*2; i += 2 { // the token embeddings, which are halves: the last bit of each
		data[i] ^= 1
	}
	require.NoError(t, os.WriteFile(weights, data, 0o644))
	require.NoError(t, os.Chtimes(weights, st.ModTime(), st.ModTime()))
	changed, _ := k.start(t, shapes)
	assert.Equal(t, []string{"text_encoder"}, k.compiled, "the file changed, though size and time say it did not")
	assert.NotEqual(t, hidden, changed)
	assert.Empty(t, k.logged.String())
}

func TestDamagedCacheIsNotUsed(t *testing.T) {
	k, shapes := newKept(t), textShapes(1)
	want, ids := k.start(t, shapes)
	damage := map[string]func(t *testing.T, path string, data []byte) error{
		"a bit": func(_ *testing.T, path string, data []byte) error {
			data[len(data)/2] ^= 4
			return os.WriteFile(path, data, 0o644)
		},
		"cut off": func(_ *testing.T, path string, data []byte) error {
			return os.WriteFile(path, data[:len(data)-100], 0o644)
		},
		"empty": func(_ *testing.T, path string, _ []byte) error { return os.WriteFile(path, nil, 0o644) },
		"of others": func(t *testing.T, path string, data []byte) error {
			c := &cache{dir: t.TempDir()}
			other := strings.Repeat("f", keyLength)
			require.NoError(t, c.write(other, func(path string) error { return os.WriteFile(path, data[:len(data)-sealBytes], 0o644) }))
			return os.Rename(c.path(other), path)
		},
	}
	for name, spoil := range damage {
		for _, path := range k.files(t) {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, spoil(t, path, data), name)
		}
		got, sameIDs := k.start(t, shapes)
		assert.Equal(t, []string{"tokenizer", "text_encoder"}, k.compiled, name)
		assert.Equal(t, want, got, name)
		assert.Equal(t, ids, sameIDs, name)
		k.start(t, shapes)
		assert.Empty(t, k.compiled, "%s: kept anew", name)
	}
}

// TestSealedNonsense: what has the right seal and is no compiled network is refused by OpenVINO, and removed.
func TestSealedNonsense(t *testing.T) {
	k, shapes := newKept(t), textShapes(1)
	want, _ := k.start(t, shapes)
	c := &cache{dir: filepath.Join(k.cache, "compiled")}
	for _, path := range k.files(t) {
		require.NoError(t, c.write(filepath.Base(path), func(path string) error { return os.WriteFile(path, []byte("nonsense"), 0o644) }))
	}
	got, _ := k.start(t, shapes)
	assert.Equal(t, []string{"tokenizer", "text_encoder"}, k.compiled)
	assert.Equal(t, want, got)
	assert.Contains(t, k.logged.String(), "cannot be used")
}

// TestImportThatCrashed: a process that died while it imported leaves its markers; the networks are compiled.
func TestImportThatCrashed(t *testing.T) {
	k, shapes := newKept(t), textShapes(1)
	want, _ := k.start(t, shapes)
	j := &journal{dir: filepath.Join(k.cache, "compile-journal"), retryAfter: time.Hour, process: "dead"}
	for _, path := range k.files(t) {
		m, err := j.begin(filepath.Base(path), entry{}, false)
		require.NoError(t, err)
		require.NoError(t, m.f.Close())
	}
	for range 2 {
		got, _ := k.start(t, shapes)
		assert.Equal(t, []string{"tokenizer", "text_encoder"}, k.compiled)
		assert.Equal(t, want, got)
	}
}

func TestCacheSweep(t *testing.T) {
	c := &cache{dir: t.TempDir()}
	write := func(content string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(content), 0o644) }
	}
	key := func(c string) string { return strings.Repeat(c, keyLength) }
	for _, name := range []string{"a", "b"} {
		require.NoError(t, c.write(key(name), write(name)))
	}
	half := filepath.Join(c.dir, "new-1")
	require.NoError(t, os.WriteFile(half, nil, 0o644))
	for path, age := range map[string]time.Duration{half: 2 * time.Hour, c.path(key("a")): 2 * unused, c.path(key("b")): unused / 2} {
		when := time.Now().Add(-age)
		require.NoError(t, os.Chtimes(path, when, when))
	}
	content, release := c.open(key("b"))
	require.Equal(t, "b", string(content))
	release()
	require.NoError(t, c.write(key("c"), write("c")))
	assert.NoFileExists(t, half)
	assert.NoFileExists(t, c.path(key("a")), "not used for long")
	st, err := os.Stat(c.path(key("b")))
	require.NoError(t, err)
	assert.Less(t, time.Since(st.ModTime()), time.Hour, "its use was noted")
	require.Error(t, c.write(key("d"), func(string) error { return assert.AnError }))
	assert.NoFileExists(t, c.path(key("d")))
}
