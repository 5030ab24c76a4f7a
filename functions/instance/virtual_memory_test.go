//go:build !race

package instance_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/events/broker"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/model"
)

// TestPeakOnVirtualGPU: what the plugin holds is sampled, told in the result and learned; the estimate from the
// model's files, which counts before that, is of its size.
func TestPeakOnVirtualGPU(t *testing.T) {
	v := startVirtual(t, virtualgpu.Options{Memory: 1 << 30}, nil)
	v.warmUp()
	o := v.run(v.request(64))
	require.Equal(t, "GPU", o.device)
	m := o.result.Memory
	require.NotNil(t, m.DevicePeak)
	require.Positive(t, *m.DevicePeak)
	require.GreaterOrEqual(t, *m.DevicePeak, *m.DeviceAfter)
	require.EqualValues(t, 1<<30, *m.DeviceTotal)
	v.gpu.soft()
	require.NoError(t, v.gpu.wait(t))

	learned := map[string]int64{}
	stop, err := v.broker.WatchLearned(v.context(), func(l broker.Learned) { learned[l.Work] = l.PeakBytes })
	require.NoError(t, err)
	stop()
	folder, err := model.Open(filepath.Join("testdata", "nano-sd"))
	require.NoError(t, err)
	for work, side := range map[string]int{"nano 32x32 x1 guided": 32, "nano 64x64 x1 guided": 64} {
		estimate := folder.DeviceBytes(model.Workload{Width: side, Height: side, Count: 1, Guided: true}, 4)
		t.Logf("%s: learned %d KiB, estimated %d KiB", work, learned[work]>>10, estimate>>10)
		require.Positive(t, learned[work])
		require.Greater(t, estimate, learned[work], "too high rather than too low")
		require.Less(t, estimate, 4*learned[work])
	}
}
