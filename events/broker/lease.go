package broker

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// BucketControl is the key-value bucket of the health controller: who leads, and the decisions in force.
const BucketControl = "genfn-control"

const (
	streamControl = "KV_" + BucketControl
	keptDecisions = 64 // on an instance
	leaseParts    = 4  // renewals within the life of a lease
)

func controlSubject(key string) string { return "$KV." + BucketControl + "." + key }

// controlStream is the bucket's stream as nats.go's CreateKeyValue makes it, but it is read from its leader only, and
// says on DecisionSubject what it has stored.
func (c Config) controlStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: streamControl, Description: "genfn health controller",
		Subjects: []string{controlSubject(">")},
		Storage:  jetstream.FileStorage, Discard: jetstream.DiscardNew,
		MaxMsgsPerSubject: keptDecisions, MaxMsgSize: events.MaxEventBytes + headerAllowance,
		AllowRollup: true, DenyDelete: true,
		RePublish: &jetstream.RePublish{Source: controlSubject("decision.*"), Destination: DecisionSubject("{{wildcard(1)}}")},
	}
}

// Lease is the right of one of several processes to do something, while it is renewed.
type Lease struct {
	// Term is higher than that of everybody who held the lease before.
	Term uint64

	b    *Broker
	name string
	ttl  time.Duration

	mu       sync.Mutex
	revision uint64
	until    time.Time
}

// leaseHolder is what is stored of a lease. An empty one was given back.
type leaseHolder struct {
	Name  string `json:"name"`
	Renew string `json:"renew"` // drawn for each renewal: tells a write whose confirmation was lost
}

// Valid reports whether nobody else can hold the lease now, by the clock of this process. What was stopped for a while
// should ask before it acts.
func (l *Lease) Valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until)
}

// Lead waits for a lease and calls lead while this process holds it, again and again until ctx ends. The context of
// lead ends at once when the lease is not renewed in time or somebody else has it. If lead returns, the lease is given
// back and waited for again. Nobody's clock needs to be right: who wants the lease takes it when it was not renewed
// for ttl by the own clock, and who holds it lets go ttl after the last renewal was sent.
func (b *Broker) Lead(ctx context.Context, key, name string, ttl time.Duration, lead func(context.Context, *Lease) error) error {
	for ctx.Err() == nil {
		l := &Lease{b: b, ttl: ttl, name: name}
		if err := l.acquire(ctx, key); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // it was to end
			}
			return err
		}
		b.log.Info("leads", "lease", key, "name", name, "term", l.Term)
		err := l.hold(ctx, key, lead)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was to end
		}
		b.log.Warn("leads no more", "lease", key, "name", name, "error", err)
		if pause(ctx, ttl/leaseParts) != nil {
			return nil //nolint:nilerr // it was to end
		}
	}
	return nil
}

// pause returns ctx's error if that ended first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Holder returns who holds a lease, as far as it was not given back; "": nobody. One who died is still named until
// another takes it.
func (b *Broker) Holder(ctx context.Context, key string) (name string, err error) {
	stored, err := b.readLeader(ctx, streamControl, messageGet{Last: controlSubject(key)})
	if errors.Is(err, jetstream.ErrStreamNotFound) { // of a server that no newer program has set up
		return "", nil
	}
	if err != nil || stored == nil {
		return "", err
	}
	var holder leaseHolder
	err = json.Unmarshal(stored.Data, &holder)
	return holder.Name, err
}

// acquire waits until the lease is free and takes it.
func (l *Lease) acquire(ctx context.Context, key string) error {
	var seen uint64
	var since time.Time
	for {
		stored, err := l.b.readLeader(ctx, streamControl, messageGet{Last: controlSubject(key)})
		if err != nil {
			return err
		}
		sequence, free := uint64(0), stored == nil
		if stored != nil {
			var holder leaseHolder
			sequence = stored.Sequence
			if sequence != seen {
				seen, since = sequence, time.Now()
			}
			free = json.Unmarshal(stored.Data, &holder) != nil || holder.Name == "" || time.Since(since) >= l.ttl
		}
		if free {
			sent := time.Now()
			switch revision, err := l.put(ctx, key, l.name, sequence); {
			case err == nil:
				l.Term, l.revision, l.until = revision, revision, sent.Add(l.ttl)
				return nil
			case !errors.Is(err, ErrConflict):
				return err
			}
		}
		if err := pause(ctx, l.ttl/leaseParts); err != nil {
			return err
		}
	}
}

// put stores who holds the lease, as the successor of the entry with the sequence.
func (l *Lease) put(ctx context.Context, key, name string, sequence uint64) (revision uint64, err error) {
	data, err := json.Marshal(leaseHolder{name, events.NewID()})
	if err != nil {
		return 0, err
	}
	revision, _, err = l.b.putNext(ctx, streamControl, &nats.Msg{Subject: controlSubject(key), Header: nats.Header{}, Data: data}, sequence)
	return revision, err
}

// hold calls lead and renews the lease meanwhile.
func (l *Lease) hold(ctx context.Context, key string, lead func(context.Context, *Lease) error) error {
	leading, end := context.WithCancelCause(ctx)
	expiry := time.AfterFunc(time.Until(l.until), func() { end(errors.New("the lease was not renewed in time")) })
	defer expiry.Stop()
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for pause(leading, l.ttl/leaseParts) == nil {
			if err := l.renew(leading, key); err != nil && leading.Err() == nil {
				end(err)
			}
			expiry.Reset(time.Until(l.until))
		}
	})
	err := lead(leading, l)
	lost := context.Cause(leading)
	end(nil)
	renewing.Wait()
	if lost != nil && ctx.Err() == nil {
		return lost
	}
	l.release(ctx, key)
	return err
}

// renew makes the lease last ttl from now. One that is not the newest entry any more is lost.
func (l *Lease) renew(ctx context.Context, key string) error {
	sent := time.Now()
	revision, err := l.put(ctx, key, l.name, l.revision)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revision, l.until = revision, sent.Add(l.ttl)
	return nil
}

// release gives the lease back, so that others need not wait for its end.
func (l *Lease) release(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(l.ttl, requestTimeout))
	defer cancel()
	if _, err := l.put(ctx, key, "", l.revision); err != nil {
		l.b.log.Debug("a lease was not given back, it ends by itself", "lease", key, "error", err)
	}
}
