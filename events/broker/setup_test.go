package broker_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/eventstest"
)

func TestSetupByManyAtOnceAndAgain(t *testing.T) {
	b := &bench{t: t, server: eventstest.Start(t), config: broker.DefaultConfig()}
	var wg sync.WaitGroup
	results := make(chan error, 16)
	for range 8 {
		one := b.connect(b.server.URL(), broker.Options{})
		wg.Add(1)
		go func() {
			defer wg.Done()
			results <- one.Setup(t.Context(), b.config)
			results <- one.EnsurePool(t.Context(), b.config, pool)
		}()
	}
	wg.Wait()
	close(results)
	for err := range results {
		require.NoError(t, err)
	}
	again := b.connect(b.server.URL(), broker.Options{})
	require.NoError(t, again.Setup(t.Context(), b.config))
	require.NoError(t, again.EnsureTenant(t.Context(), b.config, "other"))
	require.NoError(t, again.EnsureTenant(t.Context(), b.config, "other"))
	require.Error(t, again.EnsureTenant(t.Context(), b.config, "not.a.token"))
	require.Error(t, again.EnsurePool(t.Context(), b.config, "no pool"))
}

func TestSetupMakesTheStreamsItPromises(t *testing.T) {
	b := newBench(t)
	config := func(name string) jetstream.StreamConfig {
		s, err := b.js.Stream(t.Context(), name)
		require.NoError(t, err)
		return s.CachedInfo().Config
	}
	q := config(broker.StreamRequests)
	assert.Equal(t, jetstream.WorkQueuePolicy, q.Retention)
	assert.Equal(t, jetstream.FileStorage, q.Storage)
	assert.Equal(t, jetstream.DiscardNew, q.Discard)
	assert.True(t, q.DiscardNewPerSubject)
	assert.EqualValues(t, 1, q.MaxMsgsPerSubject)
	assert.Equal(t, b.config.QueueMessages, q.MaxMsgs)
	assert.Zero(t, q.MaxAge, "requests must not disappear with age")
	assert.Equal(t, jetstream.MemoryStorage, config(broker.StreamEvents).Storage)
	assert.Equal(t, jetstream.FileStorage, config(broker.StreamTerminals).Storage)
	assert.Equal(t, 7*24*time.Hour, config(broker.StreamTerminals).MaxAge)
	assert.Equal(t, jetstream.FileStorage, config(broker.StreamAttempts).Storage)
	assert.Equal(t, jetstream.FileStorage, config(broker.StreamDeadLetters).Storage)
	assert.Equal(t, 24*time.Hour, config("OBJ_genfn-default").MaxAge)
	for _, name := range []string{broker.StreamRequests, broker.StreamEvents, broker.StreamTerminals, broker.StreamAttempts, broker.StreamDeadLetters, "OBJ_genfn-default"} {
		assert.False(t, config(name).AllowMsgTTL, "%s: a message TTL would delete queued and running requests", name)
	}
	_, err := b.js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{
		Bucket: "genfn-default", Description: "genfn artefacts of default", TTL: b.config.Retention,
	})
	require.NoError(t, err, "the bucket is exactly as nats.go makes it, so that other clients know it")
}

func TestAMessageTTLIsRefused(t *testing.T) {
	b := newBench(t)
	_, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: address("a").Subject(), Header: nats.Header{"Nats-TTL": {"1s"}}})
	require.ErrorContains(t, err, "per-message TTL is disabled")
}

func TestSetupRefusesToShrinkOrChange(t *testing.T) {
	b := newBench(t)
	smaller := b.config
	smaller.QueueMessages = 10
	smaller.AnswerRetention = time.Hour
	smaller.Grow = true // raises only
	err := b.Setup(t.Context(), smaller)
	var differences *broker.SetupError
	require.ErrorAs(t, err, &differences)
	assert.ElementsMatch(t, []string{
		"stream GEN_REQ: messages 10000 -> 10", "stream GEN_FIN: age 168h0m0s -> 1h0m0s",
		"stream GEN_ATT: age 168h0m0s -> 1h0m0s", "stream GEN_DLQ: age 168h0m0s -> 1h0m0s",
	}, listed(differences))
	require.ErrorContains(t, err, "stream GEN_REQ: messages is 10000, wanted 10; it would shrink")
	require.NoError(t, b.Setup(t.Context(), b.config), "nothing was changed")
}

