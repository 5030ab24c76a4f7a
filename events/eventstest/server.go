// Package eventstest runs a NATS server with JetStream inside a test: with a
// store on disk that survives Restart, and a proxy in front of it that can be
// cut to play a network failure.
package eventstest

import (
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"genfn/events/eventstest/proxy"
)

// startTimeout bounds how long a server may take until it accepts connections.
const startTimeout = 20 * time.Second

// Option changes the options of the server before it starts.
type Option func(*server.Options)

// WithSync makes the server fsync every write, as in production.
func WithSync() Option { return func(o *server.Options) { o.SyncAlways = true } }

// WithUsers lets only the given users in.
func WithUsers(users ...*server.User) Option {
	return func(o *server.Options) { o.Users = users }
}

// Server is a NATS server that lives in the test process.
type Server struct {
	t       testing.TB
	options *server.Options

	mu   sync.Mutex
	srv  *server.Server // nil while stopped
	port int
}

// Start runs a server on a free port of the loopback interface with JetStream
// in t.TempDir, and stops it when the test ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	o := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: t.TempDir(),
		NoLog: true, NoSigs: true,
	}
	for _, option := range options {
		option(o)
	}
	s := &Server{t: t, options: o}
	s.start()
	t.Cleanup(s.Stop)
	return s
}

// URL returns the address of the server; it stays the same over a Restart.
func (s *Server) URL() string { return "nats://" + s.address() }

func (s *Server) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return net.JoinHostPort(s.options.Host, strconv.Itoa(s.port))
}

// Proxy starts a proxy in front of s that ends with the test.
func (s *Server) Proxy() *proxy.Proxy {
	s.t.Helper()
	p, err := proxy.Listen(s.t.Context(), s.address())
	require.NoError(s.t, err)
	s.t.Cleanup(p.Close)
	return p
}

// Connect returns a plain connection to the server that is closed when the test ends.
func (s *Server) Connect(options ...nats.Option) *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect(s.URL(), append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond)}, options...)...)
	require.NoError(s.t, err)
	s.t.Cleanup(nc.Close)
	return nc
}

// Stop shuts the server down and keeps its store. It is safe to call twice.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil {
		return
	}
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	s.srv = nil
}

// Resume starts a stopped server again on the same port with the same store.
func (s *Server) Resume() {
	s.t.Helper()
	s.start()
}

// Restart stops the server and starts it again: every connection breaks, what
// is on disk stays, what is in memory is lost.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.start()
}

func (s *Server) start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Nil(s.t, s.srv, "the server is already running")
	if s.port != 0 {
		s.options.Port = s.port
	}
	srv, err := server.NewServer(s.options.Clone())
	require.NoError(s.t, err)
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		srv.Shutdown()
		require.FailNow(s.t, "the NATS server did not start", "port %d, store %s", s.options.Port, s.options.StoreDir)
	}
	u, err := url.Parse(srv.ClientURL())
	require.NoError(s.t, err)
	s.port, err = strconv.Atoi(u.Port())
	require.NoError(s.t, err)
	s.srv = srv
}
