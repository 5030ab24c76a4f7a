package instance_test

import (
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/functions/device/memory"
	"genfn/functions/hostmemory"
	"genfn/functions/instance"
	"genfn/functions/metricstest"
	"genfn/functions/model"
	"genfn/functions/runner/runnertest"
)

const mib = 1 << 20

// gpuWith starts an instance of a scripted GPU with memory of its own.
func (r *rig) gpuWith(bytes int64, change func(*instance.Config)) *running {
	r.t.Helper()
	run, _ := r.gpu(func(c *instance.Config) {
		c.Runner.Env = append(c.Runner.Env, runnertest.EnvMemory+"="+strconv.FormatInt(bytes, 10))
		if change != nil {
			change(c)
		}
	})
	return run
}

// told publishes a request and returns the notices of its events.
func (r *rig) told(data events.ImageGenerate) (id string, notices []events.Notice) {
	r.t.Helper()
	id = events.NewID()
	f := r.follow(id)
	_, err := r.client.Publish(r.context(), client.Request{ID: id, Data: data})
	require.NoError(r.t, err)
	for e, err := range f.Events(r.context()) {
		require.NoError(r.t, err)
		require.NoError(r.t, events.Validate(e))
		if e.Type() == events.TypeProgress {
			if n := payload[events.Progress](r.t, e).Notice; n != nil {
				notices = append(notices, *n)
			}
		}
	}
	return id, notices
}

func codes(notices []events.Notice) (list []string) {
	for _, n := range notices {
		list = append(list, n.Code)
	}
	return list
}

// sized is a scripted request of a width, on the GPU, that takes so much of its memory.
func sized(width int, uses int64) events.ImageGenerate {
	data := onGPU(runnertest.Script{Uses: uses})
	data.Width = &width
	return data
}

// TestMemoryThatRanOutIsRemembered: the ladder is climbed once; the next request of the kind starts where the last
// one fitted, in this instance and in one that is started later, which knows it from the key-value store.
func TestMemoryThatRanOutIsRemembered(t *testing.T) {
	r := newRig(t)
	run := r.gpuWith(1000*mib, nil)
	id, notices := r.told(sized(16, 1200*mib))
	require.Equal(t, []string{events.NoticeFault, events.NoticeFreshRunner, events.NoticeDegraded}, codes(notices))
	e := notices[0].Error
	require.EqualValues(t, 1200*mib, e.RequestedBytes)
	require.Contains(t, e.Message, "1.2 GiB")
	require.Equal(t, []string{modelName}, e.UnloadedModels)
	require.Contains(t, e.Message, "all models of the process are unloaded to free memory: scripted")
	require.EqualValues(t, 1000*mib, e.AvailableBytes)
	s := r.succeeded(id)
	require.Equal(t, []string{events.DegradationSequentialGuidance}, s.Degradations)
	require.EqualValues(t, 900*mib, *s.Memory.DevicePeak)
	require.EqualValues(t, 1000*mib, *s.Memory.DeviceTotal)

	again := func() {
		t.Helper()
		id, notices := r.told(sized(16, 1200*mib))
		require.Equal(t, []string{events.NoticeDegraded}, codes(notices), "what failed is not tried")
		require.Contains(t, notices[0].Message, "memory ran out for it lately")
		require.EqualValues(t, 1000*mib, notices[0].AvailableBytes)
		s := r.succeeded(id)
		require.Equal(t, []string{events.DegradationSequentialGuidance}, s.Degradations)
		require.Len(t, s.Attempts, 1)
	}
	again()
	run.soft()
	require.NoError(t, run.wait(t))
	r.gpuWith(1000*mib, nil)
	again()
}

// TestLearnedPeakDecides: a peak that another instance measured on an equal device decides what is tried here.
func TestLearnedPeakDecides(t *testing.T) {
	r := newRig(t)
	large := r.gpuWith(4000*mib, nil)
	id, notices := r.told(sized(24, 1200*mib))
	require.Empty(t, notices)
	require.Empty(t, r.succeeded(id).Degradations)
	large.soft()
	require.NoError(t, large.wait(t))

	r.cpu()
	r.gpuWith(1000*mib, nil)
	id, notices = r.told(sized(24, 1200*mib))
	require.Equal(t, []string{events.NoticeDegraded}, codes(notices))
	require.EqualValues(t, 1200*mib, notices[0].PredictedBytes)
	require.EqualValues(t, 1000*mib, notices[0].AvailableBytes)
	require.Contains(t, notices[0].Message, "with sequential guidance")
	s := r.succeeded(id)
	require.Equal(t, "GPU.0", s.Device)
	require.Len(t, s.Attempts, 1)
}

