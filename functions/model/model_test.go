package model_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/model"
)

const tiny = "../pipeline/testdata/tiny-sd"

// copyTiny returns a writable copy of the tiny model.
func copyTiny(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tiny-sd")
	require.NoError(t, os.CopyFS(dir, os.DirFS(tiny)))
	return dir
}

// edit changes a JSON file: a nil value removes the key.
func edit(t *testing.T, dir, file string, changes map[string]any) {
	t.Helper()
	path := filepath.Join(dir, file)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var values map[string]any
	require.NoError(t, json.Unmarshal(data, &values))
	for k, v := range changes {
		if v == nil {
			delete(values, k)
		} else {
			values[k] = v
		}
	}
	data, err = json.Marshal(values)
	require.NoError(t, err)
	write(t, dir, file, string(data))
}

func write(t *testing.T, dir, file, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644))
}

func replace(t *testing.T, dir, file, from, to string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	require.NoError(t, err)
	require.Contains(t, string(data), from)
	write(t, dir, file, strings.Replace(string(data), from, to, 1))
}

func TestOpenReadsEverythingFromTheFiles(t *testing.T) {
	m, err := model.Open(tiny)
	require.NoError(t, err)
	assert.Equal(t, "tiny-sd", m.Name)
	assert.Equal(t, model.KindImage, m.Kind)
	assert.Equal(t, model.ClassStableDiffusion, m.Class)
	assert.Equal(t, 4, m.LatentChannels)
	assert.Equal(t, 8, m.VAEScale)
	assert.Equal(t, 32, m.SizeStep)
	assert.Equal(t, 77, m.MaxTokens)
	assert.Equal(t, int64(0), m.PadToken, `the pad token is "!", not the end token`)
	assert.InDelta(t, 0.18215, m.ScalingFactor, 0)
	assert.Zero(t, m.ShiftFactor)
	assert.Equal(t, []int{256, 256, 50}, []int{m.DefaultWidth, m.DefaultHeight, m.DefaultSteps})
	assert.InDelta(t, 7.5, m.DefaultGuidance, 0)
	assert.Nil(t, m.FixedSizes)
	assert.Nil(t, m.VAEEncoder)
	assert.False(t, m.UNet.ONNX())
	sample, ok := m.UNet.Input("sample")
	require.True(t, ok)
	assert.Equal(t, model.Input{Name: "sample", DType: "f32", Shape: []int64{-1, 4, -1, -1}, Ranked: true}, sample)
	assert.JSONEq(t, `"DDIMScheduler"`, schedulerClass(t, m))
}

func schedulerClass(t *testing.T, m *model.Model) string {
	var c map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(m.SchedulerConfig, &c))
	return string(c["_class_name"])
}

func TestOpenFollowsTheConfigs(t *testing.T) {
	dir := copyTiny(t)
	edit(t, dir, "text_encoder/config.json", map[string]any{"max_position_embeddings": 40})
	edit(t, dir, "tokenizer/tokenizer_config.json", map[string]any{"model_max_length": 16})
	edit(t, dir, "unet/config.json", map[string]any{"sample_size": []int{8, 24}})
	edit(t, dir, "vae_decoder/config.json", map[string]any{"block_out_channels": []int{16, 32}, "scaling_factor": 0.5, "shift_factor": 0.25})
	write(t, dir, "generation_config.json", `{"num_inference_steps": 25, "guidance_scale": 4, "width": 64}`)
	m, err := model.Open(dir)
	require.NoError(t, err)
	assert.Equal(t, 16, m.MaxTokens)
	assert.Equal(t, []int{24, 8, 2, 8}, []int{m.SampleWidth, m.SampleHeight, m.VAEScale, m.SizeStep})
	assert.Equal(t, []int{64, 16, 25}, []int{m.DefaultWidth, m.DefaultHeight, m.DefaultSteps})
	assert.InDelta(t, 4, m.DefaultGuidance, 0)
	assert.InDelta(t, 0.5, m.ScalingFactor, 0)
	assert.InDelta(t, 0.25, m.ShiftFactor, 0)
}

