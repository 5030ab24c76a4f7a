package instance_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/events/eventstest"
	"genfn/functions/instance"
	"genfn/functions/runner/runnertest"
)

// patience bounds every wait of these tests; none of them needs it when things work.
const patience = 3 * time.Minute

// modelName is the model that scripted runners serve.
const modelName = "scripted"

// envInstance holds the settings of a process that is to be an instance.
const envInstance = "GENFN_TEST_INSTANCE"

func TestMain(m *testing.M) {
	runnertest.Main()
	if os.Getenv(envOpenVINO) != "" {
		realRunner()
	}
	if raw := os.Getenv(envInstance); raw != "" {
		if err := instanceProcess(raw); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// settings are what an instance of these tests can differ in.
type settings struct {
	URL        string
	Name       string
	RuntimeDir string
	AckWait    time.Duration
	Grace      time.Duration
	Budgets    instance.Budgets
	Reap       time.Duration
	Slots      int
	MaxDeaths  int
	Device     string
}

func (s settings) brokerConfig() broker.Config {
	c := broker.DefaultConfig()
	c.AckWait = s.AckWait
	return c
}

func (s settings) config(b *broker.Broker, log *slog.Logger) instance.Config {
	c := instance.Config{
		Name: s.Name, Version: "test", Broker: b, BrokerConfig: s.brokerConfig(), Models: scripted{},
		Runner: runnertest.Config(s.RuntimeDir), Slots: s.Slots, Budgets: s.Budgets, MaxDeaths: s.MaxDeaths, Grace: s.Grace, Logger: log,
	}
	c.Runner.ReapTimeout = s.Reap
	if s.Device != "" {
		c.Runner.Hello.Device = s.Device
	}
	return c
}

// scripted is the models of a scripted runner.
type scripted struct{}

func (scripted) Names() []string { return []string{modelName, "broken"} }

func (scripted) Get(name string) (instance.Model, error) {
	if name == "broken" {
		return instance.Model{}, events.Errorf(events.CodeModelInvalid, "unet/openvino_model.bin is cut off")
	}
	return instance.Model{Name: name, Dir: "/models/" + name, Width: 16, Height: 8, Steps: 4, GuidanceScale: 7.5}, nil
}

func (scripted) SHA256(context.Context, string) (string, error) { return strings.Repeat("ab", 32), nil }

// instanceProcess is the life of a child process that is an instance.
func instanceProcess(raw string) error {
	var s settings
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		return err
	}
	b, err := broker.Connect(s.URL, broker.Options{Name: s.Name})
	if err != nil {
		return err
	}
	defer b.Close()
	i, err := instance.New(s.config(b, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	if err != nil {
		return err
	}
	soft, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-i.Ready()
		fmt.Println("ready")
	}()
	return i.Run(soft, context.Background())
}

// rig is a broker with everything to watch it.
type rig struct {
	t      testing.TB
	server *eventstest.Server
	broker *broker.Broker
	client *client.Client
	set    settings
	change func(*instance.Config) // of the instances in this process; may be nil
	also   func(*instance.Config) // after change, for all of a test's; may be nil
	runs   []*running
}

func newRig(t testing.TB) *rig {
	server := eventstest.Start(t)
	b, err := broker.Connect(server.URL(), broker.Options{Name: "test"})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	r := &rig{t: t, server: server, broker: b, client: client.New(b, client.Options{}), set: settings{
		URL: server.URL(), Name: "one", RuntimeDir: t.TempDir(), AckWait: time.Second,
	}}
	require.NoError(t, b.Setup(r.context(), r.set.brokerConfig()))
	return r
}

func (r *rig) context() context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	r.t.Cleanup(cancel)
	return ctx
}

// running is an instance in this process.
type running struct {
	lines
	name       string
	soft, hard context.CancelFunc
	done       chan error
	over       chan struct{} // closed when Run has returned
	met        *acquaintances
}

// acquaintances finds in an instance's log of which others it has heard.
type acquaintances struct {
	mu    sync.Mutex
	names []string
}

func (a *acquaintances) Write(p []byte) (int, error) {
	if _, rest, ok := strings.Cut(string(p), "another instance is heard of"); ok {
		_, rest, _ = strings.Cut(rest, "peer=")
		name, _, _ := strings.Cut(rest, " ")
		a.mu.Lock()
		defer a.mu.Unlock()
		a.names = append(a.names, name)
	}
	return len(p), nil
}

func (a *acquaintances) has(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.names, name)
}

// isOver reports whether Run has returned.
func (run *running) isOver() bool {
	select {
	case <-run.over:
		return true
	default:
		return false
	}
}

