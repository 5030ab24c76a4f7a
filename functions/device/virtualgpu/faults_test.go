package virtualgpu

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const native = "../../../native/vgpu"

// TestListsOfC compares the calls, groups and errors with those of the layer.
func TestListsOfC(t *testing.T) {
	header, err := os.ReadFile(filepath.Join(native, "calls.h"))
	require.NoError(t, err)
	fromC := map[string]string{}
	for _, m := range regexp.MustCompile(`C\((\w+), (\w+)\)`).FindAllStringSubmatch(string(header), -1) {
		fromC[m[1]] = strings.ToLower(m[2])
	}
	assert.Equal(t, fromC, calls)

	header, err = os.ReadFile(filepath.Join(native, "errors.h"))
	require.NoError(t, err)
	errorsOfC := map[Code]string{}
	for _, m := range regexp.MustCompile(`E\((\w+), (-\d+)\)`).FindAllStringSubmatch(string(header), -1) {
		n, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		errorsOfC[Code(n)] = m[1]
	}
	assert.Equal(t, errorsOfC, codeNames)
}

// good and bad are specifications for both parsers.
var (
	good = []string{
		"", "# nothing", " ; ;\n\t;\r\n", "clFlush error=CL_OUT_OF_RESOURCES after=3 times=1", "clFlush error=-5", "clFlush error=-1234",
		"memory error=-4 every=5 probability=0.5 seed=7 # why", "clFinish delay=250ms; queue hang after=0", "clFinish delay=3600s",
		"clBuildProgram crash=SIGABRT;clFlush crash=SIGSEGV", "clEnqueueNDRangeKernel flip=64\nclEnqueueReadBuffer flip=1048576",
		"clWaitForEvents error=-14 sticky=all times=1 every=2 after=1", "all delay=1us probability=1", "clFlush error=-5 probability=.25",
		"clFlush error=-5 seed=9223372036854775807", "clFlush hang once=/tmp/once=1", "clEnqueueNDRangeKernel error=-54 kernel=gemm after=2",
		"clEnqueueNDRangeKernel hang kernel=" + strings.Repeat("k", maxName-1), "clFlush hang once=/" + strings.Repeat("k", maxPath-2),
	}
	bad = map[string]string{ // to the word that both must name
		"clFlus error=-5": "clFlus", "clFlush": "found 0", "clFlush error=-5 hang": "found 2", "clFlush error=5": "error=5", "clFlush error=0": "error=0",
		"clFlush error=": "error=", "clFlush error=CL_NO": "CL_NO", "clFlush error=-10000": "error=-10000", "clFlush error=-5 after=x": "after=x",
		"clFlush error=-5 after=-1": "after=-1", "clFlush error=-5 every=0": "every=0", "clFlush error=-5 times=0": "times=0",
		"clFlush error=-5 probability=1.5": "1.5", "clFlush error=-5 probability=0": "probability=0", "clFlush error=-5 probability=0x1p-1": "0x1p-1",
		"clFlush error=-5 probability=1e-1": "1e-1", "clFlush error=-5 probability=": "probability=", "clFlush error=-5 error=-5": "twice",
		"clFlush crash=SIGKILL": "SIGKILL", "clFlush flip=1": "flip=", "clEnqueueReadBuffer flip=1048577": "1048576", "clFlush delay=2h": "delay=2h",
		"clFlush delay=9999999999s": "delay=", "clFlush delay=3601s": "delay=", "clFlush delay=ms": "delay=ms", "clFlush delay=1s sticky=queue": "sticky= needs",
		"clFlush error=-5 sticky=x": "sticky=x", "clFlush error=-5 often": "often", "clFlush error=-5 seed=9223372036854775808": "seed=",
		"clFlush hang=1": "hang=1", "clFlush hang=": "hang=", "clFinish error=-5; clFlush": "found 0", "clFlush error=-5,after=3": "error=-5,after=3",
		"clFlush error=-5 kernel=gemm": "kernel= is for", "clEnqueueNDRangeKernel hang kernel=": "kernel=", "clFlush hang once=here": "once=here", "clFlush hang once": "absolute path",
		"clEnqueueNDRangeKernel hang kernel=" + strings.Repeat("k", maxName): "part of a kernel's name", "clFlush hang once=/" + strings.Repeat("k", maxPath-1): "absolute path",
	}
)