// estimated is a GPU of a size beside models of which only the files are known.
func (r *rig) estimated(bytes int64) {
	r.t.Helper()
	folder, err := model.Open(filepath.Join("..", "pipeline", "testdata", "tiny-sd"))
	require.NoError(r.t, err)
	r.gpuWith(bytes, func(c *instance.Config) { c.Models = known{folder: folder} })
}

// TestPredictedToFitNowhere: what no rung makes fit is not tried: the CPU gets it, or its client hears why.
func TestPredictedToFitNowhere(t *testing.T) {
	r := newRig(t)
	r.estimated(8 * mib)
	alone := onGPU(runnertest.Script{})
	alone.Width, alone.Height = ptr(1024), ptr(1024)
	f := r.failed(r.publish(alone))
	require.Equal(t, events.CodeGPUOutOfMemory, f.Error.Code)
	require.Greater(t, f.Error.PredictedBytes, int64(8*mib))
	require.EqualValues(t, 8*mib, f.Error.AvailableBytes)
	require.Contains(t, f.Error.Message, "1 x 1024x1024 needs about")
	require.Contains(t, f.Error.Message, "GPU.0 has 8 MiB")
	require.Contains(t, f.Error.Advice, "smaller size")
	require.Regexp(t, `^at most \d+x\d+ for 1 in these proportions$`, f.Error.Expected)
	require.Len(t, f.Attempts, 1)

	r.cpu()
	id, notices := r.told(alone)
	require.Equal(t, []string{events.NoticeFault, events.NoticeFallback}, codes(notices), "nothing is tried on the GPU")
	s := r.succeeded(id)
	require.Equal(t, "TEST", s.Device)
	require.Equal(t, []string{"memory_admission"}, causes(s.Attempts))
	require.Zero(t, r.device("gpu-1").FaultCount, "the device has had no fault")

	never := alone
	never.Fallback = events.FallbackNever
	require.Equal(t, events.CodeGPUOutOfMemory, r.failed(r.publish(never)).Error.Code)
	smaller := never
	smaller.Degrade = events.DegradeAllowed // half of each side fits
	s = r.succeeded(r.publish(smaller))
	require.Contains(t, s.Degradations, events.DegradationSmallerSize)
	require.Len(t, s.Attempts, 1)
}

// device is the newest heartbeat of an instance.
func (r *rig) device(name string) (found events.DeviceStatus) {
	r.t.Helper()
	list, err := r.broker.Devices(r.context(), time.Minute)
	require.NoError(r.t, err)
	i := slices.IndexFunc(list, func(s events.DeviceStatus) bool { return s.Instance == name })
	require.GreaterOrEqual(r.t, i, 0)
	return list[i]
}

// TestIdleModelsMakeRoom: what is not needed goes before anything is given up of the request.
func TestIdleModelsMakeRoom(t *testing.T) {
	r := newRig(t)
	models := func(c *instance.Config) { c.Models, c.Runner.Hello.MaxModels = two{}, 2 }
	first, second := sized(16, 500*mib), sized(16, 600*mib)
	second.Model = "second"
	large := r.gpuWith(4000*mib, models)
	r.succeeded(r.publish(first))
	r.succeeded(r.publish(second)) // beside the first: what it adds to the process is learned
	large.soft()
	require.NoError(t, large.wait(t))

	r.gpuWith(1000*mib, models)
	r.succeeded(r.publish(first))
	id, notices := r.told(second)
	require.Equal(t, []string{events.NoticeUnloaded}, codes(notices))
	require.Contains(t, notices[0].Message, "idle models are unloaded: scripted")
	require.EqualValues(t, 600*mib, notices[0].PredictedBytes)
	require.EqualValues(t, 500*mib, *notices[0].Memory.DeviceBefore)
	require.Zero(t, *notices[0].Memory.DeviceAfter)
	s := r.succeeded(id)
	require.Empty(t, s.Degradations)
	require.Len(t, s.Attempts, 1)
}

// two is two scripted models.
type two struct{ scripted }

func (two) Names() []string { return []string{modelName, "second"} }

