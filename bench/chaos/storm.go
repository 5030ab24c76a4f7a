package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"genfn/bench/measure"
	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/virtualgpu"
)

// actionPatience is how long an action may wait for its target to be ready. It is left out then.
const actionPatience = 60 * time.Second

const statusAge = 5 * time.Second // of the last word of an instance that is alive

const apiPatience = 3 * time.Second // for one answer of a node

// objectStream holds the artefacts.
const objectStream = "OBJ_genfn-" + broker.DefaultTenant

// counter tells how many requests are published. Safe for concurrent use.
type counter struct {
	mu      sync.Mutex
	n       int
	over    bool
	changed chan struct{}
}

func newCounter() *counter { return &counter{changed: make(chan struct{})} }

func (c *counter) add() { c.change(func() { c.n++ }) }

// finish says that no more come.
func (c *counter) finish() { c.change(func() { c.over = true }) }

func (c *counter) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *counter) now() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// ended reports whether no more come.
func (c *counter) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// reach waits until n are published or no more come.
func (c *counter) reach(ctx context.Context, n int) error {
	for {
		c.mu.Lock()
		done, changed := c.n >= n || c.over, c.changed
		c.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// episode is a fault of the GPU, from when it is armed until it is taken back.
type episode struct {
	fault       string
	began, over time.Time
}

// storm does what is planned.
type storm struct {
	system    *system
	strikes   []Strike
	published *counter
	nodes     chan struct{} // holds one token: no node is being hurt, of which a cluster bears one

	mu       sync.Mutex
	did      map[Action]int
	episodes []episode
}

func newStorm(s *system, strikes []Strike, c *counter) *storm {
	st := &storm{system: s, strikes: strikes, published: c, nodes: make(chan struct{}, 1), did: map[Action]int{}}
	st.nodes <- struct{}{}
	return st
}

// done returns how often each action was done.
func (st *storm) done() map[Action]int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return maps.Clone(st.did)
}

func (st *storm) count() (n int) {
	for _, k := range st.done() {
		n += k
	}
	return n
}

func (st *storm) faults() []episode {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Clone(st.episodes)
}

// run does every strike when its time has come, and returns when all are undone.
func (st *storm) run(ctx context.Context) error {
	log, err := os.Create(filepath.Join(st.system.config.Dir, "actions.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	g, each := errgroup.WithContext(ctx)
	for _, s := range st.strikes {
		if st.published.reach(each, s.After) != nil {
			break
		}
		g.Go(func() error {
			what, err := st.strike(each, s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.Action, err)
			}
			st.mu.Lock()
			defer st.mu.Unlock()
			fmt.Fprintf(log, "%s after %d: %s %s %s\n", time.Now().Format(time.StampMilli), s.After, s.Action, what, s.Last)
			if what != "" {
				st.did[s.Action]++
			}
			return nil
		})
	}
	return errors.Join(g.Wait(), context.Cause(ctx))
}

// strike does one action and undoes it. It returns to whom it was done; "": to nobody.
func (st *storm) strike(ctx context.Context, s Strike) (what string, err error) {
	sys := st.system
	switch s.Action {
	case KillRunner, CrashRunner, StopRunner:
		return st.runner(ctx, s)
	case KillInstance, StopInstance, TermInstance:
		return st.process(ctx, choose(s, sys.instances), s)
	case CutClient, FreezeClient:
		return st.process(ctx, choose(s, slices.Concat(sys.instances, sys.controllers)), s)
	case KillController, StopController:
		return st.process(ctx, choose(s, sys.controllers), s)
	case KillNode, StopNode, TermNode, SlowNode, CutNode, FreezeNode, FillDisk:
		return st.node(ctx, s)
	case KillNodes:
		return st.allNodes(ctx, s)
	case MoveLeader:
		return st.moveLeader(ctx, s)
	case SickGPU:
		return st.sicken(ctx, s)
	}
	return "", fmt.Errorf("expected one of %v", Actions())
}

func choose(s Strike, from []*member) *member { return from[s.Target%uint64(len(from))] }

// take waits for the turn of a member and until it is ready; pid is 0 if that takes too long.
func (m *member) take(ctx context.Context) (pid int, give func(), err error) {
	select {
	case <-m.turn:
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
	give = func() { m.turn <- struct{}{} }
	patient, cancel := context.WithTimeout(ctx, actionPatience)
	defer cancel()
	pid, err = m.isUp(patient)
	if err != nil && ctx.Err() == nil {
		return 0, give, nil //nolint:nilerr // it is the system's to be slow: the action is left out
	}
	return pid, give, err
}

// process does something to an instance or a controller.
func (st *storm) process(ctx context.Context, m *member, s Strike) (string, error) {
	pid, give, err := m.take(ctx)
	if err != nil {
		return "", err
	}
	defer give()
	if pid == 0 {
		return "", nil
	}
	return m.name, m.suffer(ctx, s)
}

// suffer does an action to a process that runs, and undoes it.
func (m *member) suffer(ctx context.Context, s Strike) error {
	switch s.Action {
	case KillInstance, KillController, KillNode:
		return m.end(ctx, unix.SIGKILL, s.Last)
	case TermInstance, TermNode:
		return m.end(ctx, unix.SIGTERM, s.Last)
	case StopInstance, StopController, StopNode:
		return m.stopFor(ctx, s.Last)
	case SlowNode:
		const pulse = 50 * time.Millisecond
		for until := time.Now().Add(s.Last); time.Now().Before(until) && sleep(ctx, pulse); {
			if err := m.stopFor(ctx, pulse); err != nil {
				return err
			}
		}
		return nil
	}
	for _, way := range m.ways {
		if s.Action == FreezeClient || s.Action == FreezeNode {
			way.Freeze()
		} else {
			way.Cut()
		}
		defer way.Heal()
	}
	sleep(ctx, s.Last)
	return nil
}

// runner signals a runner process.
func (st *storm) runner(ctx context.Context, s Strike) (string, error) {
	m := choose(s, st.system.instances)
	pid, give, err := m.take(ctx)
	if err != nil {
		return "", err
	}
	defer give()
	pids := measure.Runners(pid)
	if pid == 0 || len(pids) == 0 {
		return "", nil
	}
	target := pids[s.Target%uint64(len(pids))]
	sig := map[Action]unix.Signal{KillRunner: unix.SIGKILL, CrashRunner: unix.SIGSEGV, StopRunner: unix.SIGSTOP}[s.Action]
	if err := unix.Kill(target, sig); err != nil {
		return "", nil //nolint:nilerr // it has just ended
	}
	if s.Action == StopRunner {
		sleep(ctx, s.Last)
		_ = unix.Kill(target, unix.SIGCONT) // it may have been found hanging and killed
	}
	return fmt.Sprintf("%s (process %d)", m.name, target), nil
}

// node does something to a node, while all others are well.
func (st *storm) node(ctx context.Context, s Strike) (string, error) {
	select {
	case <-st.nodes:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { st.nodes <- struct{}{} }()
	m := choose(s, st.system.nodes)
	pid, give, err := m.take(ctx)
	if err != nil {
		return "", err
	}
	defer give()
	if pid == 0 {
		return "", nil
	}
	if s.Action == FillDisk {
		err = st.fillDisk(ctx, m, st.system.disks[s.Target%uint64(len(st.system.disks))], s)
	} else {
		err = m.suffer(ctx, s)
	}
	if err != nil {
		return "", err
	}
	patient, cancel := context.WithTimeout(ctx, actionPatience)
	defer cancel()
	_, err = m.isUp(patient) // before the next node is hurt
	return m.name, err
}

// fillDisk leaves no room where a node stores its streams, then makes room again and has the node start anew, as an
// operator does: a server of NATS that has met a full disk stops serving streams.
func (st *storm) fillDisk(ctx context.Context, m *member, disk string, s Strike) error {
	ballast := filepath.Join(disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(f, disk); err != nil {
		return err
	}
	sleep(ctx, s.Last)
	return errors.Join(os.Remove(ballast), f.Close(), m.end(ctx, unix.SIGKILL, restartPause))
}

// fill lets a file take all room of its file system, where others write meanwhile.
func fill(f *os.File, disk string) error {
	var space unix.Statfs_t
	for size := int64(0); ; {
		if err := unix.Statfs(disk, &space); err != nil {
			return err
		}
		free := int64(space.Bavail) * space.Bsize //nolint:gosec // of a small disk
		if free == 0 {
			return nil
		}
		err := unix.Fallocate(int(f.Fd()), 0, size, free)
		switch {
		case err == nil:
			size += free
		case !errors.Is(err, unix.ENOSPC): // others were faster
			return fmt.Errorf("fill %s: %w", disk, err)
		}
	}
}

// allNodes kills all nodes at once.
func (st *storm) allNodes(ctx context.Context, s Strike) (string, error) {
	select {
	case <-st.nodes:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { st.nodes <- struct{}{} }()
	g, all := errgroup.WithContext(ctx)
	for _, m := range st.system.nodes {
		g.Go(func() error { return m.end(all, unix.SIGKILL, s.Last) })
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	patient, cancel := context.WithTimeout(ctx, actionPatience)
	defer cancel()
	for _, m := range st.system.nodes {
		if _, err := m.isUp(patient); err != nil {
			return "", err
		}
	}
	return "all", nil
}

// moveLeader has the leader of a stream, or of one of its consumers, step down. What is not there at the moment refuses
// it, which is no error.
func (st *storm) moveLeader(ctx context.Context, s Strike) (string, error) {
	subjects := []string{"CONSUMER.LEADER.STEPDOWN." + broker.StreamRequests + ".req_" + events.PoolToken(events.KindImage, modelNoop) + "_any_interactive"}
	for _, stream := range []string{broker.StreamRequests, broker.StreamTerminals, broker.StreamAttempts, objectStream} {
		subjects = append(subjects, "STREAM.LEADER.STEPDOWN."+stream)
	}
	subject := subjects[s.Target%uint64(len(subjects))]
	nc, err := nats.Connect(st.system.url(), nats.Timeout(time.Second))
	if err != nil {
		return "", nil //nolint:nilerr // no node is there at the moment
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	if _, err := nc.RequestWithContext(ctx, "$JS.API."+subject, nil); err != nil {
		return "", nil //nolint:nilerr // nor a leader
	}
	return subject, nil
}

// sicken writes a fault for the virtual GPU, once that is well, and takes it back later.
func (st *storm) sicken(ctx context.Context, s Strike) (string, error) {
	m := st.system.gpu()
	select {
	case <-m.turn:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { m.turn <- struct{}{} }()
	if well, err := st.gpuWell(ctx); err != nil || !well {
		return "", err
	}
	e := episode{fault: s.Fault, began: time.Now()}
	if err := virtualgpu.WriteFaults(st.system.faults, s.Fault); err != nil {
		return "", err
	}
	sleep(ctx, s.Last)
	err := virtualgpu.WriteFaults(st.system.faults, "")
	e.over = time.Now()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.episodes = append(st.episodes, e)
	return s.Fault, err
}

// gpuWell waits until the GPU takes requests, and reports whether it came to that.
func (st *storm) gpuWell(ctx context.Context) (bool, error) {
	b, err := st.system.connect("storm")
	if err != nil {
		return false, nil //nolint:nilerr // no node is there at the moment
	}
	defer b.Close()
	patient, cancel := context.WithTimeout(ctx, actionPatience)
	defer cancel()
	for sleep(patient, 200*time.Millisecond) && !st.published.ended() { // nobody would meet the fault
		alive, err := b.Devices(patient, statusAge)
		if err == nil && slices.ContainsFunc(alive, func(d events.DeviceStatus) bool { return d.Instance == gpuInstance && d.State == events.StateReady }) {
			return true, nil
		}
	}
	return false, ctx.Err()
}
