package main

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const said = `=== RUN   TestGPUCopies
=== RUN   TestGPUCopies/3
    stories_test.go:10: three
--- PASS: TestGPUCopies (0.31s)
    --- PASS: TestGPUCopies/3 (0.00s)
=== RUN   TestGPUPool
    stories_test.go:294: 64 MiB
    stories_test.go:295: 
        	Error:      	Not equal
--- FAIL: TestGPUPool (0.12s)
=== RUN   TestGPUSkipped
--- SKIP: TestGPUSkipped (0.00s)
=== RUN   TestGPUSub
=== RUN   TestGPUSub/a
--- FAIL: TestGPUSub (1.00s)
    --- FAIL: TestGPUSub/a (1.00s)
goos: linux
BenchmarkGPUKernels
BenchmarkGPUKernels/scale/16384
BenchmarkGPUKernels/scale/16384-16         	      46	        28.30 GB/s	         1.059 of-memcpy	         4.632 us
BenchmarkGPUCall/hop-16  	  100	 1234 ns/op	 0 B/op
PASS
`

func TestParse(t *testing.T) {
	tests, figures := parse("cuda", said)
	require.Equal(t, []result{
		{Package: "cuda", Name: "TestGPUCopies", Status: statusPass, Seconds: 0.31, Log: "stories_test.go:10: three"},
		{Package: "cuda", Name: "TestGPUPool", Status: statusFail, Seconds: 0.12, Log: "stories_test.go:294: 64 MiB\nstories_test.go:295: \n    \tError:      \tNot equal"},
		{Package: "cuda", Name: "TestGPUSkipped", Status: statusNotRun},
		{Package: "cuda", Name: "TestGPUSub", Status: statusFail, Seconds: 1, Log: "--- FAIL: TestGPUSub/a (1.00s)"},
	}, tests)
	require.Equal(t, []figure{
		{"cuda", "BenchmarkGPUKernels/scale/16384", map[string]float64{"GB/s": 28.3, "of-memcpy": 1.059, "us": 4.632}},
		{"cuda", "BenchmarkGPUCall/hop", map[string]float64{"ns/op": 1234, "B/op": 0}},
	}, figures)
}

func TestReportIsOKOnlyIfAllPassed(t *testing.T) {
	r := &gpuReport{}
	require.False(t, r.OK(), "nothing ran")
	r.Tests = []result{{Status: statusPass}, {Status: statusPass}}
	require.True(t, r.OK())
	for _, status := range []string{statusFail, statusNotRun} {
		r.Tests[1].Status = status
		require.False(t, r.OK(), status)
	}
	r.Tests[1] = result{Package: "cuda", Name: "TestX", Status: statusNotRun, Why: "its program ended before"}
	var text strings.Builder
	r.markdown(&text)
	require.Contains(t, text.String(), "| NOT RUN | cuda TestX its program ended before |")
}

func TestJudgeDevices(t *testing.T) {
	const one = `{"devices":[{"name":"CPU","ok":true},{"name":"cuda:0","ok":true},{"name":"cuda:1","ok":false}]}`
	status, why := judgeDevices([]byte(one), 1, nil)
	require.Equal(t, statusPass, status, why)
	status, why = judgeDevices([]byte(one), 2, nil)
	require.Equal(t, statusFail, status)
	require.Equal(t, "1 of 2 devices were found well", why)
	for _, c := range []struct {
		raw string
		err error
	}{{"no JSON", nil}, {one, errors.New("exit status 1")}} {
		status, _ = judgeDevices([]byte(c.raw), 1, c.err)
		require.Equal(t, statusFail, status)
	}
}

func TestWhyNoModels(t *testing.T) {
	const cuda = `{"name": "cuda:0", "tuning": [{"name": "models", "value": %q, "reason": "a reason"}]}`
	serves, none := fmt.Sprintf(cuda, "ONNX"), fmt.Sprintf(cuda, "none")
	require.Empty(t, whyNoModels([]byte(`{"devices": [{"name": "CPU"}, `+serves+`]}`)))
	require.Equal(t, "a reason", whyNoModels([]byte(`{"devices": [{"name": "CPU"}, `+none+`]}`)))
	require.Contains(t, whyNoModels([]byte(`{"devices": [`+serves+`]}`)), "make runtime")
	require.Contains(t, whyNoModels([]byte(`{"devices": [{"name": "CPU"}]}`)), "does not know cuda:0")
	require.Contains(t, whyNoModels([]byte(`no JSON`)), "said nothing")
}

func TestRelative(t *testing.T) {
	apart, err := relative([]float32{1, -4}, []float32{1.5, -4})
	require.NoError(t, err)
	require.InDelta(t, 0.125, apart, 1e-9)
	_, err = relative([]float32{1}, []float32{1, 2})
	require.ErrorContains(t, err, "1 and 2 values")
	apart, err = relative([]float32{float32(math.NaN())}, []float32{1})
	require.NoError(t, err)
	require.True(t, math.IsNaN(apart), "which is within no bound")
}
