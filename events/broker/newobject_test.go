package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"genfn/events/broker"
)

// attempt begins an attempt at a request of its own.
func (b *bench) attempt(id string) *broker.Attempt {
	b.t.Helper()
	b.publish(address(id))
	return b.begin(b.next(b.queue(b.Broker)), "i1")
}

// Objects are kept as every client of NATS keeps them, whatever their size.
func TestObjectsAreThoseOfAnyClient(t *testing.T) {
	b := newBench(t)
	a := b.attempt("a")
	store, err := b.js.ObjectStore(t.Context(), broker.Bucket(broker.DefaultTenant))
	require.NoError(t, err)
	for _, size := range []int{0, 1, 128 << 10, 128<<10 + 1, 1 << 20} {
		data := bytes.Repeat([]byte{7}, size)
		ref, err := a.PutObject(t.Context(), fmt.Sprintf("%d.bin", size), "application/x-test", data)
		require.NoError(t, err)
		got, err := store.GetBytes(t.Context(), ref.Object) // compares the digest
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		info, err := store.GetInfo(t.Context(), ref.Object)
		require.NoError(t, err)
		other, err := store.Put(t.Context(), jetstream.ObjectMeta{Name: "theirs", Headers: info.Headers}, bytes.NewReader(data))
		require.NoError(t, err)
		info.Name, info.NUID, info.ModTime = other.Name, other.NUID, other.ModTime
		assert.Equal(t, other, info)
	}
	list, err := store.List(t.Context())
	require.NoError(t, err)
	assert.Len(t, list, 6)
	require.NoError(t, a.DiscardObjects(t.Context()))
	require.NoError(t, store.Delete(t.Context(), "theirs"))
	stream, err := b.js.Stream(t.Context(), "OBJ_"+broker.Bucket(broker.DefaultTenant))
	require.NoError(t, err)
	assert.Empty(t, subjects(t, stream, "$O.*.C.>"), "no chunk is left")
}

func subjects(t *testing.T, s jetstream.Stream, filter string) map[string]uint64 {
	t.Helper()
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(filter))
	require.NoError(t, err)
	return info.State.Subjects
}

// Many at once come between each other's messages.
func TestManyObjectsAtOnce(t *testing.T) {
	b := newBench(t)
	b.putMany(b.attempt("a"), "a")
}

func (b *bench) putMany(a *broker.Attempt, id string) {
	b.t.Helper()
	var g errgroup.Group
	for i := range 50 {
		g.Go(func() error {
			_, err := a.PutObject(b.t.Context(), fmt.Sprintf("%d.bin", i), "application/x-test", bytes.Repeat([]byte{byte(i)}, 1000))
			return err
		})
	}
	require.NoError(b.t, g.Wait())
	for i := range 50 {
		got, err := b.ReadObject(b.t.Context(), broker.DefaultTenant, fmt.Sprintf("%s/1/%d.bin", id, i), 2000)
		require.NoError(b.t, err)
		require.Equal(b.t, bytes.Repeat([]byte{byte(i)}, 1000), got)
	}
}

// A bucket that has room for what tells of an object, but not for the object.
func TestAnObjectThatIsRefusedIsNotVisible(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.ObjectBytes = 20_000 })
	a := b.attempt("a")
	for _, size := range []int{100_000, 300_000} {
		name := fmt.Sprintf("%d.bin", size)
		_, err := a.PutObject(t.Context(), name, "application/x-test", make([]byte, size))
		require.ErrorContains(t, err, "maximum bytes exceeded")
		_, err = b.ReadObject(t.Context(), broker.DefaultTenant, "a/1/"+name, 1)
		require.ErrorContains(t, err, "is not in bucket")
	}
	ref, err := a.PutObject(t.Context(), "small", "application/x-test", []byte("small"))
	require.NoError(t, err)
	got, err := b.ReadObject(t.Context(), broker.DefaultTenant, ref.Object, 10)
	require.NoError(t, err)
	assert.Equal(t, "small", string(got))
}

// The confirmation of an object gets lost: it is stored again, and the first try's chunk is gone.
func TestAnObjectIsStoredOnceMoreAfterALostConfirmation(t *testing.T) {
	b := newBench(t)
	proxy := b.server.Proxy()
	other := b.connect(proxy.URL(), broker.Options{})
	b.publish(address("a"))
	a := b.begin(b.next(b.queue(other)), "i1")
	_, err := a.PutObject(t.Context(), "warm-up", "application/x-test", []byte("x")) // the bucket is known from now on
	require.NoError(t, err)
	proxy.FreezeAnswersAfter("PUB $O.genfn-default.C.")
	result := make(chan error, 1)
	go func() {
		_, err := a.PutObject(context.WithoutCancel(t.Context()), "0.png", "image/png", []byte("picture"))
		result <- err
	}()
	stream, err := b.js.Stream(t.Context(), "OBJ_"+broker.Bucket(broker.DefaultTenant))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(subjects(t, stream, "$O.*.M.>")) == 2 }, time.Minute, time.Millisecond)
	proxy.Cut()
	proxy.Heal()
	require.NoError(t, <-result)
	got, err := b.ReadObject(t.Context(), broker.DefaultTenant, "a/1/0.png", 10)
	require.NoError(t, err)
	assert.Equal(t, "picture", string(got))
	assert.Len(t, subjects(t, stream, "$O.*.C.>"), 2, "one chunk for each object")
}
