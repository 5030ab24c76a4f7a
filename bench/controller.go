package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"genfn/bench/report"
	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/embedded"
)

// Goals of the controller, with this many instances.
const (
	controlledInstances = 1000
	goalDecision        = 20.0  // ms, p99
	goalController      = 100.0 // MiB
)

// heartbeatEvery is how often an instance says how it is.
const heartbeatEvery = 2 * time.Second

// crowd is simulated instances: they say what real ones say, as often.
type crowd struct {
	broker *broker.Broker

	mu        sync.Mutex
	instances []*events.DeviceStatus
	decided   map[string]chan struct{}
}

// controllerProcesses is how often server, controller and instances are started anew.
const controllerProcesses = 8

// controllerSamples are what the processes gave, of each as many, one after the other.
type controllerSamples struct{ one, all, memory, share []float64 }

func measureController(ctx context.Context, h *harness) (g report.Group, err error) {
	n, processes := h.rounds(controlledInstances, 50), h.rounds(controllerProcesses, 1)
	g.About = fmt.Sprintf("`genfn controller` with %d simulated instances that say how they are every %s, with memory, versions and settings as real ones do, through a real server with sync. "+
		"A decision: milliseconds from a change of state, published, to the decision on it, stored and heard. One after the other while all heartbeats go on; then all instances at once. "+
		"Memory is the resident memory of the controller's process, CPU its share of a core, of which heartbeats are nearly all. Server and controller were started anew %d times.", n, heartbeatEvery, processes)
	if err := h.needGenfn(); err != nil {
		return g, err
	}
	var s controllerSamples
	progress := h.progress("controllers")
	for i := range processes {
		if err := h.controllerOnce(ctx, &s, n, max(1, n/processes), filepath.Join(h.work, fmt.Sprintf("controller-js-%d", i))); err != nil {
			return g, err
		}
		progress(i+1, processes)
	}
	g.Rows = append(g.Rows,
		report.Alone("one at a time: change of state → decision stored and heard", "ms", s.one).FromProcesses(processes),
		report.Alone(fmt.Sprintf("one at a time: the same, p99 of %d", len(s.one)), "ms", []float64{quantileOf(s.one, 0.99)}).AtMost(goalDecision),
		report.Alone("all at once: change of state → decision stored and heard", "ms", s.all).FromProcesses(processes),
		report.Alone(fmt.Sprintf("all at once: the same, p99 of %d", len(s.all)), "ms", []float64{quantileOf(s.all, 0.99)}),
		report.Alone("resident memory of the controller", "MiB", s.memory).AtMost(goalController).FromProcesses(processes),
		report.Alone("CPU of the controller while nothing happens", "% of a core", s.share).FromProcesses(processes),
	)
	return g, nil
}

// controllerOnce adds what one controller gives, with changes of changing of its instances one at a time.
func (h *harness) controllerOnce(ctx context.Context, s *controllerSamples, instances, changing int, store string) (err error) {
	server := embedded.New(embedded.Config{Port: embedded.AnyPort, StoreDir: store})
	defer server.Close()
	if err := server.Start(); err != nil {
		return err
	}
	b, err := broker.Connect(server.URL(), broker.Options{Name: "genfn bench"})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := b.Setup(ctx, broker.DefaultConfig()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, h.genfn, "controller", "--nats", server.URL(), "--name", "bench", "--log-level", "error")
	cmd.Stderr = h.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended, which Wait tells
		err = errors.Join(err, cmd.Wait())
	}()
	c, stop, err := newCrowd(ctx, b, instances)
	if err != nil {
		return err
	}
	defer stop()
	return c.measure(ctx, s, changing, cmd.Process.Pid)
}

// newCrowd makes instances and waits until all are admitted. Their heartbeats go on until stop is called.
func newCrowd(ctx context.Context, b *broker.Broker, n int) (c *crowd, stop func(), err error) {
	c = &crowd{broker: b, decided: map[string]chan struct{}{}}
	for i := range n {
		s := crowdStatus(i)
		c.instances = append(c.instances, &s)
		c.decided[s.Instance] = make(chan struct{}, 8)
	}
	stopWatch, err := b.WatchDecisions(ctx, func(d events.Decision) {
		select {
		case c.decided[d.Instance] <- struct{}{}:
		default: // nobody waits for it
		}
	})
	if err != nil {
		return nil, nil, err
	}
	beating, cancel := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { c.beat(beating) })
	stop = func() {
		cancel()
		beats.Wait()
		stopWatch()
	}
	for _, s := range c.instances {
		if err := c.await(ctx, s.Instance); err != nil {
			stop()
			return nil, nil, fmt.Errorf("an instance is not admitted: %w", err)
		}
	}
	return c, stop, nil
}

