package instance

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"genfn/events"
	"genfn/events/broker"
)

// How far latents may be from known values, relative to the largest of those. A device repeats itself almost exactly.
// Equal devices with equal drivers may choose other kernels. Other devices sum in another order: in f32 the virtual GPU
// is 1e-6 from the CPU on the test model. In f16 and bf16 they round each operation, a single one by 0.004 and 0.03 at
// most, of which two steps of a model have hundreds, and guidance of 7.5 multiplies what the two halves differ by. What
// that comes to was not measured on a real GPU: the bounds are wide, for a device that is well must not be refused, and
// a wrong exponent or a wrong layer is further off still.
const sameDevice = 1e-3

type tolerance struct{ kind, reference float64 }

func toleranceOf(precision string) tolerance {
	switch precision {
	case "f32":
		return tolerance{kind: 2e-3, reference: 1e-2}
	case "f16":
		return tolerance{kind: 1e-2, reference: 0.15}
	}
	return tolerance{kind: 5e-2, reference: 0.5} // bf16 and what is not known
}

// confirmations is how many devices of a kind must have given the same values before another is refused for them.
const confirmations = 2

// readGolden bounds the wait for known values. If they do not come, those that were read before count.
const readGolden = 2 * time.Second

// goldenStore is where known values are kept.
type goldenStore interface {
	Golden(ctx context.Context, like broker.Golden) (*broker.StoredGolden, error)
	PutGolden(ctx context.Context, g broker.Golden, revision uint64) error
}

var _ goldenStore = (*broker.Broker)(nil)

// canaryValues are the latents of a canary and what they depend on.
type canaryValues struct {
	model, sha256, work string
	kind                string // of the device, as far as its numbers depend on that
	precision, class    string
	by, place           string
	all                 []float32
}

// reference reports whether these values are such that others are compared with them.
func (v canaryValues) reference() bool {
	return v.class == events.DeviceCPU && v.precision == "f32" && v.sha256 != ""
}

// entry is the values as they are stored: of many some, evenly spread.
func (v canaryValues) entry(kind string) broker.Golden {
	return broker.Golden{
		Model: v.model, SHA256: v.sha256, Work: v.work, Kind: kind, Precision: v.precision, Values: spread(v.all), By: v.by, Places: []string{v.place}, At: time.Now().UTC(),
	}
}

// spread returns at most as many values as an entry holds, evenly spread.
func spread(values []float32) []float32 {
	stride := (len(values) + broker.MaxGoldenValues - 1) / broker.MaxGoldenValues
	if stride <= 1 {
		return values
	}
	out := make([]float32, 0, broker.MaxGoldenValues)
	for i := 0; i < len(values); i += stride {
		out = append(out, values[i])
	}
	return out
}

// distance is the largest difference of two lists of values, relative to the largest of want. What cannot be compared
// is as far apart as can be.
func distance(got, want []float32) float64 {
	const farthest = 1e9
	if len(got) != len(want) {
		return farthest
	}
	var apart, largest float64
	for i := range want {
		apart = max(apart, math.Abs(float64(got[i])-float64(want[i]))) // NaN stays
		largest = max(largest, math.Abs(float64(want[i])))
	}
	if apart == 0 {
		return 0
	}
	if relative := apart / largest; relative < farthest {
		return relative
	}
	return farthest
}

// judgement is what a canary was compared with, and how far it is from that.
type judgement struct {
	against string
	apart   float64
}

// canaries are what is known of canaries here. Safe for concurrent use.
type canaries struct {
	mu    sync.Mutex
	first map[string][]float32     // of this device, by model
	read  map[string]broker.Golden // as read last, by sha256, work and kind
	last  *events.LastCanary
}

func (c *canaries) note(l events.LastCanary) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = &l
}

