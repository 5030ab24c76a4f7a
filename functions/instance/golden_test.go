package instance

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

// memoryStore keeps known values; away is a broker that does not answer.
type memoryStore struct {
	entries map[string]broker.StoredGolden
	away    bool
}

func (m *memoryStore) Golden(_ context.Context, like broker.Golden) (*broker.StoredGolden, error) {
	if m.away {
		return nil, errors.New("no answer")
	}
	if g, ok := m.entries[like.SHA256+like.Work+like.Kind]; ok {
		return &g, nil
	}
	return nil, nil
}

func (m *memoryStore) PutGolden(_ context.Context, g broker.Golden, revision uint64) error {
	key := g.SHA256 + g.Work + g.Kind
	if m.away || m.entries[key].Revision != revision {
		return broker.ErrConflict
	}
	m.entries[key] = broker.StoredGolden{Golden: g, Revision: revision + 1}
	return nil
}

// gpuValues are what a GPU at a place gives.
func gpuValues(place, precision string, values ...float32) canaryValues {
	return canaryValues{model: "m", sha256: "ab", work: "w", kind: "gpu x " + precision, precision: precision, class: events.DeviceGPU, by: place, place: place, all: values}
}

func newMemoryStore() *memoryStore { return &memoryStore{entries: map[string]broker.StoredGolden{}} }

func (m *memoryStore) reference(values ...float32) {
	v := gpuValues("host CPU", "f32", values...)
	v.class = events.DeviceCPU
	g := v.entry(broker.KindReference)
	m.entries[g.SHA256+g.Work+g.Kind] = broker.StoredGolden{Golden: g, Revision: 1}
}

// judged has a device judge a canary.
func judged(c *canaries, m *memoryStore, v canaryValues) (against string, err error) {
	j, err := c.judge(context.Background(), m, v, slog.New(slog.DiscardHandler))
	return j.against, err
}

// TestReference: numbers that are wrong from the first canary on are found where a CPU has said what is right, within
// what the precision allows.
func TestReference(t *testing.T) {
	m := newMemoryStore()
	m.reference(1, -2, 4)
	for _, c := range []struct {
		precision string
		off       float32
		passes    bool
	}{{"f32", 0.03, true}, {"f32", 0.05, false}, {"f16", 0.5, true}, {"f16", 0.7, false}, {"bf16", 1.9, true}, {"bf16", 2.1, false}, {"f32", float32(math.NaN()), false}} {
		against, err := judged(&canaries{}, m, gpuValues("a", c.precision, 1, -2, 4+c.off))
		require.Equal(t, events.AgainstReference, against)
		if c.passes {
			require.NoError(t, err, c)
			continue
		}
		require.ErrorIs(t, err, &events.Error{Code: events.CodeNumericalError}, c)
		require.ErrorContains(t, err, "what a CPU computes")
	}
	_, err := judged(&canaries{}, m, gpuValues("a", "f32", 1, -2))
	require.Error(t, err, "too few")
}

// TestReferenceComesLater: what a sick device gave first is not held against it when it is well.
func TestReferenceComesLater(t *testing.T) {
	m := newMemoryStore()
	sick := &canaries{}
	_, err := judged(sick, m, gpuValues("a", "f32", 1, -2, 9))
	require.NoError(t, err, "nobody knows better")
	m.reference(1, -2, 4)
	_, err = judged(sick, m, gpuValues("a", "f32", 1, -2, 9))
	require.ErrorContains(t, err, "what a CPU computes")
	_, err = judged(sick, m, gpuValues("a", "f32", 1, -2, 4))
	require.NoError(t, err)
	against, err := judged(sick, m, gpuValues("a", "f32", 1, -2, 4.02))
	require.ErrorContains(t, err, "those of the first", "near the reference, but the device does not repeat itself")
	require.Equal(t, events.AgainstFirst, against)
	m.away = true
	_, err = judged(sick, m, gpuValues("a", "f32", 1, -2, 9))
	require.ErrorContains(t, err, "what a CPU computes", "it is remembered while the broker is away")
}

// TestAmongEquals: without a CPU, devices of a kind are believed once two of them agree; before that nobody is blamed.
func TestAmongEquals(t *testing.T) {
	m := newMemoryStore()
	sick := gpuValues("a", "f32", 9, 9)
	_, err := judged(&canaries{}, m, sick)
	require.NoError(t, err)
	_, err = judged(&canaries{}, m, sick)
	require.NoError(t, err, "the same device again does not confirm itself")
	for _, place := range []string{"b", "c"} {
		_, err = judged(&canaries{}, m, gpuValues(place, "f32", 1, 2))
		require.NoError(t, err)
	}
	against, err := judged(&canaries{}, m, sick)
	require.ErrorContains(t, err, "what others of its kind compute")
	require.Equal(t, events.AgainstKind, against)
	other := gpuValues("d", "f16", 1.1, 2)
	_, err = judged(&canaries{}, m, other)
	require.NoError(t, err, "another precision is another kind")
}

func TestSpread(t *testing.T) {
	require.Len(t, spread(make([]float32, broker.MaxGoldenValues)), broker.MaxGoldenValues)
	for _, n := range []int{broker.MaxGoldenValues + 1, 3*broker.MaxGoldenValues - 1} {
		got := spread(make([]float32, n))
		require.LessOrEqual(t, len(got), broker.MaxGoldenValues)
		require.Greater(t, len(got), broker.MaxGoldenValues/2)
	}
}

// TestCheckupsCostLittle: the next canary is a hundred times as far away as the last took, one slot makes it, and what
// others lack comes first and once.
func TestCheckupsCostLittle(t *testing.T) {
	c := &checkups{every: time.Millisecond}
	t.Cleanup(c.stop)
	called := make(chan struct{}, 10)
	await := func() {
		t.Helper()
		stop := c.when(func() { called <- struct{}{} })
		<-called
		stop()
	}
	await()
	_, ok := c.begin()
	require.True(t, ok)
	c.next = time.Now().Add(time.Hour) // as a longer interval
	_, ok = c.begin()
	require.False(t, ok, "another slot has it")
	c.end(time.Minute)
	require.WithinDuration(t, time.Now().Add(100*time.Minute), c.next, time.Minute)
	c.want("m")
	c.want("m")
	await()
	name, ok := c.begin()
	require.True(t, ok)
	require.Equal(t, "m", name)
	require.Empty(t, c.wanted)
	c.settle("m")
	c.end(0)
	c.want("m")
	require.Empty(t, c.wanted)
	(&checkups{}).when(func() { t.Error("there are none") })()
}
