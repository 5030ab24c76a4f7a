package runner

import (
	"strings"

	"genfn/functions/device/tuning"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/hostcpu"
)

// plan chooses how a device is used that has the supported properties.
func (e *openVINO) plan(property properties, device string, supported []string) (tuning.Plan, error) {
	d := tuning.Device{Name: device, Supported: supported, Slots: e.hello.Slots}
	if capabilities, err := property(device, "OPTIMIZATION_CAPABILITIES"); err == nil { // untold, nothing depends on it
		d.Capabilities = strings.Fields(capabilities)
	}
	_, d.Virtual = virtualgpu.OwnCount()
	var err error
	if d.Cores, err = hostcpu.Read(); err != nil {
		e.log.Warn("the cores of this process are not known, the runtime chooses its threads", "error", err)
	}
	return tuning.Choose(d, tuning.Wishes{
		Threads: e.hello.Threads, Streams: e.hello.Streams, Precision: e.hello.Precision, GuidanceBatch: e.hello.GuidanceBatch, Properties: e.hello.Properties,
	})
}

// tune tells the loader how the device is used: as its validation found right, or else as planned now.
func (e *openVINO) tune() error {
	if v := e.info.Validation; v != nil {
		e.info.Tuning = v.Tuning
		return e.loader.Configure(v.Properties)
	}
	supported, err := e.loader.SupportedProperties()
	if err != nil {
		return err
	}
	plan, err := e.plan(e.loader.Property, e.hello.Device, supported)
	if err != nil {
		return err
	}
	e.info.Tuning = plan.Settings
	return e.loader.Configure(plan.Properties)
}
