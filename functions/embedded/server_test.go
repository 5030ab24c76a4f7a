package embedded_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"genfn/functions/embedded"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

func start(t *testing.T, c embedded.Config) *embedded.Server {
	t.Helper()
	s := embedded.New(c)
	require.NoError(t, s.Start())
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func connect(t *testing.T, s *embedded.Server, options ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(s.URL(), options...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return nc, js
}

func TestKeepsItsDataOverARestart(t *testing.T) {
	dir := t.TempDir()
	first := start(t, embedded.Config{Port: embedded.AnyPort, StoreDir: dir})
	nc, js := connect(t, first)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s.1", []byte("kept"))
	require.NoError(t, err)
	nc.Close()
	require.NoError(t, first.Close())
	require.NoError(t, first.Close(), "safe twice")
	assert.Empty(t, first.URL())

	second := start(t, embedded.Config{Port: embedded.AnyPort, StoreDir: dir, NoSync: true})
	_, js = connect(t, second)
	s, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	m, err := s.GetLastMsgForSubject(t.Context(), "s.1")
	require.NoError(t, err)
	assert.Equal(t, "kept", string(m.Data))
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	err = embedded.New(embedded.Config{Port: port, StoreDir: t.TempDir()}).Start()
	require.ErrorContains(t, err, "port "+strconv.Itoa(port)+" on 127.0.0.1 is in use")
	assert.ErrorContains(t, err, "choose another port")
}

func TestAddressOfAnotherMachine(t *testing.T) {
	err := embedded.New(embedded.Config{Host: "192.0.2.1", Port: 4999, StoreDir: t.TempDir()}).Start()
	require.ErrorContains(t, err, "cannot listen on 192.0.2.1:4999; choose an address of this machine")
	err = embedded.New(embedded.Config{Host: "192.0.2.1", Port: embedded.AnyPort, StoreDir: t.TempDir()}).Start()
	require.ErrorContains(t, err, "cannot listen on 192.0.2.1:0; choose an address of this machine", "at once, not when the start times out")
}

func TestStoreInUse(t *testing.T) {
	dir := t.TempDir()
	first := start(t, embedded.Config{Port: embedded.AnyPort, StoreDir: dir})
	second := embedded.New(embedded.Config{Port: embedded.AnyPort, StoreDir: dir})
	err := second.Start()
	require.ErrorContains(t, err, "used by another running genfn")
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, first.Start(), "running already")

	require.NoError(t, first.Close())
	require.NoError(t, second.Start(), "the folder is free again")
	require.NoError(t, second.Close())
}

func TestStoreThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	err := embedded.New(embedded.Config{Port: embedded.AnyPort, StoreDir: filepath.Join(file, "store")}).Start()
	require.ErrorContains(t, err, "cannot be created; choose a writable one")

	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "genfn.lock"), 0o755), "stands for a folder without write permission, which root does not feel")
	err = embedded.New(embedded.Config{Port: embedded.AnyPort, StoreDir: dir}).Start()
	require.ErrorContains(t, err, "is not writable; choose another")

	err = embedded.New(embedded.Config{Port: embedded.AnyPort}).Start()
	require.ErrorContains(t, err, "needs a folder")
}

func TestAFailedStartFreesTheStore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dir := t.TempDir()
	s := embedded.New(embedded.Config{Port: l.Addr().(*net.TCPAddr).Port, StoreDir: dir})
	require.Error(t, s.Start())
	require.NoError(t, l.Close())
	require.NoError(t, s.Start())
	require.NoError(t, s.Close())
}

func TestRunEndsWithItsContext(t *testing.T) {
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := embedded.New(embedded.Config{Port: embedded.AnyPort, StoreDir: t.TempDir(), Logger: log})
	require.NoError(t, s.Start())
	closed := make(chan struct{})
	_, js := connect(t, s, nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	info, err := js.AccountInfo(t.Context())
	require.NoError(t, err)
	assert.Zero(t, info.Streams)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	cancel()
	require.NoError(t, <-done)
	<-closed
	assert.Contains(t, text.String(), "Server is ready", "the server's log reaches slog")
}
