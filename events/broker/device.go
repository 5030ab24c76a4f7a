package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	return b.publishLive(subject, e, nats.Header{headerOutline: {status.Outline()}})
}

// PublishCanary tells how a device proved itself. Like a status it is not waited for.
func (b *Broker) PublishCanary(c events.Canary, source string) error {
	id := fmt.Sprintf("%s-%s-%d", c.Instance, c.Incarnation, c.Sequence)
	e, err := events.NewAnswer(events.TypeCanary, events.Meta{RequestID: c.Instance, Source: source, ID: id, Time: b.now()}, c)
	if err != nil {
		return err
	}
	return b.publishLive(StatusSubject(c.Instance), e, nil)
}

// publishLive sends an event, with more headers than its own, without waiting for the server.
func (b *Broker) publishLive(subject string, e events.Event, more nats.Header) error {
	header, body, err := events.EncodeBinary(e)
	if err != nil {
		return err
	}
	maps.Copy(header, more)
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
	return b.watchInstances(ctx, []string{HeartbeatSubject("*")}, maxAge, nil, found, nil)
}

// WatchInstances calls status with every heartbeat and every change of a device's state, stored heartbeats first, and
// canary with every completed canary, until stop is called. Calls do not overlap.
func (b *Broker) WatchInstances(ctx context.Context, maxAge time.Duration, status func(events.DeviceStatus), canary func(events.Canary)) (stop func(), err error) {
	return b.watchInstances(ctx, []string{HeartbeatSubject("*"), StatusSubject("*")}, maxAge, nil, status, canary)
}

// WatchPeers calls status with heartbeats and changes of devices' states, stored heartbeats first, until stop is called.
// Of a heartbeat it first calls alive with the instance's name and DeviceStatus.Outline; if that returns true, which says
// that it knows a status of this outline, the heartbeat is not read: reading one takes a quarter of a millisecond.
// Calls do not overlap.
func (b *Broker) WatchPeers(ctx context.Context, maxAge time.Duration, alive func(instance, outline string) bool, status func(events.DeviceStatus)) (stop func(), err error) {
	return b.watchInstances(ctx, []string{HeartbeatSubject("*"), StatusSubject("*")}, maxAge, alive, status, nil)
}

func (b *Broker) watchInstances(ctx context.Context, subjects []string, maxAge time.Duration, alive func(instance, outline string) bool, status func(events.DeviceStatus), canary func(events.Canary)) (stop func(), err error) {
	var mu sync.Mutex
	known := func(m *nats.Msg) bool {
		instance, heartbeat := strings.CutPrefix(m.Subject, HeartbeatSubject(""))
		outline := m.Header.Get(headerOutline)
		if alive == nil || !heartbeat || outline == "" {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		return alive(instance, outline)
	}
	hear := func(m *nats.Msg) {
		if known(m) {
			return
		}
		e, err := events.Decode(m.Header, m.Data)
		if err != nil {
			return // others may publish here; what is no event is not ours
		}
		mu.Lock()
		defer mu.Unlock()
		if e.Type() == events.TypeCanary {
			if c, err := events.Payload[events.Canary](e); err == nil && canary != nil {
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