// latest returns the last canary, nil if there was none.
func (c *canaries) latest() *events.LastCanary {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// judge returns numerical_error for values that are wrong: not those of the reference, if there is one; not those of
// the device's own first canary, unless that was wrong; and, without a reference, not those that several devices of
// the kind agree on.
func (c *canaries) judge(ctx context.Context, store goldenStore, v canaryValues, log *slog.Logger) (judgement, error) {
	reference := c.known(ctx, store, v.entry(broker.KindReference), log)
	if reference != nil {
		j := judgement{events.AgainstReference, distance(spread(v.all), reference.Values)}
		if bound := toleranceOf(v.precision).reference; j.apart > bound {
			return j, wrong(j, bound, "what a CPU computes")
		}
		c.forgetWrong(v, reference.Values)
	}
	apart, known := c.repeated(v)
	if apart > sameDevice {
		return judgement{events.AgainstFirst, apart}, wrong(judgement{events.AgainstFirst, apart}, sameDevice, "those of the first")
	}
	switch {
	case reference != nil:
		return judgement{events.AgainstReference, distance(spread(v.all), reference.Values)}, nil
	case v.sha256 != "":
		return c.amongEquals(ctx, store, v, log)
	case known:
		return judgement{events.AgainstFirst, apart}, nil
	}
	return judgement{}, nil
}

func wrong(j judgement, bound float64, from string) *events.Error {
	return events.Errorf(events.CodeNumericalError, "the canary's latents are %.2g apart from %s, at most %.2g is allowed: the device computes wrong numbers", j.apart, from, bound)
}

// repeated is how far values are from the device's first, which they become if there are none.
func (c *canaries) repeated(v canaryValues) (apart float64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, known := c.first[v.model]
	if !known {
		if c.first == nil {
			c.first = map[string][]float32{}
		}
		c.first[v.model] = v.all
		return 0, false
	}
	return distance(v.all, first), true
}

// forgetWrong forgets the device's first values if they were wrong, as the reference shows.
func (c *canaries) forgetWrong(v canaryValues, reference []float32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first, ok := c.first[v.model]; ok && distance(spread(first), reference) > toleranceOf(v.precision).reference {
		delete(c.first, v.model)
	}
}

// amongEquals compares values with those of devices of the same kind, and stores them for those.
func (c *canaries) amongEquals(ctx context.Context, store goldenStore, v canaryValues, log *slog.Logger) (judgement, error) {
	own := v.entry(v.kind)
	stored := c.stored(ctx, store, own, log)
	if stored == nil {
		c.put(ctx, store, own, 0, log)
		return judgement{}, nil
	}
	j := judgement{events.AgainstKind, distance(own.Values, stored.Values)}
	bound := toleranceOf(v.precision).kind
	others := slices.DeleteFunc(slices.Clone(stored.Places), func(p string) bool { return p == v.place })
	switch {
	case j.apart <= bound && len(others) == len(stored.Places): // one more that agrees
		if stored.Places = slices.Concat(others, []string{v.place}); len(stored.Places) <= confirmations {
			c.put(ctx, store, stored.Golden, stored.Revision, log)
		}
	case j.apart > bound && len(others) >= confirmations:
		return j, wrong(j, bound, "what others of its kind compute")
	case j.apart > bound: // one of two is wrong, and nobody knows which
		log.Warn("two devices of a kind give different numbers, and no CPU has said which are right", "model", v.model, "apart", j.apart, "others", stored.Places)
		c.put(ctx, store, own, stored.Revision, log)
	}
	return j, nil
}

// stored reads an entry; nil: there is none, or it cannot be read.
func (c *canaries) stored(ctx context.Context, store goldenStore, like broker.Golden, log *slog.Logger) *broker.StoredGolden {
	ctx, cancel := context.WithTimeout(ctx, readGolden)
	defer cancel()
	g, err := store.Golden(ctx, like)
	if err != nil {
		log.Warn("known values of canaries cannot be read", "model", like.Model, "error", err)
		return nil
	}
	return g
}

// known reads an entry; without the broker's answer it is as it was read last. nil: none is known.
func (c *canaries) known(ctx context.Context, store goldenStore, like broker.Golden, log *slog.Logger) *broker.Golden {
	if like.SHA256 == "" {
		return nil
	}
	stored := c.stored(ctx, store, like, log)
	key := like.SHA256 + " " + like.Work + " " + like.Kind
	c.mu.Lock()
	defer c.mu.Unlock()
	if stored != nil {
		if c.read == nil {
			c.read = map[string]broker.Golden{}
		}
		c.read[key] = stored.Golden
	}
	if g, ok := c.read[key]; ok {
		return &g
	}
	return nil
}

func (c *canaries) put(ctx context.Context, store goldenStore, g broker.Golden, revision uint64, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, readGolden)
	defer cancel()
	if err := store.PutGolden(ctx, g, revision); err != nil && !errors.Is(err, broker.ErrConflict) {
		log.Warn("values of a canary are not stored", "model", g.Model, "error", err)
	}
}

// hostName tells machines apart.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "host"
	}
	return name
}
