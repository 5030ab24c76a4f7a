// Package runner is the child process that owns one device: it loads the native libraries, generates, and may
// crash, hang or be killed at any time without harm to the instance that started it. It talks to that instance
// over package protocol, never writes to standard output, and ends when its parent does.
package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"genfn/events"
	"genfn/functions/imagefile"
	"genfn/functions/runner/protocol"
)

// orphanGrace is how long a running job may take to end when the parent is gone; after it the process ends
// with the job.
const orphanGrace = time.Second

// Options are what a program decides about its runner command. All else comes with the instance's Hello.
type Options struct {
	Open   OpenFunc     // nil: Open
	Logger *slog.Logger // nil: text to standard error
}

// OpenFunc makes the engine that hello asks for.
type OpenFunc func(ctx context.Context, hello *protocol.Hello, log *slog.Logger) (Engine, error)

// Open makes the engine of hello's runtime.
func Open(ctx context.Context, hello *protocol.Hello, log *slog.Logger) (Engine, error) {
	switch hello.Runtime {
	case "":
		return OpenOpenVINO(ctx, hello, log)
	case protocol.RuntimeONNXRuntime:
		return OpenONNXRuntime(ctx, hello, log)
	case protocol.RuntimeCUDA:
		return OpenCUDA(ctx, hello, log)
	}
	return nil, fmt.Errorf("the instance asks for the runtime %q, which this runner does not know", hello.Runtime)
}

// Engine does a runner's work. Its methods are called one at a time, except Ledger and DeviceMemory.
type Engine interface {
	Info() Info
	// Devices lists the devices, or validates the one named validate and lists no other.
	Devices(ctx context.Context, validate string) ([]protocol.Device, error)
	// Load makes the model ready; a loaded one costs nothing.
	Load(ctx context.Context, m protocol.Model, o Observer) error
	// Generate ends early with ctx's error when ctx ends, as soon as the native code lets it.
	Generate(ctx context.Context, in Input, o Observer) (*Output, error)
	// Keep writes what was loaded to caches, so that the next process loads faster. It is called between jobs.
	Keep(ctx context.Context) error
	// Cleanup frees what makes the next generations faster and is not needed for them: what runtimes keep for infer
	// requests, compiled shapes other than those of the last generation, and freed host memory that is still resident.
	Cleanup(ctx context.Context) error
	// Unload frees a model, also one that is not loaded or that failed half-way.
	Unload(name string) error
	// Ledger returns the native bytes allocated now, and their highest since the last generation began. Safe at any
	// time.
	Ledger() (bytes, peak int64)
	// Resident returns those of the ledger's bytes that belong to loaded models: between jobs there are no others.
	Resident() int64
	// DeviceMemory returns the device's memory, nil if it has none of its own. Safe at any time.
	DeviceMemory() *protocol.DeviceMemory
	Close() error
}

// Observer is told of a job's progress, on the engine's goroutine. Preview waits until the picture before it
// has been taken.
type Observer interface {
	Stage(name string)
	Step(step, steps int)
	Preview(index int, image imagefile.Image)
}

// Info is what an engine says of itself.
type Info struct {
	DeviceName string
	Kernels    string
	Versions   map[string]string
	Validation *protocol.Validation // with Hello.Validate
	Tuning     []events.DeviceSetting
}

// Input is a job for Engine.Generate.
type Input struct {
	Model   protocol.Model
	Request protocol.Request
	Latents *imagefile.Array // initial noise; nil: drawn from the seed
}

// Output is what Engine.Generate made.
type Output struct {
	Images          []imagefile.Image
	Latents         *imagefile.Array
	Scheduler       string
	Precision       string
	PromptTruncated bool
	Degradations    []string
	Guidance        *events.DeviceSetting // nil: there was none
	TimingsMS       map[string]float64
}

// Main runs the runner of this process on the descriptors it inherited, until its parent ends the
// conversation. Returning from it must end the process: a stuck job may still hold a thread.
func Main(ctx context.Context, o Options) error {
	// A service manager may signal the whole control group; the runner follows its parent, not the signal.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	socket := os.NewFile(protocol.SocketFD, "runner-socket")
	stream, err := net.FileConn(socket)
	if err != nil {
		return fmt.Errorf("a runner is started by an instance, not by hand: descriptor %d is not its socket: %w", protocol.SocketFD, err)
	}
	socket.Close()
	bulk := protocol.OpenBulk(os.NewFile(protocol.BulkFD, "genfn-bulk"))
	syscall.CloseOnExec(protocol.BulkFD)
	return Run(ctx, protocol.NewConn(stream), bulk, o)
}

// Run serves one conversation over conn and bulk, which it closes at the end. A failure to start is told to
// the other side and is no error of Run.
func Run(ctx context.Context, conn *protocol.Conn, bulk *protocol.Bulk, o Options) error {
	if o.Open == nil {
		o.Open = Open
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	r := &runner{conn: conn, bulk: bulk, log: o.Logger, work: make(chan *job, 1), jobs: map[uint64]*job{}}
	defer conn.Close()
	defer bulk.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { conn.Close() })
	if err := r.start(ctx, o.Open); err != nil {
		f := classify(err, "", r.device)
		f.Replace = true
		return conn.Send(protocol.NewFailed(0, f, r.memory()))
	}
	worked := make(chan struct{})
	go func() {
		defer close(worked)
		r.serve()
	}()
	err := r.receive(ctx)
	close(r.work)
	cancel()
	timer := time.NewTimer(orphanGrace)
	defer timer.Stop()
	select {
	case <-worked:
		return errors.Join(err, r.close())
	case <-timer.C: // native code does not come back; the end of the process is the only way
		return err
	}
}