// meet waits until an instance and those before it know of each other: else the first requests find one that believes
// itself alone.
func (r *rig) meet(run *running) *running {
	r.t.Helper()
	for _, other := range r.runs {
		if other.name == run.name {
			continue
		}
		require.Eventually(r.t, func() bool {
			return run.isOver() || other.isOver() || run.met.has(other.name) && other.met.has(run.name)
		}, patience, time.Millisecond, "%s and %s hear nothing of each other", run.name, other.name)
	}
	return run
}

// start runs an instance in this process; it is stopped hard when the test ends.
func (r *rig) start(change func(*settings)) *running {
	r.t.Helper()
	s := r.set
	if change != nil {
		change(&s)
	}
	b, err := broker.Connect(s.URL, broker.Options{Name: s.Name})
	require.NoError(r.t, err)
	logs := make(lines, 10_000)
	met := &acquaintances{}
	out := io.MultiWriter(r.t.Output(), logs, met)
	config := s.config(b, slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if r.change != nil {
		r.change(&config)
	}
	if r.also != nil {
		r.also(&config)
	}
	i, err := instance.New(config)
	require.NoError(r.t, err)
	soft, endSoft := context.WithCancel(context.Background())
	hard, endHard := context.WithCancel(context.Background())
	run := &running{lines: logs, name: s.Name, soft: endSoft, hard: endHard, done: make(chan error, 1), over: make(chan struct{}), met: met}
	go func() {
		run.done <- i.Run(soft, hard)
		close(run.over)
	}()
	r.t.Cleanup(func() {
		endSoft()
		endHard()
		select {
		case <-run.done:
		case <-time.After(patience):
			require.Fail(r.t, "the instance does not stop")
		}
		b.Close()
	})
	select {
	case <-i.Ready():
	case err := <-run.done:
		run.done <- err
		require.FailNow(r.t, "the instance did not start", "%v", err)
	case <-time.After(patience):
		require.FailNow(r.t, "the instance did not become ready")
	}
	r.runs = append(r.runs, run)
	return run
}

// wait waits for Run to return.
func (run *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-run.done:
		run.done <- nil
		return err
	case <-time.After(patience):
		require.FailNow(t, "the instance does not stop")
		return nil
	}
}

// child is an instance in a process of its own.
type child struct {
	lines
	cmd *exec.Cmd
}

// spawn starts an instance as a process and waits until it is ready.
func (r *rig) spawn(change func(*settings)) *child {
	r.t.Helper()
	s := r.set
	if change != nil {
		change(&s)
	}
	raw, err := json.Marshal(s)
	require.NoError(r.t, err)
	c := &child{cmd: exec.Command("/proc/self/exe"), lines: make(lines, 10_000)}
	c.cmd.Env = append(os.Environ(), envInstance+"="+string(raw))
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.cmd.StdoutPipe()
	require.NoError(r.t, err)
	logs, err := c.cmd.StderrPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, c.cmd.Start())
	r.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	go func() {
		for from := bufio.NewScanner(logs); from.Scan(); {
			fmt.Fprintln(r.t.Output(), s.Name+": "+from.Text())
			_, _ = c.lines.Write(from.Bytes())
		}
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(r.t, err, "the instance process did not become ready")
	require.Equal(r.t, "ready\n", line)
	return c
}

// lines are what an instance logs, a line with each Write; what does not fit, which nobody waits for, is dropped.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default:
	}
	return len(p), nil
}

// waitLog waits until a line has these words, and returns it.
func (l lines) waitLog(t *testing.T, words string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line := <-l:
			if strings.Contains(line, words) {
				return line
			}
		case <-timeout:
			require.FailNow(t, "log line missing", words)
		}
	}
}

// runnerPID waits for the next runner to start.
func (l lines) runnerPID(t *testing.T) int {
	t.Helper()
	_, rest, _ := strings.Cut(l.waitLog(t, "runner is ready"), "pid=")
	digits, _, _ := strings.Cut(rest, " ")
	pid, err := strconv.Atoi(digits)
	require.NoError(t, err)
	return pid
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Signal(s))
}

// request is a scripted request's data.
func request(s runnertest.Script) events.ImageGenerate {
	return events.ImageGenerate{Model: modelName, Prompt: s.Prompt()}
}

// publish sends a request and returns its id.
func (r *rig) publish(data events.ImageGenerate) string {
	r.t.Helper()
	id, err := r.client.Publish(r.context(), client.Request{Data: data})
	require.NoError(r.t, err)
	return id
}

