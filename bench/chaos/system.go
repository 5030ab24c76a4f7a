package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"genfn/events/broker"
	"genfn/events/eventstest/proxy"
)

// Who serves.
const (
	noopInstances = 3
	cpuInstances  = 2 // of the models that compute
	controllers   = 2
	noopSlots     = 2

	gpuInstance = "gpu-1"

	diskBytes = 512 << 20 // of a node's own file system
)

// member is a service and the ways by which it reaches the nodes.
type member struct {
	*service
	ways []*proxy.Proxy // of a client, to each node; of a node, to and from each other node
}

// system is all processes of a run.
type system struct {
	config      Config
	nodes       []*member
	urls        []string // of the nodes, without a proxy
	disks       []string // of the nodes
	instances   []*member
	controllers []*member
	faults      string // file of the virtual GPU's faults

	proxies []*proxy.Proxy
	mounts  []string
	life    context.Context
	end     context.CancelFunc
	running errgroup.Group
}

func newSystem(ctx context.Context, c Config) (s *system, err error) {
	s = &system{config: c, faults: filepath.Join(c.Dir, "faults")}
	s.life, s.end = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.makeNodes(ctx); err != nil {
		return s, err
	}
	if err := s.makeServers(ctx); err != nil {
		return s, err
	}
	return s, nil
}

// makeNodes plans the nodes and the proxies of their routes.
func (s *system) makeNodes(ctx context.Context) error {
	n := s.config.Replicas
	ports, err := freePorts(ctx, 2*n)
	if err != nil {
		return err
	}
	client, cluster := ports[:n], ports[n:]
	routes := make([][]string, n)
	ways := make([][]*proxy.Proxy, n)
	for from := range n {
		for to := range n {
			if from == to {
				continue
			}
			way, err := s.proxy(ctx, cluster[to])
			if err != nil {
				return err
			}
			routes[from] = append(routes[from], way.Address())
			ways[from], ways[to] = append(ways[from], way), append(ways[to], way)
		}
	}
	for i := range n {
		name := "node-" + strconv.Itoa(i+1)
		disk := filepath.Join(s.config.Dir, name)
		if err := s.makeDisk(disk); err != nil {
			return err
		}
		c := NodeConfig{Name: name, Port: client[i], StoreDir: filepath.Join(disk, "js"), Log: filepath.Join(s.config.Dir, name+".server.log"), Routes: routes[i]}
		if n > 1 {
			c.ClusterPort = cluster[i]
		}
		raw, err := json.Marshal(c)
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, &member{newService(name, append(slices.Clone(s.config.Node), string(raw)), s.config.Dir, "ready"), ways[i]})
		s.urls = append(s.urls, "nats://127.0.0.1:"+strconv.Itoa(client[i]))
		s.disks = append(s.disks, disk)
	}
	return nil
}

// makeDisk makes the folder of a node, with a small file system of its own if that is to become full.
func (s *system) makeDisk(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil || !slices.Contains(s.config.Actions, FillDisk) {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(diskBytes)); err != nil {
		return fmt.Errorf("a file system for %s: %w", dir, err)
	}
	s.mounts = append(s.mounts, dir)
	return nil
}

func (s *system) proxy(ctx context.Context, port int) (*proxy.Proxy, error) {
	p, err := proxy.Listen(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		s.proxies = append(s.proxies, p)
	}
	return p, err
}

// makeServers plans instances and controllers.
func (s *system) makeServers(ctx context.Context) error {
	models, err := s.modelFolder(ctx, "models", s.config.Demo, s.gpuModel())
	if err != nil {
		return err
	}
	none, err := s.modelFolder(ctx, "no-models")
	if err != nil {
		return err
	}
	for i := range noopInstances {
		if err := s.addInstance(ctx, "noop-"+strconv.Itoa(i+1), "--models", none, "--serve-noop", "--slots", strconv.Itoa(noopSlots)); err != nil {
			return err
		}
	}
	if s.config.Demo != "" || s.config.GPU != nil {
		for i := range cpuInstances {
			if err := s.addInstance(ctx, "cpu-"+strconv.Itoa(i+1), "--models", models, "--max-models", "2"); err != nil {
				return err
			}
		}
	}
	if g := s.config.GPU; g != nil {
		only, err := s.modelFolder(ctx, "gpu-models", g.Model)
		if err != nil {
			return err
		}
		cache := s.cache(gpuInstance)
		if err := errors.Join(os.MkdirAll(cache, 0o755), os.MkdirAll(g.Kernels, 0o755), os.Symlink(g.Kernels, filepath.Join(cache, "vgpu"))); err != nil {
			return err
		}
		if err := s.addInstance(ctx, gpuInstance, "--models", only, "--device", "GPU", "--virtual-gpu", "--virtual-gpu-faults", "@"+s.faults); err != nil {
			return err
		}
	}
	for i := range controllers {
		ways, url, err := s.ways(ctx)
		if err != nil {
			return err
		}
		name := "controller-" + strconv.Itoa(i+1)
		command := []string{s.config.Genfn, "controller", "--name", name, "--nats", url, "--replicas", strconv.Itoa(s.config.Replicas), "--log-level", "info"}
		s.controllers = append(s.controllers, &member{newService(name, command, s.config.Dir, ""), ways})
	}
	return nil
}

