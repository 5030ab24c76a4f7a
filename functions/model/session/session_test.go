package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
	"genfn/bindings/tensor/tensortest"
	"genfn/events"
	"genfn/functions/model"
)

const tiny = "../../pipeline/testdata/tiny-sd"

// crashEnv makes a copy of the test binary compile with the journal in this folder and die in the middle of it.
const crashEnv = "GENFN_TEST_CRASH_CACHE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		crash(dir)
		os.Exit(3) // it should not have come back
	}
	os.Exit(m.Run())
}

func crash(dir string) {
	m, err := model.Open(tiny)
	if err != nil {
		panic(err)
	}
	r, err := openvino.Open(openvino.Options{LibraryDir: libraryDir()})
	if err != nil {
		panic(err)
	}
	l := NewLoader(r, Options{CacheDir: dir, OnCompile: func(component, _ string, static bool) {
		if component == "unet" && static {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		}
	}})
	n, err := l.Open(m.UNet)
	if err != nil {
		panic(err)
	}
	_, _ = n.Acquire(context.Background(), unetShapes(2, 8, 8))
}

func libraryDir() string {
	if dir := os.Getenv(openvino.LibraryDirEnv); dir != "" {
		return dir
	}
	wd, _ := os.Getwd()
	return filepath.Join(wd, "../../../.runtime/openvino")
}

// newLoader makes a loader whose ledger must be empty at the end of t.
func newLoader(t *testing.T, o Options) (*Loader, *tensor.Ledger) {
	t.Helper()
	ledger := tensortest.NewLedger(t)
	r, err := openvino.Open(openvino.Options{LibraryDir: libraryDir(), Ledger: ledger})
	require.NoError(t, err, "these tests need OpenVINO: run `make runtime`")
	l := NewLoader(r, o)
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		require.NoError(t, r.Close())
	})
	return l, ledger
}

func openTiny(t *testing.T) *model.Model {
	t.Helper()
	m, err := model.Open(tiny)
	require.NoError(t, err)
	return m
}

func openNetwork(t *testing.T, l *Loader, c model.Component) *Network {
	t.Helper()
	n, err := l.Open(c)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, n.Close())
		require.NoError(t, n.Close())
	})
	return n
}

func unetShapes(batch, h, w int64) Shapes {
	return Shapes{
		Inputs:  map[string]tensor.Shape{"sample": {batch, 4, h, w}, "timestep": {1}, "encoder_hidden_states": {batch, 77, 32}},
		Outputs: map[string]tensor.Shape{"out_sample": {batch, 4, h, w}},
	}
}

// run fills the UNet's inputs with fixed numbers and returns its output.
func run(t *testing.T, e *Executable) []float32 {
	t.Helper()
	for i := range e.Buffer("sample").F32() {
		e.Buffer("sample").F32()[i] = float32(i%17)/8 - 1
	}
	for i := range e.Buffer("encoder_hidden_states").F32() {
		e.Buffer("encoder_hidden_states").F32()[i] = float32(i%13)/6 - 1
	}
	e.Buffer("timestep").I64()[0] = 500
	require.NoError(t, e.Infer(t.Context()))
	return slices.Clone(e.Buffer("out_sample").F32())
}

func acquire(t *testing.T, n *Network, s Shapes) *Executable {
	t.Helper()
	e, err := n.Acquire(t.Context(), s)
	require.NoError(t, err)
	return e
}

