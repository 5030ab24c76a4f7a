package broker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
)

// ears are an instance's: what it heard of cancels.
type ears chan [3]string

// serveCancels has an instance on a connection of its own answer cancels until the test ends.
func (b *bench) serveCancels() ears {
	b.t.Helper()
	heard := make(ears, 1000)
	stop, err := b.connect(b.server.URL(), broker.Options{}).ServeCancels(func(tenant, id, reason string) { heard <- [3]string{tenant, id, reason} })
	require.NoError(b.t, err)
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		stop(ctx)
	})
	return heard
}

func cancelEvent(t *testing.T, id, reason string) events.Event {
	t.Helper()
	e, err := events.NewRequest(events.TypeCancel, events.Meta{RequestID: id, Source: "/test"}, events.Cancel{Reason: reason})
	require.NoError(t, err)
	return e
}

func (b *bench) cancel(id, reason string) (events.Event, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	return b.Cancel(ctx, broker.DefaultTenant, id, cancelEvent(b.t, id, reason))
}

func cancelled(t *testing.T, e events.Event) events.Cancelled {
	t.Helper()
	require.Equal(t, events.TypeCancelled, e.Type(), "%s", e.Data())
	data, err := events.Payload[events.Cancelled](e)
	require.NoError(t, err)
	return data
}

func TestCancelOfAQueuedRequest(t *testing.T) {
	b := newBench(t)
	heard := []ears{b.serveCancels(), b.serveCancels(), b.serveCancels()}
	b.publish(address("a"))
	b.publish(address("b"))
	e, err := b.cancel("a", "changed my mind")
	require.NoError(t, err)
	assert.Equal(t, events.Cancelled{Reason: "changed my mind", Stage: events.StageQueue}, cancelled(t, e))
	assert.Equal(t, "a", e.Subject())
	assert.Equal(t, "a", e.CausationID())
	stored, ok, err := b.Terminal(t.Context(), broker.DefaultTenant, "a")
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, e.ID(), stored.ID(), "the reply is the terminal event")
	for _, ears := range heard {
		assert.Equal(t, [3]string{broker.DefaultTenant, "a", "changed my mind"}, <-ears)
	}
	again, err := b.cancel("a", "once more")
	require.NoError(t, err)
	assert.Equal(t, "changed my mind", cancelled(t, again).Reason)
	assert.Equal(t, "b", b.next(b.queue(b.Broker)).ID, "the other request stays, the cancelled one is gone")
	assert.Equal(t, 1, b.messages(broker.StreamRequests))
	assert.Equal(t, 1, b.messages(broker.StreamTerminals))
	b.eventuallyPending(address(""), 0)
}

func TestCancelOfWhatEndedTellsHow(t *testing.T) {
	b := newBench(t)
	b.serveCancels()
	b.publish(address("a"))
	j := b.next(b.queue(b.Broker))
	won, err := b.begin(j, "i").Finish(t.Context(), failedEvent(t, "a", "of its own"))
	require.NoError(t, err)
	require.True(t, won)
	e, err := b.cancel("a", "too late") // before the request is acknowledged
	require.NoError(t, err)
	assert.Equal(t, events.TypeFailed, e.Type())
	assert.Zero(t, b.messages(broker.StreamRequests))
	require.NoError(t, j.Done(t.Context()), "an acknowledgement of what is gone")
	e, err = b.cancel("a", "too late")
	require.NoError(t, err)
	assert.Equal(t, events.TypeFailed, e.Type())
}

func TestCancelOfAnUnknownRequest(t *testing.T) {
	b := newBench(t)
	b.serveCancels()
	_, err := b.cancel("a", "")
	e := asError(t, err)
	assert.Equal(t, events.CodeInvalidRequest, e.Code)
	assert.Contains(t, e.Message, `"a"`)
	assert.Zero(t, b.messages(broker.StreamTerminals))
	b.publish(address("a"))
	_, ok, err := b.next(b.queue(b.Broker)).Open(t.Context())
	require.NoError(t, err)
	assert.True(t, ok, "an early cancel is no cancel")
}

func TestCancelWithoutAnInstance(t *testing.T) {
	b := newBench(t)
	b.publish(address("a"))
	_, err := b.cancel("a", "")
	e := asError(t, err)
	assert.Equal(t, events.CodeDeviceUnavailable, e.Code)
	assert.Contains(t, e.Message, "no instance")
	assert.Equal(t, 1, b.messages(broker.StreamRequests))
}