func TestOpenWithoutTokenizerConfig(t *testing.T) {
	dir := copyTiny(t)
	edit(t, dir, "tokenizer/tokenizer_config.json", map[string]any{"model_max_length": 1e30})
	m, err := model.Open(dir)
	require.NoError(t, err)
	assert.Equal(t, 77, m.MaxTokens)
	require.NoError(t, os.Remove(filepath.Join(dir, "tokenizer/tokenizer_config.json")))
	m, err = model.Open(dir)
	require.NoError(t, err)
	assert.Equal(t, 77, m.MaxTokens)
}

func TestPadTokenFromTheVocabulary(t *testing.T) {
	dir := copyTiny(t)
	replace(t, dir, "tokenizer/openvino_tokenizer.xml", `<pad_token_id value="0" />`, "")
	edit(t, dir, "tokenizer/tokenizer_config.json", map[string]any{"pad_token": map[string]any{"content": "<|endoftext|>"}})
	m, err := model.Open(dir)
	require.NoError(t, err)
	fromAdded := m.PadToken
	assert.Positive(t, fromAdded)
	edit(t, dir, "tokenizer/tokenizer_config.json", map[string]any{"pad_token": "!"})
	m, err = model.Open(dir)
	require.NoError(t, err)
	assert.Zero(t, m.PadToken)
	write(t, dir, "tokenizer/vocab.json", `{"a": 1, "!": 17}`)
	m, err = model.Open(dir)
	require.NoError(t, err)
	assert.Equal(t, int64(17), m.PadToken)
}

func TestONNXFolder(t *testing.T) {
	dir := copyTiny(t)
	for _, c := range []string{"text_encoder", "unet", "vae_decoder"} {
		require.NoError(t, os.Remove(filepath.Join(dir, c, "openvino_model.xml")))
		require.NoError(t, os.Remove(filepath.Join(dir, c, "openvino_model.bin")))
		write(t, dir, c+"/model.onnx", "x")
	}
	m, err := model.Open(dir)
	require.NoError(t, err)
	assert.True(t, m.UNet.ONNX())
	assert.Equal(t, filepath.Join(dir, "unet/model.onnx"), m.UNet.Path)
	assert.Empty(t, m.UNet.Weights)

	half, err := m.UNet.InONNX("f16")
	requireInvalid(t, err, "unet/model_fp16.onnx", "missing or empty")
	require.Equal(t, m.UNet, half)
	write(t, dir, "unet/model_fp16.onnx", "xy")
	half, err = m.UNet.InONNX("f16")
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "unet/model_fp16.onnx"), half.Path)
	same, err := m.UNet.InONNX("f32")
	require.NoError(t, err)
	assert.Equal(t, m.UNet, same)

	write(t, dir, "unet/model.onnx", "")
	_, err = model.Open(dir)
	requireInvalid(t, err, "unet/model.onnx", "empty")
}

func TestFixedShapes(t *testing.T) {
	dir := copyTiny(t)
	replace(t, dir, "unet/openvino_model.xml", `shape="?,4,?,?"`, `shape="2,4,16,24"`)
	m, err := model.Open(dir)
	require.NoError(t, err)
	assert.Equal(t, []model.Size{{Width: 192, Height: 128}}, m.FixedSizes)
	assert.Equal(t, []int{192, 128}, []int{m.DefaultWidth, m.DefaultHeight})
	assert.Equal(t, "192x128", m.FixedSizes[0].String())

	replace(t, dir, "vae_decoder/openvino_model.xml", `shape="?,4,?,?"`, `shape="1,4,8,8"`)
	_, err = model.Open(dir)
	requireInvalid(t, err, "vae_decoder/openvino_model.xml", "fixed shape")
}

func requireInvalid(t *testing.T, err error, words ...string) {
	t.Helper()
	var e *events.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, events.CodeModelInvalid, e.Code, "%v", err)
	for _, w := range words {
		require.Contains(t, e.Error()+" "+e.Advice, w)
	}
	require.NotEmpty(t, e.Advice)
}

