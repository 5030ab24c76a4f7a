// Package stress tries a running system as an operator would, over its broker: requests of several sizes and devices,
// with faults and cancels among them in an order drawn from a seed. It looks at every answer and at the memory that the
// instances tell of, and says at the end whether anything drifted: a request lost, answered twice or wrongly, memory
// that did not come back.
//
// A run has three parts: each device makes the same few pictures and its memory is noted; then the requests; then the
// same pictures again. Faults that end a runner process come early, within the first half and the first 500 requests, so
// that the trend of memory can be read in processes that live through the rest.
package stress

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

// Config says what to try. Zero fields but Broker take their defaults.
type Config struct {
	Broker *broker.Broker // owned by the caller
	Tenant string         // "": broker.DefaultTenant
	Model  string         // "": emoji

	Seed        uint64   // of the order of requests
	Generations int      // requests; 0: 200
	Parallel    int      // at the same time; 0: 2
	Sizes       []Size   // nil: 64x64, 96x64 and 128x128
	Steps       []int    // nil: 1 and 2
	Devices     []string // as requests name them; nil: auto

	Faults  float64 // share of requests with a fault
	Cancels float64 // share of requests that are cancelled
	Kinds   []Kind  // of faults; nil: all that the sources below allow but Hang, which takes long

	KillRunners bool   // signal runner processes, which must be on this machine
	FaultFile   string // that the runners of a virtual GPU read; "": none

	Deadline time.Duration // of requests that have a short one; 0: 30 ms
	Patience time.Duration // after which a request without an answer is lost; 0: 5 minutes
	Warmup   int           // generations of a process before the trend of its memory is looked at; 0: 200
	Settle   int           // generations for each slot before and after; 0: 6, one more than between forced clean-ups

	Ended  func(Record) // called for each request that has ended, one call at a time; may be nil
	Logger *slog.Logger // nil: discard
}

// Size is that of a picture, in pixels.
type Size struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

func (c Config) withDefaults() (Config, error) {
	def := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	def(&c.Generations, 200)
	def(&c.Parallel, 2)
	def(&c.Warmup, 200)
	def(&c.Settle, 6)
	if c.Tenant == "" {
		c.Tenant = broker.DefaultTenant
	}
	if c.Model == "" {
		c.Model = "emoji"
	}
	if c.Sizes == nil {
		c.Sizes = []Size{{64, 64}, {96, 64}, {128, 128}}
	}
	if c.Steps == nil {
		c.Steps = []int{1, 2}
	}
	if c.Devices == nil {
		c.Devices = []string{events.DeviceAuto}
	}
	if c.Deadline == 0 {
		c.Deadline = 30 * time.Millisecond
	}
	if c.Patience == 0 {
		c.Patience = 5 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Faults < 0 || c.Cancels < 0 || c.Faults+c.Cancels > 1 {
		return c, fmt.Errorf("faults are %g and cancels %g of the requests: expected shares from 0 to 1, together at most 1", c.Faults, c.Cancels)
	}
	if c.Generations < 0 || c.Parallel < 0 {
		return c, fmt.Errorf("%d generations, %d at a time: expected no negative numbers", c.Generations, c.Parallel)
	}
	available := c.available()
	if c.Kinds == nil {
		c.Kinds = available
	}
	for _, k := range c.Kinds {
		if err := c.possible(k); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Stress is one run. Make it with New.
type Stress struct {
	config Config
	client *client.Client
	run    string // part of the ids of its requests
	began  time.Time
	watch  *watch
	faults *faultFile
	same   pictures

	mu    sync.Mutex
	phase string
	tally tally
	marks []Mark
}

// New returns a run that does nothing until Run.
func New(c Config) (*Stress, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	id := events.NewID()
	return &Stress{
		config: c, client: client.New(c.Broker, client.Options{Tenant: c.Tenant, Source: "/genfn/stress"}),
		run: "stress-" + id[len(id)-12:], faults: newFaultFile(c.FaultFile), phase: "waiting for instances",
	}, nil
}

// Run does it all and returns what it saw, also with the error of a run that ctx or a lost broker ended. It can be
// called once.
func (s *Stress) Run(ctx context.Context) (*Summary, error) {
	s.began = time.Now()
	watch, err := startWatch(ctx, s.config.Broker, s.config.Tenant, s.run, s.config.Model)
	if err != nil {
		return nil, err
	}
	s.watch = watch
	defer watch.stop()
	if _, err := s.faults.clear(); err != nil {
		return nil, err
	}
	if err := watch.someone(ctx, s.config.Model, s.config.Patience); err != nil {
		return nil, err
	}
	s.enter("settling")
	before, err := s.settle(ctx, "before")
	if err != nil {
		return nil, fmt.Errorf("before the requests: %w", err)
	}
	s.enter("requests")
	err = s.requests(ctx, plan(s.config))
	var after *settled
	if err == nil {
		s.enter("settling again")
		after, err = s.settle(ctx, "after")
	}
	s.enter("done")
	return s.summarize(ctx, before, after), err
}

func (s *Stress) enter(phase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = phase
	if phase == "requests" {
		s.tally.since = time.Now()
	}
}

// requests makes all requests, Config.Parallel at a time.
func (s *Stress) requests(ctx context.Context, cases []Case) error {
	s.mu.Lock()
	s.tally.planned = len(cases)
	s.mu.Unlock()
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(s.config.Parallel)
	for _, c := range cases {
		if each.Err() != nil {
			break
		}
		g.Go(func() error {
			r, err := s.try(each, c)
			if err != nil {
				return fmt.Errorf("request %d (%s): %w", c.Number, c.Kind, err)
			}
			s.ended(r)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// ended counts a request.
func (s *Stress) ended(r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.add(r)
	if r.Injected || r.Kind == Cancel {
		s.marks = append(s.marks, Mark{At: time.Now(), Kind: r.Kind})
	}
	if s.config.Ended != nil {
		s.config.Ended(r)
	}
}

// id is that of a request of this run.
func (s *Stress) id(words ...any) string {
	return s.run + "-" + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(words...)), "-"), "-")
}
