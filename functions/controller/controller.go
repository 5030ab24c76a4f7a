// Package controller is the health controller: it hears how instances are, decides who takes requests, and puts that
// into key-value, where instances look before each request. Any number of replicas may run; the one that holds the
// lease decides. Without any, instances keep to what was decided last, and to what they see of their devices themselves.
//
//	heartbeats, conditions, canaries, commands, time -> Core -> decisions -> key-value -> instances
//
// These details have caused bugs:
//   - What an instance says on its way to probation is older than the decision: only word that names the decision it
//     obeys tells how the proof ended.
//   - An instance that suspects itself serves nobody in this moment, and is the last of its model nevertheless.
//   - A leader that was stopped and goes on does not know yet that another leads: each write names the entry it
//     replaces, and a new leader writes every entry anew before anything else.
package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"genfn/events"
	"genfn/events/broker"
)

const (
	// LeaseKey is the lease that the leader holds.
	LeaseKey     = "leader"
	tickInterval = 500 * time.Millisecond
	maxWaiting   = 4096 // inputs that wait for the core
	maxWrites    = 32   // decisions written at a time, each on another instance
)

// Config says how a controller decides.
type Config struct {
	Name         string         // unique among the replicas; shown as the author of decisions
	Broker       *broker.Broker // owned by the caller
	BrokerConfig broker.Config  // what Run sets up
	Policy       Policy
	Lease        time.Duration    // how long after the end of a leader another takes its place, at most; 0: 5 s
	Log          io.Writer        // gets every input and decision, for Replay; nil: nobody
	Logger       *slog.Logger     // nil: discard
	Metrics      *Metrics         // nil: none
	Now          func() time.Time // nil: time.Now
}

// Controller is one replica. Make it with New.
type Controller struct {
	config Config
	log    *slog.Logger
}

// New returns a controller that does nothing until Run. It does no I/O.
func New(c Config) (*Controller, error) {
	if !events.ValidID(c.Name) {
		return nil, fmt.Errorf("controller name %q: expected 1 to 64 of the characters A-Z a-z 0-9 _ and -", c.Name)
	}
	if c.Lease <= 0 {
		c.Lease = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Controller{config: c, log: c.Logger.With("controller", c.Name)}, nil
}

// Run sets the broker up and decides whenever it leads, until ctx ends; it returns nil then. Losses of the connection
// only delay it.
func (c *Controller) Run(ctx context.Context) error {
	defer c.watchConnection(ctx)()
	if err := c.config.Broker.Setup(ctx, c.config.BrokerConfig); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was to end
		}
		return err
	}
	return c.config.Broker.Lead(ctx, LeaseKey, c.config.Name, c.config.Lease, c.lead)
}

// asked is an input, and who waits for what becomes of it; nil: nobody.
type asked struct {
	Input
	heard  time.Time // by the clock of this process
	answer chan<- answer
}

type answer struct {
	decision events.Decision
	err      error
}

// leadership is one term of a leader.
type leadership struct {
	*Controller
	lease   *broker.Lease
	core    *Core
	writer  *writer
	inputs  chan asked
	entries *json.Encoder        // nil: there is no log
	stopped map[string]time.Time // instances that take no requests, since when
}

