package runner

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"genfn/bindings/openvino"
	"genfn/events"
	"genfn/functions/model/session"
	"genfn/functions/runner/protocol"
)

// openVINO is the engine over the OpenVINO runtime.
type openVINO struct {
	generator
	runtime *openvino.Runtime
	shared  func() bool // the device uses the host's memory; asked once
}

var _ Engine = (*openVINO)(nil)

// OpenOpenVINO loads OpenVINO and looks for the device. Without a device in hello the engine only lists devices.
func OpenOpenVINO(_ context.Context, hello *protocol.Hello, log *slog.Logger) (Engine, error) {
	e := &openVINO{generator: newGenerator(hello, log)}
	e.memory = e.DeviceMemory
	e.shared = sync.OnceValue(e.integrated)
	if err := e.open(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *openVINO) open() (err error) {
	e.runtime, err = openvino.Open(openvino.Options{LibraryDir: e.hello.LibraryDir, TokenizersLibrary: e.hello.TokenizersLibrary, Ledger: e.ledger})
	if err != nil {
		return events.Errorf(events.CodeDeviceUnavailable, "OpenVINO cannot be loaded: %w", err)
	}
	e.version = e.runtime.Version()
	e.info.Versions = map[string]string{"openvino": e.version}
	if e.hello.Device == "" {
		return nil
	}
	if err := e.openKernels(); err != nil {
		return err
	}
	if e.hello.Validate { // before any model is loaded: it decides how the device is used
		if err := e.findDevice(); err != nil {
			return err
		}
	}
	e.loader = session.NewLoader(e.runtime, session.Options{
		Device: e.hello.Device, CacheDir: e.hello.CacheDir, CacheCompiled: e.hello.CacheCompiled, Logger: e.log,
	})
	e.loader.Prepare()
	if !e.hello.Validate {
		var failed error
		if e.info.DeviceName, failed = e.loader.DeviceName(); failed != nil {
			return errors.Join(e.findDevice(), failed)
		}
	}
	return e.tune()
}

// findDevice checks that OpenVINO has the device, and validates it if it is to be. To list the devices there are takes
// the plugins of all of them, which a device that is not validated is spared unless it cannot be asked its name.
func (e *openVINO) findDevice() (err error) {
	core, err := e.runtime.NewCore()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, core.Close()) }()
	devices, err := core.Devices()
	if err != nil {
		return err
	}
	device := e.hello.Device
	// "GPU" is a name of "GPU.0", the first of several.
	if !slices.Contains(devices, device) && !slices.Contains(devices, device+".0") {
		f := events.Errorf(events.CodeDeviceUnavailable, "OpenVINO sees no device %s here", device)
		f.Device, f.Expected = device, "one of "+strings.Join(devices, ", ")
		f.Advice = "Choose another device, or install its driver: genfn devices lists what there is."
		return f
	}
	if !e.hello.Validate {
		return nil
	}
	v := e.validate(core, device)
	e.info.Validation, e.info.DeviceName = v, v.Name
	if d := v.Driver; d != nil && d.Version != "" {
		e.info.Versions["driver"] = d.Version
	}
	if v.Error != nil {
		return v.Error
	}
	return nil
}

// integrated asks once whether the device is integrated: its memory is the host's then.
func (e *openVINO) integrated() bool {
	kind, err := e.loader.Property(e.hello.Device, "DEVICE_TYPE")
	return err == nil && strings.EqualFold(strings.TrimSpace(kind), "integrated")
}

// DeviceMemory asks the driver.
func (e *openVINO) DeviceMemory() *protocol.DeviceMemory {
	if e.loader == nil || events.ClassOf(e.hello.Device) != events.DeviceGPU {
		return nil
	}
	m, err := deviceMemory(e.loader.Property, e.hello.Device, events.DeviceGPU)
	if err != nil {
		e.log.Debug("device memory not known", "error", err)
		return nil
	}
	m.Shared = e.shared()
	return &m
}

// Devices lists every device with the properties it can tell, or validates the one that is named.
func (e *openVINO) Devices(ctx context.Context, validate string) (list []protocol.Device, err error) {
	core, err := e.runtime.NewCore()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, core.Close()) }()
	names := []string{validate} // so that no other device's driver is loaded
	if validate == "" {
		if names, err = core.Devices(); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d := protocol.Device{Name: name, Properties: map[string]string{}}
		keys, err := core.SupportedProperties(name)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if value, err := core.Property(name, key); err == nil { // some can only be set
				d.Properties[key] = value
			}
		}
		d.FullName = d.Properties["FULL_DEVICE_NAME"]
		if name == validate {
			d.Validation = e.validate(core, name)
		}
		list = append(list, d)
	}
	return list, nil
}

// Close implements Engine.
func (e *openVINO) Close() error {
	err := e.closeModels()
	if e.runtime != nil {
		err = errors.Join(err, e.runtime.Close())
		e.runtime = nil
	}
	return errors.Join(err, e.leaks())
}
