package events

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func testTime() time.Time { return time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.UTC) }

func pointer[T any](v T) *T { return &v }

// testRequest returns a request event with every extension a request has.
func testRequest(t testing.TB) Event {
	t.Helper()
	e, err := NewRequest(TypeImageGenerate, Meta{
		RequestID: "r1", Source: "/clients/test", CorrelationID: "album 7", CausationID: "r0", Time: testTime(), ExpiryTime: testTime().Add(time.Hour),
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01", Attempt: 2, Sequence: 12,
	}, ImageGenerate{Model: "emoji-64", Prompt: "a red apple", Steps: pointer(20), Seed: pointer(uint64(MaxSeed))})
	require.NoError(t, err)
	return e
}

func TestNewRequest(t *testing.T) {
	e := testRequest(t)
	require.NoError(t, Validate(e))
	require.Equal(t, "r1", e.ID())
	require.Equal(t, "r1", e.Subject())
	require.Equal(t, "/clients/test", e.Source())
	require.Equal(t, TypeImageGenerate, e.Type())
	require.Equal(t, "application/json", e.DataContentType())
	require.Equal(t, 12, e.Sequence())
	require.Equal(t, 2, e.Attempt())
	require.Equal(t, "album 7", e.CorrelationID())
	require.Equal(t, "r0", e.CausationID())
	require.Equal(t, "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01", e.TraceParent())
	require.True(t, e.ExpiryTime().Equal(testTime().Add(time.Hour)))
	require.JSONEq(t, `{"model": "emoji-64", "prompt": "a red apple", "steps": 20, "seed": 9007199254740991}`, string(e.Data()))
}

func TestAbsentExtensions(t *testing.T) {
	for _, e := range []Event{{}, New(TypeProgress)} {
		require.Zero(t, e.Sequence())
		require.Zero(t, e.Attempt())
		require.Empty(t, e.CorrelationID())
		require.Empty(t, e.DataRef())
		require.True(t, e.ExpiryTime().IsZero())
		require.NotPanics(t, func() { e.Clone() })
	}
}

func TestNewRequestRefuses(t *testing.T) {
	_, err := NewRequest(TypeImageGenerate, Meta{RequestID: "a.b", Source: "/x"}, ImageGenerate{})
	require.ErrorContains(t, err, `id: the request id is "a.b"; expected 1 to 64`)
	_, err = NewRequest(TypeImageGenerate, Meta{RequestID: "a", Source: "/x"}, func() {})
	require.ErrorIs(t, err, &Error{Code: CodeInternal})
	_, err = NewRequest(TypeImageGenerate, Meta{RequestID: "a", Source: ":"}, ImageGenerate{})
	require.ErrorIs(t, err, &Error{Code: CodeInvalidRequest})
}

func TestAnswerTo(t *testing.T) {
	request := testRequest(t)
	m := AnswerTo(request, "r1", "/instances/i1")
	m.Attempt, m.Sequence = 3, 7
	before := time.Now()
	e, err := NewAnswer(TypeAccepted, m, Accepted{Instance: "i1", Attempt: 3})
	require.NoError(t, err)
	require.NoError(t, Validate(e))
	require.Equal(t, "r1-3-7", e.ID())
	require.Equal(t, "r1", e.Subject())
	require.Equal(t, "album 7", e.CorrelationID())
	require.Equal(t, "r1", e.CausationID())
	require.Equal(t, request.TraceParent(), e.TraceParent())
	require.Equal(t, "0000000007", e.Extensions()[ExtSequence], "lexicographic order, as the extension demands")
	require.WithinRange(t, e.Time(), before, time.Now())

	undecoded := AnswerTo(Event{}, "r9", "/i")
	require.Equal(t, Meta{RequestID: "r9", Source: "/i", CausationID: "r9", CorrelationID: "r9"}, undecoded, "a request that could not be decoded")
}

func TestClone(t *testing.T) {
	e := testRequest(t)
	c := e.Clone()
	c.SetAttempt(9)
	c.DataEncoded[0] = 'x'
	require.Equal(t, 2, e.Attempt())
	require.Equal(t, byte('{'), e.DataEncoded[0])
}

func TestCheckRequestID(t *testing.T) {
	e := testRequest(t)
	require.NoError(t, e.CheckRequestID("r1"))
	require.EqualError(t, e.CheckRequestID("r2"), `invalid_request: subject: found "r1"; expected "r2", the request id in the NATS subject`)
	e.SetSubject("r2")
	require.EqualError(t, e.CheckRequestID("r2"), `invalid_request: id: found "r1"; expected "r2", the request id in the NATS subject`)
	e = New(TypeImageGenerate)
	e.SetID("r2")
	require.NoError(t, e.CheckRequestID("r2"), "without a subject")
}

func TestTypes(t *testing.T) {
	terminal := map[string]bool{TypeSucceeded: true, TypeFailed: true, TypeCancelled: true, TypeExpired: true}
	for _, typ := range Types() {
		require.Equal(t, terminal[typ], Terminal(typ), typ)
		_, request := KindOf(typ)
		require.Equal(t, typ == TypeImageGenerate, request, typ)
	}
}
