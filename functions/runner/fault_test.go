package runner

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/bindings/onnxruntime"
	"genfn/bindings/openvino"
	"genfn/events"
	"genfn/functions/runner/protocol"
)

func TestClassify(t *testing.T) {
	native := func(text string) error {
		return fmt.Errorf("denoise: %w", &openvino.Error{Op: "infer", Status: -1, StatusText: "general error", Detail: text})
	}
	loading := events.Errorf(events.CodeModelLoadFailed, "unet: OpenVINO could not compile it: %w", native("no idea"))
	for name, c := range map[string]struct {
		err   error
		code  events.Code
		fatal bool
	}{
		"vocabulary":     {events.Errorf(events.CodeNumericalError, "NaN"), events.CodeNumericalError, false},
		"internal":       {events.Errorf(events.CodeInternal, "x"), events.CodeInternal, true},
		"unknown":        {errors.New("x"), events.CodeInternal, true},
		"unknown native": {native("x"), events.CodeInternal, true},
		"out of resources": {
			native("Exception from src/x.cpp:224:\n[GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES"), events.CodeDeviceLost, true,
		},
		"wait list":   {native("[GPU] clWaitForEvents, error code: -14 CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST"), events.CodeDeviceLost, true},
		"other code":  {native("[GPU] clEnqueueNDRangeKernel, error code: -54 CL_INVALID_WORK_GROUP_SIZE"), events.CodeGPURuntimeError, true},
		"allocation":  {native("[GPU] Exceeded max size of memory object allocation: requested 9 bytes"), events.CodeGPUOutOfMemory, false},
		"host memory": {native("std::bad_alloc"), events.CodeHostOutOfMemory, true},
		"CPU tensors": {native("[CPU] MVN node with name 'x' Check 'ptr' failed at cpu_memory.cpp:257: Failed to allocate 16777216 bytes of memory"), events.CodeHostOutOfMemory, true},
		"ONNX Runtime": {
			fmt.Errorf("denoise: %w", &onnxruntime.Error{Op: "run unet", Code: 1, Name: "FAIL", Text: "bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 9"}),
			events.CodeGPUOutOfMemory, true,
		},
		"load":          {loading, events.CodeModelLoadFailed, false},
		"load, no room": {events.Errorf(events.CodeModelLoadFailed, "compile: %w", native("bad_alloc")), events.CodeHostOutOfMemory, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := classify(c.err, "denoise", "GPU")
			require.Equal(t, c.code, f.Err.Code)
			require.Equal(t, c.fatal, f.Replace)
			require.NotEmpty(t, f.Err.Message)
			require.Equal(t, "GPU", f.Err.Device)
			require.Equal(t, "denoise", f.Err.Stage)
			var n *openvino.Error
			if errors.As(c.err, &n) {
				require.Contains(t, []string{"-1", "-5", "-14", "-54"}, f.Err.DriverCode)
				require.Equal(t, n.Detail, f.Err.DriverText)
			}
		})
	}
	require.Equal(t, events.CodeModelLoadFailed, loading.Code, "the original is left as it was")
	require.Empty(t, loading.DriverCode)
}

func TestACancelledJobHidesNoFault(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &runner{}
	j := newJob(ctx, 1, &protocol.Devices{Job: 1})
	cancel()
	o := &observer{runner: r, job: j}
	f := r.failed(j, o, fmt.Errorf("step 3: %w", context.Canceled))
	require.Equal(t, events.CodeCancelled, f.Error.Code)
	require.False(t, f.Fatal)
	f = r.failed(j, o, &openvino.Error{Op: "infer", Detail: "[GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES"})
	require.Equal(t, events.CodeCancelled, f.Error.Code)
	require.True(t, f.Fatal, "the context is dead")
}
