package broker_test

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

func TestAttemptsAreNumberedAndRemembered(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	b.publish(address("a"))
	first := b.begin(b.next2(q, 1), "i1")
	assert.Equal(t, 1, first.Number)
	hang := events.Errorf(events.CodeHang, "no progress")
	require.NoError(t, first.End(t.Context(), "hang", hang, "gpu"))

	second := b.begin(b.again(q), "i2")
	assert.Equal(t, 2, second.Number)
	third := b.begin(b.again(q), "i3") // the second died without a word
	records := third.Records()
	require.Len(t, records, 3)
	assert.Equal(t, []string{"", "hang", broker.CauseLost}, []string{records[0].CausePrevious, records[1].CausePrevious, records[2].CausePrevious})
	assert.Equal(t, []string{"i1", "i2", "i3"}, []string{records[0].Instance, records[1].Instance, records[2].Instance})
	assert.Equal(t, []string{"gpu"}, records[0].Excluded)
	assert.Equal(t, events.CodeHang, records[0].Error.Code)
	assert.False(t, records[2].StartedAt.IsZero())
	inEvents := broker.EventAttempts(records)
	assert.Equal(t, "hang", inEvents[1].Cause)
	assert.Equal(t, 3, inEvents[2].Number)
}

// next2 is next with a check of the delivery count.
func (b *bench) next2(q *broker.Queue, delivered uint64) *broker.Job {
	b.t.Helper()
	j := b.next(q)
	assert.Equal(b.t, delivered, j.Delivered)
	return j
}

// again makes the request in the queue be delivered again at once.
func (b *bench) again(q *broker.Queue) *broker.Job {
	b.t.Helper()
	info := b.consumer(address(""))
	require.Equal(b.t, 1, info.NumAckPending)
	// A hand-back in the holder's name: the holder itself knows nothing of it.
	ack := fmt.Sprintf("$JS.ACK.%s.%s.%d.%d.%d.%d.0", broker.StreamRequests, info.Name, info.Delivered.Consumer, 1, info.Delivered.Consumer, time.Now().UnixNano())
	require.NoError(b.t, b.nc.Publish(ack, []byte("-NAK")))
	return b.next(q)
}

func TestOnlyOneOfManyBegins(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	b.publish(address("a"))
	jobs := []*broker.Job{b.next(q)}
	for range 7 {
		jobs = append(jobs, b.again(q))
	}
	for _, j := range jobs { // all look before any begins
		attempts, err := j.Attempts(t.Context())
		require.NoError(t, err)
		require.Empty(t, attempts)
	}
	var begun, stale atomic.Int32
	var wg sync.WaitGroup
	for i, j := range jobs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := j.Begin(t.Context(), broker.AttemptRecord{Instance: strconv.Itoa(i)})
			if err == nil {
				begun.Add(1)
			} else if assert.ErrorIs(t, err, broker.ErrStale) {
				stale.Add(1)
			}
		}()
	}
	wg.Wait()
	assert.EqualValues(t, 1, begun.Load())
	assert.EqualValues(t, 7, stale.Load())
}

// A stale holder that wakes up after another finished, or while it works.
func TestAStaleAttemptCannotFinish(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	b.publish(address("a"))
	staleJob := b.next(q)
	stale := b.begin(staleJob, "stale")
	staleRef, err := stale.PutObject(t.Context(), "0.png", "image/png", []byte("stale"))
	require.NoError(t, err)
	job := b.again(q)
	winner := b.begin(job, "winner")

	current, err := stale.Current(t.Context())
	require.NoError(t, err)
	assert.False(t, current)
	won, err := stale.Finish(t.Context(), failedEvent(t, "a", "stale"))
	require.NoError(t, err)
	require.False(t, won, "another attempt works")
	_, answered, err := b.Terminal(t.Context(), broker.DefaultTenant, "a")
	require.NoError(t, err)
	assert.False(t, answered)
	require.ErrorIs(t, stale.End(t.Context(), "hang", nil), broker.ErrStale)

	ref, err := winner.PutObject(t.Context(), "0.png", "image/png", []byte("winner"))
	require.NoError(t, err)
	_, err = stale.PutObject(t.Context(), "0.png", "image/png", []byte("stale again"))
	require.NoError(t, err)
	assert.Equal(t, "a/2/0.png", ref.Object)
	assert.Equal(t, "a/1/0.png", staleRef.Object)
	won, err = winner.Finish(t.Context(), failedEvent(t, "a", "winner"))
	require.NoError(t, err)
	require.True(t, won)
	require.NoError(t, job.Done(t.Context()))
	require.ErrorContains(t, winner.DiscardObjects(t.Context()), "belong to the answer")

	won, err = stale.Finish(t.Context(), failedEvent(t, "a", "stale"))
	require.NoError(t, err)
	require.False(t, won)
	require.NoError(t, stale.DiscardObjects(t.Context()))
	require.NoError(t, stale.DiscardObjects(t.Context()), "safe twice")

	data, err := b.ReadObject(t.Context(), broker.DefaultTenant, ref.Object, 100)
	require.NoError(t, err)
	assert.Equal(t, "winner", string(data), "the winner's bytes are as they were")
	_, err = b.ReadObject(t.Context(), broker.DefaultTenant, staleRef.Object, 100)
	e := asError(t, err)
	assert.Equal(t, events.CodeInvalidRequest, e.Code)
	assert.Contains(t, e.Message, "a/1/0.png")
	assert.Equal(t, "winner", b.failed(address("a")).Error.Message)
}