func TestCompiledShapesAreBounded(t *testing.T) {
	compiled := 0
	l, ledger := newLoader(t, Options{MaxShapes: 2, OnCompile: func(_, _ string, static bool) {
		assert.True(t, static)
		compiled++
	}})
	n := openNetwork(t, l, openTiny(t).UNet)
	a, b, c := unetShapes(2, 8, 8), unetShapes(1, 8, 8), unetShapes(2, 8, 12)

	first := acquire(t, n, a)
	assert.Empty(t, first.Dynamic())
	assert.Equal(t, "f32", first.Precision())
	assert.Nil(t, first.Buffer("nothing"))
	want := run(t, first)
	size := ledger.Bytes()
	first.Release()
	assert.Same(t, first, acquire(t, n, a), "the same form again")
	first.Release()
	assert.Equal(t, 1, compiled)

	acquire(t, n, b).Release()
	assert.True(t, n.Ready(a))
	acquire(t, n, a).Release() // b is now the one not used for longest
	acquire(t, n, c).Release()
	assert.Equal(t, 3, compiled)
	assert.False(t, n.Ready(b), "evicted")
	assert.True(t, n.Ready(a))

	assertRefuses(t, n)
	assert.True(t, n.Ready(a), "shapes that are refused evict nothing")
	again := acquire(t, n, b)
	assert.Equal(t, 4, compiled)
	assert.False(t, n.Ready(a))
	other := acquire(t, n, a)
	assert.Equal(t, want, run(t, other))
	second := acquire(t, n, b)
	assert.NotSame(t, again, second, "one that is in use is neither shared nor evicted")
	require.NoError(t, again.Infer(t.Context()))
	again.Release()
	second.Release()
	other.Release()
	require.NoError(t, n.Trim())
	assert.Zero(t, ledger.Bytes())
	acquire(t, n, a).Release()
	assert.Equal(t, size, ledger.Bytes())
}

func TestAcquireAfterClose(t *testing.T) {
	l, _ := newLoader(t, Options{})
	m := openTiny(t)
	n := openNetwork(t, l, m.UNet)
	require.NoError(t, n.Close())
	_, err := n.Acquire(t.Context(), unetShapes(1, 8, 8))
	require.ErrorIs(t, err, errClosed)
	require.NoError(t, l.Close())
	_, err = l.Open(m.UNet)
	require.ErrorIs(t, err, errClosed)
}

// TestCrashOfTheCompiler: a process dies while it compiles the UNet; the next one compiles the UNet with open
// dimensions, everything else as ever, and the numbers are the same.
func TestCrashOfTheCompiler(t *testing.T) {
	m, cache, shapes := openTiny(t), t.TempDir(), unetShapes(2, 8, 8)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+cache)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "%s", out)

	var logged bytes.Buffer
	var compiled []string
	options := Options{CacheDir: cache, Logger: slog.New(slog.NewTextHandler(&logged, nil)), OnCompile: func(component, shapes string, static bool) {
		compiled = append(compiled, component+" "+shapes)
	}}
	l, ledger := newLoader(t, options)
	n := openNetwork(t, l, m.UNet)
	e := acquire(t, n, shapes)
	assert.Contains(t, e.Dynamic(), "ended the process")
	got := run(t, e)
	e.Release()
	// Another shape of a network that runs open is not tried statically, and shares the compiled form.
	acquire(t, n, unetShapes(2, 8, 12)).Release()
	acquire(t, n, unetShapes(2, 12, 12)).Release()
	assert.Equal(t, []string{"unet open"}, compiled)
	assert.Contains(t, logged.String(), "component=unet")
	require.NoError(t, n.KeepOnly(shapes))
	assert.Equal(t, 1, compiledModels(ledger), "the form that all shapes share stays")
	require.NoError(t, n.Trim())
	assert.Zero(t, ledger.Bytes())
	assert.Zero(t, compiledModels(ledger))
	other := acquire(t, n, unetShapes(1, 8, 8))
	assert.Contains(t, other.Dynamic(), "another shape needed it", "it is not forgotten")
	other.Release()

	fresh, _ := newLoader(t, Options{})
	want := run(t, acquire(t, openNetwork(t, fresh, m.UNet), shapes))
	require.Len(t, got, len(want))
	for i := range want {
		require.InDelta(t, want[i], got[i], 1e-4)
	}

	// A day later it is tried once more: the process may have been killed from outside.
	options.RetryCrashedAfter = time.Nanosecond
	later, _ := newLoader(t, options)
	assert.Empty(t, acquire(t, openNetwork(t, later, m.UNet), shapes).Dynamic())
	options.RetryCrashedAfter = 0
	after, _ := newLoader(t, options)
	assert.Empty(t, acquire(t, openNetwork(t, after, m.UNet), shapes).Dynamic(), "it came back well since")
	markers, err := filepath.Glob(filepath.Join(cache, "compile-journal", "*.compiling"))
	require.NoError(t, err)
	assert.Empty(t, markers)
}

