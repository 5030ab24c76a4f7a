package instance_test

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/events"
	"genfn/events/client"
	"genfn/functions/imagefile"
	"genfn/functions/instance"
	"genfn/functions/model"
	"genfn/functions/runner"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// envOpenVINO makes the test binary a runner over OpenVINO, as the program's own is.
const envOpenVINO = "GENFN_TEST_OPENVINO_RUNNER"

// realRunner is the life of such a process.
func realRunner() {
	if err := runner.Main(context.Background(), runner.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// tinyModel is a Stable Diffusion with random weights.
const tinyModel = "../pipeline/testdata/tiny-sd"

func repositoryPath(t testing.TB, remedy string, parts ...string) string {
	t.Helper()
	path := checkout.Path(t, parts...)
	_, err := os.Stat(path)
	require.NoError(t, err, remedy)
	return path
}

// startReal runs an instance with the models of a folder on the CPU.
func (r *rig) startReal(models string) {
	r.t.Helper()
	library := os.Getenv("GENFN_OPENVINO_DIR")
	if library == "" {
		library = repositoryPath(r.t, "this test needs OpenVINO: run make runtime", ".runtime", "openvino")
	}
	store, err := model.OpenStore(models)
	require.NoError(r.t, err)
	cache := r.t.TempDir()
	r.change = func(c *instance.Config) {
		c.Models = instance.StoreModels(store, cache)
		c.Runner = process.Config{
			Command: []string{"/proc/self/exe"}, Env: []string{envOpenVINO + "=1"}, Stderr: r.t.Output(),
			Hello: protocol.Hello{Device: "CPU", RuntimeDir: r.set.RuntimeDir, CacheDir: cache, LibraryDir: library},
		}
	}
	r.start(nil)
}

// TestRealPicture goes the whole way: event, broker, instance, runner, OpenVINO, object store, answer.
func TestRealPicture(t *testing.T) {
	r := newRig(t)
	models := t.TempDir()
	require.NoError(t, os.Symlink(repositoryPath(t, "the tiny model is part of the repository", "functions", "pipeline", "testdata", "tiny-sd"), filepath.Join(models, "tiny")))
	broken := filepath.Join(models, "broken")
	require.NoError(t, os.CopyFS(broken, os.DirFS(tinyModel)))
	require.NoError(t, os.Truncate(filepath.Join(broken, "unet", "openvino_model.bin"), 1000))
	r.startReal(models)

	data := events.ImageGenerate{Model: "tiny", Prompt: "a red apple", Steps: ptr(4), Seed: ptr(uint64(42)), PreviewEvery: 2, OutputLatents: true, Count: ptr(2)}
	id := r.publish(data)
	f := r.follow(id)
	steps, previews := 0, 0
	for e, err := range f.Events(r.context()) {
		require.NoError(t, err)
		if e.Type() != events.TypeProgress {
			continue
		}
		p := payload[events.Progress](t, e)
		if p.Preview != nil {
			previews++
		} else if p.Step > 0 {
			require.Equal(t, steps+1, p.Step)
			steps = p.Step
		}
	}
	require.GreaterOrEqual(t, steps, 4)
	require.Positive(t, previews)
	first := r.succeeded(id)
	require.Len(t, first.Model.SHA256, 64)
	require.Equal(t, "f32", first.Precision)
	require.NotEmpty(t, first.DeviceName)
	require.Contains(t, first.Versions, "openvino")
	require.NotEmpty(t, first.Request.Scheduler)
	raw, err := r.client.Fetch(r.context(), first.Artifacts[0].Ref)
	require.NoError(t, err)
	img, err := png.Decode(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, first.Artifacts[0].Width, img.Bounds().Dx())

	// The same seed gives the same bytes, and a generation leaves no native memory behind.
	again := r.succeeded(r.publish(data))
	for i := range 3 { // two pictures and the latents; the metadata tells times
		if i < 2 {
			a, err := r.client.Fetch(r.context(), first.Artifacts[i].Ref)
			require.NoError(t, err)
			b, err := r.client.Fetch(r.context(), again.Artifacts[i].Ref)
			require.NoError(t, err)
			pa, err := png.Decode(bytes.NewReader(a))
			require.NoError(t, err)
			pb, err := png.Decode(bytes.NewReader(b))
			require.NoError(t, err)
			require.Equal(t, pa, pb)
			continue
		}
		require.Equal(t, first.Artifacts[i].Ref.SHA256, again.Artifacts[i].Ref.SHA256)
	}
	require.Equal(t, first.Memory.LedgerAfter, again.Memory.LedgerBefore)
	require.Equal(t, again.Memory.LedgerBefore, again.Memory.LedgerAfter)
	require.Positive(t, again.Memory.RSSAfter)

	// Latents that came out go in again.
	raw, err = r.client.Fetch(r.context(), first.Artifacts[2].Ref)
	require.NoError(t, err)
	latents, err := imagefile.ReadNPY(bytes.NewReader(raw), 1<<20)
	require.NoError(t, err)
	with, err := r.client.Publish(r.context(), client.Request{Data: data, Inputs: map[string]client.Input{"latents": {Data: npyFile(t, latents)}}})
	require.NoError(t, err)
	r.succeeded(with)

	for name, c := range map[string]struct {
		change func(*events.ImageGenerate)
		code   events.Code
		field  string
	}{
		"size":      {func(d *events.ImageGenerate) { d.Width = ptr(33) }, events.CodeInvalidRequest, "/width"},
		"scheduler": {func(d *events.ImageGenerate) { d.Scheduler = "magic" }, events.CodeInvalidRequest, "/scheduler"},
		"broken":    {func(d *events.ImageGenerate) { d.Model = "broken" }, events.CodeModelInvalid, ""},
	} {
		bad := data
		c.change(&bad)
		f := r.failed(r.publish(bad))
		require.Equal(t, c.code, f.Error.Code, name)
		require.Equal(t, c.field, f.Error.Field, name)
		require.NotContains(t, strings.ToLower(f.Error.Message), "internal")
		require.Len(t, f.Attempts, 1)
	}
	data.Prompt = strings.Repeat("apple ", 200)
	long := r.succeeded(r.publish(data))
	require.Equal(t, "prompt_truncated", long.Warnings[0].Code)
}