func listed(e *broker.SetupError) []string {
	var s []string
	for _, d := range e.Differences {
		s = append(s, d.Object+": "+d.Field+" "+d.Have+" -> "+d.Want)
	}
	return s
}

func TestSetupGrowsOnlyWhenTold(t *testing.T) {
	b := newBench(t)
	bigger := b.config
	bigger.QueueMessages *= 2
	bigger.DeadLetterBytes = -1
	err := b.Setup(t.Context(), bigger)
	var differences *broker.SetupError
	require.ErrorAs(t, err, &differences)
	assert.ElementsMatch(t, []string{"stream GEN_REQ: messages 10000 -> 20000", "stream GEN_DLQ: bytes 268435456 -> unlimited"}, listed(differences))
	for _, d := range differences.Differences {
		assert.Contains(t, d.Remedy, "it may grow")
	}
	require.NoError(t, b.Setup(t.Context(), b.config), "nothing was changed")

	b.publish(address("kept"))
	bigger.Grow = true
	require.NoError(t, b.Setup(t.Context(), bigger))
	bigger.Grow = false
	require.NoError(t, b.Setup(t.Context(), bigger))
	assert.Equal(t, 1, b.messages(broker.StreamRequests))
}

func TestSetupRefusesAStreamOfAnotherMake(t *testing.T) {
	b := &bench{t: t, server: eventstest.Start(t), config: broker.DefaultConfig()}
	js, err := jetstream.New(b.server.Connect())
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: broker.StreamTerminals, Subjects: []string{"gen.fin.*.*"}, Storage: jetstream.MemoryStorage, MaxAge: 7 * 24 * time.Hour})
	require.NoError(t, err)
	b.config.Grow = true
	err = b.connect(b.server.URL(), broker.Options{}).Setup(t.Context(), b.config)
	var differences *broker.SetupError
	require.ErrorAs(t, err, &differences)
	assert.ElementsMatch(t, []string{
		"stream GEN_FIN: storage Memory -> File", "stream GEN_FIN: discard policy DiscardOld -> DiscardNew",
		"stream GEN_FIN: discard new per subject false -> true", "stream GEN_FIN: messages per subject -1 -> 1",
		"stream GEN_FIN: republish none -> gen.fin.*.* to gen.ans.{{wildcard(1)}}.{{wildcard(2)}}",
	}, listed(differences))
}

func TestSetupSaysThatAnotherStreamHasTheSubjects(t *testing.T) {
	b := &bench{t: t, server: eventstest.Start(t), config: broker.DefaultConfig()}
	js, err := jetstream.New(b.server.Connect())
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ALL", Subjects: []string{"gen.>"}})
	require.NoError(t, err)
	err = b.connect(b.server.URL(), broker.Options{}).Setup(t.Context(), b.config)
	require.ErrorContains(t, err, "stream GEN_")
	require.ErrorContains(t, err, "subjects overlap with an existing stream")
}

func TestEnsurePoolRefusesToChangeAConsumer(t *testing.T) {
	b := newBench(t)
	other := b.config
	other.AckWait = time.Minute
	err := b.EnsurePool(t.Context(), other, pool)
	var differences *broker.SetupError
	require.ErrorAs(t, err, &differences)
	require.Len(t, differences.Differences, 8)
	assert.Equal(t, "ack wait", differences.Differences[0].Field)
	assert.Equal(t, "1h0m0s", differences.Differences[0].Have)
	assert.Equal(t, "1m0s", differences.Differences[0].Want)
	require.NoError(t, b.EnsurePool(t.Context(), b.config, pool))
}

