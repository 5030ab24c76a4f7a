package client_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/events/eventstest"
)

// clientRights is all a client of the default tenant needs.
func clientRights() *server.Permissions {
	const bucket = "genfn-default"
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			"gen.req.*.*.*.default.*",
			"gen.cancel.default.*",
			"$JS.API.STREAM.INFO.GEN_REQ",    // to tell missing streams from a missing server
			"$JS.API.STREAM.MSG.GET.GEN_FIN", // terminal events
			"$JS.API.STREAM.MSG.GET.GEN_EVT", // replay of live events
			"$JS.API.CONSUMER.CREATE.GEN_EVT.>",
			"$JS.API.CONSUMER.MSG.NEXT.GEN_EVT.*",
			"$JS.API.CONSUMER.DELETE.GEN_EVT.*",
			"$O." + bucket + ".>",               // inputs
			"$JS.API.STREAM.INFO.OBJ_" + bucket, // artefacts
			"$JS.API.DIRECT.GET.OBJ_" + bucket + ".>",
			"$JS.API.CONSUMER.CREATE.OBJ_" + bucket + ".>",
			"$JS.API.CONSUMER.DELETE.OBJ_" + bucket + ".*",
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_CLIENT.>", "gen.evt.default.>", "gen.ans.default.*"}},
	}
}

// A client with the least rights can do all of its work and nothing of others'.
func TestAClientNeedsFewRights(t *testing.T) {
	s := eventstest.Start(t, eventstest.WithUsers(
		&server.User{Username: "instance", Password: "instance"},
		&server.User{Username: "client", Password: "client", Permissions: clientRights()}))
	b := &bench{t: t, server: s}
	host := strings.TrimPrefix(s.URL(), "nats://")
	b.b = b.connect("nats://instance:instance@" + host)
	c := broker.DefaultConfig()
	require.NoError(t, b.b.Setup(t.Context(), c))
	require.NoError(t, b.b.EnsurePool(t.Context(), c, pool))
	b.openQueue()

	own, err := broker.Connect("nats://client:client@"+host, broker.Options{InboxPrefix: "_CLIENT", Logger: eventstest.Logger(t)})
	require.NoError(t, err)
	t.Cleanup(own.Close)
	b.Client = client.New(own, client.Options{})

	id, err := b.Publish(t.Context(), client.Request{Data: apple(), Inputs: map[string]client.Input{"latents": {MediaType: "application/x-npy", Data: []byte("numbers")}}})
	require.NoError(t, err)
	j := b.next()
	request, ok, err := j.Open(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
	data, err := events.Payload[events.ImageGenerate](request)
	require.NoError(t, err)
	a := b.begin(j)
	for step := 1; step <= 3; step++ {
		require.NoError(t, a.Publish(t.Context(), broker.KindProgress, progress(t, id, step)))
	}
	b.finish(j, a)
	assert.Equal(t, []string{"1.1", "1.2", "1.3", "end"}, read(t, b.follow(id), 4))
	input, err := b.Fetch(t.Context(), *data.Latents)
	require.NoError(t, err)
	assert.Equal(t, "numbers", string(input))

	b.serveCancels()
	b.publish("withdrawn")
	e, err := b.Cancel(t.Context(), "withdrawn", "")
	require.NoError(t, err)
	assert.Equal(t, events.TypeCancelled, e.Type())

	denied := &events.Error{Code: events.CodePermissionDenied}
	other := client.New(own, client.Options{Tenant: "acme"})
	_, err = other.Publish(t.Context(), client.Request{Data: apple()})
	require.ErrorIs(t, err, denied, "another tenant's request")
	_, err = other.Cancel(t.Context(), id, "")
	require.ErrorIs(t, err, denied, "another tenant's cancel")
	require.ErrorIs(t, own.Setup(t.Context(), c), denied)
	require.NoError(t, own.Conn().Publish(broker.TerminalSubject("default", "forged"), []byte("{}")))
	require.NoError(t, own.Conn().Flush())
	_, answered, err := b.b.Terminal(t.Context(), "default", "forged")
	require.NoError(t, err)
	assert.False(t, answered, "a forged answer")
}