func compiledModels(ledger *tensor.Ledger) (count int) {
	for _, entry := range ledger.Outstanding() {
		if entry.Kind == "compiled model" {
			count++
		}
	}
	return count
}

// TestStaticFormThatFails: the refusal is remembered by the next process too.
func TestStaticFormThatFails(t *testing.T) {
	m, options, shapes := openTiny(t), Options{CacheDir: t.TempDir()}, unetShapes(2, 8, 8)
	refusing := func() (*Network, *int) {
		l, _ := newLoader(t, options)
		tried := 0
		l.compile = func(m *openvino.Model, device string) (*openvino.CompiledModel, error) {
			if !m.IsDynamic() {
				tried++
				return nil, assert.AnError
			}
			return l.compileNative(m, device)
		}
		return openNetwork(t, l, m.UNet), &tried
	}
	n, tried := refusing()
	e := acquire(t, n, shapes)
	assert.Contains(t, e.Dynamic(), assert.AnError.Error())
	run(t, e)
	e.Release()
	assert.Equal(t, 1, *tried)

	n, tried = refusing()
	e = acquire(t, n, shapes)
	assert.Contains(t, e.Dynamic(), "it failed before")
	assert.Zero(t, *tried)
	e.Release()
	assertRefuses(t, n)
}

// assertRefuses: the branches of this network meet at sizes that do not fit when the latents are 2x2.
func assertRefuses(t *testing.T, n *Network) {
	t.Helper()
	_, err := n.Acquire(t.Context(), unetShapes(2, 2, 2))
	require.ErrorIs(t, err, ErrShapes)
}

func TestShapesThatDoNotFit(t *testing.T) {
	l, _ := newLoader(t, Options{})
	n := openNetwork(t, l, openTiny(t).UNet)
	assertRefuses(t, n)
	acquire(t, n, unetShapes(2, 8, 8)).Release()
}

// TestNeitherFormCompiles: what OpenVINO said last is the error.
func TestNeitherFormCompiles(t *testing.T) {
	l, _ := newLoader(t, Options{CacheDir: t.TempDir()})
	l.compile = func(*openvino.Model, string) (*openvino.CompiledModel, error) { return nil, assert.AnError }
	n := openNetwork(t, l, openTiny(t).UNet)
	_, err := n.Acquire(t.Context(), unetShapes(2, 8, 8))
	var e *events.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, events.CodeModelLoadFailed, e.Code)
	failed, err := filepath.Glob(filepath.Join(l.journal.dir, "*.failed"))
	require.NoError(t, err)
	assert.Empty(t, failed, "the static form is not to blame")
}

// TestNotTheFormsFault: that memory ran out or the device failed says nothing of the static form, so no other is tried
// and nothing is remembered against it.
func TestNotTheFormsFault(t *testing.T) {
	options := Options{CacheDir: t.TempDir()}
	l, ledger := newLoader(t, options)
	for _, text := range []string{
		"std::bad_alloc", "[CPU] MVN node with name 'x' Check 'ptr' failed at src/cpu_memory.cpp:257: Failed to allocate 16777216 bytes of memory",
		"[CL ext] Can not allocate 4 bytes for USM Host. ptr: 0, error: -4", "[GPU] clFinish, error code: -5 CL_OUT_OF_RESOURCES",
		"[GPU] Exceeded max size of memory object allocation: requested 76800 bytes, but max alloc size supported by device is 65536 bytes.",
	} {
		tried := 0
		l.compile = func(*openvino.Model, string) (*openvino.CompiledModel, error) {
			tried++
			return nil, &openvino.Error{Op: "compile", Status: -1, StatusText: "general error", Detail: text}
		}
		n := openNetwork(t, l, openTiny(t).UNet)
		_, err := n.Acquire(t.Context(), unetShapes(1, 8, 8))
		var e *events.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, events.CodeModelLoadFailed, e.Code)
		assert.Equal(t, text, e.DriverText)
		assert.Equal(t, 1, tried)
		assert.Zero(t, ledger.Bytes())
		l.compile = l.compileNative
		again := acquire(t, n, unetShapes(1, 8, 8))
		assert.Empty(t, again.Dynamic())
		again.Release()
		require.NoError(t, n.Trim())
	}
	failed, err := filepath.Glob(filepath.Join(l.journal.dir, "*.failed"))
	require.NoError(t, err)
	assert.Empty(t, failed)
}

