package broker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

// opened fetches the next request and opens it, which must answer it.
func (b *bench) refused(q *broker.Queue) *broker.Job {
	b.t.Helper()
	j := b.next(q)
	_, ok, err := j.Open(b.t.Context())
	require.NoError(b.t, err)
	require.False(b.t, ok, "the request must not run")
	assert.Zero(b.t, b.messages(broker.StreamRequests), "it must be acknowledged")
	return j
}

func encoded(t *testing.T, e events.Event) (nats.Header, []byte) {
	t.Helper()
	header, data, err := events.EncodeBinary(e)
	require.NoError(t, err)
	return header, data
}

func TestOpenAValidRequest(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	j := b.next(b.queue(b.Broker))
	assert.Equal(t, address("a"), j.Address)
	e, ok, err := j.Open(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, "a", e.Subject())
	data, err := events.Payload[events.ImageGenerate](e)
	require.NoError(t, err)
	assert.Equal(t, "a red apple", data.Prompt)
	require.ErrorIs(t, j.Done(t.Context()), broker.ErrNotAnswered, "the acknowledgement would lose it")
	_, answered, err := j.Terminal(t.Context())
	require.NoError(t, err)
	assert.False(t, answered)
	assert.Equal(t, 1, b.messages(broker.StreamRequests))
}

func TestOpenAnswersWhatItCannotRead(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	header := nats.Header{"content-type": {"application/cloudevents+json"}, nats.MsgIdHdr: {"id-of-the-sender"}, "X-Sender": {"somebody"}}
	b.raw(address("broken"), header, []byte("{not json"))
	j := b.refused(q)

	f := b.failed(j.Address)
	assert.Equal(t, events.CodeInvalidRequest, f.Error.Code)
	assert.NotEmpty(t, f.Error.Message)

	l := b.deadLetter("broken")
	assert.Equal(t, "{not json", string(l.Data))
	assert.Equal(t, map[string][]string(header), l.Header)
	assert.Equal(t, f.Error.Message, l.Error.Message, "the parser's words")
	assert.Equal(t, j.Subject(), l.Subject)
	assert.EqualValues(t, 1, l.Deliveries)
	assert.True(t, j.Queued.Equal(l.QueuedAt))
	_, err := l.Request()
	require.Error(t, err)
	assert.Equal(t, 1, b.messages(broker.StreamDeadLetters))
}

func TestOpenAnswersInvalidRequests(t *testing.T) {
	valid := func(t *testing.T, id string) events.Event { return requestEvent(t, id) }
	for name, c := range map[string]struct {
		event func(t *testing.T, id string) events.Event
		at    func(broker.Address) broker.Address
		field string
	}{
		"value out of range": {field: "/prompt", event: func(t *testing.T, id string) events.Event {
			e := requestEvent(t, id)
			require.NoError(t, e.SetData("application/json", events.ImageGenerate{Model: model}))
			return e
		}},
		"unknown type": {field: "type", event: func(t *testing.T, id string) events.Event {
			e := requestEvent(t, id)
			e.SetType("dev.genfn.symphony.compose.v1")
			return e
		}},
		"a type of answer": {field: "type", event: func(t *testing.T, id string) events.Event { return failedEvent(t, id, "no request") }},
		"another subject":  {field: "subject", event: func(t *testing.T, _ string) events.Event { return requestEvent(t, "other") }},
		"another pool": {field: "/model", event: func(t *testing.T, id string) events.Event {
			e := requestEvent(t, id)
			require.NoError(t, e.SetData("application/json", events.ImageGenerate{Model: "other", Prompt: "x"}))
			return e
		}},
		"an id that cannot be one": {field: "subject", event: func(t *testing.T, _ string) events.Event { return requestEvent(t, "x") },
			at: func(a broker.Address) broker.Address { a.ID = "with=sign"; return a }},
		"a tenant that cannot be one": {field: "subject", event: valid,
			at: func(a broker.Address) broker.Address { a.Tenant = strings.Repeat("t", 65); return a }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			a := address("bad")
			if c.at != nil {
				a = c.at(a)
			}
			header, data := encoded(t, c.event(t, a.ID))
			b.raw(a, header, data)
			b.refused(b.queue(b.Broker))
			f := b.failed(a)
			assert.Equal(t, events.CodeInvalidRequest, f.Error.Code)
			assert.Equal(t, c.field, f.Error.Field)
			assert.NotEmpty(t, f.Error.Expected)
			assert.Zero(t, b.messages(broker.StreamDeadLetters), "it could be read")
		})
	}
}

