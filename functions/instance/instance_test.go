package instance_test

import (
	"bytes"
	"encoding/json"
	"image/png"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/functions/imagefile"
	"genfn/functions/instance"
	"genfn/functions/runner/protocol"
	"genfn/functions/runner/runnertest"
)

func npyFile(t *testing.T, a imagefile.Array) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, imagefile.WriteNPY(&b, a))
	return b.Bytes()
}

func ptr[T any](v T) *T { return &v }

func TestRequestToResult(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	data := request(runnertest.Script{})
	data.Count, data.PreviewEvery, data.OutputLatents, data.Seed = ptr(2), 2, true, ptr(uint64(7))
	id := r.publish(data)
	f := r.follow(id)
	var types []string
	var stages []string
	var steps []int
	var etas []int64
	previews, sequence := 0, 0
	for e, err := range f.Events(r.context()) {
		require.NoError(t, err)
		require.NoError(t, events.Validate(e))
		require.Equal(t, 1, e.Attempt())
		require.Greater(t, e.Sequence(), sequence)
		require.Equal(t, id, e.CausationID())
		sequence = e.Sequence()
		if e.Type() != events.TypeProgress {
			types = append(types, e.Type())
			continue
		}
		p := payload[events.Progress](t, e)
		require.Equal(t, "TEST", p.Device)
		if p.Preview != nil {
			require.Equal(t, "image/jpeg", p.Preview.MediaType)
			require.Equal(t, []byte{0xff, 0xd8}, p.Preview.Data[:2])
			previews++
			continue
		}
		if p.Step > 0 {
			require.Equal(t, 4, p.Steps)
			steps, etas = append(steps, p.Step), append(etas, p.EtaMS)
			continue
		}
		stages = append(stages, p.Stage)
	}
	require.Equal(t, []string{events.TypeAccepted, events.TypeStarted, events.TypeSucceeded}, types)
	require.Equal(t, []string{events.StageLoad, events.StageTokenize, events.StageTextEncoder, events.StageDenoise, events.StageVAEDecode, events.StageEncode, events.StageStore}, stages)
	require.Equal(t, []int{1, 2, 3, 4}, steps)
	require.Equal(t, 2, previews)
	require.Len(t, etas, 4)

	s := r.succeeded(id)
	require.Equal(t, events.ImageGenerate{
		Model: modelName, Prompt: data.Prompt, Width: ptr(16), Height: ptr(8), Steps: ptr(4), GuidanceScale: ptr(7.5), Seed: ptr(uint64(7)),
		Scheduler: "scripted", Count: ptr(2), Format: events.FormatPNG, PreviewEvery: 2, OutputLatents: true, Device: events.DeviceAuto, Fallback: events.FallbackAllowed, Degrade: events.DegradeNever,
	}, s.Request)
	require.Equal(t, modelName, s.Model.Name)
	require.Len(t, s.Model.SHA256, 64)
	require.Equal(t, "TEST", s.Device)
	require.Equal(t, "Test Device", s.DeviceName)
	require.Equal(t, map[string]string{"genfn": "test", "scripted": "1"}, s.Versions)
	for _, stage := range []string{events.StageDenoise, events.StageEncode, events.StageStore, "total"} {
		require.Contains(t, s.TimingsMS, stage)
	}
	require.Positive(t, s.Memory.RSSAfter)
	require.Len(t, s.Attempts, 1)
	var names []string
	for _, a := range s.Artifacts {
		names = append(names, a.Name)
	}
	require.Equal(t, []string{"image-0.png", "image-1.png", "latents.npy"}, names)
	for i := range 2 {
		raw, err := r.client.Fetch(r.context(), s.Artifacts[i].Ref)
		require.NoError(t, err)
		img, err := png.Decode(bytes.NewReader(raw))
		require.NoError(t, err)
		require.Equal(t, 16, img.Bounds().Dx())
		red, _, _, _ := img.At(3, 3).RGBA()
		require.EqualValues(t, 7+i, red>>8)
	}
	raw, err := r.client.Fetch(r.context(), s.Artifacts[2].Ref)
	require.NoError(t, err)
	latents, err := imagefile.ReadNPY(bytes.NewReader(raw), 100)
	require.NoError(t, err)
	require.Equal(t, []float32{7}, latents.Data)
	r.settled(id)
}

func TestFormats(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	for format, mediaType := range map[string]string{events.FormatPNG: "image/png", events.FormatJPEG: "image/jpeg", events.FormatWebP: "image/webp"} {
		data := request(runnertest.Script{})
		data.Format = format
		id := r.publish(data)
		s := r.succeeded(id)
		require.Equal(t, "image-0."+format, s.Artifacts[0].Name)
		require.Equal(t, mediaType, s.Artifacts[0].Ref.MediaType)
		raw, err := r.client.Fetch(r.context(), s.Artifacts[0].Ref)
		require.NoError(t, err)
		p, err := imagefile.ReadParameters(raw)
		require.NoError(t, err)
		var d imagefile.Description
		require.NoError(t, json.Unmarshal(p.JSON, &d))
		require.Equal(t, s.Request, d.Request)
		require.Equal(t, id, d.Generation)
	}
}