// parserOfC compiles the layer's parser into a program that tells what is wrong with the text on its standard input.
func parserOfC(t *testing.T) func(text string) (problem string) {
	t.Helper()
	dir, err := filepath.Abs(native)
	require.NoError(t, err)
	faults := filepath.Join(dir, "..", "fault")
	source, program := filepath.Join(t.TempDir(), "parse.c"), filepath.Join(t.TempDir(), "parse")
	require.NoError(t, os.WriteFile(source, []byte(`
#include <stdio.h>
#include "fault.h"
int main(void) {
    static char text[1 << 20], problem[512];
    static struct fault_spec spec;
    text[fread(text, 1, sizeof text - 1, stdin)] = 0;
    if (fault_parse(text, &spec, problem, sizeof problem)) return 0;
    puts(problem);
    return 1;
}`), 0o600))
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	said, err := exec.CommandContext(t.Context(), cc, "-D_GNU_SOURCE", "-I"+dir, "-I"+faults, "-o", program, source, filepath.Join(faults, "parse.c")).CombinedOutput()
	require.NoError(t, err, string(said))
	return func(text string) string {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Stdin = strings.NewReader(text)
		said, err := cmd.CombinedOutput()
		require.Equal(t, err == nil, len(said) == 0, "%q: %v, %s", text, err, said)
		return string(said)
	}
}

// TestGrammar gives both parsers the same texts.
func TestGrammar(t *testing.T) {
	ofC := parserOfC(t)
	for _, text := range good {
		faults, err := ParseFaults(text)
		require.NoError(t, err, text)
		assert.Empty(t, ofC(text), text)
		again, err := ParseFaults(faults.String())
		require.NoError(t, err, "%q became %q", text, faults)
		assert.Equal(t, faults, again)
		assert.Empty(t, ofC(faults.String()), faults)
	}
	for text, word := range bad {
		_, err := ParseFaults(text)
		require.ErrorContains(t, err, word, text)
		assert.Contains(t, ofC(text), word, text)
	}
	many := strings.Repeat("clFlush hang;", maxFaults+1)
	_, err := ParseFaults(many)
	require.ErrorContains(t, err, "64")
	assert.Contains(t, ofC(many), "64")
	long := strings.Repeat("#", maxText+1)
	_, err = ParseFaults(long)
	require.ErrorContains(t, err, "16384")
	assert.Contains(t, ofC(long), "16384")
}

func TestParsedValues(t *testing.T) {
	faults, err := ParseFaults("clFlush error=CL_OUT_OF_RESOURCES after=3 every=2 times=1 probability=0.25 seed=9 sticky=queue; memory delay=1500us # x\nclFinish crash=SIGABRT")
	require.NoError(t, err)
	assert.Equal(t, Faults{
		{Call: "clFlush", Error: -5, After: 3, Every: 2, Times: 1, Probability: 0.25, Seed: 9, Sticky: GroupQueue},
		{Call: GroupMemory, Delay: 1500 * time.Microsecond},
		{Call: "clFinish", Crash: CrashAbort},
	}, faults)
	assert.Equal(t, "clFlush error=CL_OUT_OF_RESOURCES after=3 every=2 times=1 probability=0.25 seed=9 sticky=queue; memory delay=1500us; clFinish crash=SIGABRT", faults.String())
}

// TestFaultsMadeInGo: what no text can say is refused.
func TestFaultsMadeInGo(t *testing.T) {
	in := &Installation{Dir: t.TempDir()}
	for _, f := range []Fault{
		{Call: "clFlush"}, {Call: "clFlush", Error: 5}, {Call: "clFlush", Delay: time.Nanosecond}, {Call: "clFlush", Hang: true, Flip: 1},
		{Call: "clFlush", Error: -5, Probability: math.NaN()}, {Call: "clFlush", Error: -5, After: math.MaxUint64}, {Call: "x; clFlush", Hang: true},
		{Call: "clFlush", Hang: true, Once: "/tmp/a b"}, {Call: "clEnqueueNDRangeKernel", Hang: true, Kernel: "a;b"},
	} {
		_, err := in.Env(Options{Faults: Faults{f}})
		require.Error(t, err, fmt.Sprint(f))
	}
	_, err := in.Env(Options{Faults: Faults{{Call: "clFlush", Hang: true, Once: "/tmp/once"}}})
	require.NoError(t, err)
}

func FuzzParseFaults(f *testing.F) {
	for _, text := range good {
		f.Add(text)
	}
	for text := range bad {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		faults, err := ParseFaults(text)
		if err != nil {
			return
		}
		again, err := ParseFaults(faults.String())
		require.NoError(t, err)
		require.Equal(t, faults, again)
	})
}
