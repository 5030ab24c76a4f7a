package broker

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"genfn/events"
)

// CommandSubject returns the subject of NATS requests that ask the controller for a decision on an instance.
func CommandSubject(instance string) string { return "gen.ctl." + instance }

// Command asks the controller for a decision on an instance and returns it once it is in force. Errors:
// invalid_request for an instance that is not there, device_unavailable if no controller leads until ctx ends.
func (b *Broker) Command(ctx context.Context, instance string, c events.Command) (d events.Decision, err error) {
	if err := events.CheckID(instance); err != nil {
		return d, err
	}
	id := events.NewID()
	ask, err := events.NewRequest(events.TypeCommand, events.Meta{RequestID: instance, ID: id, Source: b.source}, c)
	if err != nil {
		return d, err
	}
	if err := events.Validate(ask); err != nil {
		return d, err
	}
	header, data, err := events.EncodeBinary(ask)
	if err != nil {
		return d, err
	}
	m := &nats.Msg{Subject: CommandSubject(instance), Header: header, Data: data}
	var unheard bool
	err = b.retry(ctx, func(ctx context.Context) error {
		ctx, stop := b.guard(ctx, func(s string) bool { return s == m.Subject })
		defer stop()
		reply, err := b.nc.RequestMsgWithContext(ctx, m)
		if err != nil {
			unheard = errors.Is(err, nats.ErrNoResponders) || unheard && ctx.Err() != nil // whose try was cut short
			return denialOf(ctx, err)
		}
		e, err := decodeReply(reply, func(typ string) bool { return typ == events.TypeDecision })
		if err != nil {
			return err
		}
		d, err = events.Payload[events.Decision](e)
		return err
	})
	if err != nil && unheard {
		e := events.Errorf(events.CodeDeviceUnavailable, "no health controller at %s is there to decide", b.URL())
		e.Advice = "Start one with genfn controller; genfn up runs one."
		e.Cause = err
		return d, e
	}
	return d, err
}

// ServeCommands answers the commands of operators by decide, whose calls do not overlap, until stop is called.
func (b *Broker) ServeCommands(decide func(ctx context.Context, instance string, c events.Command) (events.Decision, error)) (stop func(), err error) {
	ctx, cancel := context.WithCancel(b.life)
	var tasks sync.Mutex // held while a command is answered
	sub, err := b.nc.Subscribe(CommandSubject("*"), func(m *nats.Msg) {
		tasks.Lock()
		defer tasks.Unlock()
		instance := strings.TrimPrefix(m.Subject, CommandSubject(""))
		command, err := readCommand(m, instance)
		var e events.Event
		if err == nil {
			e, err = b.decisionOn(ctx, instance, command, decide)
		}
		if ctx.Err() != nil {
			return // another leader answers when it is asked again
		}
		b.reply(m.Reply, e, err)
	})
	if err != nil {
		cancel()
		return nil, b.inWords(context.Background(), err)
	}
	return func() {
		cancel()
		_ = sub.Unsubscribe() // fails only on a closed connection, where it has ended already
		tasks.Lock()          // the last one has ended
		defer tasks.Unlock()
	}, b.Flush()
}

func (b *Broker) decisionOn(ctx context.Context, instance string, c events.Command, decide func(context.Context, string, events.Command) (events.Decision, error)) (events.Event, error) {
	d, err := decide(ctx, instance, c)
	if err != nil {
		return events.Event{}, err
	}
	return events.NewAnswer(events.TypeDecision, events.Meta{RequestID: instance, Source: b.source, ID: events.NewID(), Time: d.At}, d)
}

func readCommand(m *nats.Msg, instance string) (events.Command, error) {
	e, err := events.Decode(m.Header, m.Data)
	if err != nil {
		return events.Command{}, err
	}
	if err := e.CheckSubject(instance); err != nil {
		return events.Command{}, err
	}
	if e.Type() != events.TypeCommand {
		bad := events.Errorf(events.CodeInvalidRequest, "found the type %q", e.Type())
		bad.Field, bad.Expected = "type", events.TypeCommand
		return events.Command{}, bad
	}
	return events.Payload[events.Command](e)
}
