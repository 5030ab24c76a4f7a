package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func allCodes() []Code {
	return []Code{
		CodeInvalidRequest, CodeModelNotFound, CodeModelInvalid, CodeModelLoadFailed, CodeDeviceUnavailable, CodeGPUOutOfMemory,
		CodeHostOutOfMemory, CodeGPURuntimeError, CodeDeviceLost, CodeHang, CodeNumericalError, CodeDeadlineExceeded, CodeCancelled,
		CodeQueueFull, CodePermissionDenied, CodeInternal,
	}
}

func TestEveryCodeHasTitleAndAdviceOfItsOwn(t *testing.T) {
	titles := make(map[string]Code)
	for _, code := range allCodes() {
		e := Errorf(code, "x")
		require.NotEmpty(t, e.Advice, code)
		require.Equal(t, code.Title(), e.Title)
		require.NotContains(t, titles, e.Title, "%s", code)
		titles[e.Title] = code
	}
}

// The JSON form is read by programs that are not ours.
func TestErrorJSONIsStable(t *testing.T) {
	e := &Error{
		Code: CodeGPURuntimeError, Message: "the kernel failed", Field: "/width", Expected: "an integer", Stage: "denoise step 3 of 20",
		Device: "GPU.0", DriverCode: "-5", DriverText: "CL_OUT_OF_RESOURCES", Retriable: true, Detail: "clFinish", Cause: io.EOF,
		Memory: &Memory{LedgerPeak: 7},
	}
	text, err := json.Marshal(e)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"code": "gpu_runtime_error", "title": "GPU error", "message": "the kernel failed",
		"advice": "Send the request again. If it keeps failing, genfn devices tells the state of the device and its driver.",
		"field": "/width", "expected": "an integer", "stage": "denoise step 3 of 20", "device": "GPU.0",
		"driver_code": "-5", "driver_text": "CL_OUT_OF_RESOURCES", "retriable": true, "detail": "clFinish",
		"memory": {"ledger_before": 0, "ledger_peak": 7, "ledger_after": 0}
	}`, string(text))
	var back Error
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, CodeGPURuntimeError.Title(), back.Title)
	back.Title, back.Advice, back.Cause = "", "", io.EOF
	require.Equal(t, *e, back)
}

func TestErrorKeepsItsOwnTitleAndAdvice(t *testing.T) {
	text, err := json.Marshal(Failed{Error: &Error{Code: CodeInternal, Title: "T", Message: "m", Advice: "A"}})
	require.NoError(t, err)
	require.JSONEq(t, `{"error": {"code": "internal", "title": "T", "message": "m", "advice": "A", "retriable": false}}`, string(text))
}

func TestErrorText(t *testing.T) {
	require.EqualError(t, &Error{Code: CodeInternal, Message: "m"}, "internal: m")
	require.EqualError(t, &Error{Code: CodeInvalidRequest, Message: "found 0", Field: "/steps", Expected: "an integer from 1 to 1000"},
		"invalid_request: /steps: found 0; expected an integer from 1 to 1000")
}

func TestErrorfKeepsTheCause(t *testing.T) {
	e := Errorf(CodeQueueFull, "publish: %w", io.ErrShortWrite)
	require.ErrorIs(t, e, io.ErrShortWrite)
	require.ErrorIs(t, fmt.Errorf("client: %w", e), &Error{Code: CodeQueueFull})
	require.NotErrorIs(t, e, &Error{Code: CodeInternal})
	require.True(t, e.Retriable)
	require.Equal(t, "publish: short write", e.Message)
}

func TestAsError(t *testing.T) {
	require.Nil(t, AsError(nil))
	e := Errorf(CodeHang, "h")
	require.Same(t, e, AsError(fmt.Errorf("around: %w", e)))
	unknown := errors.New("disk on fire")
	got := AsError(unknown)
	require.Equal(t, CodeInternal, got.Code)
	require.Equal(t, "disk on fire", got.Detail)
	require.NotContains(t, got.Message, "disk")
	require.ErrorIs(t, got, unknown)
}