// follow returns a follower of the request.
func (r *rig) follow(id string) *client.Follower {
	r.t.Helper()
	f, err := r.client.Follow(r.context(), id)
	require.NoError(r.t, err)
	r.t.Cleanup(f.Close)
	return f
}

// until reads events until one satisfies want. A terminal event before it fails the test.
func (r *rig) until(f *client.Follower, want func(events.Event) bool) events.Event {
	r.t.Helper()
	ctx := r.context()
	for {
		e, err := f.Next(ctx)
		require.NoError(r.t, err)
		if want(e) {
			return e
		}
		require.False(r.t, events.Terminal(e.Type()), "%s came first: %s", e.Type(), e.Data())
	}
}

// atStep matches the progress event of a finished step.
func (r *rig) atStep(step int) func(events.Event) bool {
	return func(e events.Event) bool {
		return e.Type() == events.TypeProgress && payload[events.Progress](r.t, e).Step == step
	}
}

// inStage matches the progress event of a stage's start.
func (r *rig) inStage(stage string) func(events.Event) bool {
	return func(e events.Event) bool {
		return e.Type() == events.TypeProgress && payload[events.Progress](r.t, e).Stage == stage
	}
}

func payload[T any](t testing.TB, e events.Event) T {
	t.Helper()
	data, err := events.Payload[T](e)
	require.NoError(t, err)
	return data
}

// terminal waits for the request's terminal event, checks that it is valid and the only one, and that the request
// leaves the queue.
func (r *rig) terminal(id string) events.Event {
	r.t.Helper()
	e, err := r.client.Wait(r.context(), id)
	require.NoError(r.t, err)
	require.NoError(r.t, events.Validate(e))
	require.Equal(r.t, id, e.Subject())
	return e
}

func (r *rig) succeeded(id string) events.Succeeded {
	r.t.Helper()
	e := r.terminal(id)
	require.Equal(r.t, events.TypeSucceeded, e.Type(), "%s", e.Data())
	s := payload[events.Succeeded](r.t, e)
	r.checkArtifacts(s)
	return s
}

func (r *rig) failed(id string) events.Failed {
	r.t.Helper()
	e := r.terminal(id)
	require.Equal(r.t, events.TypeFailed, e.Type(), "%s", e.Data())
	return payload[events.Failed](r.t, e)
}

// checkArtifacts fetches every artefact; Fetch compares size and checksum.
func (r *rig) checkArtifacts(s events.Succeeded) {
	r.t.Helper()
	require.NotEmpty(r.t, s.Artifacts)
	for _, a := range s.Artifacts {
		_, err := r.client.Fetch(r.context(), a.Ref)
		require.NoError(r.t, err, a.Name)
	}
}

// settled waits until the queue is empty, then checks that every answered request has exactly one terminal event.
func (r *rig) settled(ids ...string) {
	r.t.Helper()
	js, err := jetstream.New(r.broker.Conn())
	require.NoError(r.t, err)
	ctx := r.context()
	require.Eventually(r.t, func() bool {
		s, err := js.Stream(ctx, broker.StreamRequests)
		return err == nil && s.CachedInfo().State.Msgs == 0
	}, patience, 5*time.Millisecond, "answered requests leave the queue")
	s, err := js.Stream(ctx, broker.StreamTerminals)
	require.NoError(r.t, err)
	info, err := s.Info(ctx, jetstream.WithSubjectFilter("gen.fin.>"))
	require.NoError(r.t, err)
	require.Len(r.t, info.State.Subjects, len(ids))
	for _, id := range ids {
		require.EqualValues(r.t, 1, info.State.Subjects[broker.TerminalSubject(broker.DefaultTenant, id)])
	}
}

// objects lists the names in the tenant's bucket.
func (r *rig) objects() []string {
	r.t.Helper()
	js, err := jetstream.New(r.broker.Conn())
	require.NoError(r.t, err)
	store, err := js.ObjectStore(r.context(), broker.Bucket(broker.DefaultTenant))
	require.NoError(r.t, err)
	list, err := store.List(r.context())
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil
	}
	require.NoError(r.t, err)
	var names []string
	for _, o := range list {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	return names
}

// gate is a FIFO at which a scripted runner waits.
type gate struct{ path string }

func (r *rig) gate() gate {
	r.t.Helper()
	g := gate{filepath.Join(r.t.TempDir(), "gate")}
	require.NoError(r.t, syscall.Mkfifo(g.path, 0o600))
	return g
}

// open lets the runner go on. It waits until the runner is at the gate.
func (g gate) open(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(g.path, os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// once returns a file whose making lets a script act only the first time.
func (r *rig) once() string { return filepath.Join(r.t.TempDir(), "once") }