func TestInvalidFolders(t *testing.T) {
	remove := func(file string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, file))) }
	}
	put := func(file, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { write(t, dir, file, content) }
	}
	set := func(file, key string, value any) func(*testing.T, string) {
		return func(t *testing.T, dir string) { edit(t, dir, file, map[string]any{key: value}) }
	}
	swap := func(file, from, to string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { replace(t, dir, file, from, to) }
	}
	truncate := func(file string, size int64) func(*testing.T, string) {
		return func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, file), size)) }
	}
	for _, c := range []struct {
		name  string
		spoil func(*testing.T, string)
		words []string
	}{
		{"no index", remove("model_index.json"), []string{"model_index.json", "missing"}},
		{"index not JSON", put("model_index.json", "{"), []string{"model_index.json", "JSON"}},
		{"index null", put("model_index.json", "null"), []string{"model_index.json", "null"}},
		{"index twice", put("model_index.json", "{} {}"), []string{"more than one"}},
		{"index too large", put("model_index.json", strings.Repeat(" ", 16<<20+1)), []string{"larger than 16 MiB"}},
		{"no class", set("model_index.json", "_class_name", nil), []string{"model_index.json", `"_class_name"`, "missing"}},
		{"empty class", set("model_index.json", "_class_name", ""), []string{`"_class_name"`, "empty"}},
		{"other class", set("model_index.json", "_class_name", "FluxPipeline"), []string{"FluxPipeline", "StableDiffusionPipeline or LatentConsistencyModelPipeline"}},
		{"no unet in index", set("model_index.json", "unet", nil), []string{"model_index.json", `"unet"`}},
		{"null unet in index", set("model_index.json", "unet", []any{nil, nil}), []string{"model_index.json", `"unet"`}},
		{"no scheduler", remove("scheduler/scheduler_config.json"), []string{"scheduler/scheduler_config.json", "missing"}},
		{"scheduler is a list", put("scheduler/scheduler_config.json", "[]"), []string{"scheduler/scheduler_config.json", "JSON object"}},
		{"no scheduler class", set("scheduler/scheduler_config.json", "_class_name", nil), []string{"scheduler/scheduler_config.json", `"_class_name"`}},
		{"no token limit", set("text_encoder/config.json", "max_position_embeddings", nil), []string{"text_encoder/config.json", `"max_position_embeddings"`}},
		{"token limit 2.5", set("text_encoder/config.json", "max_position_embeddings", 2.5), []string{`"max_position_embeddings"`, "2.5", "whole number"}},
		{"token limit text", set("text_encoder/config.json", "max_position_embeddings", "77"), []string{`"max_position_embeddings"`, `"77"`}},
		{"no hidden size", set("text_encoder/config.json", "hidden_size", nil), []string{`"hidden_size"`}},
		{"model_max_length 1", set("tokenizer/tokenizer_config.json", "model_max_length", 1), []string{"tokenizer_config.json", `"model_max_length"`}},
		{"empty unet config", put("unet/config.json", "{}"), []string{"unet/config.json", `"in_channels"`}},
		{"no sample size", set("unet/config.json", "sample_size", nil), []string{`"sample_size"`}},
		{"sample size 0", set("unet/config.json", "sample_size", 0), []string{`"sample_size"`, "found 0"}},
		{"sample size of three", set("unet/config.json", "sample_size", []int{1, 2, 3}), []string{`"sample_size"`, "[1,2,3]"}},
		{"no unet blocks", set("unet/config.json", "block_out_channels", []int{}), []string{"unet/config.json", `"block_out_channels"`}},
		{"other text width", set("unet/config.json", "cross_attention_dim", 768), []string{`"cross_attention_dim"`, "768", "32"}},
		{"no text width", set("unet/config.json", "cross_attention_dim", nil), []string{`"cross_attention_dim"`}},
		{"inpainting", set("unet/config.json", "in_channels", 9), []string{`"in_channels"`, "9", "inpainting"}},
		{"guidance embedding without its input", set("unet/config.json", "time_cond_proj_dim", 256), []string{"timestep_cond"}},
		{"guidance embedding 1", set("unet/config.json", "time_cond_proj_dim", 1), []string{"time_cond_proj_dim"}},
		{"no scaling factor", set("vae_decoder/config.json", "scaling_factor", nil), []string{"vae_decoder/config.json", `"scaling_factor"`}},
		{"scaling factor 0", set("vae_decoder/config.json", "scaling_factor", 0), []string{`"scaling_factor"`}},
		{"shift factor text", set("vae_decoder/config.json", "shift_factor", "a"), []string{`"shift_factor"`}},
		{"no vae blocks", set("vae_decoder/config.json", "block_out_channels", nil), []string{"vae_decoder/config.json", `"block_out_channels"`}},
		{"vae blocks 0", set("vae_decoder/config.json", "block_out_channels", []int{0}), []string{`"block_out_channels"`}},
		{"no latent channels", set("vae_decoder/config.json", "latent_channels", nil), []string{`"latent_channels"`}},
		{"grey pictures", set("vae_decoder/config.json", "out_channels", 1), []string{`"out_channels"`}},
		{"no unet", remove("unet/openvino_model.xml"), []string{"unet/openvino_model.xml", "unet/model.onnx"}},
		{"no weights", remove("unet/openvino_model.bin"), []string{"unet/openvino_model.bin", "missing"}},
		{"truncated weights", truncate("unet/openvino_model.bin", 1_000_000), []string{"unet/openvino_model.bin", "truncated", "1000000", "at least"}},
		{"truncated weights of the tokenizer", truncate("tokenizer/openvino_tokenizer.bin", 10), []string{"tokenizer/openvino_tokenizer.bin", "truncated"}},
		{"truncated network", truncate("unet/openvino_model.xml", 100_000), []string{"unet/openvino_model.xml", "XML"}},
		{"empty network", truncate("unet/openvino_model.xml", 0), []string{"unet/openvino_model.xml", "not an OpenVINO model"}},
		{"other XML", put("unet/openvino_model.xml", "<html><body>404</body></html>"), []string{"unet/openvino_model.xml", "<html>"}},
		{"not XML", put("unet/openvino_model.xml", "version https://git-lfs.github.com/spec/v1"), []string{"unet/openvino_model.xml", "not an OpenVINO model"}},
		{"old IR", swap("unet/openvino_model.xml", `version="11"`, `version="7"`), []string{`"7"`}},
		{"no sample input", swap("unet/openvino_model.xml", `names="sample"`, `names="x"`), []string{"unet/openvino_model.xml", `"sample"`}},
		{"unet of other channels", swap("unet/openvino_model.xml", `shape="?,4,?,?"`, `shape="?,16,?,?"`), []string{"unet/openvino_model.xml", "[batch, 4, height, width]"}},
		{"no latent input", swap("vae_decoder/openvino_model.xml", `names="latent_sample"`, `names="z"`), []string{"vae_decoder", `"latent_sample"`}},
		{"no tokenizer", remove("tokenizer/openvino_tokenizer.xml"), []string{"tokenizer/openvino_tokenizer.xml", "convert_tokenizer"}},
		{"tokenizer of numbers", swap("tokenizer/openvino_tokenizer.xml", `element_type="string"`, `element_type="f32"`), []string{"strings", "convert_tokenizer"}},
		{"no pad token", func(t *testing.T, dir string) {
			replace(t, dir, "tokenizer/openvino_tokenizer.xml", `<pad_token_id value="0" />`, "")
			edit(t, dir, "tokenizer/tokenizer_config.json", map[string]any{"pad_token": "nowhere"})
		}, []string{"pad_token_id", "convert_tokenizer"}},
		{"default width 60", put("generation_config.json", `{"width": 60}`), []string{"generation_config.json", `"width"`, "multiple of 8"}},
		{"default steps 0", put("generation_config.json", `{"num_inference_steps": 0}`), []string{`"num_inference_steps"`}},
		{"default guidance -1", put("generation_config.json", `{"guidance_scale": -1}`), []string{`"guidance_scale"`}},
		{"vae encoder without network", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(filepath.Join(dir, "vae_encoder"), 0o755))
		}, []string{"vae_encoder/openvino_model.xml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyTiny(t)
			c.spoil(t, dir)
			_, err := model.Open(dir)
			requireInvalid(t, err, append(c.words, `model "tiny-sd"`)...)
		})
	}
}

