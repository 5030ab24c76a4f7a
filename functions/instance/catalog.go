package instance

import (
	"context"
	"slices"
	"sync"

	"genfn/events"
	"genfn/functions/model"
	"genfn/functions/runner/protocol"
)

// Models are the models of a store.
type Models interface {
	// Names returns the names of all models, also of those that Get refuses: their requests shall be told why.
	Names() []string
	// Get reads and checks a model. Its errors are *events.Error.
	Get(name string) (Model, error)
	// SHA256 returns the checksum of a model's files, which may take a while.
	SHA256(ctx context.Context, name string) (string, error)
}

// Model is what an instance knows of a model.
type Model struct {
	Name string
	Dir  string // empty: built in

	// What a request gets that does not say.
	Width, Height int
	Steps         int
	GuidanceScale float64

	Folder *model.Model // what its files say; nil: nothing is known of what a generation needs
}

func (m Model) protocol() protocol.Model {
	return protocol.Model{Name: m.Name, Dir: m.Dir}
}

// noop is the built-in model that measures what everything around a generation costs.
func noop() Model {
	return Model{Name: protocol.NoopModel, Width: 64, Height: 64, Steps: 20, GuidanceScale: 1}
}

// catalog remembers the models that were read. Safe for concurrent use.
type catalog struct {
	models Models // may be nil

	mu    sync.Mutex
	known map[string]Model
	sums  map[string]string
}

func newCatalog(models Models, serveNoop bool) *catalog {
	c := &catalog{models: models, known: map[string]Model{}, sums: map[string]string{}}
	if serveNoop {
		c.known[protocol.NoopModel] = noop()
	}
	return c
}

// names lists the models served, also those that cannot be read.
func (c *catalog) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name := range c.known {
		names = append(names, name)
	}
	if c.models != nil {
		names = append(names, c.models.Names()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pools lists the pools of the models served.
func (c *catalog) pools() []string {
	names := c.names()
	pools := make([]string, len(names))
	for i, name := range names {
		pools[i] = events.PoolToken(events.KindImage, name)
	}
	return pools
}

// get returns a model. One that could not be read is read again: it may have been repaired.
func (c *catalog) get(name string) (Model, error) {
	c.mu.Lock()
	m, ok := c.known[name]
	c.mu.Unlock()
	if ok {
		return m, nil
	}
	if c.models == nil {
		return Model{}, events.Errorf(events.CodeModelNotFound, "the model %q is not served here", name)
	}
	m, err := c.models.Get(name)
	if err != nil {
		return Model{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[name] = m
	return m, nil
}

// sum starts to compute a model's checksum and returns where it will arrive, once.
func (c *catalog) sum(ctx context.Context, m Model) <-chan checksum {
	out := make(chan checksum, 1)
	c.mu.Lock()
	known, ok := c.sums[m.Name]
	c.mu.Unlock()
	if ok || m.Dir == "" {
		out <- checksum{sha256: known}
		return out
	}
	go func() {
		sum, err := c.models.SHA256(ctx, m.Name)
		if err == nil {
			c.mu.Lock()
			c.sums[m.Name] = sum
			c.mu.Unlock()
		}
		out <- checksum{sum, err}
	}()
	return out
}

// checksum is a SHA-256 sum, or why there is none.
type checksum struct {
	sha256 string
	err    error
}