// The instance that works on the request knows more: it is waited for, and its answer is the one.
func TestCancelLeavesTheAnswerToTheHolder(t *testing.T) {
	b := newBench(t)
	heard := b.serveCancels()
	b.publish(address("a"))
	j := b.next(b.queue(b.Broker))
	a := b.begin(j, "i")
	done := make(chan error, 1)
	go func() {
		<-heard
		e, err := events.NewAnswer(events.TypeCancelled, events.Meta{RequestID: "a", Source: "/test"}, events.Cancelled{Stage: "denoise step 3 of 20"})
		if err == nil {
			_, err = a.Finish(context.Background(), e)
		}
		done <- err
	}()
	e, err := b.cancel("a", "stop")
	require.NoError(t, err)
	require.NoError(t, <-done)
	assert.Equal(t, "denoise step 3 of 20", cancelled(t, e).Stage)
	assert.Zero(t, b.messages(broker.StreamRequests))
	require.NoError(t, j.Done(t.Context()))
}

// A holder that hears nothing loses its request all the same.
func TestCancelDoesNotWaitLongForTheHolder(t *testing.T) {
	b := newBench(t)
	b.serveCancels()
	b.publish(address("a"))
	j := b.next(b.queue(b.Broker))
	a := b.begin(j, "deaf")
	e, err := b.cancel("a", "stop")
	require.NoError(t, err)
	data := cancelled(t, e)
	require.Len(t, data.Attempts, 1)
	assert.Equal(t, "deaf", data.Attempts[0].Instance)
	won, err := a.Finish(t.Context(), failedEvent(t, "a", "later"))
	require.NoError(t, err)
	assert.False(t, won)
	require.NoError(t, j.Extend())
	require.NoError(t, j.Done(t.Context()))
	assert.Equal(t, 1, b.messages(broker.StreamTerminals))
}

// What is under way when the cancel comes is only acknowledged where it arrives.
func TestCancelOfARequestThatMoves(t *testing.T) {
	b := newBench(t)
	b.serveCancels()
	for id, move := range map[string]func(*broker.Job) error{
		"moved":       func(j *broker.Job) error { return j.Move(t.Context(), broker.LaneCPU) },
		"handed-back": func(j *broker.Job) error { return j.HandBack(t.Context()) },
	} {
		t.Run(id, func(t *testing.T) {
			b.publish(address(id))
			q := b.queue(b.Broker)
			j := b.next(q)
			a := b.begin(j, "i")
			require.NoError(t, a.End(t.Context(), "device_fault", nil))
			e, err := b.cancel(id, "stop")
			require.NoError(t, err)
			assert.Equal(t, events.StageQueue, cancelled(t, e).Stage)
			assert.Len(t, cancelled(t, e).Attempts, 1)
			require.NoError(t, move(j))
			moved := b.next(q) // in the other lane, where the cancel did not find it
			assert.NotEqual(t, broker.LaneAny, moved.Lane)
			_, ok, err := moved.Open(t.Context())
			require.NoError(t, err)
			assert.False(t, ok)
			assert.Zero(t, b.messages(broker.StreamRequests))
		})
	}
}

func TestCancelFindsBothMessagesOfAMove(t *testing.T) {
	b := newBench(t)
	b.serveCancels()
	other := address("a")
	other.Lane = broker.LaneRetry
	b.publish(address("a"))
	header, data := encoded(t, requestEvent(t, "a"))
	b.raw(other, header, data) // published, and the first not acknowledged yet
	_, err := b.cancel("a", "")
	require.NoError(t, err)
	assert.Zero(t, b.messages(broker.StreamRequests))
}

// Whatever the cancel meets, the request ends once.
func TestCancelRacesWithTheResult(t *testing.T) {
	b := newBench(t)
	b.serveCancels() // nobody stops for it
	b.serveCancels()
	q := b.queue(b.Broker)
	outcomes := map[string]int{}
	const n = 200
	for i := range n {
		id := fmt.Sprintf("id%d", i)
		b.publish(address(id))
		j := b.next(q)
		a := b.begin(j, "i")
		var wg sync.WaitGroup
		var won bool
		var told events.Event
		wg.Go(func() {
			var err error
			won, err = a.Finish(t.Context(), failedEvent(t, id, "result"))
			assert.NoError(t, err)
			assert.NoError(t, j.Done(t.Context()))
		})
		wg.Go(func() {
			var err error
			told, err = b.cancel(id, "race")
			assert.NoError(t, err)
		})
		wg.Wait()
		stored, ok, err := b.Terminal(t.Context(), broker.DefaultTenant, id)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, stored.ID(), told.ID(), "the client is told what is stored")
		require.Equal(t, won, stored.Type() == events.TypeFailed)
		outcomes[stored.Type()]++
	}
	t.Log(outcomes)
	assert.Equal(t, n, b.messages(broker.StreamTerminals))
	assert.Zero(t, b.messages(broker.StreamRequests))
}