// runner is the state of one conversation.
type runner struct {
	conn   *protocol.Conn
	bulk   *protocol.Bulk
	log    *slog.Logger
	device string
	lock   *deviceLock
	engine Engine
	noop   bool
	work   chan *job
	house  housekeeping

	devicePeak devicePeak // of the job

	mu   sync.Mutex
	jobs map[uint64]*job // received and not yet answered
}

// start answers Hello with Ready: lock the device, then open the engine.
func (r *runner) start(ctx context.Context, open OpenFunc) error {
	m, err := r.conn.Receive()
	if err != nil {
		return err
	}
	hello, ok := m.(*protocol.Hello)
	if !ok {
		return fmt.Errorf("first message is %s, expected %s", protocol.KindOf(m), protocol.KindHello)
	}
	if hello.Protocol != protocol.Version {
		return fmt.Errorf("the instance speaks protocol version %d, this runner %d: use one build of the program for both", hello.Protocol, protocol.Version)
	}
	r.device, r.noop = hello.Device, hello.ServeNoop
	ready := &protocol.Ready{Protocol: protocol.Version, PID: os.Getpid(), Device: hello.Device}
	if hello.Device != "" {
		if r.lock, err = lockDevice(hello.RuntimeDir, hello.Device, hello.Slot); err != nil {
			return err
		}
		ready.Slot = r.lock.slot
	}
	if r.engine, err = open(ctx, hello, r.log); err != nil {
		return errors.Join(err, r.lock.Close())
	}
	r.house = newHousekeeping(hello.CleanupEvery)
	info := r.engine.Info()
	ready.DeviceName, ready.Kernels, ready.Versions, ready.Memory = info.DeviceName, info.Kernels, info.Versions, r.memory()
	ready.Validation, ready.Tuning = info.Validation, info.Tuning
	if err := r.conn.Send(ready); err != nil {
		return err
	}
	r.watchHardware(ctx, info.Validation)
	return nil
}

// receive takes messages until Shutdown or the end of the socket.
func (r *runner) receive(ctx context.Context) error {
	for {
		m, err := r.conn.Receive()
		if over := errors.Is(err, io.EOF) || ctx.Err() != nil; over {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *protocol.Devices:
			r.accept(ctx, m.Job, m)
		case *protocol.Load:
			r.accept(ctx, m.Job, m)
		case *protocol.Generate:
			r.accept(ctx, m.Job, m)
		case *protocol.Unload:
			r.accept(ctx, m.Job, m)
		case *protocol.Cleanup:
			r.accept(ctx, m.Job, m)
		case *protocol.Cancel:
			r.withJob(m.Job, func(j *job) { j.cancel() })
		case *protocol.PreviewRead:
			r.withJob(m.Job, func(j *job) { j.previewRead() })
		case *protocol.Shutdown:
			return nil
		default:
			return fmt.Errorf("runner protocol: %s is not a message to a runner", protocol.KindOf(m))
		}
	}
}

// accept queues a job. There is room for one beside the running one, because the instance may send the next
// as soon as it has the answer to the last.
func (r *runner) accept(ctx context.Context, id uint64, m protocol.Message) {
	j := newJob(ctx, id, m)
	r.mu.Lock()
	r.jobs[id] = j
	r.mu.Unlock()
	select {
	case r.work <- j:
	default:
		r.answer(j, &protocol.Failed{Job: id, Error: events.Errorf(events.CodeInternal, "the runner is busy with another job")})
	}
}

func (r *runner) withJob(id uint64, do func(*job)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j := r.jobs[id]; j != nil {
		do(j)
	}
}

// serve does the jobs, one after the other.
func (r *runner) serve() {
	for j := range r.work {
		answer := r.do(j)
		r.answer(j, answer)
		r.tidy(j, answer)
		if len(r.work) > 0 {
			continue
		}
		if err := r.keep(); err != nil {
			r.log.Warn("what was loaded is not kept for the next start", "error", err)
		}
	}
}

// keep has the engine write its caches once nobody waits for it. A panic there is an error: the job is answered.
func (r *runner) keep() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return r.engine.Keep(context.Background())
}

// answer ends a job with m. A failed send means that the parent is gone, which receive sees too.
func (r *runner) answer(j *job, m protocol.Message) {
	r.mu.Lock()
	delete(r.jobs, j.id)
	r.mu.Unlock()
	j.cancel()
	if err := r.conn.Send(m); err != nil {
		r.log.Error("answer lost", "job", j.id, "kind", string(protocol.KindOf(m)), "error", err)
	}
}

func (r *runner) close() error { return errors.Join(r.engine.Close(), r.lock.Close()) }
