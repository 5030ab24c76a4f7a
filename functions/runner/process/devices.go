package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/runner/protocol"
)

// Bounds of the questions about devices: drivers that hang are a fact.
const (
	discoveryTimeout  = 30 * time.Second
	validationTimeout = 2 * time.Minute // a GPU's first kernels are compiled
)

// Devices lists the devices the runtime sees. It asks a short-lived runner, so a driver that crashes or
// hangs costs an error and not this process. Config.Hello.Runtime says whose; its Device is ignored.
func Devices(ctx context.Context, c Config) (*protocol.DeviceList, error) {
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	return ask(ctx, c, "")
}

// Found is a device as discovery found it: validated, or with the error of its validation.
type Found struct {
	protocol.Device
	Error *events.Error // nil: it may be used
}

// Discover lists the devices the runtime sees and validates each in a short-lived runner of its own, all at the
// same time. If not even OpenVINO's list can be had, a driver may be at fault: then the CPU alone is looked at, and the
// error says what happened beside it. Other runtimes have no CPU.
func Discover(ctx context.Context, c Config) ([]Found, error) {
	list, err := Devices(ctx, c)
	var said *events.Error
	if errors.As(err, &said) || err != nil && c.Hello.Runtime != "" { // the runtime itself cannot be loaded, or has no CPU
		return nil, err
	}
	if err != nil {
		list = &protocol.DeviceList{Devices: []protocol.Device{{Name: "CPU"}}}
		err = fmt.Errorf("devices beside the CPU could not be looked for: %w", err)
	}
	found := make([]Found, len(list.Devices))
	var wg sync.WaitGroup
	for i, d := range list.Devices {
		wg.Go(func() { found[i] = validated(ctx, c, d) })
	}
	wg.Wait()
	return found, err
}

func validated(ctx context.Context, c Config, d protocol.Device) Found {
	ctx, cancel := context.WithTimeout(ctx, validationTimeout)
	defer cancel()
	list, err := ask(ctx, c, d.Name)
	if err == nil {
		for _, answered := range list.Devices {
			if answered.Name == d.Name && answered.Validation != nil {
				return Found{answered, answered.Validation.Error}
			}
		}
		err = fmt.Errorf("the runner did not validate the device %s", d.Name)
	}
	var said *events.Error
	if !errors.As(err, &said) {
		said = events.Errorf(events.CodeDeviceUnavailable, "its validation ended the process that made it: the driver may have crashed")
		if errors.Is(err, context.DeadlineExceeded) {
			said.Message = fmt.Sprintf("its validation took longer than %s: the driver may hang", validationTimeout)
		}
		said.Device, said.Detail, said.Cause = d.Name, err.Error(), err
		said.Advice = "Install or repair the driver of the device; until then its work goes to the CPU. The detail has the last words of the process."
	}
	return Found{d, said}
}

// ask has a short-lived runner list the devices and validate one of them, if it is named.
func ask(ctx context.Context, c Config, validate string) (list *protocol.DeviceList, err error) {
	c.Hello.Device = ""
	p, err := Start(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := p.Send(&protocol.Devices{Job: 1, Validate: validate}); err != nil {
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
