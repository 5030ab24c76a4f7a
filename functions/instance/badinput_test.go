package instance_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/runner/runnertest"
)

// publishRaw publishes a message as any NATS client could.
func (r *rig) publishRaw(id string, header map[string][]string, data []byte) {
	r.t.Helper()
	a := broker.Address{Pool: events.PoolToken(events.KindImage, modelName), Lane: broker.LaneAny, Priority: broker.Interactive, Tenant: broker.DefaultTenant, ID: id}
	reply, err := r.broker.Conn().RequestMsgWithContext(r.context(), &nats.Msg{Subject: a.Subject(), Header: header, Data: data})
	require.NoError(r.t, err)
	require.NotContains(r.t, string(reply.Data), `"error"`)
}

// TestBadInputIsAnswered sends what a careless client may send, all at once: each gets its own answer, which says
// where the mistake is, and none keeps the queue from the good request behind them.
func TestBadInputIsAnswered(t *testing.T) {
	r := newRig(t)
	header := map[string][]string{ // ce-id is added below
		"ce-specversion": {"1.0"}, "ce-source": {"/test"}, "ce-type": {events.TypeImageGenerate}, "Content-Type": {"application/json"},
	}
	with := func(name, value string) map[string][]string {
		h := maps.Clone(header)
		h[name] = []string{value}
		if value == "" && name != "ce-id" {
			delete(h, name)
		}
		return h
	}
	body := func(rest string) string { return `{"model":"` + modelName + `","prompt":"a cat"` + rest + `}` }
	cases := map[string]struct {
		header      map[string][]string
		body, field string
	}{
		"malformed":        {header, `{"model":`, "/model"},
		"truncated":        {header, body("")[:20], "data"},
		"no-data":          {header, "", "data"},
		"array":            {header, "[]", "data"},
		"two-values":       {header, body("") + body(""), "data"},
		"content-type":     {with("Content-Type", "text/plain"), body(""), "datacontenttype"},
		"batch":            {with("Content-Type", "application/cloudevents-batch+json"), "[]", "Content-Type"},
		"structured":       {with("Content-Type", "application/cloudevents+json"), `{"id":"structured"`, "message"},
		"structured-id":    {with("Content-Type", "application/cloudevents+json"), `{"specversion":"1.0","id":"someone-else","source":"/test","type":"` + events.TypeImageGenerate + `","data":` + body("") + `}`, "id"},
		"no-type":          {with("ce-type", ""), body(""), "ce-type"},
		"no-id":            {with("ce-id", ""), body(""), "ce-id"},
		"unknown-type":     {with("ce-type", "dev.genfn.image.paint.v1"), body(""), "type"},
		"unknown-version":  {with("ce-type", "dev.genfn.image.generate.v9"), body(""), "type"},
		"answer-type":      {with("ce-type", events.TypeAccepted), `{"instance":"x","attempt":1}`, "type"},
		"other-id":         {with("ce-id", "someone-else"), body(""), "id"},
		"other-subject":    {with("ce-subject", "someone-else"), body(""), "subject"},
		"size-zero":        {header, body(`,"width":0`), "/width"},
		"size-negative":    {header, body(`,"height":-8`), "/height"},
		"size-huge":        {header, body(`,"width":100000`), "/width"},
		"steps":            {header, body(`,"steps":0`), "/steps"},
		"count":            {header, body(`,"count":65`), "/count"},
		"guidance":         {header, body(`,"guidance_scale":101`), "/guidance_scale"},
		"guidance-nan":     {header, body(`,"guidance_scale":NaN`), "/guidance_scale"},
		"empty-prompt":     {header, `{"model":"` + modelName + `","prompt":""}`, "/prompt"},
		"long-prompt":      {header, `{"model":"` + modelName + `","prompt":"` + strings.Repeat("x", 10_001) + `"}`, "/prompt"},
		"nul-prompt":       {header, `{"model":"` + modelName + `","prompt":"a\u0000b"}`, "/prompt"},
		"raw-nul":          {header, `{"model":"` + modelName + `","prompt":"a` + "\x00" + `b"}`, "/prompt"},
		"invalid-utf8":     {header, `{"model":"` + modelName + `","prompt":"` + "\xff" + `"}`, "/prompt"},
		"model-separators": {header, `{"model":"../x","prompt":"a"}`, "/model"},
		"other-model":      {header, `{"model":"another","prompt":"a"}`, "/model"},
		"unknown-field":    {header, body(`,"witdh":64`), "/witdh"},
	}
	for id, c := range cases {
		h := maps.Clone(c.header)
		switch given := h["ce-id"]; {
		case given == nil:
			h["ce-id"] = []string{id}
		case given[0] == "":
			delete(h, "ce-id")
		}
		r.publishRaw(id, h, []byte(c.body))
	}
	good := r.publish(request(runnertest.Script{}))
	r.start(nil)
	r.succeeded(good)
	ids := []string{good}
	for id, c := range cases {
		t.Run(id, func(t *testing.T) {
			e, err := r.client.Wait(r.context(), id)
			require.NoError(t, err)
			require.Equal(t, events.TypeFailed, e.Type(), "%s", e.Data())
			f := payload[events.Failed](t, e)
			require.Equal(t, events.CodeInvalidRequest, f.Error.Code, f.Error.Error())
			require.Equal(t, c.field, f.Error.Field, f.Error.Error())
			require.NotEmpty(t, f.Error.Expected, f.Error.Error())
			require.False(t, bytes.Contains(e.Data(), []byte(`"message":""`)))
			require.False(t, f.Error.Retriable)
		})
		ids = append(ids, id)
	}
	r.settled(ids...)
}
