//go:build !race

// The runners of this test are OpenVINO's own GPU plugin over a compiler; the race detector has nothing to see in it and
// would make it several times slower. `make unit` runs it.

package main

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/top"
)

// TestTop: two GPUs and two CPUs in one process; when the GPUs are made sick, `genfn top` tells who is set aside and why,
// and the CPUs serve.
func TestTop(t *testing.T) {
	up, faults := startVirtual(t, "--name", "lab", "--instances", "gpu=2,cpu=2")
	s := up.top(t, func(s top.Snapshot) bool {
		return len(s.Instances) == 4 && s.Instances[3].Decision != nil && s.Queue.Models[0].MinPending == 20
	})
	require.NotEmpty(t, s.Leader)
	require.Equal(t, map[string]int{events.DeviceCPU: 2, events.DeviceGPU: 2}, s.Queue.Models[0].Serve)
	for i, want := range [][2]string{{"lab", "CPU"}, {"lab-cpu-2", "CPU"}, {"lab-gpu-0", "GPU.0"}, {"lab-gpu-1", "GPU.1"}} {
		require.Equal(t, want, [2]string{s.Instances[i].Instance, s.Instances[i].Device})
		require.True(t, s.Instances[i].Takes)
	}

	require.NoError(t, virtualgpu.WriteFaults(faults, "clFlush error=-5 sticky=all"))
	for _, device := range []string{"GPU.0", "GPU.1"} {
		out, err := command(t, os.Args[0], "generate", "--nats", up.URL, "--model", "nano-sd", "--prompt", "an apple", "--steps", "1", "--device", device, "--out", "apple.png")
		require.NoError(t, err, out)
		require.Contains(t, out, " on CPU")
	}
	s = up.top(t, func(s top.Snapshot) bool {
		return s.Instances[2].Decision.State == events.StateShed && s.Instances[3].Decision.State == events.StateShed && s.Queue.Models[0].MinPending == 0
	})
	require.Equal(t, map[string]int{events.DeviceCPU: 2}, s.Queue.Models[0].Serve)
	require.False(t, s.Instances[2].Takes)
	require.NotNil(t, s.Instances[2].LastFault)

	out, err := command(t, os.Args[0], "top", "--nats", up.URL, "--count", "1")
	require.NoError(t, err, out)
	require.Regexp(t, `lab-gpu-0 +│ GPU.0 +│ no +│ shed +│ shed `, out)
	require.Regexp(t, `(?m)^lab-gpu-1: shed by controller \S+ \(own_stop\): .* It may prove itself at`, out)
	require.Contains(t, out, "cpu 2")
}

// top runs `genfn top` until a snapshot is as wanted.
func (s *server) top(t *testing.T, is func(top.Snapshot) bool) (found top.Snapshot) {
	t.Helper()
	cmd, out := startCommand(t, "top", "--nats", s.URL, "--json", "--interval", "200ms")
	late := time.AfterFunc(2*time.Minute, func() { _ = cmd.cmd.Process.Signal(os.Interrupt) })
	defer late.Stop()
	for lines := json.NewDecoder(out); ; {
		last := found
		found = top.Snapshot{} // or what a line leaves out would stay
		require.NoError(t, lines.Decode(&found), "the last: %+v", last)
		if is(found) {
			cmd.stop(t)
			return found
		}
	}
}
