package instance

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/eventstest"
)

// Of the heartbeats of others those are read that tell something new.
func TestHeartbeatsThatTellNothingNewAreNotRead(t *testing.T) {
	b, err := broker.Connect(eventstest.Start(t).URL(), broker.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	require.NoError(t, b.Setup(t.Context(), broker.DefaultConfig()))

	p := newPeers()
	read, heard := make(chan events.DeviceStatus, 16), make(chan bool, 16)
	stop, err := b.WatchPeers(t.Context(), time.Minute, func(instance, outline string) bool {
		known := p.alive(instance, outline)
		heard <- known
		return known
	}, func(s events.DeviceStatus) {
		p.note(s)
		read <- s
	})
	require.NoError(t, err)
	t.Cleanup(stop)

	s := events.DeviceStatus{
		Instance: "gpu-1", Device: "GPU.0", Class: events.DeviceGPU, State: events.StateReady, Reason: "validated", Since: time.Now(), Slots: 1,
		Models: []string{"m"}, Incarnation: events.NewID(), Sequence: 1,
	}
	say := func(known bool) {
		t.Helper()
		require.NoError(t, b.PublishStatus(s, true, "/test"))
		require.Equal(t, known, <-heard)
		if !known {
			require.Equal(t, s.Sequence, (<-read).Sequence)
		}
		s.Sequence++
	}
	say(false)
	s.MemoryInfo = &events.MemoryInfo{RSSMB: 812.5}
	say(true)
	assert.True(t, p.serve(events.DeviceGPU, "m"))
	s.State = events.StateShed
	say(false)
	assert.False(t, p.serve(events.DeviceGPU, "m"))
	say(true)
	s.State = events.StateReady
	say(false)
	assert.True(t, p.serve(events.DeviceGPU, "m"))
	s.Models = append(s.Models, "n")
	say(false)
	assert.True(t, p.serve(events.DeviceGPU, "n"))
	s.Incarnation = events.NewID()
	say(false)
	assert.Empty(t, read)
}
