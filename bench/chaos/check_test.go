package chaos

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/eventstest"
)

// served is a server whose requests are served as instances do it, by the test itself.
type served struct {
	*broker.Broker
	t         *testing.T
	js        jetstream.JetStream
	ears      *ears
	queue     *broker.Queue
	published []Published
}

func newServed(t *testing.T) *served {
	t.Helper()
	server := eventstest.Start(t)
	b, err := broker.Connect(server.URL(), broker.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	s := &served{Broker: b, t: t}
	config := broker.DefaultConfig()
	require.NoError(t, b.Setup(t.Context(), config))
	pool := events.PoolToken(events.KindImage, modelNoop)
	require.NoError(t, b.EnsurePool(t.Context(), config, pool))
	s.js, err = jetstream.New(b.Conn())
	require.NoError(t, err)
	s.queue, err = b.Subscribe([]string{pool}, broker.Lanes())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.queue.Close(context.Background())) })
	s.ears, err = listen(&system{urls: []string{server.URL()}})
	require.NoError(t, err)
	t.Cleanup(s.ears.close)
	return s
}

// publish publishes a healthy request and returns its delivery.
func (s *served) publish(id string) *broker.Job {
	s.t.Helper()
	p := &publisher{broker: s.Broker, js: s.js}
	r := Request{ID: id, Kind: Healthy, Model: modelNoop, Count: 1, Side: 64}
	require.NoError(s.t, p.publish(s.t.Context(), r))
	s.published = append(s.published, Published{Request: r, At: time.Now(), Stored: true})
	job, err := s.queue.Next(s.t.Context())
	require.NoError(s.t, err)
	require.Equal(s.t, id, job.ID)
	return job
}

// serve answers a healthy request with one file.
func (s *served) serve(id string) (ref events.Ref) {
	s.t.Helper()
	job := s.publish(id)
	request, attempt, err := job.Start(s.t.Context(), broker.AttemptRecord{Instance: "noop-1"})
	require.NoError(s.t, err)
	ref, err = attempt.PutObject(s.t.Context(), "0.png", "image/png", []byte("picture of "+id))
	require.NoError(s.t, err)
	e, err := events.NewAnswer(events.TypeSucceeded, events.AnswerTo(request, id, "/test"), events.Succeeded{
		Artifacts: []events.Artifact{{Name: "0.png", Role: events.RoleImage, Ref: ref}}, Request: job.Asked(), Model: events.ModelRef{Name: modelNoop}, Device: "CPU",
	})
	require.NoError(s.t, err)
	won, err := attempt.Finish(s.t.Context(), e)
	require.NoError(s.t, err)
	require.True(s.t, won)
	require.NoError(s.t, job.Done(s.t.Context()))
	return ref
}

// put publishes anything.
func (s *served) put(subject string, header nats.Header, data []byte) {
	s.t.Helper()
	_, err := s.js.PublishMsg(s.t.Context(), &nats.Msg{Subject: subject, Header: header, Data: data})
	require.NoError(s.t, err)
}

// terminalOf returns what is stored as the terminal event of a request.
func (s *served) terminalOf(id string) *jetstream.RawStreamMsg {
	s.t.Helper()
	stream, err := s.js.Stream(s.t.Context(), broker.StreamTerminals)
	require.NoError(s.t, err)
	m, err := stream.GetLastMsgForSubject(s.t.Context(), broker.TerminalSubject(broker.DefaultTenant, id))
	require.NoError(s.t, err)
	return m
}

// judge reads the streams as a run does.
func (s *served) judge() *Result {
	s.t.Helper()
	e, err := read(s.t.Context(), s.js)
	require.NoError(s.t, err)
	e.published = s.published
	e.answers, e.stories = s.ears.all()
	r := &Result{Published: s.published, Replicas: 1}
	r.judge(e, nil)
	return r
}

