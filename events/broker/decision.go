package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"genfn/events"
)

// rereadDecision is how often an instance looks for the decision in force, in case it did not hear of one.
const rereadDecision = 30 * time.Second

// DecisionSubject returns the subject on which the bucket says again what was decided on an instance, once that is
// stored. Nobody but the server needs the right to publish to it.
func DecisionSubject(instance string) string { return "gen.dec." + instance }

func decisionSubject(instance string) string { return controlSubject("decision." + instance) }

// StoredDecision is a decision in force.
type StoredDecision struct {
	events.Decision
	Revision uint64 // of the key-value entry
}

// PutDecision puts a decision into force as the successor of the entry with the revision; 0: there is none. The entry
// is a CloudEvent in binary mode. It returns the new revision, and ErrConflict if there is another entry meanwhile.
func (b *Broker) PutDecision(ctx context.Context, d events.Decision, revision uint64, source string) (uint64, error) {
	e, err := events.NewAnswer(events.TypeDecision, events.Meta{
		RequestID: d.Instance, Source: source, ID: fmt.Sprintf("%s-%d-%d", d.Instance, d.Term, d.Number), Time: d.At,
	}, d)
	if err != nil {
		return 0, err
	}
	header, data, err := events.EncodeBinary(e)
	if err != nil {
		return 0, err
	}
	revision, _, err = b.putNext(ctx, streamControl, &nats.Msg{Subject: decisionSubject(d.Instance), Header: header, Data: data}, revision)
	return revision, err
}

// DropDecisions forgets everything that was decided on an instance.
func (b *Broker) DropDecisions(ctx context.Context, instance string) error {
	return b.retry(ctx, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, apiSubjectOf(streamControl))
		defer stop()
		s, err := b.js.Stream(ctx, streamControl)
		if err == nil {
			err = s.Purge(ctx, jetstream.WithPurgeSubject(decisionSubject(instance)))
		}
		return denialOf(ctx, err)
	})
}

// Decision returns the decision in force on an instance; nil: there is none.
func (b *Broker) Decision(ctx context.Context, instance string) (*StoredDecision, error) {
	m, err := b.readLeader(ctx, streamControl, messageGet{Last: decisionSubject(instance)})
	if err != nil || m == nil {
		return nil, err
	}
	d, err := decodeDecision(m.Header, m.Data)
	return &StoredDecision{d, m.Sequence}, err
}

func decodeDecision(header nats.Header, data []byte) (events.Decision, error) {
	e, err := events.Decode(header, data)
	if err != nil {
		return events.Decision{}, err
	}
	return events.Payload[events.Decision](e)
}

// Decisions returns the decisions in force, by the names of the instances.
func (b *Broker) Decisions(ctx context.Context) ([]events.Decision, error) {
	all, err := b.decisions(ctx, "*", jetstream.DeliverLastPerSubjectPolicy)
	slices.SortFunc(all, func(x, y events.Decision) int { return strings.Compare(x.Instance, y.Instance) })
	return all, err
}

// DecisionHistory returns what was decided on an instance as far as it is kept, the oldest first.
func (b *Broker) DecisionHistory(ctx context.Context, instance string) ([]events.Decision, error) {
	return b.decisions(ctx, instance, jetstream.DeliverAllPolicy)
}

func (b *Broker) decisions(ctx context.Context, instance string, which jetstream.DeliverPolicy) ([]events.Decision, error) {
	var stored []events.Event
	err := b.retry(ctx, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, apiSubjectOf(streamControl))
		defer stop()
		var err error
		stored, err = b.readAll(ctx, streamControl, decisionSubject(instance), which)
		if errors.Is(err, jetstream.ErrStreamNotFound) { // of a server that no newer program has set up
			return nil
		}
		return denialOf(ctx, err)
	})
	var out []events.Decision
	for _, e := range stored {
		d, err := events.Payload[events.Decision](e)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, err
}

// WatchDecision calls found with the decision in force on an instance, if there is one before it returns, and with
// each that follows, until stop is called. Calls do not overlap; one that is heard again has the same revision, and an
// older one may come late.
func (b *Broker) WatchDecision(ctx context.Context, instance string, found func(StoredDecision)) (stop func(), err error) {
	var mu sync.Mutex
	take := func(d StoredDecision) {
		mu.Lock()
		defer mu.Unlock()
		found(d)
	}
	sub, err := b.nc.Subscribe(DecisionSubject(instance), func(m *nats.Msg) {
		d, err := decodeDecision(m.Header, m.Data)
		revision, parseErr := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil || parseErr != nil || d.Instance != instance {
			b.log.Warn("what was heard is no decision", "subject", m.Subject, "error", errors.Join(err, parseErr))
			return
		}
		take(StoredDecision{d, revision})
	})
	if err != nil {
		return nil, b.inWords(ctx, err)
	}
	d, err := b.Decision(ctx, instance)
	if err != nil {
		_ = sub.Unsubscribe() // fails only on a closed connection, where it has ended already
		return nil, err
	}
	if d != nil {
		take(*d)
	}
	again := make(chan struct{}, 1)
	forget := b.NotifyReconnect(func() {
		select {
		case again <- struct{}{}:
		default:
		}
	})
	ctx, cancel := context.WithCancel(ctx)
	var rereading sync.WaitGroup
	rereading.Go(func() { b.rereadDecisions(ctx, instance, again, take) })
	return func() {
		forget()
		cancel()
		_ = sub.Unsubscribe()
		rereading.Wait()
	}, nil
}

// WatchDecisions calls found with the decisions in force on all instances, before it returns, and with each that follows,
// until stop is called. Calls do not overlap. What is decided while the connection is lost is not heard.
func (b *Broker) WatchDecisions(ctx context.Context, found func(events.Decision)) (stop func(), err error) {
	var mu sync.Mutex
	mu.Lock()
	sub, err := b.nc.Subscribe(DecisionSubject("*"), func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if d, err := decodeDecision(m.Header, m.Data); err == nil {
			found(d)
		}
	})
	if err != nil {
		mu.Unlock()
		return nil, b.inWords(ctx, err)
	}
	defer mu.Unlock()
	stop = func() { _ = sub.Unsubscribe() } // fails only on a closed connection, where it has ended already
	inForce, err := b.Decisions(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	for _, d := range inForce {
		found(d)
	}
	return stop, nil
}

// rereadDecisions finds out what was decided while nothing could be heard.
func (b *Broker) rereadDecisions(ctx context.Context, instance string, again <-chan struct{}, take func(StoredDecision)) {
	ticker := time.NewTicker(rereadDecision)
	defer ticker.Stop()
	for {
		select {
		case <-again:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		switch d, err := b.Decision(ctx, instance); {
		case err == nil && d != nil:
			take(*d)
		case err != nil && ctx.Err() == nil:
			b.log.Debug("the decision in force cannot be read, the last one stays", "error", err)
		}
	}
}