func TestOpenExpires(t *testing.T) {
	b := newBench(t)
	now := &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	q := b.queue(b.connect(b.server.URL(), broker.Options{Now: now.Now}))
	expiring := func(id string) {
		e := requestEvent(t, id, func(m *events.Meta) { m.ExpiryTime = now.Now().Add(time.Minute) })
		require.NoError(t, b.PublishRequest(t.Context(), address(id), e))
	}

	expiring("in-time")
	j := b.next(q)
	_, ok, err := j.Open(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	_, err = b.begin(j, "i1").Finish(t.Context(), failedEvent(t, "in-time", "x"))
	require.NoError(t, err)
	require.NoError(t, j.Done(t.Context()))

	expiring("late")
	now.advance(time.Minute)
	b.refused(q)
	e, ok, err := b.Terminal(t.Context(), broker.DefaultTenant, "late")
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, events.TypeExpired, e.Type())
	require.NoError(t, events.Validate(e))
	data, err := events.Payload[events.Expired](e)
	require.NoError(t, err)
	assert.True(t, data.FoundAt.Equal(now.Now()))

	expiring("begun") // work had begun when its time was up
	j = b.next(q)
	b.begin(j, "i1")
	require.NoError(t, j.HandBack(t.Context()))
	now.advance(time.Minute)
	b.refused(q)
	f := b.failed(address("begun"))
	assert.Equal(t, events.CodeDeadlineExceeded, f.Error.Code)
	require.Len(t, f.Attempts, 1)
	assert.Equal(t, "i1", f.Attempts[0].Instance)
}

// The window in which the server refuses a repeated message id is shorter than
// answers are kept: after it a finished request can be queued once more.
func TestARequestThatIsAnsweredIsOnlyAcknowledged(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.Duplicates = 100 * time.Millisecond })
	q := b.queue(b.Broker)
	b.publish(address("a"))
	j := b.next(q)
	won, err := b.begin(j, "i1").Finish(t.Context(), failedEvent(t, "a", "the first answer"))
	require.NoError(t, err)
	require.True(t, won)
	require.NoError(t, j.Done(t.Context()))

	require.Eventually(t, func() bool {
		return b.PublishRequest(t.Context(), address("a"), requestEvent(t, "a")) == nil
	}, time.Minute, 10*time.Millisecond, "the window ends")
	b.refused(q)
	assert.Equal(t, "the first answer", b.failed(address("a")).Error.Message)
	assert.Equal(t, 1, b.messages(broker.StreamTerminals))
}

// A holder that wrote the terminal event and died before the acknowledgement.
func TestACrashBeforeTheAcknowledgement(t *testing.T) {
	b := newBench(t, ackWait(200*time.Millisecond))
	b.publish(address("a"))
	dead := b.connect(b.server.URL(), broker.Options{})
	won, err := b.begin(b.next(b.queue(dead)), "i1").Finish(t.Context(), failedEvent(t, "a", "answered"))
	require.NoError(t, err)
	require.True(t, won)
	dead.Close()
	b.refused(b.queue(b.Broker))
	assert.Equal(t, "answered", b.failed(address("a")).Error.Message)
	assert.Equal(t, "answered", b.deadLetter("a").Error.Message, "what the dead one left to do")
}

// Handed-back messages leave num_pending, so consumers that wait for a number of
// pending messages never see them; moved ones are pending again.
func TestMoveMakesWorkPendingInAnotherLane(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	gpu := b.queue(b.Broker, broker.LaneAny)
	j := b.next(gpu)
	j.HandBackLater(time.Millisecond)
	b.eventuallyPending(address(""), 0) // the trap: a handed-back message is not pending

	j = b.next(gpu)
	require.NoError(t, j.Move(t.Context(), broker.LaneRetry))
	retry := address("a")
	retry.Lane = broker.LaneRetry
	b.eventuallyPending(retry, 1)
	assert.Equal(t, 1, b.messages(broker.StreamRequests), "the original is gone")
	moved := b.next(b.queue(b.Broker, broker.LaneRetry))
	assert.Equal(t, "a", moved.ID)
	assert.Equal(t, []string{"a"}, moved.Header["ce-id"])
	assert.Equal(t, j.Data, moved.Data)
	require.Error(t, moved.Move(t.Context(), broker.LaneRetry), "it is there")
	require.Error(t, moved.Move(t.Context(), "sideways"))
}