// planted are defects, each in a request of its own, and the rules that must find them.
var planted = []struct {
	id    string
	plant func(s *served, id string)
	rules []Rule
}{
	{"lost", func(s *served, id string) {
		job := s.publish(id)
		stream, err := s.js.Stream(s.t.Context(), broker.StreamRequests)
		require.NoError(s.t, err)
		m, err := stream.GetLastMsgForSubject(s.t.Context(), job.Subject())
		require.NoError(s.t, err)
		require.NoError(s.t, stream.DeleteMsg(s.t.Context(), m.Sequence))
	}, []Rule{RuleLost}},
	{"queued", func(s *served, id string) { s.publish(id) }, []Rule{RuleLost, RuleQueued}},
	{"stored-twice", func(s *served, id string) {
		s.serve(id)
		first := s.terminalOf(id)
		header := first.Header
		for _, name := range []string{jetstream.ExpectedLastSubjSeqHeader, nats.MsgIdHdr} {
			header.Del(name)
		}
		header.Set("ce-id", "another")
		s.put(first.Subject, header, first.Data)
	}, []Rule{RuleTwice}},
	{"heard-twice", func(s *served, id string) {
		s.serve(id)
		first := s.terminalOf(id)
		header := first.Header
		header.Set("ce-time", "2026-01-01T00:00:00Z")
		m := &nats.Msg{Subject: broker.AnswerSubject(broker.DefaultTenant, id), Header: header, Data: first.Data}
		require.NoError(s.t, s.Conn().PublishMsg(m))
		require.Eventually(s.t, func() bool { answers, _ := s.ears.all(); return len(answers[id]) == 2 }, time.Minute, time.Millisecond)
	}, []Rule{RuleTwice}},
	{"missing", func(s *served, id string) {
		ref := s.serve(id)
		store, err := s.js.ObjectStore(s.t.Context(), ref.Bucket)
		require.NoError(s.t, err)
		require.NoError(s.t, store.Delete(s.t.Context(), ref.Object))
	}, []Rule{RuleArtefact}},
	{"other-bytes", func(s *served, id string) {
		ref := s.serve(id)
		store, err := s.js.ObjectStore(s.t.Context(), ref.Bucket)
		require.NoError(s.t, err)
		_, err = store.PutBytes(s.t.Context(), ref.Object, []byte("another picture"))
		require.NoError(s.t, err)
	}, []Rule{RuleChecksum}},
	{"no-cause", func(s *served, id string) {
		s.serve(id)
		records, err := json.Marshal(map[string]any{"attempts": []broker.AttemptRecord{{Number: 1, Instance: "a"}, {Number: 2, Instance: "b"}}})
		require.NoError(s.t, err)
		s.put("gen.att.default."+id, nil, records)
	}, []Rule{RuleCause}},
	{"dead-letter", func(s *served, id string) {
		job := s.publish(id)
		request, attempt, err := job.Start(s.t.Context(), broker.AttemptRecord{Instance: "noop-1"})
		require.NoError(s.t, err)
		s.fail(job, request, attempt, events.CodeHang)
	}, []Rule{RuleDead}},
	{"refused", func(s *served, id string) {
		job := s.publish(id)
		request, attempt, err := job.Start(s.t.Context(), broker.AttemptRecord{Instance: "noop-1"})
		require.NoError(s.t, err)
		s.fail(job, request, attempt, events.CodeInvalidRequest)
	}, []Rule{RuleOutcome}},
}

func (s *served) fail(job *broker.Job, request events.Event, attempt *broker.Attempt, code events.Code) {
	s.t.Helper()
	e, err := events.NewAnswer(events.TypeFailed, events.AnswerTo(request, job.ID, "/test"), events.Failed{Error: events.Errorf(code, "planted")})
	require.NoError(s.t, err)
	won, err := attempt.Finish(s.t.Context(), e)
	require.NoError(s.t, err)
	require.True(s.t, won)
	require.NoError(s.t, job.Done(s.t.Context()))
}

// TestCheckFindsPlantedDefects: each defect is found under its name, nothing is said of the requests beside it, and the
// history of each can be told.
func TestCheckFindsPlantedDefects(t *testing.T) {
	s := newServed(t)
	stream, err := s.js.Stream(t.Context(), broker.StreamTerminals)
	require.NoError(t, err)
	c := stream.CachedInfo().Config
	c.MaxMsgsPerSubject, c.DiscardNewPerSubject = -1, false // or no second one could be planted
	_, err = s.js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	want := map[string][]Rule{"stranger": {RuleUnasked}}
	for _, d := range planted {
		s.serve("well-" + d.id)
		d.plant(s, d.id)
		want[d.id] = d.rules
	}
	s.serve("stranger")
	s.published = s.published[:len(s.published)-1]
	s.published = append(s.published, Published{Request: Request{ID: "given-up", Kind: Healthy}, At: time.Now(), Refusal: "no answer"})

	r := s.judge()
	got := map[string][]Rule{}
	for _, f := range r.Findings {
		got[f.ID] = append(got[f.ID], f.Rule)
	}
	assert.Equal(t, want, got)
	assert.Equal(t, 2, r.Lost())
	assert.Equal(t, 2, r.Twice())

	var history strings.Builder
	require.NoError(t, writeHistory(t.Context(), &history, s.js, "queued", s.published))
	for _, part := range []string{"published", broker.StreamRequests, `"prompt":"a red apple"`} {
		assert.Contains(t, history.String(), part)
	}
	history.Reset()
	require.NoError(t, writeHistory(t.Context(), &history, s.js, "dead-letter", s.published))
	for _, part := range []string{broker.StreamAttempts, "noop-1", broker.StreamTerminals, "planted", broker.StreamDeadLetters} {
		assert.Contains(t, history.String(), part)
	}
	assert.NotContains(t, history.String(), "well-dead-letter")
}

// TestUnreadableRequests: they need a dead letter and a refusal.
func TestUnreadableRequests(t *testing.T) {
	failed, err := events.NewAnswer(events.TypeFailed, events.Meta{RequestID: "a", Source: "/test"}, events.Failed{Error: events.Errorf(events.CodeInvalidRequest, "x")})
	require.NoError(t, err)
	e := &evidence{
		published: []Published{{Request: Request{ID: "a", Kind: Unreadable}, Stored: true}},
		terminals: map[string][]terminal{"a": {{event: failed}}}, dead: map[string]int{"a": 1},
	}
	require.Empty(t, e.check())
	e.dead = nil
	require.Equal(t, RuleNotDead, e.check()[0].Rule)
}
