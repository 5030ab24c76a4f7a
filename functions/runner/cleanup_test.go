package runner

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"genfn/events"
	"genfn/functions/imagefile"
	"genfn/functions/model"
	"genfn/functions/runner/protocol"
)

// unseen is an observer that looks away.
type unseen struct{}

func (unseen) Stage(string)                 {}
func (unseen) Step(int, int)                {}
func (unseen) Preview(int, imagefile.Image) {}

func tinyModel(t *testing.T, name string) protocol.Model {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "pipeline", "testdata", "tiny-sd"))
	require.NoError(t, err)
	return protocol.Model{Name: name, Dir: dir}
}

func tinyInput(t *testing.T, name string, width int) Input {
	return Input{Model: tinyModel(t, name), Request: protocol.Request{Prompt: "a fox", Width: width, Height: 32, Steps: 2, GuidanceScale: 4, Seed: 1, Count: 1}}
}

// TestCleanup: what is idle is freed, the rest works as before, and a generation that fails leaves the ledger at what
// the compiled networks hold.
func TestCleanup(t *testing.T) {
	var logged bytes.Buffer
	h := hello(t, "CPU")
	h.MaxModels = 2
	opened, err := OpenOpenVINO(t.Context(), h, slog.New(slog.NewTextHandler(io.MultiWriter(&logged, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	e := opened.(*openVINO)
	t.Cleanup(func() { require.NoError(t, e.Close(), "everything native is freed") })
	run := func(in Input) []byte {
		t.Helper()
		out, err := e.Generate(t.Context(), in, unseen{})
		require.NoError(t, err)
		return out.Images[0].Pix
	}
	ledger := func() int64 { now, _ := e.Ledger(); return now }

	run(tinyInput(t, "idle", 32))
	idle := ledger()
	small := run(tinyInput(t, "used", 32))
	one := ledger() - idle
	large := run(tinyInput(t, "used", 64))
	both := ledger()
	require.Greater(t, both, idle+one)

	require.NoError(t, e.Cleanup(t.Context()))
	require.Less(t, ledger(), both, "the smaller shapes are freed")
	require.Len(t, e.models, 2)
	require.Equal(t, large, run(tinyInput(t, "used", 64)), "the new requests work")
	require.NoError(t, e.Unload("idle"))
	require.Len(t, e.models, 1)
	require.Equal(t, "used", e.models[0].name)
	require.Equal(t, e.models[0].pipeline.Resident(), ledger())
	require.Equal(t, small, run(tinyInput(t, "used", 32)))

	in := tinyInput(t, "used", 32)
	in.Request.Economy = model.Economy{SequentialGuidance: true, OffloadModels: true}
	out, err := e.Generate(t.Context(), in, unseen{})
	require.NoError(t, err)
	require.Equal(t, []string{events.DegradationSequentialGuidance, events.DegradationModelOffload}, out.Degradations)
	require.Zero(t, ledger(), "all networks are freed")
	in.Request.Scheduler = "none"
	_, err = e.Generate(t.Context(), in, unseen{})
	require.Error(t, err)
	require.Zero(t, ledger())
	require.Equal(t, 7, strings.Count(logged.String(), `level=DEBUG msg="[CPU] Memory cleanup completed"`), "after every generation, whatever its outcome")
	require.NotContains(t, logged.String(), "ERROR")
}

// counting is an engine without a device that counts clean-ups.
type counting struct {
	Engine
	cleanups chan struct{}
	fail     error // of Generate
}

func (c *counting) Generate(context.Context, Input, Observer) (*Output, error) {
	return &Output{}, c.fail
}

func (c *counting) Cleanup(context.Context) error {
	c.cleanups <- struct{}{}
	return nil
}

// converse runs a runner over an engine and returns its other end.
func converse(t *testing.T, e Engine, h *protocol.Hello, log *slog.Logger) *protocol.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	conn := protocol.NewConn(ours)
	bulk, err := protocol.CreateBulk()
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		done <- Run(context.Background(), protocol.NewConn(theirs), bulk, Options{Logger: log, Open: func(context.Context, *protocol.Hello, *slog.Logger) (Engine, error) { return e, nil }})
	}()
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		require.NoError(t, <-done)
	})
	require.NoError(t, conn.Send(h))
	m, err := conn.Receive()
	require.NoError(t, err)
	require.IsType(t, &protocol.Ready{}, m)
	return conn
}

