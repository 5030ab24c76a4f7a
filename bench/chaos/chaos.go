// Package chaos tries what genfn promises about requests: real servers of NATS, instances and controllers, each a process
// of its own, serve requests while they are killed, stopped, cut off from each other and short of disk, and devices
// fail. Afterwards what the streams hold is checked: every request has exactly one terminal event, every file that one
// refers to is there with its checksum, every attempt has a cause, no healthy request is a dead letter, and the queue is
// empty.
//
// What is done is drawn from a seed and tied to counts of published requests, so that it can be done again; when exactly
// processes meet is up to the machine.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says what to try.
type Config struct {
	Genfn string   // the program under test
	Node  []string // command that runs RunNode with the NodeConfig of its last argument, as JSON
	Dir   string   // folder for everything; it stays
	Demo  string   // folder of the demo model; "": it is left out
	GPU   *GPU     // nil: none

	Seed     uint64
	Requests int           // to publish
	Replicas int           // 1: one node, 3: a cluster
	Strikes  int           // actions
	Actions  []Action      // of these kinds
	Duration time.Duration // the requests are spread over; 0: as fast as they go

	Log io.Writer // how far it is
}

// GPU says how to show the virtual GPU.
type GPU struct {
	Model   string  // folder of a model that it computes in little time
	Share   float64 // of the requests that are for that model
	Kernels string  // folder of its compiled kernels, which is kept
}

// possible leaves out the actions that cannot be done, and says why; those of a cluster are nothing that a single node
// lacks.
func (c *Config) possible() (notRun []string) {
	var left []Action
	for _, a := range c.Actions {
		switch {
		case a.ofCluster() && c.Replicas == 1:
		case a == FillDisk && os.Geteuid() != 0:
			notRun = append(notRun, string(a)+": it mounts a small file system for each node, which needs root")
		case a == SickGPU && c.GPU == nil:
			notRun = append(notRun, string(a)+": the virtual GPU is not installed (make vgpu)")
		default:
			left = append(left, a)
		}
	}
	c.Actions = left
	return notRun
}

// Times of a run.
const (
	setUpTime = 2 * time.Minute
	// idlePatience is how long the queue may stay as it is at the end before what is left in it counts as lost.
	idlePatience = 2 * time.Minute
)

// Run does it all. The error is of this machine or of ctx: what is wrong with genfn is in the result.
func Run(ctx context.Context, c Config) (r *Result, err error) {
	notRun := c.possible()
	if len(c.Actions) == 0 {
		return nil, errors.New("none of the actions can be done here")
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	plan := newPlan(c)
	s, err := newSystem(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	starting, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	if err := s.start(starting); err != nil {
		return nil, fmt.Errorf("the system does not start, its logs are in %s: %w", c.Dir, err)
	}
	r = &Result{Seed: c.Seed, Replicas: c.Replicas, NotRun: notRun, Done: map[Action]int{}}
	if err := c.weather(ctx, s, plan, r); err != nil {
		return nil, err
	}
	return r, nil
}

// weather has the storm, waits for the calm and looks at what is left.
func (c Config) weather(ctx context.Context, s *system, plan Plan, r *Result) error {
	began := time.Now()
	ears, err := listen(s)
	if err != nil {
		return err
	}
	defer ears.close()
	p := newPublisher(c, s, ears)
	defer p.close()
	storm := newStorm(s, plan.Strikes, p.count)
	watch, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		c.tell(watch, p, ears, storm)
	}()
	defer func() { stop(); <-told }()
	var published []Published
	both, together := errgroup.WithContext(ctx)
	both.Go(func() error { return storm.run(together) })
	both.Go(func() (err error) {
		published, err = p.run(together, plan.Requests)
		p.count.finish()
		return err
	})
	if err := both.Wait(); err != nil {
		return err
	}
	r.Published, r.Done = published, storm.done()
	if err := s.calm(ctx, ears); err != nil {
		return err
	}
	stop()
	<-told
	r.Elapsed = time.Since(began)
	e, err := s.settled(ctx, published, ears)
	if err != nil {
		return err
	}
	r.judge(e, storm.faults())
	if r.Panics, err = s.panics(); err != nil {
		return err
	}
	return r.tellHistories(ctx, s)
}

// tell says how far it is, every few seconds.
func (c Config) tell(ctx context.Context, p *publisher, ears *ears, storm *storm) {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			fmt.Fprintf(c.Log, "  R%d: published %d/%d, answers heard %d, actions %d/%d\n", c.Replicas, p.count.now(), c.Requests, ears.answered(), storm.count(), len(storm.strikes))
		}
	}
}