// The broker's rule, not the order of any two messages, decides who answers.
func TestOneTerminalEventAmongManyWriters(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	for i := range 20 {
		id := fmt.Sprintf("id%d", i)
		b.publish(address(id))
		j := b.next(q)
		attempt := b.begin(j, "i1")
		var wg sync.WaitGroup
		var winners atomic.Int32
		terminal := failedEvent(t, id, "x")
		for n := range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if n == 0 {
					// Not of this package, and it expects nothing of the subject.
					m := nats.NewMsg(broker.TerminalSubject(broker.DefaultTenant, id))
					if _, err := b.js.PublishMsg(t.Context(), m); err == nil {
						winners.Add(1)
					}
					return
				}
				won, err := attempt.Finish(t.Context(), terminal)
				assert.NoError(t, err)
				if won {
					winners.Add(1)
				}
			}()
		}
		wg.Wait()
		assert.EqualValues(t, 1, winners.Load())
		assert.Equal(t, i+1, b.messages(broker.StreamTerminals))
	}
}

// The confirmation of the terminal event gets lost: the second try is refused
// because of the first, which is the winner nevertheless.
func TestFinishKnowsItsOwnTerminalEvent(t *testing.T) {
	b := newBench(t)
	proxy := b.server.Proxy()
	q := b.queue(b.connect(proxy.URL(), broker.Options{}))
	b.publish(address("a"))
	j := b.next(q)
	attempt := b.begin(j, "i1")
	proxy.FreezeAnswersAfter("PUB " + broker.TerminalSubject(broker.DefaultTenant, "a"))
	result, answer := make(chan bool, 1), failedEvent(t, "a", "x")
	go func() {
		won, err := attempt.Finish(t.Context(), answer)
		assert.NoError(t, err)
		result <- won
	}()
	require.Eventually(t, func() bool { return b.messages(broker.StreamTerminals) == 1 }, time.Minute, time.Millisecond)
	proxy.Cut()
	proxy.Heal()
	assert.True(t, <-result)
	require.NoError(t, j.Done(t.Context()))
}

func TestBeginKnowsItsOwnRecord(t *testing.T) {
	b := newBench(t)
	proxy := b.server.Proxy()
	q := b.queue(b.connect(proxy.URL(), broker.Options{}))
	b.publish(address("a"))
	j := b.next(q)
	proxy.FreezeAnswersAfter("PUB gen.att.default.a")
	result := make(chan error, 1)
	go func() {
		_, err := j.Begin(t.Context(), broker.AttemptRecord{Instance: "i1"})
		result <- err
	}()
	require.Eventually(t, func() bool { return b.messages(broker.StreamAttempts) == 1 }, time.Minute, time.Millisecond)
	proxy.Cut()
	proxy.Heal()
	require.NoError(t, <-result)
	assert.Equal(t, 1, b.messages(broker.StreamAttempts))
}