// lead decides until ctx ends or a decision cannot be written.
func (c *Controller) lead(ctx context.Context, lease *broker.Lease) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &leadership{Controller: c, lease: lease, inputs: make(chan asked, maxWaiting), stopped: map[string]time.Time{}}
	if err := l.adopt(ctx); err != nil {
		return err
	}
	l.writer.failed = cancel
	defer c.leading(lease.Term)()
	defer l.writer.wait()
	var queue sync.WaitGroup
	queue.Go(func() { c.watchQueue(ctx) })
	defer func() {
		cancel(nil)
		queue.Wait()
	}()
	stopWatch, err := c.config.Broker.WatchInstances(ctx, l.core.start.Policy.SilentAfter,
		func(s events.DeviceStatus) { l.hear(ctx, Input{Status: StatusOf(s)}) },
		func(k events.Canary) { l.hear(ctx, Input{Canary: CanaryOf(k)}) })
	if err != nil {
		return err
	}
	defer stopWatch()
	stopCommands, err := c.config.Broker.ServeCommands(l.command)
	if err != nil {
		return err
	}
	defer func() {
		cancel(nil)
		stopCommands()
	}()
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case a := <-l.inputs:
			l.decide(ctx, a)
		case <-ticker.C:
			l.decide(ctx, asked{heard: time.Now()})
			l.expose()
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// adopt begins with the decisions in force. It writes each anew, so that no write of an earlier leader, which names the
// entry it replaces, can be under way any more.
func (l *leadership) adopt(ctx context.Context) error {
	b := l.config.Broker
	inForce, err := b.Decisions(ctx)
	if err != nil {
		return err
	}
	revisions := make([]uint64, len(inForce))
	var g errgroup.Group
	g.SetLimit(maxWrites)
	for i, d := range inForce {
		g.Go(func() error {
			for {
				stored, err := b.Decision(ctx, d.Instance)
				if err != nil || stored == nil {
					return err
				}
				inForce[i] = stored.Decision
				revisions[i], err = b.PutDecision(ctx, stored.Decision, stored.Revision, l.source())
				if !errors.Is(err, broker.ErrConflict) { // else the earlier leader was faster
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	l.writer = newWriter(b, l.source(), l.log)
	for i, d := range inForce {
		l.writer.revisions[d.Instance] = revisions[i]
		if d.Stops() {
			l.stopped[d.Instance] = d.At
		}
	}
	start := Start{Policy: l.config.Policy.withDefaults(), By: "controller " + l.config.Name, Term: l.lease.Term, At: l.now(), InForce: inForce}
	l.core = NewCore(start)
	if l.config.Log != nil {
		if _, err := io.WriteString(l.config.Log, "\n"); err != nil { // what a crash has cut off ends here
			return err
		}
		l.entries = json.NewEncoder(l.config.Log)
	}
	return l.record(Entry{Start: &start})
}

func (c *Controller) source() string { return "/genfn/controller/" + c.config.Name }

// now is the time as a log can hold it.
func (c *Controller) now() time.Time { return c.config.Now().Round(0).UTC() }

// hear hands an input to the core.
func (l *leadership) hear(ctx context.Context, in Input) {
	select {
	case l.inputs <- asked{Input: in, heard: time.Now()}:
	case <-ctx.Done():
	}
}

// command hands an operator's command to the core and waits until the decision is in force.
func (l *leadership) command(ctx context.Context, instance string, c events.Command) (events.Decision, error) {
	result := make(chan answer, 1)
	in := Input{Command: &Command{Instance: instance, Command: c.Command, Reason: c.Reason, By: c.By}}
	select {
	case l.inputs <- asked{in, time.Now(), result}:
	case <-ctx.Done():
		return events.Decision{}, ctx.Err()
	}
	select {
	case a := <-result:
		return a.decision, a.err
	case <-ctx.Done():
		return events.Decision{}, ctx.Err()
	}
}

// decide has the core decide, unless somebody else may lead by now, and has the decisions written.
func (l *leadership) decide(ctx context.Context, a asked) {
	if !l.lease.Valid() {
		return // ctx ends in this moment
	}
	a.At = l.now()
	decisions, err := l.core.Apply(a.Input)
	if failed := l.record(Entry{Input: &a.Input}); failed != nil {
		l.log.Error("the log of the decisions cannot be written", "error", failed)
		l.entries = nil
	}
	if err != nil {
		l.countRefusal()
		a.answer <- answer{err: err}
	}
	for _, d := range decisions {
		if failed := l.record(Entry{Decision: &d}); failed != nil {
			l.log.Error("the log of the decisions cannot be written", "error", failed)
			l.entries = nil
		}
		l.log.Info("decision", "instance", d.Instance, "state", d.State, "previous", d.Previous, "reason", d.Reason, "by", d.DecidedBy, "message", d.Message)
		l.count(d)
		l.writer.put(ctx, d, a.answer, l.measured(a.heard))
	}
	for _, name := range l.core.Forgotten() {
		delete(l.stopped, name)
		l.writer.drop(ctx, name)
	}
}

func (l *leadership) record(e Entry) error {
	if l.entries == nil {
		return nil
	}
	return l.entries.Encode(e)
}