// TestNoMemoryForBuffers: what was compiled before the buffers could not be had is freed, and the error says so.
func TestNoMemoryForBuffers(t *testing.T) {
	l, ledger := newLoader(t, Options{})
	n := openNetwork(t, l, openTiny(t).UNet)
	out, ok := n.Output("out_sample")
	require.True(t, ok)
	shapes := unetShapes(1, 8, 8)
	shapes.Outputs = map[string]tensor.Shape{out.Name: {1 << 20, 1 << 20, 1 << 6}}
	_, err := n.Acquire(t.Context(), shapes)
	var e *events.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, events.CodeHostOutOfMemory, e.Code)
	for _, entry := range ledger.Outstanding() {
		assert.NotContains(t, []string{"compiled model", "request", "buffer", "tensor"}, entry.Kind, entry.String())
	}
	assert.Zero(t, n.Resident())
	acquire(t, n, unetShapes(1, 8, 8)).Release()
}

// TestForms: which compiled forms each way to free some leaves.
func TestForms(t *testing.T) {
	l, ledger := newLoader(t, Options{MaxShapes: 3})
	n := openNetwork(t, l, openTiny(t).UNet)
	all := []Shapes{unetShapes(1, 8, 8), unetShapes(2, 8, 8), unetShapes(1, 8, 12)}
	fill := func() {
		for _, s := range all {
			acquire(t, n, s).Release()
		}
	}
	ready := func() (r []bool) {
		for _, s := range all {
			r = append(r, n.Ready(s))
		}
		return r
	}
	fill()
	assert.Equal(t, ledger.Bytes(), n.Resident())
	full := n.Resident()
	require.NoError(t, n.Renew())
	assert.Equal(t, full, n.Resident())
	assert.Equal(t, full, ledger.Bytes())
	require.NoError(t, n.KeepOnly(all[1]))
	assert.Equal(t, []bool{false, true, false}, ready())
	fill()
	require.NoError(t, n.TrimIdle())
	assert.Equal(t, []bool{false, false, true}, ready())
	busy := acquire(t, n, all[2])
	before := run(t, busy)
	require.NoError(t, errors.Join(n.Trim(), n.Renew(), n.TrimIdle(), n.KeepOnly(all[0])))
	assert.Equal(t, before, run(t, busy), "what is in use stays as it is")
	busy.Release()
	require.NoError(t, n.Renew())
	again := acquire(t, n, all[2])
	assert.Equal(t, before, run(t, again), "a new request of the same form")
	again.Release()
	require.NoError(t, n.Trim())
	assert.Zero(t, ledger.Bytes())
}

// verdict is what the journal holds against a compilation; "suspected" if that is to be tried alone.
func verdict(j *journal, key string) string {
	why, suspected := j.bad(key)
	if suspected {
		return "suspected"
	}
	return why
}