// The answer repeats the request, so a request that just fits into an event has an answer that does not.
func TestAnswerToTheLongestPrompts(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	asked := request(runnertest.Script{})
	asked.Prompt, asked.NegativePrompt = strings.Repeat("\u732b", 10_000), strings.Repeat("\u72ac", 10_000)
	count := 20
	asked.Count = &count
	id := r.publish(asked)
	s := r.succeeded(id)
	require.Len(t, s.Warnings, 1)
	require.Equal(t, "answer_shortened", s.Warnings[0].Code)
	last := s.Artifacts[len(s.Artifacts)-1]
	require.Equal(t, events.RoleMetadata, last.Role)
	raw, err := r.client.Fetch(r.context(), last.Ref)
	require.NoError(t, err)
	var whole events.Succeeded
	require.NoError(t, json.Unmarshal(raw, &whole))
	require.Equal(t, asked.Prompt, whole.Request.Prompt)
	r.settled(id)
}

// What the runner says goes into the answer. If that would not be valid the request fails, and is not tried again for ever.
func TestAnInvalidAnswerIsNotGiven(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	id := r.publish(request(runnertest.Script{Degradation: "No word"}))
	f := r.failed(id)
	require.Equal(t, events.CodeInternal, f.Error.Code)
	require.Contains(t, f.Error.Error(), "/degradations/0")
	require.Len(t, f.Attempts, 1)
	next := r.publish(request(runnertest.Script{}))
	r.succeeded(next)
	r.settled(id, next)
}

func TestSeedIsDrawnAndTold(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	a, b := r.succeeded(r.publish(request(runnertest.Script{}))), r.succeeded(r.publish(request(runnertest.Script{})))
	require.NotEqual(t, *a.Request.Seed, *b.Request.Seed)
	require.LessOrEqual(t, *a.Request.Seed, uint64(events.MaxSeed))
}

func TestInputLatents(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	want := imagefile.Array{Shape: []int{1, 1, 2, 2}, Data: []float32{1, -2, 3.5, 4}}
	data := request(runnertest.Script{})
	data.OutputLatents = true
	publish := func(file []byte) string {
		id, err := r.client.Publish(r.context(), client.Request{Data: data, Inputs: map[string]client.Input{"latents": {Name: "latents.npy", Data: file}}})
		require.NoError(t, err)
		return id
	}
	good := publish(npyFile(t, want))
	s := r.succeeded(good)
	raw, err := r.client.Fetch(r.context(), s.Artifacts[1].Ref)
	require.NoError(t, err)
	got, err := imagefile.ReadNPY(bytes.NewReader(raw), 100)
	require.NoError(t, err)
	require.Equal(t, want, got)

	flat := publish(npyFile(t, imagefile.Array{Shape: []int{4}, Data: []float32{1, 2, 3, 4}}))
	noise := publish([]byte("not an array"))
	missing := *s.Request.Latents
	missing.Object = "nowhere"
	gone := request(runnertest.Script{})
	gone.Latents = &missing
	foreign := *s.Request.Latents
	foreign.Bucket = "genfn-other"
	theirs := request(runnertest.Script{})
	theirs.Latents = &foreign
	ids := []string{flat, noise, r.publish(gone), r.publish(theirs)}
	for _, id := range ids {
		f := r.failed(id)
		require.Equal(t, events.CodeInvalidRequest, f.Error.Code, f.Error.Error())
		require.Equal(t, "/latents", f.Error.Field)
	}
	r.settled(append(ids, good)...)
}

func TestModelThatCannotBeRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(nil)
	id := r.publish(events.ImageGenerate{Model: "broken", Prompt: "x"})
	f := r.failed(id)
	require.Equal(t, events.CodeModelInvalid, f.Error.Code)
	require.Contains(t, f.Error.Message, "cut off")
	unknown := r.publish(events.ImageGenerate{Model: "unheard-of", Prompt: "x"})
	f = r.failed(unknown)
	require.Equal(t, events.CodeModelNotFound, f.Error.Code)
	require.Contains(t, f.Error.Expected, modelName)
	r.settled(id, unknown)
}

func TestRunnerErrorsAreAnswered(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	var ids []string
	for do, code := range map[runnertest.Action]events.Code{
		runnertest.Fail: events.CodeNumericalError, runnertest.Panic: events.CodeInternal, runnertest.Odd: events.CodeInternal,
	} {
		id := r.publish(request(runnertest.Script{Do: do, Stage: events.StageDenoise, Step: 1}))
		f := r.failed(id)
		require.Equal(t, code, f.Error.Code)
		require.Equal(t, "denoise step 2 of 4", f.Error.Stage)
		require.Equal(t, "TEST", f.Error.Device)
		require.Len(t, f.Attempts, 1)
		require.Equal(t, code, f.Attempts[0].Error.Code)
		ids = append(ids, id)
	}
	good := r.publish(request(runnertest.Script{}))
	r.succeeded(good)
	r.settled(append(ids, good)...)
}