// crowdStatus is what the i-th instance says.
func crowdStatus(i int) events.DeviceStatus {
	used := int64(3 << 30)
	total := int64(16 << 30)
	return events.DeviceStatus{
		Instance: "crowd-" + strconv.Itoa(i), Device: "GPU.0", DeviceName: "Intel(R) Arc(TM) A770 Graphics (dGPU)", Class: events.DeviceGPU, State: events.StateReady, Reason: "validated", Since: time.Now(),
		Versions: map[string]string{"openvino": "2026.4.1-22982-e213a147257-releases/2026/4", "driver": "26.22.38646.4", "genfn": "1.0.0"},
		Tuning:   []events.DeviceSetting{{Name: "precision", Value: "f16", Reason: "the device has it in hardware"}, {Name: "streams", Value: "1", Reason: "a runner has one request at a time, and each stream takes memory of its own"}},
		Models:   []string{"sd-v1=2E5", "lcm-" + strconv.Itoa(i%8)}, Slots: 1, Kind: "gpu Intel(R) Arc(TM) A770 Graphics (dGPU) f16", Incarnation: events.NewID(),
		MemoryInfo: &events.MemoryInfo{RSSMB: 812.5, VMSMB: 9000, DeviceUsed: &used, DeviceTotal: &total, HostTotal: 64 << 30, HostFree: 40 << 30, Processes: []events.ProcessMemory{{Process: events.Process{PID: 4711, StartedAt: time.Now()}, RSS: 800 << 20, DeviceUsed: &used}}},
	}
}

// say publishes the word of an instance, with its state changed to state unless that is "".
func (c *crowd) say(i int, state string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.instances[i]
	if state != "" {
		s.Previous, s.State, s.Reason, s.Since = s.State, state, "fault", time.Now()
	}
	s.Sequence++
	return c.broker.PublishStatus(*s, state == "", "/genfn/bench")
}

// beat has every instance say how it is, evenly spread over time.
func (c *crowd) beat(ctx context.Context) {
	ticker := time.NewTicker(heartbeatEvery / time.Duration(len(c.instances)))
	defer ticker.Stop()
	for i := 0; ; i = (i + 1) % len(c.instances) {
		select {
		case <-ticker.C:
			_ = c.say(i, "") // one that is lost is followed by the next
		case <-ctx.Done():
			return
		}
	}
}

// await waits for the next decision on an instance.
func (c *crowd) await(ctx context.Context, instance string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case <-c.decided[instance]:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no decision on %s: %w", instance, ctx.Err())
	}
}

func (c *crowd) measure(ctx context.Context, s *controllerSamples, changing, pid int) error {
	before, began := cpuTime(pid), time.Now()
	if !pause(ctx, 2*heartbeatEvery) {
		return ctx.Err()
	}
	s.share = append(s.share, 100*(cpuTime(pid)-before).Seconds()/time.Since(began).Seconds())
	for i := range changing {
		for _, state := range []string{events.StateSuspect, events.StateReady} {
			began := time.Now()
			if err := c.say(i, state); err != nil {
				return err
			}
			if err := c.await(ctx, c.instances[i].Instance); err != nil {
				return err
			}
			s.one = append(s.one, milliseconds(time.Since(began)))
		}
	}
	for _, state := range []string{events.StateSuspect, events.StateReady} {
		took, err := c.together(ctx, state)
		if err != nil {
			return err
		}
		s.all = append(s.all, took...)
	}
	rss, err := residentBytes(pid)
	s.memory = append(s.memory, rss/(1<<20))
	return err
}

// together has all instances change their state at once and returns how long the decision on each took.
func (c *crowd) together(ctx context.Context, state string) ([]float64, error) {
	took := make([]float64, len(c.instances))
	began := time.Now()
	errs := make([]error, len(c.instances))
	var wg sync.WaitGroup
	for i, s := range c.instances {
		name := s.Instance
		wg.Go(func() {
			errs[i] = c.await(ctx, name)
			took[i] = milliseconds(time.Since(began))
		})
	}
	for i := range c.instances {
		if err := c.say(i, state); err != nil {
			errs[i] = err
		}
	}
	wg.Wait()
	return took, errors.Join(errs...)
}

// cpuTime is what a process has used so far, 0 if it cannot be read.
func cpuTime(pid int) time.Duration {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0
	}
	s, err := p.Stat()
	if err != nil {
		return 0
	}
	return time.Duration(s.CPUTime() * float64(time.Second))
}