func TestJournal(t *testing.T) {
	j := &journal{dir: filepath.Join(t.TempDir(), "journal"), retryAfter: time.Hour}
	e := entry{Component: "unet", Shapes: "a[1]", Device: "CPU", OpenVINO: "1"}
	key := e.key("stamp")
	assert.NotEqual(t, key, e.key("other"), "the files changed")
	other := e
	other.OpenVINO = "2"
	assert.NotEqual(t, key, other.key("stamp"), "another release")

	assert.Empty(t, verdict(j, key), "no journal yet")
	assert.False(t, j.good(key))
	live, err := j.begin(key, e, false)
	require.NoError(t, err)
	assert.Empty(t, verdict(j, key), "a compilation in progress is no crash")
	require.NoError(t, live.end())
	assert.Empty(t, verdict(j, key))

	crashed, err := j.begin(key, e, false)
	require.NoError(t, err)
	require.NoError(t, crashed.f.Close()) // as the kernel does for a dead process
	assert.Contains(t, verdict(j, key), "ended the process")
	assert.Empty(t, verdict(j, other.key("stamp")))
	old := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(crashed.path, old, old))
	assert.Empty(t, verdict(j, key), "long ago")
	assert.NoFileExists(t, crashed.path)

	require.NoError(t, j.record(key, e, nil))
	assert.True(t, j.good(key))
	failed := other.key("stamp")
	require.NoError(t, j.record(failed, other, assert.AnError))
	assert.Contains(t, verdict(j, failed), assert.AnError.Error())
	require.NoError(t, os.WriteFile(filepath.Join(j.dir, failed+".failed"), []byte("{"), 0o644))
	assert.Equal(t, "it failed before", verdict(j, failed), "a damaged entry still counts")
}

// TestCrashInCompany: of several compilations that a crash left, each is tried alone, and the last one left has the
// blame without a trial.
func TestCrashInCompany(t *testing.T) {
	j := &journal{dir: filepath.Join(t.TempDir(), "journal"), retryAfter: time.Hour, process: "first"}
	for _, key := range []string{"a", "b"} {
		m, err := j.begin(key, entry{Component: key}, false)
		require.NoError(t, err)
		require.NoError(t, m.f.Close()) // as the kernel does for a dead process
	}
	elsewhere := &journal{dir: j.dir, retryAfter: time.Hour, process: "another"}
	m, err := elsewhere.begin("c", entry{Component: "c"}, true)
	require.NoError(t, err)
	require.NoError(t, m.f.Close())
	assert.Contains(t, verdict(j, "c"), "ended the process", "it was alone")
	assert.Equal(t, "suspected", verdict(j, "a"))
	assert.Equal(t, "suspected", verdict(j, "b"))

	j.acquit("a") // it came back, alone
	assert.Empty(t, verdict(j, "a"))
	assert.Contains(t, verdict(j, "b"), "ended the process")
}

// TestSuspectedCompilation: the form that a crash in company left is compiled, and is not suspected any more.
func TestSuspectedCompilation(t *testing.T) {
	options := Options{CacheDir: t.TempDir()}
	l, _ := newLoader(t, options)
	m, shapes := openTiny(t), unetShapes(2, 8, 8)
	n := openNetwork(t, l, m.UNet)
	e, key := n.entry(shapes.String())
	for _, k := range []string{key, "other"} {
		m, err := l.journal.begin(k, e, false)
		require.NoError(t, err)
		require.NoError(t, m.f.Close())
	}
	require.Equal(t, "suspected", verdict(l.journal, key))
	assert.Empty(t, acquire(t, n, shapes).Dynamic())
	assert.Empty(t, verdict(l.journal, key))
	assert.Contains(t, verdict(l.journal, "other"), "ended the process")
}

// TestUnwritableJournal: without a journal there is no protection, but work goes on.
func TestUnwritableJournal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	var logged bytes.Buffer
	l, _ := newLoader(t, Options{CacheDir: file, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	n := openNetwork(t, l, openTiny(t).UNet)
	assert.Empty(t, acquire(t, n, unetShapes(1, 8, 8)).Dynamic())
	assert.Contains(t, logged.String(), "journal cannot be written")
}

func TestUnknownDevice(t *testing.T) {
	l, _ := newLoader(t, Options{Device: "NPU.7"})
	assert.Equal(t, "NPU.7", l.Device())
	n := openNetwork(t, l, openTiny(t).UNet)
	_, err := n.Acquire(t.Context(), unetShapes(1, 8, 8))
	var e *events.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, events.CodeModelLoadFailed, e.Code)
	assert.NotEmpty(t, e.Detail)
}