// TestMemoryWarning: who follows a request hears that memory runs out, before it does; so do log, status and metrics.
func TestMemoryWarning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	registry := prometheus.NewPedanticRegistry()
	metrics, err := instance.NewMetrics(registry)
	require.NoError(t, err)
	run := r.gpuWith(1000*mib, func(c *instance.Config) { c.Metrics = metrics })
	g := r.gate()
	id := events.NewID()
	f := r.follow(id)
	data := onGPU(runnertest.Script{Uses: 960 * mib, Do: runnertest.Wait, Stage: events.StageDenoise, Step: 1, File: g.path})
	_, err = r.client.Publish(r.context(), client.Request{ID: id, Data: data})
	require.NoError(t, err)
	warned := r.until(f, func(e events.Event) bool {
		return e.Type() == events.TypeProgress && payload[events.Progress](t, e).Notice != nil
	})
	n := payload[events.Progress](t, warned).Notice
	require.Equal(t, events.NoticeMemoryWarning, n.Code)
	require.Contains(t, n.Message, "critical")
	require.Contains(t, n.Message, "96 % of the memory of GPU.0 is in use: 960 MiB of 1000 MiB")
	run.waitLog(t, "[GPU] memory pressure")
	require.Eventually(t, func() bool {
		c := r.device("gpu-1").Conditions
		return len(c) == 1 && c[0].Type == events.ConditionMemoryPressure && c[0].Level == memory.Critical.String()
	}, patience, 5*time.Millisecond)
	require.Contains(t, metricstest.Text(t, registry), `genfn_memory_pressure{class="gpu",device="GPU.0",instance="gpu-1"} 2`)
	g.open(t)
	s := r.succeeded(id)
	require.EqualValues(t, 960*mib, *s.Memory.DevicePeak)
	require.Greater(t, s.Memory.Samples, 2)
	require.Positive(t, s.Memory.VMSPeak)
	require.Positive(t, s.Memory.HostTotal)
	require.Positive(t, s.Memory.HostFree)
	require.Positive(t, s.Memory.Percent)

	r.succeeded(r.publish(onGPU(runnertest.Script{Do: runnertest.Lost, Stage: events.StageDenoise, Once: r.once()}))) // a fresh process holds nothing
	require.Eventually(t, func() bool { return len(r.device("gpu-1").Conditions) == 0 }, patience, 5*time.Millisecond, "it is over")
	info := r.device("gpu-1").MemoryInfo
	require.Positive(t, info.HostTotal)
	require.Contains(t, r.device("gpu-1").Kind, "gpu Test Device")
}

// TestHostMemoryIsShort: on a CPU the host's free memory counts, less the reserve.
func TestHostMemoryIsShort(t *testing.T) {
	folder, err := model.Open(filepath.Join("..", "pipeline", "testdata", "tiny-sd"))
	require.NoError(t, err)
	r := newRig(t)
	r.change = func(c *instance.Config) {
		c.Models, c.MemoryReserve = known{folder: folder}, memory.Reserve{Bytes: 100 * mib}
		c.HostMemory = func() (hostmemory.Memory, error) {
			return hostmemory.Memory{Total: 8 << 30, Free: 130 * mib, Source: "the machine"}, nil
		}
	}
	r.start(nil)
	data := request(runnertest.Script{})
	data.Width, data.Height = ptr(2048), ptr(2048)
	f := r.failed(r.publish(data))
	require.Equal(t, events.CodeHostOutOfMemory, f.Error.Code)
	require.Contains(t, f.Error.Message, "that the machine has there are")
	require.Contains(t, f.Error.Message, "100 MiB are kept in reserve")
	require.True(t, f.Error.Retriable, "it may fit when others have ended")
	require.Positive(t, f.Error.AvailableBytes)
	require.Less(t, f.Error.AvailableBytes, f.Error.PredictedBytes)
}

// TestLearnedTimesAreShared: what an instance has learned is stored at the latest when it ends.
func TestLearnedTimesAreShared(t *testing.T) {
	r := newRig(t)
	run := r.start(nil)
	r.succeeded(r.publish(request(runnertest.Script{})))
	run.soft()
	require.NoError(t, run.wait(t))
	var entries []broker.Learned
	stop, err := r.broker.WatchLearned(r.context(), func(l broker.Learned) { entries = append(entries, l) })
	require.NoError(t, err)
	stop()
	require.Len(t, entries, 1)
	require.EqualValues(t, 1, entries[0].Runs)
	require.Contains(t, entries[0].Device, "cpu Test Device")
	require.Equal(t, "scripted 16x8 x1 guided", entries[0].Work)
	require.Contains(t, entries[0].TimesMS, "step")
	require.Positive(t, entries[0].PeakBytes)
}