func TestNoop(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	id := r.publish(events.ImageGenerate{Model: protocol.NoopModel, Prompt: "x", Width: ptr(24)})
	s := r.succeeded(id)
	require.Equal(t, 24, s.Artifacts[0].Width)
	require.Equal(t, 64, s.Artifacts[0].Height)
	r.settled(id)
}

func TestPreload(t *testing.T) {
	for model, words := range map[string]string{modelName: "model loaded", "broken": "cut off"} {
		r := newRig(t)
		r.change = func(c *instance.Config) { c.Preload = model }
		r.start(nil).waitLog(t, words)
		r.succeeded(r.publish(request(runnertest.Script{})))
	}
}

func TestSlotsWorkAtTheSameTime(t *testing.T) {
	r := newRig(t)
	r.start(func(s *settings) { s.Slots = 2 })
	gates := []gate{r.gate(), r.gate()}
	var ids []string
	for _, g := range gates {
		ids = append(ids, r.publish(request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, File: g.path})))
	}
	for _, id := range ids {
		r.until(r.follow(id), r.inStage(events.StageDenoise))
	}
	for i, g := range slices.Backward(gates) {
		g.open(t)
		r.succeeded(ids[i])
	}
	r.settled(ids...)
}

func TestExpiredAndDeadline(t *testing.T) {
	r := newRig(t)
	late, err := r.client.Publish(r.context(), client.Request{Data: request(runnertest.Script{}), Expiry: time.Now().Add(time.Millisecond)})
	require.NoError(t, err)
	r.start(nil)
	require.Equal(t, events.TypeExpired, r.terminal(late).Type())

	slow, err := r.client.Publish(r.context(), client.Request{
		Data:   request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, Step: 2}),
		Expiry: time.Now().Add(time.Second),
	})
	require.NoError(t, err)
	f := r.failed(slow)
	require.Equal(t, events.CodeDeadlineExceeded, f.Error.Code)
	require.Contains(t, f.Error.Message, events.StageDenoise)
	good := r.publish(request(runnertest.Script{}))
	r.succeeded(good)
	r.settled(late, slow, good)
}

func TestDuplicateID(t *testing.T) {
	r := newRig(t)
	r.start(nil)
	g := r.gate()
	first := client.Request{ID: "same", Data: request(runnertest.Script{Do: runnertest.Wait, Stage: events.StageDenoise, File: g.path})}
	_, err := r.client.Publish(r.context(), first)
	require.NoError(t, err)
	r.until(r.follow("same"), r.inStage(events.StageDenoise))
	_, err = r.client.Publish(r.context(), client.Request{ID: "same", Data: request(runnertest.Script{})})
	require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest})
	g.open(t)
	s := r.succeeded("same")
	_, err = r.client.Publish(r.context(), client.Request{ID: "same", Data: request(runnertest.Script{})})
	require.ErrorIs(t, err, &events.Error{Code: events.CodeInvalidRequest})

	// A publisher that does not look first: the request is acknowledged without work.
	r.settled("same") // until it has left the queue the server refuses its id
	e, err := events.NewRequest(events.TypeImageGenerate, events.Meta{RequestID: "same", Source: "/test"}, request(runnertest.Script{}))
	require.NoError(t, err)
	header, data, err := events.EncodeBinary(e)
	require.NoError(t, err)
	r.publishRaw("same", header, data)
	r.settled("same")
	require.Equal(t, s, r.succeeded("same"))
}

func TestNewRefuses(t *testing.T) {
	good := settings{Name: "x", RuntimeDir: t.TempDir()}.config(&broker.Broker{}, nil)
	for name, change := range map[string]func(*instance.Config){
		"name":   func(c *instance.Config) { c.Name = "a.b" },
		"device": func(c *instance.Config) { c.Runner.Hello.Device = "" },
		"models": func(c *instance.Config) { c.Models, c.Runner.Hello.ServeNoop = nil, false },
		"slots":  func(c *instance.Config) { c.Runner.Hello.Device, c.Slots = "GPU.0", 2 },
	} {
		c := good
		change(&c)
		_, err := instance.New(c)
		require.Error(t, err, name)
	}
	_, err := instance.New(good)
	require.NoError(t, err)
}

func TestRunFailsWithoutItsDevice(t *testing.T) {
	r := newRig(t)
	s := r.set
	s.Device = "BROKEN"
	i, err := instance.New(s.config(r.broker, nil))
	require.NoError(t, err)
	require.ErrorIs(t, i.Run(r.context(), r.context()), &events.Error{Code: events.CodeDeviceUnavailable})
	require.ErrorContains(t, i.Run(r.context(), r.context()), "once")
}