func TestFit(t *testing.T) {
	const pad = 9
	for name, c := range map[string]struct {
		ids, mask []int64
		want      []int64
		truncated bool
	}{
		"short":                    {[]int64{1, 5, 2}, []int64{1, 1, 1}, []int64{1, 5, 2, 9, 9}, false},
		"exact":                    {[]int64{1, 5, 6, 7, 2}, []int64{1, 1, 1, 1, 1}, []int64{1, 5, 6, 7, 2}, false},
		"one too many":             {[]int64{1, 5, 6, 7, 8, 2}, nil, []int64{1, 5, 6, 7, 2}, true},
		"padded by the tokenizer":  {[]int64{1, 5, 2, 0, 0, 0, 0}, []int64{1, 1, 1, 0, 0, 0, 0}, []int64{1, 5, 2, 9, 9}, false},
		"padded, and still long":   {[]int64{1, 5, 6, 7, 8, 2, 0}, []int64{1, 1, 1, 1, 1, 1, 0}, []int64{1, 5, 6, 7, 2}, true},
		"without a mask":           {[]int64{1, 2}, nil, []int64{1, 2, 9, 9, 9}, false},
		"a mask of another length": {[]int64{1, 2}, []int64{1}, []int64{1, 2, 9, 9, 9}, false},
	} {
		got, err := fit(c.ids, c.mask, 5, pad)
		require.NoError(t, err, name)
		assert.Equal(t, c.want, got.IDs, name)
		assert.Equal(t, c.truncated, got.Truncated, name)
	}
	for _, c := range [][2][]int64{{{}, nil}, {{0, 1, 2}, {0, 1, 1}}, {{0, 0}, {0, 0}}} {
		_, err := fit(c[0], c[1], 5, pad)
		require.Error(t, err)
	}
}

// TestTokenizerThatCuts: how long a prompt was cannot be seen, so one that fills the limit is reported.
func TestTokenizerThatCuts(t *testing.T) {
	l, _ := newLoader(t, Options{})
	m := openTiny(t)
	m.MaxTokens = 4
	m.TokenizerTruncates = true
	tokenizer, err := l.OpenTokenizer(m)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tokenizer.Close()) })
	short, err := tokenizer.Tokenize(t.Context(), "")
	require.NoError(t, err)
	assert.False(t, short.Truncated)
	long, err := tokenizer.Tokenize(t.Context(), strings.Repeat("fox ", 20))
	require.NoError(t, err)
	assert.True(t, long.Truncated)
	assert.Equal(t, short.IDs[1], long.IDs[3], "the end token is kept")

	// What just fills the limit may have been cut by such a tokenizer, and is whole from any other.
	for _, cuts := range []bool{true, false} {
		m.TokenizerTruncates = cuts
		other, err := l.OpenTokenizer(m)
		require.NoError(t, err)
		full, err := other.Tokenize(t.Context(), "a a")
		require.NoError(t, err)
		require.NoError(t, other.Close())
		assert.Equal(t, 4, full.used)
		assert.Equal(t, cuts, full.Truncated)
	}
}

// TestTokenizerWithoutExtension: the library is not there.
func TestTokenizerWithoutExtension(t *testing.T) {
	r, err := openvino.Open(openvino.Options{LibraryDir: libraryDir(), TokenizersLibrary: filepath.Join(t.TempDir(), "none.so"), Ledger: tensortest.NewLedger(t)})
	require.NoError(t, err)
	l := NewLoader(r, Options{})
	_, err = l.OpenTokenizer(openTiny(t))
	var e *events.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, events.CodeModelLoadFailed, e.Code)
	assert.Contains(t, e.Advice, "openvino-tokenizers")
	require.NoError(t, l.Close())
	require.NoError(t, r.Close())
}
