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

// keptStatuses is how many status messages of an instance the stream keeps.
const keptStatuses = 64

// StatusSubject returns the subject of the changes of state of an instance's device.
func StatusSubject(instance string) string { return "gen.dev." + instance }

// HeartbeatSubject returns the subject of an instance's heartbeats.
func HeartbeatSubject(instance string) string { return "gen.hb." + instance }

// PublishStatus emits the status of an instance's device, as a heartbeat or because its state has changed. Like a
// live event it is not waited for, and one that is lost is logged and counted.
func (b *Broker) PublishStatus(status events.DeviceStatus, heartbeat bool, source string) error {
	status = status.Fit()
	typ, subject, data := events.TypeConditionChanged, StatusSubject(status.Instance), any(events.ConditionChanged(status))
	if heartbeat {
		typ, subject, data = events.TypeHeartbeat, HeartbeatSubject(status.Instance), events.Heartbeat(status)
	}
	now := b.now()
	e, err := events.NewAnswer(typ, events.Meta{RequestID: status.Instance, Source: source, ID: status.Instance + "-" + strconv.FormatInt(now.UnixNano(), 36), Time: now}, data)
	if err != nil {
		return err
	}
	return b.publishLive(subject, e)
}

// PublishCanary tells how a device proved itself. Like a status it is not waited for.
func (b *Broker) PublishCanary(c events.Canary, source string) error {
	id := fmt.Sprintf("%s-%s-%d", c.Instance, c.Incarnation, c.Sequence)
	e, err := events.NewAnswer(events.TypeCanary, events.Meta{RequestID: c.Instance, Source: source, ID: id, Time: b.now()}, c)
	if err != nil {
		return err
	}
	return b.publishLive(StatusSubject(c.Instance), e)
}

// publishLive sends an event without waiting for the server.
func (b *Broker) publishLive(subject string, e events.Event) error {
	header, body, err := events.EncodeBinary(e)
	if err != nil {
		return err
	}
	if _, err := b.js.PublishMsgAsync(&nats.Msg{Subject: subject, Header: header, Data: body}); err != nil {
		b.lostEvents.Add(1)
		return b.inWords(context.Background(), err)
	}
	return nil
}

// Devices returns the newest heartbeat of every instance that sent one within maxAge, by name.
func (b *Broker) Devices(ctx context.Context, maxAge time.Duration) ([]events.DeviceStatus, error) {
	return b.statuses(ctx, HeartbeatSubject("*"), maxAge, jetstream.DeliverLastPerSubjectPolicy)
}

// DeviceHistory returns the changes of state of an instance's device that are kept, the oldest first.
func (b *Broker) DeviceHistory(ctx context.Context, instance string) ([]events.DeviceStatus, error) {
	return b.statuses(ctx, StatusSubject(instance), 0, jetstream.DeliverAllPolicy)
}

func (b *Broker) statuses(ctx context.Context, subject string, maxAge time.Duration, which jetstream.DeliverPolicy) ([]events.DeviceStatus, error) {
	var stored []events.Event
	err := b.retry(ctx, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, apiSubjectOf(StreamDevices))
		defer stop()
		var err error
		stored, err = b.readAll(ctx, StreamDevices, subject, which)
		if errors.Is(err, jetstream.ErrStreamNotFound) { // it lives in memory, and instances make it
			return nil
		}
		return denialOf(ctx, err)
	})
	if err != nil {
		return nil, err
	}
	var out []events.DeviceStatus
	for _, e := range stored {
		if e.Type() == events.TypeCanary {
			continue
		}
		if maxAge > 0 && b.now().Sub(e.Time()) > maxAge {
			continue
		}
		status, err := statusOf(e)
		if err != nil {
			return nil, err
		}
		out = append(out, status)
	}
	if which == jetstream.DeliverLastPerSubjectPolicy {
		slices.SortFunc(out, func(a, b events.DeviceStatus) int { return strings.Compare(a.Instance, b.Instance) })
	}
	return out, nil
}

func statusOf(e events.Event) (events.DeviceStatus, error) {
	if e.Type() == events.TypeHeartbeat {
		status, err := events.Payload[events.Heartbeat](e)
		return events.DeviceStatus(status), err
	}
	status, err := events.Payload[events.ConditionChanged](e)
	return events.DeviceStatus(status), err
}

// WatchDevices calls found with every heartbeat, the stored ones first, until stop is called. Calls do not overlap.
func (b *Broker) WatchDevices(ctx context.Context, maxAge time.Duration, found func(events.DeviceStatus)) (stop func(), err error) {
	return b.watchInstances(ctx, []string{HeartbeatSubject("*")}, maxAge, found, nil)
}

// WatchInstances calls status with every heartbeat and every change of a device's state, stored heartbeats first, and
// canary with every completed canary, until stop is called. Calls do not overlap.
func (b *Broker) WatchInstances(ctx context.Context, maxAge time.Duration, status func(events.DeviceStatus), canary func(events.Canary)) (stop func(), err error) {
	return b.watchInstances(ctx, []string{HeartbeatSubject("*"), StatusSubject("*")}, maxAge, status, canary)
}

func (b *Broker) watchInstances(ctx context.Context, subjects []string, maxAge time.Duration, status func(events.DeviceStatus), canary func(events.Canary)) (stop func(), err error) {
	var mu sync.Mutex
	hear := func(m *nats.Msg) {
		e, err := events.Decode(m.Header, m.Data)
		if err != nil {
			return // others may publish here; what is no event is not ours
		}
		mu.Lock()
		defer mu.Unlock()
		if e.Type() == events.TypeCanary && canary != nil {
			if c, err := events.Payload[events.Canary](e); err == nil {
				canary(c)
			}
		} else if s, err := statusOf(e); err == nil {
			status(s)
		}
	}
	var subs []*nats.Subscription
	stop = func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe() // fails only on a closed connection, where it has ended already
		}
	}
	for _, subject := range subjects {
		sub, err := b.nc.Subscribe(subject, hear)
		if err != nil {
			stop()
			return nil, b.inWords(ctx, err)
		}
		subs = append(subs, sub)
	}
	stored, err := b.Devices(ctx, maxAge)
	if err != nil {
		stop()
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	for _, s := range stored {
		status(s)
	}
	return stop, nil
}