// With AllowDirect any replica answers reads, perhaps with old data.
func TestDecisionsAreReadFromTheLeader(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{broker.StreamTerminals, broker.StreamAttempts, broker.StreamRequests} {
		s, err := b.js.Stream(t.Context(), name)
		require.NoError(t, err)
		c := s.CachedInfo().Config
		c.AllowDirect = true
		_, err = b.js.UpdateStream(t.Context(), c)
		require.NoError(t, err)
	}
	require.NoError(t, b.Setup(t.Context(), b.config), "it is the operator's choice")
	direct := make(chan *nats.Msg, 100)
	_, err := b.nc.ChanSubscribe("$JS.API.DIRECT.GET.>", direct)
	require.NoError(t, err)
	require.NoError(t, b.nc.Flush())

	b.publish(address("a"))
	j := b.next(b.queue(b.Broker))
	_, ok, err := j.Open(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	won, err := b.begin(j, "i1").Finish(t.Context(), failedEvent(t, "a", "x"))
	require.NoError(t, err)
	require.True(t, won)
	require.NoError(t, j.Done(t.Context()))
	b.failed(address("a"))
	require.NoError(t, b.nc.Flush())
	assert.Empty(t, direct)

	s, err := b.js.Stream(t.Context(), broker.StreamTerminals)
	require.NoError(t, err)
	_, err = s.GetLastMsgForSubject(t.Context(), "gen.fin.default.a")
	require.NoError(t, err)
	assert.Contains(t, (<-direct).Subject, "$JS.API.DIRECT.GET.GEN_FIN", "the test would have seen one")
}

func TestFinishRefusesWhatIsNoAnswer(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	attempt := b.begin(b.next(b.queue(b.Broker)), "i1")
	progress, err := events.NewAnswer(events.TypeProgress, events.Meta{RequestID: "a", Source: "/x"}, events.Progress{Stage: events.StageLoad})
	require.NoError(t, err)
	empty, err := events.NewAnswer(events.TypeFailed, events.Meta{RequestID: "a", Source: "/x"}, struct{}{})
	require.NoError(t, err)
	for name, e := range map[string]events.Event{"not terminal": progress, "of another request": failedEvent(t, "b", "x"), "invalid data": empty} {
		won, err := attempt.Finish(t.Context(), e)
		require.Error(t, err, name)
		assert.False(t, won)
		assert.Equal(t, events.CodeInternal, asError(t, err).Code)
	}
	assert.Zero(t, b.messages(broker.StreamTerminals))
	require.Error(t, attempt.Publish(t.Context(), "finished", progress))
}

func TestLiveEventsCarryTheirPlace(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	attempt := b.begin(b.next(b.queue(b.Broker)), "i1")
	accepted, err := events.NewAnswer(events.TypeAccepted, events.Meta{RequestID: "a", Source: "/x"}, events.Accepted{Instance: "i1", Attempt: 1})
	require.NoError(t, err)
	require.NoError(t, attempt.Publish(t.Context(), broker.KindAccepted, accepted))
	progress, err := events.NewAnswer(events.TypeProgress, events.Meta{RequestID: "a", Source: "/x"}, events.Progress{Stage: events.StageDenoise, Step: 1, Steps: 2})
	require.NoError(t, err)
	require.NoError(t, attempt.Publish(t.Context(), broker.KindProgress, progress))
	require.NoError(t, attempt.Publish(t.Context(), broker.KindProgress, progress))
	assert.Zero(t, progress.Sequence(), "the caller's event is left alone")
	require.Eventually(t, func() bool { return b.messages(broker.StreamEvents) == 3 }, time.Minute, time.Millisecond)
	stored, err := b.Replay(t.Context(), broker.DefaultTenant, "a")
	require.NoError(t, err)
	require.Len(t, stored, 3)
	for i, e := range stored {
		assert.Equal(t, 1, e.Attempt())
		assert.Equal(t, i+1, e.Sequence())
	}
	won, err := attempt.Finish(t.Context(), failedEvent(t, "a", "x"))
	require.NoError(t, err)
	require.True(t, won)
	e, _, err := b.Terminal(t.Context(), broker.DefaultTenant, "a")
	require.NoError(t, err)
	assert.Equal(t, 4, e.Sequence())
	assert.Zero(t, b.LostEvents())
}

// Work must go on while the server is away; what is lost is counted.
func TestLiveEventsNeverWaitForTheServer(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	attempt := b.begin(b.next(b.queue(b.Broker)), "i1")
	progress, err := events.NewAnswer(events.TypeProgress, events.Meta{RequestID: "a", Source: "/x"},
		events.Progress{Stage: events.StageDenoise, Step: 1, Steps: 2, Preview: &events.Preview{MediaType: "image/png", Data: bytes.Repeat([]byte{7}, 30_000)}})
	require.NoError(t, err)
	b.server.Stop()
	lost := uint64(0)
	for range 1000 { // more than the connection keeps for the time after
		if attempt.Publish(t.Context(), broker.KindProgress, progress) != nil {
			lost++
		}
	}
	assert.Positive(t, lost)
	assert.GreaterOrEqual(t, b.LostEvents(), lost)
	b.server.Resume()
	won, err := attempt.Finish(t.Context(), failedEvent(t, "a", "x"))
	require.NoError(t, err)
	assert.True(t, won)
}

func TestALiveEventThatTheStreamRefusesIsCounted(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	attempt := b.begin(b.next(b.queue(b.Broker)), "i1")
	require.NoError(t, b.js.DeleteStream(t.Context(), broker.StreamEvents))
	accepted, err := events.NewAnswer(events.TypeAccepted, events.Meta{RequestID: "a", Source: "/x"}, events.Accepted{Instance: "i1", Attempt: 1})
	require.NoError(t, err)
	require.NoError(t, attempt.Publish(t.Context(), broker.KindAccepted, accepted), "nothing is known yet")
	require.Eventually(t, func() bool { return b.LostEvents() == 1 }, time.Minute, time.Millisecond)
}

func TestObjectsOfAnUnknownTenant(t *testing.T) {
	b := newBench(t)
	_, err := b.PutInput(t.Context(), "nobody", "a", "x", "text/plain", nil)
	require.Error(t, err)
	_, err = b.ReadObject(t.Context(), "nobody", "a/input/x", 1)
	assert.Equal(t, events.CodeInvalidRequest, asError(t, err).Code)
	require.NoError(t, b.EnsureTenant(t.Context(), b.config, "nobody"))
	ref, err := b.PutInput(t.Context(), "nobody", "a", "x", "text/plain", nil)
	require.NoError(t, err)
	assert.Equal(t, events.Ref{Bucket: "genfn-nobody", Object: "a/input/e3b0c44298fc1c149afbf4c8996fb924/x", SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", MediaType: "text/plain"}, ref)
	_, err = b.PutInput(t.Context(), "nobody", "a", "", "text/plain", nil)
	require.Error(t, err)
}