func TestOpenWithVAEEncoder(t *testing.T) {
	dir := copyTiny(t)
	require.NoError(t, os.CopyFS(filepath.Join(dir, "vae_encoder"), os.DirFS(filepath.Join(tiny, "vae_decoder"))))
	m, err := model.Open(dir)
	require.NoError(t, err)
	require.NotNil(t, m.VAEEncoder)
	assert.Positive(t, m.VAEEncoder.Bytes)
}

func TestHash(t *testing.T) {
	dir, cache := copyTiny(t), t.TempDir()
	hash := func() (string, int64) {
		m, err := model.Open(dir)
		require.NoError(t, err)
		var read, total int64
		require.NoError(t, m.Hash(t.Context(), cache, func(done, all int64) { read, total = done, all }))
		assert.Equal(t, total, read)
		return m.SHA256, read
	}
	first, read := hash()
	assert.Len(t, first, 64)
	assert.Greater(t, read, int64(3_000_000))
	again, read := hash()
	assert.Equal(t, first, again)
	assert.Zero(t, read, "sizes and times are the same, so nothing is read")

	bin := filepath.Join(dir, "unet/openvino_model.bin")
	data, err := os.ReadFile(bin)
	require.NoError(t, err)
	data[1000] ^= 1
	require.NoError(t, os.WriteFile(bin, data, 0o644))
	changed, read := hash()
	assert.NotEqual(t, first, changed)
	assert.Positive(t, read)

	m, err := model.Open(tiny)
	require.NoError(t, err)
	require.NoError(t, m.Hash(t.Context(), "", nil))
	assert.Equal(t, first, m.SHA256, "the place of the folder is not part of it")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, m.Hash(ctx, "", nil), context.Canceled)
}