// What is handed back from the any lane is pending again, where it may be taken
// by every class of device, or by the one it asks for.
func TestHandBackFromTheAnyLane(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker, broker.LaneAny)
	for device, lane := range map[string]broker.Lane{"": broker.LaneRetry, "auto": broker.LaneRetry, "gpu": broker.LaneGPU, "GPU.1": broker.LaneGPU, "cpu": broker.LaneCPU} {
		e, err := events.NewRequest(events.TypeImageGenerate, events.Meta{RequestID: "a" + strings.ReplaceAll(device, ".", "-"), Source: "/test"},
			events.ImageGenerate{Model: model, Prompt: "a red apple", Device: device})
		require.NoError(t, err)
		a := address(e.Subject())
		require.NoError(t, b.PublishRequest(t.Context(), a, e))
		require.NoError(t, b.next(q).HandBack(t.Context()))
		a.Lane = lane
		b.eventuallyPending(a, 1)
		assert.Equal(t, a, b.next(b.queue(b.Broker, lane)).Address)
	}
	b.raw(address("unread"), nil, []byte("{"))
	require.NoError(t, b.next(q).HandBack(t.Context()))
	j := b.next(b.queue(b.Broker, broker.LaneRetry))
	require.Equal(t, "unread", j.ID)
	require.NoError(t, j.HandBack(t.Context()))
	assert.EqualValues(t, 2, b.next(b.queue(b.Broker, broker.LaneRetry)).Delivered, "there it stays")
}

// A full queue takes no copy: the request itself comes again.
func TestHandBackToAFullQueue(t *testing.T) {
	b := newBench(t, func(c *broker.Config) { c.QueueMessages = 1 })
	b.publish(address("a"))
	q := b.queue(b.Broker)
	require.NoError(t, b.next(q).HandBack(t.Context()))
	j := b.next(q)
	assert.Equal(t, address("a"), j.Address)
	assert.EqualValues(t, 2, j.Delivered)
}

// A crash between the two steps of a move repeats it.
func TestMoveTwiceLeavesOneRequest(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker, broker.LaneAny)
	b.publish(address("a"))
	j := b.next(q)
	m := &nats.Msg{Subject: strings.Replace(j.Subject(), ".any.", ".retry.", 1), Data: j.Data}
	_, err := b.js.PublishMsg(t.Context(), m) // as the first step did
	require.NoError(t, err)
	require.NoError(t, j.Move(t.Context(), broker.LaneRetry))
	assert.Equal(t, 1, b.messages(broker.StreamRequests))
}

// The server accepts the acknowledgement of a delivery that was lost long ago:
// it is no fence. Done therefore demands a terminal event.
func TestAStaleHolderCannotAcknowledgeWorkAway(t *testing.T) {
	b := newBench(t, ackWait(200*time.Millisecond))
	q := b.queue(b.Broker)
	b.publish(address("a"))
	stale := b.next(q)
	b.begin(stale, "stale")
	current := b.next(q)
	require.Equal(t, "a", current.ID)
	b.begin(current, "current")
	require.NoError(t, stale.Extend(), "the trap: nothing tells that the lease is lost")
	require.ErrorIs(t, stale.Done(t.Context()), broker.ErrNotAnswered)
	assert.Equal(t, 1, b.messages(broker.StreamRequests))
}

func TestDoneAfterSomebodyElseDid(t *testing.T) {
	b := newBench(t, ackWait(200*time.Millisecond))
	q := b.queue(b.Broker)
	b.publish(address("a"))
	first := b.next(q)
	second := b.next(q)
	won, err := b.begin(second, "second").Finish(t.Context(), failedEvent(t, "a", "x"))
	require.NoError(t, err)
	require.True(t, won)
	require.NoError(t, second.Done(t.Context()))
	require.NoError(t, first.Done(t.Context()))
	assert.Zero(t, b.messages(broker.StreamRequests))
}

func TestJobsSurviveARestartOfTheServer(t *testing.T) {
	b := newBench(t)
	q := b.queue(b.Broker)
	b.publish(address("a"))
	j := b.next(q)
	b.server.Stop()
	opened := make(chan error, 1)
	go func() {
		_, ok, err := j.Open(t.Context())
		assert.True(t, ok)
		opened <- err
	}()
	b.server.Resume()
	require.NoError(t, <-opened)
	a := b.begin(j, "i1")

	b.server.Stop()
	finished, answer := make(chan error, 1), failedEvent(t, "a", "x")
	go func() {
		won, err := a.Finish(t.Context(), answer)
		assert.True(t, won)
		if err == nil {
			err = j.Done(t.Context())
		}
		finished <- err
	}()
	b.server.Resume()
	require.NoError(t, <-finished)
	assert.Zero(t, b.messages(broker.StreamRequests))
	assert.Equal(t, 1, b.messages(broker.StreamTerminals))
}

func TestOperationsEndWithTheirContextWhileTheServerIsAway(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	j := b.next(b.queue(b.Broker))
	b.server.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := j.Open(ctx)
	require.ErrorIs(t, err, context.Canceled)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	e := asError(t, j.HandBack(ctx))
	assert.True(t, e.Retriable)
	assert.Contains(t, e.Message, "did not answer in time")
	assert.NotEmpty(t, e.Advice)
	b.server.Resume()
}