// ask sends a job and returns its answer.
func ask(t *testing.T, conn *protocol.Conn, job protocol.Message) protocol.Message {
	t.Helper()
	require.NoError(t, conn.Send(job))
	m, err := conn.Receive()
	require.NoError(t, err)
	return m
}

// TestPeriodicCleanup: after every second generation, whether it succeeds or not, and when asked.
func TestPeriodicCleanup(t *testing.T) {
	e := &counting{Engine: openEngine(t, hello(t, "")), cleanups: make(chan struct{}, 10)}
	var logged bytes.Buffer
	h := &protocol.Hello{Protocol: protocol.Version, Device: "GPU.0", Slot: protocol.AnySlot, RuntimeDir: t.TempDir(), CleanupEvery: 2}
	conn := converse(t, e, h, slog.New(slog.NewTextHandler(&logged, nil)))
	generate := func(id uint64) *protocol.Generate {
		return &protocol.Generate{Job: id, Model: protocol.Model{Name: "m"}, Request: protocol.Request{Width: 8, Height: 8, Steps: 1, Count: 1}}
	}
	require.IsType(t, &protocol.Result{}, ask(t, conn, generate(1)))
	require.IsType(t, &protocol.Result{}, ask(t, conn, generate(2)))
	<-e.cleanups
	require.IsType(t, &protocol.Result{}, ask(t, conn, generate(3)))
	cleaned := ask(t, conn, &protocol.Cleanup{Job: 4})
	require.IsType(t, &protocol.Cleaned{}, cleaned)
	require.Positive(t, cleaned.(*protocol.Cleaned).Before.RSS)
	require.Positive(t, cleaned.(*protocol.Cleaned).After.RSS)
	<-e.cleanups
	e.fail = events.Errorf(events.CodeNumericalError, "NaN")
	require.IsType(t, &protocol.Failed{}, ask(t, conn, generate(5)))
	require.IsType(t, &protocol.Failed{}, ask(t, conn, generate(6)))
	<-e.cleanups
	require.IsType(t, &protocol.DeviceList{}, ask(t, conn, &protocol.Devices{Job: 7})) // the clean-up before it has ended
	require.Empty(t, e.cleanups, "the clean-up that was asked for began the count anew")
	require.Equal(t, 3, strings.Count(logged.String(), `msg="[GPU] Forced GPU memory cleanup completed" rss_before=`))
}

func TestHousekeeping(t *testing.T) {
	h := newHousekeeping(0)
	require.Positive(t, h.large)
	for n := 1; n < protocol.DefaultCleanupEvery; n++ {
		require.False(t, h.due(protocol.Memory{}))
	}
	require.True(t, h.due(protocol.Memory{}))

	h = newHousekeeping(3)
	h.large, h.before.RSS = 1000, 5000
	require.False(t, h.due(protocol.Memory{PeakRSS: 6000}))
	require.True(t, h.due(protocol.Memory{PeakRSS: 6001}), "a large one")
	h = newHousekeeping(-1)
	h.large = 1
	require.False(t, h.due(protocol.Memory{PeakRSS: 1 << 40}))
}

// TestPeakIsOfTheGeneration: a peak of before does not count for the generation after the reset.
func TestPeakIsOfTheGeneration(t *testing.T) {
	r := &runner{}
	const size = 128 << 20
	pages, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	require.NoError(t, err)
	require.NoError(t, unix.Munmap(pages))
	m := r.memory()
	require.Greater(t, m.PeakRSS-m.RSS, int64(size/2))
	resetPeakRSS()
	m = r.memory()
	require.Less(t, m.PeakRSS-m.RSS, int64(size/2))
}
