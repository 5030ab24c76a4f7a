// Package embedded runs a NATS server with JetStream on disk inside the process,
// for installations of one machine.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// DefaultPort is the port NATS clients try first.
	DefaultPort = 4222
	// AnyPort lets the system choose a free port.
	AnyPort = -1

	startTimeout = 30 * time.Second
	lockName     = "genfn.lock"
)

// Config says where the server listens and keeps its data. Only StoreDir is needed.
type Config struct {
	Host     string // "": 127.0.0.1; there is no access control, so other machines should not reach it
	Port     int    // 0: DefaultPort; AnyPort: a free one
	StoreDir string // JetStream's files; created if missing; one server at a time

	// NoSync leaves writes to the operating system's cache for up to two minutes.
	// By default every write is flushed to the disk before it is confirmed, as
	// nothing else survives a loss of power. That costs one fsync a message: about
	// 1 ms on an SSD for a request's way from publishing to the result, and a
	// ceiling of roughly 1,500 instead of 12,000 requests a second.
	NoSync bool

	Logger *slog.Logger // nil: discard
}

// Server is a NATS server in this process.
type Server struct {
	config Config

	mu   sync.Mutex
	srv  *server.Server // nil while not running
	lock *os.File       // holds StoreDir
	url  string
}

// New returns a server that does not run yet.
func New(c Config) *Server {
	if c.Host == "" {
		c.Host = "127.0.0.1"
	}
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{config: c}
}

// Start returns when the server accepts connections. The error says what is in
// the way: the port, the folder, another server that uses it.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		return errors.New("the embedded NATS server is running already")
	}
	lock, err := lockStore(s.config.StoreDir)
	if err != nil {
		return err
	}
	srv, err := s.start()
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	s.srv, s.lock, s.url = srv, lock, srv.ClientURL()
	return nil
}

func (s *Server) start() (*server.Server, error) {
	if err := s.checkPort(); err != nil {
		return nil, err
	}
	srv, err := server.NewServer(&server.Options{
		ServerName: "genfn", Host: s.config.Host, Port: s.config.Port,
		JetStream: true, StoreDir: s.config.StoreDir, SyncAlways: !s.config.NoSync,
		NoSigs: true,
	})
	if err != nil {
		return nil, fmt.Errorf("the embedded NATS server cannot be configured: %w", err)
	}
	log := &logger{log: s.config.Logger}
	srv.SetLoggerV2(log, s.config.Logger.Enabled(context.Background(), slog.LevelDebug), false, false)
	srv.Start()
	if srv.ReadyForConnections(startTimeout) && srv.JetStreamEnabled() {
		return srv, nil
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	if fatal := log.lastFatal(); fatal != "" {
		return nil, fmt.Errorf("the embedded NATS server could not start: %s", fatal)
	}
	return nil, fmt.Errorf("the embedded NATS server was not ready after %s; look at its log and at the disk of %s", startTimeout, s.config.StoreDir)
}

// checkPort says plainly what the server would only log.
func (s *Server) checkPort() error {
	address := net.JoinHostPort(s.config.Host, strconv.Itoa(max(s.config.Port, 0))) // AnyPort is -1
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	switch {
	case err == nil:
		return l.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d on %s is in use: another NATS server or genfn up may be running; connect to that one, or choose another port: %w", s.config.Port, s.config.Host, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("port %d needs rights this user does not have; choose one above 1023: %w", s.config.Port, err)
	}
	return fmt.Errorf("cannot listen on %s; choose an address of this machine: %w", address, err)
}

// lockStore creates dir and holds it against other servers until the file is closed.
func lockStore(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("the embedded NATS server needs a folder for its data")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for NATS data cannot be created; choose a writable one: %w", err)
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the folder for NATS data is not writable; choose another or change its rights: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("the folder %s is used by another running genfn; stop that one, connect to it, or choose another folder", dir)
	}
	return nil, errors.Join(err, f.Close())
}

// URL returns the address of the running server, "" before Start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// Run starts the server, unless it runs already, and closes it when ctx ends.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	running := s.srv != nil
	s.mu.Unlock()
	if !running {
		if err := s.Start(); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return s.Close()
}

// Close stops the server after writing out its state. It is safe to call twice.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil {
		return nil
	}
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	err := s.lock.Close()
	s.srv, s.lock, s.url = nil, nil, ""
	return err
}

// logger writes the server's log lines to slog. Safe for concurrent use.
type logger struct {
	log *slog.Logger

	mu    sync.Mutex
	fatal string
}

var _ server.Logger = (*logger)(nil)

func (l *logger) write(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Noticef writes at debug level: the server's notices are its banner.
func (l *logger) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l *logger) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l *logger) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }

// Fatalf does not end the process, unlike the server's own logger: Start returns
// the text as an error.
func (l *logger) Fatalf(format string, v ...any) {
	l.write(slog.LevelError, format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatal = fmt.Sprintf(format, v...)
}

func (l *logger) lastFatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}