// Many cancels of one request, and a job that is cancelled by its holder between two attempts.
func TestManyCancelsAnswerOnce(t *testing.T) {
	b := newBench(t)
	for range 3 {
		b.serveCancels()
	}
	b.publish(address("a"))
	j := b.next(b.queue(b.Broker))
	request, ok, err := j.Open(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	var wg sync.WaitGroup
	ids := make([]string, 20)
	for i := range ids {
		wg.Go(func() {
			e, err := b.cancel("a", strconv.Itoa(i))
			if assert.NoError(t, err) {
				ids[i] = e.ID() + string(e.Data())
			}
		})
	}
	wg.Go(func() { assert.NoError(t, j.Cancel(t.Context(), request, "the holder")) })
	wg.Wait()
	for _, id := range ids {
		assert.Equal(t, ids[0], id)
	}
	assert.Equal(t, 1, b.messages(broker.StreamTerminals))
	assert.Zero(t, b.messages(broker.StreamRequests))
}

func TestCancelThatIsNotValid(t *testing.T) {
	b := newBench(t)
	heard := b.serveCancels()
	b.publish(address("a"))
	const structured = "application/cloudevents+json"
	for name, c := range map[string]struct {
		header  nats.Header
		data    string
		subject string
		field   string
	}{
		"no event":        {data: `{}`, field: "ce-specversion"},
		"not JSON":        {header: nats.Header{"Content-Type": {structured}}, data: `{`, field: "message"},
		"another type":    {data: `{}`, header: ceHeader(events.TypeExpired, "a"), field: "type"},
		"another request": {data: `{}`, header: ceHeader(events.TypeCancel, "b"), field: "subject"},
		"unknown field":   {data: `{"why": "x"}`, header: ceHeader(events.TypeCancel, "a"), field: "/why"},
		"long reason":     {data: `{"reason": "` + strings.Repeat("a", 1001) + `"}`, header: ceHeader(events.TypeCancel, "a"), field: "/reason"},
		"no data":         {header: ceHeader(events.TypeCancel, "a"), field: "data"},
		"odd tenant":      {data: `{}`, header: ceHeader(events.TypeCancel, "a"), subject: "gen.cancel.a\xffb.a", field: "subject"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.subject == "" {
				c.subject = broker.CancelSubject(broker.DefaultTenant, "a")
			}
			reply, err := b.nc.RequestMsg(&nats.Msg{Subject: c.subject, Header: c.header, Data: []byte(c.data)}, time.Minute)
			require.NoError(t, err)
			var r struct{ Error *events.Error }
			require.NoError(t, json.Unmarshal(reply.Data, &r))
			require.NotNil(t, r.Error)
			assert.Equal(t, events.CodeInvalidRequest, r.Error.Code)
			assert.Equal(t, c.field, r.Error.Field)
		})
	}
	_, ok, err := b.Terminal(t.Context(), broker.DefaultTenant, "a")
	require.NoError(t, err)
	assert.False(t, ok)
	body := fmt.Sprintf(`{"specversion": "1.0", "id": "1", "source": "/test", "type": %q, "data": {"reason": "structured"}}`, events.TypeCancel)
	reply, err := b.nc.RequestMsg(&nats.Msg{Subject: broker.CancelSubject(broker.DefaultTenant, "a"), Header: nats.Header{"Content-Type": {structured}}, Data: []byte(body)}, time.Minute)
	require.NoError(t, err)
	e, err := events.Decode(reply.Header, reply.Data)
	require.NoError(t, err)
	assert.Equal(t, "structured", cancelled(t, e).Reason)
	assert.Equal(t, "structured", (<-heard)[2], "the first that was heard")
}

func ceHeader(typ, subject string) nats.Header {
	return nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/test"}, "ce-type": {typ}, "ce-subject": {subject}}
}

// Instances may publish where clients may not: a cancel must not make them do it for a client.
func TestCancelCannotForgeEvents(t *testing.T) {
	b := newBench(t)
	heard := make(chan string, 10)
	stop, err := b.ServeCancels(func(_, id, _ string) { heard <- id })
	require.NoError(t, err)
	b.publish(address("a"))
	for _, reply := range []string{broker.TerminalSubject(broker.DefaultTenant, "victim"), address("victim").Subject(), "$JS.API.STREAM.PURGE." + broker.StreamTerminals} {
		header, data := encoded(t, cancelEvent(t, "a", "forge"))
		require.NoError(t, b.nc.PublishMsg(&nats.Msg{Subject: broker.CancelSubject(broker.DefaultTenant, "a"), Reply: reply, Header: header, Data: data}))
		assert.Equal(t, "a", <-heard)
	}
	stop(t.Context()) // all is answered then
	assert.Equal(t, 1, b.messages(broker.StreamTerminals), "of the cancelled request")
	_, ok, err := b.Terminal(t.Context(), broker.DefaultTenant, "a")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Zero(t, b.messages(broker.StreamRequests))
}

func TestCancelOverARestartOfTheServer(t *testing.T) {
	b := newBench(t)
	b.serveCancels()
	b.publish(address("a"))
	b.server.Restart()
	require.Eventually(t, func() bool { // the instance may come back after the client
		e, err := b.cancel("a", "")
		return err == nil && e.Type() == events.TypeCancelled
	}, time.Minute, 10*time.Millisecond)
}
