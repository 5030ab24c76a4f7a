package broker_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"genfn/events"
	"genfn/events/broker"
)

func TestSubjects(t *testing.T) {
	a := broker.Address{Pool: events.PoolToken(events.KindImage, "sd-1.5"), Lane: broker.LaneRetry, Priority: broker.Batch, Tenant: "acme", ID: "4711"}
	assert.Equal(t, "gen.req.image-sd-1=2E5.retry.batch.acme.4711", a.Subject())
	back, ok := broker.ParseSubject(a.Subject())
	assert.True(t, ok)
	assert.Equal(t, a, back)
	for _, s := range []string{"", "gen.req", "gen.req.p.any.batch.t", "gen.req.p.any.batch.t.i.x", "gen.evt.p.any.batch.t.i", "gem.req.p.any.batch.t.i"} {
		_, ok := broker.ParseSubject(s)
		assert.False(t, ok, s)
	}
	assert.Equal(t, "gen.evt.acme.4711.progress", broker.EventSubject("acme", "4711", broker.KindProgress))
	assert.Equal(t, "gen.fin.acme.4711", broker.TerminalSubject("acme", "4711"))
	assert.Equal(t, "gen.ans.acme.4711", broker.AnswerSubject("acme", "4711"))
	assert.Equal(t, "gen.hb.i1", broker.HeartbeatSubject("i1"))
	assert.Equal(t, "genfn-acme", broker.Bucket("acme"))
}
