package runner

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"genfn/events"

	"genfn/functions/device/tuning"
	"genfn/functions/hostcpu"
	"genfn/functions/hostmemory"
	"genfn/functions/model"
	"genfn/functions/pipeline"
	"genfn/functions/runner/protocol"
)

// plan chooses how a device is used that has the supported properties.
func (e *openVINO) plan(property properties, device string, supported []string) (tuning.Plan, error) {
	d := tuning.Device{Name: device, Supported: supported, Slots: e.hello.Slots}
	if capabilities, err := property(device, "OPTIMIZATION_CAPABILITIES"); err == nil { // untold, nothing depends on it
		d.Capabilities = strings.Fields(capabilities)
	}
	if name, err := property(device, "FULL_DEVICE_NAME"); err == nil {
		d.Virtual = strings.Contains(name, "virtual GPU")
	}
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
	e.openTrials()
	properties, err := e.settings()
	if err != nil {
		return err
	}
	e.uses = properties
	return e.loader.Configure(properties)
}

// openTrials prepares the comparison of guidance.
func (e *generator) openTrials() {
	dir := ""
	if e.hello.CacheDir != "" {
		dir = filepath.Join(e.hello.CacheDir, "tuning")
	}
	e.trials = tuning.NewTrials(e.hello.GuidanceBatch, dir)
}

// settings are the properties to compile with.
func (e *openVINO) settings() (map[string]string, error) {
	if v := e.info.Validation; v != nil {
		e.info.Tuning = v.Tuning
		return v.Properties, nil
	}
	supported, err := e.loader.SupportedProperties()
	if err != nil {
		return nil, err
	}
	plan, err := e.plan(e.loader.Property, e.hello.Device, supported)
	e.info.Tuning = plan.Settings
	return plan.Properties, err
}

// guided reports whether a request has guidance.
func guided(r protocol.Request) bool { return r.GuidanceScale > 1 }

// generation is what trials of guidance depend on.
func (e *generator) generation(l *loaded, r protocol.Request) tuning.Generation {
	words := []string{l.dir, l.model.UNet.Path, fmt.Sprintf("%dx%d x%d", r.Width, r.Height, r.Count), e.hello.Device, e.info.DeviceName, e.version}
	for _, key := range slices.Sorted(maps.Keys(e.uses)) {
		words = append(words, key+"="+e.uses[key])
	}
	return tuning.Generation{
		Key: strings.Join(words, " "), Steps: r.Steps, Compile: l.compiled, Room: func() bool { return e.roomForTwo(l.model, r) },
		NoTrials: r.Economy != model.Economy{},
	}
}

// workload is a request as its memory depends on it.
func workload(r protocol.Request) model.Workload {
	return model.Workload{Width: r.Width, Height: r.Height, Count: r.Count, Guided: guided(r), Economy: r.Economy}
}

// roomForTwo reports whether twice the memory that a generation is predicted to need is there.
func (e *generator) roomForTwo(m *model.Model, r protocol.Request) bool {
	total := e.deviceTotal()
	if total <= 0 {
		host, err := hostmemory.Read()
		if err != nil {
			return false
		}
		total = host.Total
	}
	return m.PeakBytes(workload(r)) <= total/2
}

// deviceTotal is the device's own memory in bytes, 0 if it has none or nobody knows.
func (e *generator) deviceTotal() int64 {
	if d := e.memory(); d != nil {
		return d.Total
	}
	return 0
}

// guidanceBatch chooses the batch of guidance for a request and says why; 0 and nil without guidance.
func (e *generator) guidanceBatch(l *loaded, g tuning.Generation, r protocol.Request) (batch int, s *events.DeviceSetting) {
	if !guided(r) {
		return 0, nil
	}
	batch, setting := e.trials.Choose(g)
	if short, sequential := tuning.ByMemory(l.model, workload(r), e.deviceTotal()); sequential && e.hello.GuidanceBatch == 0 {
		batch, setting = tuning.Sequential, short
	}
	if r.Economy.SequentialGuidance {
		batch, setting.Value, setting.Reason = tuning.Sequential, "sequential", "memory ran out before"
	}
	setting.Reason = fmt.Sprintf("%s %dx%d: %s", l.name, r.Width, r.Height, setting.Reason)
	return batch, &setting
}

// measured notes what a generation tells of the batch that was chosen for it, and returns how guidance was done.
func (e *generator) measured(l *loaded, g tuning.Generation, batch int, s *events.DeviceSetting, result *pipeline.ImageResult) *events.DeviceSetting {
	if load := result.TimingsMS[events.StageLoad]; load > 0 {
		l.compiled = time.Duration(load * float64(time.Millisecond))
	}
	if s == nil || result.GuidanceBatch == 0 { // there was none, or the network takes the scale as an input
		return nil
	}
	if slices.Contains(result.Degradations, events.DegradationDynamicShapes) {
		return s
	}
	if err := e.trials.Note(g, batch, result.GuidanceBatch, result.StepTime); err != nil {
		e.log.Warn("the times of guidance are not kept for the next process", "error", err)
	}
	if result.GuidanceBatch != batch {
		s.Value, s.Reason = map[int]string{tuning.Batched: "batched", tuning.Sequential: "sequential"}[result.GuidanceBatch], l.name+": the network takes one batch only"
	}
	return s
}
