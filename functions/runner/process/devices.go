package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"genfn/functions/device/fault"
	"genfn/functions/runner/protocol"
)

// discoveryTimeout bounds the listing of devices: drivers that hang are a fact.
const discoveryTimeout = 30 * time.Second

// Devices lists the devices the runtime sees. It asks a short-lived runner, so a driver that crashes or
// hangs costs an error and not this process. Config.Hello.Device is ignored.
func Devices(ctx context.Context, c Config) (list *protocol.DeviceList, err error) {
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	c.Hello.Device = ""
	p, err := Start(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := p.Send(&protocol.Devices{Job: 1}); err != nil {
		return nil, err
	}
	select {
	case m, ok := <-p.Messages():
		if !ok {
			killed := p.KillFor(fault.KilledNot)
			exit, _ := p.Exit()
			return nil, errors.Join(fmt.Errorf("listing devices: %s; its last words: %q", exit, exit.Stderr), killed)
		}
		switch m := m.(type) {
		case *protocol.DeviceList:
			return m, nil
		case *protocol.Failed:
			return nil, m.Error
		default:
			return nil, fmt.Errorf("listing devices: the runner answered %s", protocol.KindOf(m))
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("listing devices took too long, a driver may hang: %w", errors.Join(ctx.Err(), p.KillFor(fault.KilledForHang)))
	}
}
