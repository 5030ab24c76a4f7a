package broker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

const (
	requestTimeout = 3 * time.Second // one try of one request to the server
	pingInterval   = 4 * time.Second // a silent server is given up after three of them
	writeTimeout   = 5 * time.Second // a write that takes longer breaks the connection
	maxLivePending = 8192            // unacknowledged live events before more are dropped
)

// Options say how to connect. The zero value is usable.
type Options struct {
	Name        string           // shown in the server's list of connections
	Source      string           // CloudEvents source of the events the broker writes itself; "": "/genfn/broker"
	Credentials string           // path of a NATS credentials file
	InboxPrefix string           // for users who may subscribe only below their own prefix; "": _INBOX
	Logger      *slog.Logger     // nil: discard
	Now         func() time.Time // nil: time.Now; decides what has expired
	NATS        []nats.Option    // more options, e.g. TLS
}

// Broker is a connection to a NATS server or cluster. It reconnects for ever.
// Safe for concurrent use.
type Broker struct {
	url     string
	nc      *nats.Conn
	js      jetstream.JetStream
	objects jetstream.JetStream // publishes the messages of objects
	log     *slog.Logger
	now     func() time.Time
	source  string

	denials    denials
	lostEvents atomic.Uint64
	repairing  atomic.Bool

	life  context.Context // ends with Close
	end   context.CancelFunc
	tasks sync.WaitGroup

	mu          sync.Mutex
	onReconnect map[int]func()
	nextHandler int
	buckets     map[string]jetstream.ObjectStore
	made        []madeThing // in the order in which they were made
}

// Connect connects to url, which may hold several addresses separated by commas.
// It returns an error when no server answers; later losses of the connection
// are repaired in the background. The caller must Close the broker.
func Connect(url string, o Options) (*Broker, error) {
	b := &Broker{url: url, log: o.Logger, now: o.Now, source: o.Source, onReconnect: map[int]func(){}, buckets: map[string]jetstream.ObjectStore{}}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.now == nil {
		b.now = time.Now
	}
	if b.source == "" {
		b.source = "/genfn/broker"
	}
	b.life, b.end = context.WithCancel(context.Background())
	b.denials.inbox = nats.InboxPrefix
	options := []nats.Option{
		nats.Name(o.Name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 200*time.Millisecond),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(writeTimeout),
		nats.ErrorHandler(b.handleError),
		nats.ReconnectHandler(b.reconnected),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("connection to NATS lost, reconnecting", "url", redact(url), "error", err)
			}
		}),
	}
	if o.Credentials != "" {
		options = append(options, nats.UserCredentials(o.Credentials))
	}
	if o.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(o.InboxPrefix))
		b.denials.inbox = o.InboxPrefix + "."
	}
	nc, err := nats.Connect(url, append(options, o.NATS...)...)
	if err != nil {
		return nil, connectError(url, err)
	}
	b.nc = nc
	b.js, err = jetstream.New(nc,
		jetstream.WithDefaultTimeout(requestTimeout),
		jetstream.WithPublishAsyncMaxPending(maxLivePending),
		jetstream.WithPublishAsyncTimeout(2*requestTimeout),
		jetstream.WithPublishAsyncErrHandler(b.liveEventLost))
	if err == nil {
		b.objects, err = jetstream.New(nc, jetstream.WithDefaultTimeout(requestTimeout), jetstream.WithPublishAsyncTimeout(2*requestTimeout))
	}
	if err != nil {
		nc.Close()
		return nil, events.Errorf(events.CodeInternal, "JetStream at %s cannot be used: %w", redact(url), err)
	}
	return b, nil
}

// Close ends the connection. Queues, followers and sweepers must be closed
// before. It is safe to call twice.
func (b *Broker) Close() {
	b.mu.Lock()
	b.end()
	b.mu.Unlock()
	b.nc.Close()
	b.tasks.Wait()
}

// Conn returns the connection, for subjects this package does not know. The
// broker owns it.
func (b *Broker) Conn() *nats.Conn { return b.nc }

// URL returns the address given to Connect, without its password.
func (b *Broker) URL() string { return redact(b.url) }

// LostEvents returns how many live events the server did not take.
func (b *Broker) LostEvents() uint64 { return b.lostEvents.Load() }

// NotifyReconnect calls f after every reconnection until stop is called. f must
// not block.
func (b *Broker) NotifyReconnect(f func()) (stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.nextHandler
	b.nextHandler++
	b.onReconnect[n] = f
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.onReconnect, n)
	}
}

func (b *Broker) reconnected(nc *nats.Conn) {
	b.log.Info("connected to NATS again", "url", nc.ConnectedUrlRedacted())
	b.mu.Lock()
	if b.life.Err() == nil && len(b.made) > 0 {
		b.tasks.Go(b.restore)
	}
	handlers := make([]func(), 0, len(b.onReconnect))
	for _, f := range b.onReconnect {
		handlers = append(handlers, f)
	}
	b.mu.Unlock()
	for _, f := range handlers {
		f()
	}
}

// madeThing is something that Setup, EnsureTenant or EnsurePool made.
type madeThing struct {
	name  string
	again func(context.Context) error
}

// makeAndRemember runs ensure, and again after every reconnection, since streams
// in memory do not outlive their server, and when the server does not know a
// queue's consumers any more.
func (b *Broker) makeAndRemember(ctx context.Context, name string, ensure func(context.Context) error) error {
	if err := ensure(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.made {
		if b.made[i].name == name {
			b.made[i].again = ensure
			return nil
		}
	}
	b.made = append(b.made, madeThing{name, ensure})
	return nil
}

// repair makes again, in the background, what was made and is gone, unless that is being done.
func (b *Broker) repair() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.life.Err() != nil || len(b.made) == 0 || !b.repairing.CompareAndSwap(false, true) {
		return
	}
	b.tasks.Go(func() {
		defer b.repairing.Store(false)
		b.restore()
	})
}

func (b *Broker) restore() {
	b.mu.Lock()
	made := append([]madeThing(nil), b.made...)
	b.mu.Unlock()
	for _, thing := range made {
		if err := thing.again(b.life); err != nil && b.life.Err() == nil {
			b.log.Error("what was set up could not be set up again", "what", thing.name, "error", err)
		}
	}
}

func (b *Broker) liveEventLost(_ jetstream.JetStream, m *nats.Msg, err error) {
	b.lostEvents.Add(1)
	b.log.Warn("a live event was not stored", "subject", m.Subject, "error", err)
}

// bucket returns the object store of a tenant.
func (b *Broker) bucket(ctx context.Context, tenant string) (jetstream.ObjectStore, error) {
	b.mu.Lock()
	store := b.buckets[tenant]
	b.mu.Unlock()
	if store != nil {
		return store, nil
	}
	store, err := b.js.ObjectStore(ctx, Bucket(tenant))
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buckets[tenant] = store
	return store, nil
}