// Consumers that were made before pulls could wait for a number of requests.
func TestEnsurePoolAddsTheOverflowPolicy(t *testing.T) {
	b := newBench(t)
	older := b.consumer(address("")).Config
	require.Equal(t, jetstream.PriorityPolicyOverflow, older.PriorityPolicy)
	older.PriorityPolicy, older.PriorityGroups = jetstream.PriorityPolicyNone, nil
	_, err := b.js.UpdateConsumer(t.Context(), broker.StreamRequests, older)
	require.NoError(t, err)

	other := b.config
	other.AckWait = time.Minute
	err = b.EnsurePool(t.Context(), other, pool)
	require.ErrorContains(t, err, "req_"+pool+"_any_interactive: priority groups is [], wanted [devices]; it is added as soon as the other differences are gone")
	require.Equal(t, jetstream.PriorityPolicyNone, b.consumer(address("")).Config.PriorityPolicy, "nothing is changed")

	require.NoError(t, b.EnsurePool(t.Context(), b.config, pool))
	require.Equal(t, jetstream.PriorityPolicyOverflow, b.consumer(address("")).Config.PriorityPolicy)
	q := b.queue(b.Broker)
	q.SetMinPending(pool, 2)
	b.publish(address("a"))
	b.publish(address("b"))
	assert.Equal(t, "a", b.next(q).ID)
}

func TestSetupSaysWhatIsDenied(t *testing.T) {
	s := eventstest.Start(t, eventstest.WithUsers(&server.User{Username: "u", Password: "u", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.CREATE.>"}},
	}}))
	b := &bench{t: t, server: s, config: broker.DefaultConfig()}
	err := b.connect("nats://u:u@"+s.URL()[len("nats://"):], broker.Options{}).Setup(t.Context(), b.config)
	e := asError(t, err)
	assert.Equal(t, events.CodePermissionDenied, e.Code)
	assert.Contains(t, e.Message, "$JS.API.STREAM.CREATE.")
}

func TestSetupWithoutJetStream(t *testing.T) {
	s := eventstest.Start(t, func(o *server.Options) { o.JetStream = false })
	b := &bench{t: t, server: s, config: broker.DefaultConfig()}
	err := b.connect(s.URL(), broker.Options{}).Setup(t.Context(), b.config)
	require.ErrorContains(t, err, "JetStream")
	assert.NotEmpty(t, asError(t, err).Advice)
}

func TestConnectErrors(t *testing.T) {
	s := eventstest.Start(t, eventstest.WithUsers(&server.User{Username: "u", Password: "secret"}))
	_, err := broker.Connect("nats://u:wrong@"+s.URL()[len("nats://"):], broker.Options{})
	e := asError(t, err)
	assert.Equal(t, events.CodePermissionDenied, e.Code)
	assert.NotContains(t, err.Error(), "wrong", "no password in the error")

	url := s.URL()
	s.Stop()
	_, err = broker.Connect(url, broker.Options{})
	e = asError(t, err)
	assert.Equal(t, events.CodeInternal, e.Code)
	assert.Contains(t, e.Message, "no NATS server answers at "+url)
	assert.Contains(t, e.Advice, "genfn up")
	var cause *events.Error
	assert.True(t, errors.As(err, &cause) && cause.Retriable)

	_, err = broker.Connect("nats://127.0.0.1:1", broker.Options{Credentials: "/does/not/exist.creds"})
	require.ErrorContains(t, err, "exist.creds")
}

// A stream of terminal events that was made before they were said again.
func TestSetupAddsAMissingRepublish(t *testing.T) {
	b := newBench(t)
	s, err := b.js.Stream(t.Context(), broker.StreamTerminals)
	require.NoError(t, err)
	older := s.CachedInfo().Config
	older.RePublish = nil
	_, err = b.js.UpdateStream(t.Context(), older)
	require.NoError(t, err)

	require.NoError(t, b.Setup(t.Context(), b.config))
	said, err := b.nc.SubscribeSync(broker.AnswerSubject(broker.DefaultTenant, "a"))
	require.NoError(t, err)
	b.publish(address("a"))
	won, err := b.begin(b.next(b.queue(b.Broker)), "i1").Finish(t.Context(), failedEvent(t, "a", "x"))
	require.NoError(t, err)
	require.True(t, won)
	m, err := said.NextMsg(time.Minute)
	require.NoError(t, err)
	assert.Equal(t, broker.TerminalSubject(broker.DefaultTenant, "a"), m.Header.Get("Nats-Subject"))
}
