package events

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wordy is an error of a driver that says too much, in characters that JSON escapes.
func wordy() *Error {
	e := Errorf(CodeDeviceLost, "%s", strings.Repeat("<", 100_000))
	e.DriverText, e.Detail, e.Expected = e.Message, e.Message, e.Message
	return e
}

func encodes(t *testing.T, typ string, data any) Event {
	t.Helper()
	e, err := NewAnswer(typ, Meta{RequestID: "a", Source: "/test"}, data)
	require.NoError(t, err)
	require.NoError(t, Validate(e))
	_, _, err = EncodeBinary(e)
	require.NoError(t, err)
	return e
}

func TestFailedFits(t *testing.T) {
	f := Failed{Error: wordy()}
	for n := range 33 {
		f.Attempts = append(f.Attempts, Attempt{Number: n + 1, Instance: "one", Device: "GPU.0", Error: wordy(), StartedAt: time.Now()})
	}
	got, err := Payload[Failed](encodes(t, TypeFailed, f.Fit()))
	require.NoError(t, err)
	require.Len(t, got.Attempts, 33)
	require.Equal(t, CodeDeviceLost, got.Attempts[32].Error.Code)
	require.Len(t, f.Attempts[0].Error.Detail, 100_000, "the original stays as it is")

	f.Attempts = f.Attempts[:1]
	got, err = Payload[Failed](encodes(t, TypeFailed, f.Fit()))
	require.NoError(t, err)
	require.Greater(t, len(got.Error.Message), 512, "no more is cut than must be")

	short := Failed{Error: Errorf(CodeHang, "no progress"), Attempts: []Attempt{{Number: 1, Instance: "one", StartedAt: time.Now()}}}
	require.Equal(t, short, short.Fit())
	require.Equal(t, Failed{}, Failed{}.Fit())
}

func TestSucceededFits(t *testing.T) {
	width, seed := 64, uint64(7)
	s := Succeeded{
		Request: ImageGenerate{Model: "m", Prompt: strings.Repeat("猫", 10_000), NegativePrompt: strings.Repeat("犬", 10_000), Width: &width, Height: &width, Seed: &seed},
		Model:   ModelRef{Name: "m"}, Device: "GPU.0",
		Attempts: []Attempt{{Number: 1, Instance: "one", Error: wordy(), StartedAt: time.Now()}},
	}
	for n := range 66 {
		s.Artifacts = append(s.Artifacts, Artifact{Name: "image-0.png", Role: RoleImage, Index: n, Width: 64, Height: 64, Seed: &seed, Ref: Ref{
			Bucket: "genfn-" + strings.Repeat("t", 64), Object: strings.Repeat("i", 64) + "/100/image-63.webp", SHA256: strings.Repeat("a", 64), Size: 1 << 20, MediaType: "image/webp",
		}})
	}
	got, err := Payload[Succeeded](encodes(t, TypeSucceeded, s.Fit()))
	require.NoError(t, err)
	require.Equal(t, s.Artifacts, got.Artifacts)
	require.Equal(t, "answer_shortened", got.Warnings[0].Code)
	require.Contains(t, got.Request.Prompt, "猫猫")
	require.Empty(t, s.Warnings)

	s.Request.Prompt, s.Request.NegativePrompt, s.Attempts = "a cat", "", nil
	require.Equal(t, s, s.Fit())
}

// TestStatusOfManyFaultsFits: the last words of crashed processes are long, and a heartbeat tells of ten.
func TestStatusOfManyFaultsFits(t *testing.T) {
	e := Errorf(CodeGPURuntimeError, "the driver crashed")
	e.Detail = strings.Repeat("goroutine 1 [running]\n", 400)
	s := DeviceStatus{Instance: "i", Device: "GPU", Class: DeviceGPU, State: StateReady, Reason: "validated", Slots: 1, Since: testTime()}
	for range 10 {
		s.LastFaults = append(s.LastFaults, DeviceFault{At: testTime(), Cause: "runner_crash", Error: e})
	}
	require.False(t, fits(s))
	short := s.Fit()
	require.True(t, fits(short))
	require.Len(t, short.LastFaults, 10)
	require.Equal(t, "the driver crashed", short.LastFaults[0].Error.Message)
	require.Len(t, s.LastFaults[0].Error.Detail, len(e.Detail), "the original is left alone")
}