// cache is an instance's own: those that others know to have died at their start would make it wait.
func (s *system) cache(name string) string { return filepath.Join(s.config.Dir, "cache-"+name) }

func (s *system) gpuModel() string {
	if s.config.GPU == nil {
		return ""
	}
	return s.config.GPU.Model
}

// modelFolder makes a folder with copies of models: a link is no model.
func (s *system) modelFolder(ctx context.Context, name string, models ...string) (string, error) {
	dir := filepath.Join(s.config.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, m := range models {
		if m == "" {
			continue
		}
		if out, err := exec.CommandContext(ctx, "cp", "-RL", m, dir).CombinedOutput(); err != nil {
			return "", fmt.Errorf("copy %s: %w: %s", m, err, out)
		}
	}
	return dir, nil
}

func (s *system) addInstance(ctx context.Context, name string, flags ...string) error {
	ways, url, err := s.ways(ctx)
	if err != nil {
		return err
	}
	command := append([]string{
		s.config.Genfn, "instance", "--json", "--name", name, "--nats", url, "--replicas", strconv.Itoa(s.config.Replicas),
		"--grace", "3s", "--log-level", "info", "--cache-dir", s.cache(name), "--threads", "1",
	}, flags...)
	s.instances = append(s.instances, &member{newService(name, command, s.config.Dir, `"nats"`), ways})
	return nil
}

// ways makes proxies to all nodes.
func (s *system) ways(ctx context.Context) (ways []*proxy.Proxy, url string, err error) {
	var urls []string
	for _, u := range s.urls {
		port, err := strconv.Atoi(u[strings.LastIndexByte(u, ':')+1:])
		if err != nil {
			return nil, "", err
		}
		p, err := s.proxy(ctx, port)
		if err != nil {
			return nil, "", err
		}
		ways, urls = append(ways, p), append(urls, p.URL())
	}
	return ways, strings.Join(urls, ","), nil
}

// url is that of all nodes, without a proxy.
func (s *system) url() string { return strings.Join(s.urls, ",") }

// start starts everything and waits until it is ready: nodes, then the rest.
func (s *system) start(ctx context.Context) error {
	for _, group := range [][]*member{s.nodes, append(slices.Clone(s.instances), s.controllers...)} {
		for _, m := range group {
			s.running.Go(func() error { return m.run(s.life) })
		}
		for _, m := range group {
			if _, err := m.isUp(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// close ends everything: clients first, so that nobody waits for a node.
func (s *system) close() error {
	for _, p := range s.proxies {
		p.Heal()
	}
	s.end()
	err := s.running.Wait()
	for _, p := range s.proxies {
		p.Close()
	}
	for _, dir := range s.mounts {
		err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
	}
	return err
}

// calm waits until everything is up and the queue is empty, or has not changed for idlePatience.
func (s *system) calm(ctx context.Context, ears *ears) error {
	fmt.Fprintf(s.config.Log, "  R%d: the storm is over\n", s.config.Replicas)
	up, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	for _, m := range slices.Concat(s.nodes, s.instances, s.controllers) {
		if _, err := m.isUp(up); err != nil {
			return err
		}
	}
	b, err := s.connect("calm")
	if err != nil {
		return err
	}
	defer b.Close()
	var last [2]uint64
	changed := time.Now()
	for time.Since(changed) < idlePatience {
		state, err := b.QueueState(ctx)
		if err != nil {
			return fmt.Errorf("the queue after the storm: %w", err)
		}
		if state.Requests == 0 {
			return nil
		}
		if now := [2]uint64{state.Requests, ears.events()}; now != last {
			last, changed = now, time.Now()
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil // what is left the check tells
}

// endPatience is how long an attempt that was overtaken may take to tell so after the queue is empty.
const endPatience = 10 * time.Second

// settled gathers what there is once every attempt has told how it ended. What is not told in time the check tells.
func (s *system) settled(ctx context.Context, published []Published, ears *ears) (*evidence, error) {
	untold := func(f Finding) bool { return f.Rule == RuleCause }
	for began := time.Now(); ; {
		e, err := s.gather(ctx, published, ears)
		if err != nil || time.Since(began) > endPatience || !slices.ContainsFunc(e.check(), untold) {
			return e, err
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return nil, ctx.Err()
		}
	}
}

// panics returns what the processes' logs have of panics, a line each.
func (s *system) panics() (lines []string, err error) {
	for _, m := range slices.Concat(s.nodes, s.instances, s.controllers) {
		text, err := os.ReadFile(m.log)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "panic: ") {
				lines = append(lines, m.name+": "+strings.TrimSpace(line))
			}
		}
	}
	return lines, nil
}

// connect connects to the nodes directly.
func (s *system) connect(name string) (*broker.Broker, error) {
	return broker.Connect(s.url(), broker.Options{Name: "chaos " + name})
}

func freePorts(ctx context.Context, n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that no port is given twice
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// gpu is the instance of the virtual GPU.
func (s *system) gpu() *member {
	return s.instances[slices.IndexFunc(s.instances, func(m *member) bool { return m.name == gpuInstance })]
}