func TestHashIgnoresDamagedCache(t *testing.T) {
	dir, cache := copyTiny(t), t.TempDir()
	m, err := model.Open(dir)
	require.NoError(t, err)
	require.NoError(t, m.Hash(t.Context(), cache, nil))
	want := m.SHA256
	files, err := filepath.Glob(filepath.Join(cache, "model-hashes", "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.WriteFile(files[0], []byte("{"), 0o644))
	m.SHA256 = ""
	require.NoError(t, m.Hash(t.Context(), cache, nil))
	assert.Equal(t, want, m.SHA256)
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	abs, err := filepath.Abs(tiny)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(abs, filepath.Join(dir, "linked")))
	require.NoError(t, os.CopyFS(filepath.Join(dir, "broken"), os.DirFS(tiny)))
	require.NoError(t, os.Remove(filepath.Join(dir, "broken/unet/config.json")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "other"), 0o755))
	s, err := model.OpenStore(dir)
	require.NoError(t, err)
	models, errs := s.List()
	require.Len(t, models, 1)
	assert.Equal(t, "linked", models[0].Name)
	require.Len(t, errs, 1)
	requireInvalid(t, errs[0], `model "broken"`, "unet/config.json")

	m, err := s.Get("linked")
	require.NoError(t, err)
	require.NoError(t, m.Hash(t.Context(), "", nil))
	_, err = s.Get("broken")
	requireInvalid(t, err)

	var e *events.Error
	_, err = s.Get("nothing")
	require.ErrorAs(t, err, &e)
	assert.Equal(t, events.CodeModelNotFound, e.Code)
	assert.Equal(t, "one of broken, linked", e.Expected)
	for _, name := range []string{"", "..", ".", "a/b", `a\b`, "../linked", "/etc", "x\x00y", strings.Repeat("a", 65), "-a"} {
		_, err = s.Get(name)
		require.ErrorAs(t, err, &e, "%q", name)
		assert.Equal(t, events.CodeInvalidRequest, e.Code, "%q", name)
		assert.Equal(t, "/model", e.Field)
	}

	empty, err := model.OpenStore(t.TempDir())
	require.NoError(t, err)
	_, err = empty.Get("linked")
	require.ErrorAs(t, err, &e)
	assert.Contains(t, e.Expected, "holds none")
	_, err = model.OpenStore(filepath.Join(dir, "missing"))
	require.ErrorAs(t, err, &e)
	assert.Equal(t, events.CodeModelNotFound, e.Code)
}
