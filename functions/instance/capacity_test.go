package instance_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/hostmemory"
	"genfn/functions/instance"
	"genfn/functions/model"
	"genfn/functions/runner/runnertest"
)

// known is scripted models of which the needs are known.
type known struct {
	scripted
	folder *model.Model
}

func (k known) Get(name string) (instance.Model, error) {
	m, err := k.scripted.Get(name)
	m.Folder = k.folder
	return m, err
}

// TestTooLargeForTheMachine: what can never succeed is answered at once, without a runner's part, and says what does
// fit; that then succeeds.
func TestTooLargeForTheMachine(t *testing.T) {
	folder, err := model.Open(filepath.Join("..", "pipeline", "testdata", "tiny-sd"))
	require.NoError(t, err)
	r := newRig(t)
	r.change = func(c *instance.Config) {
		c.Models, c.Runner.Hello.Threads, c.Budgets.Stage = known{folder: folder}, 1, 30*time.Second
		c.HostMemory = func() (hostmemory.Memory, error) {
			return hostmemory.Memory{Total: 1 << 30, Free: 1 << 30, Source: "the control group"}, nil
		}
	}
	r.start(nil)
	for name, c := range map[string]struct {
		width, height, count int
		code                 events.Code
		words                []string
	}{
		"memory": {4096, 2048, 64, events.CodeHostOutOfMemory, []string{"64 x 4096x2048 needs about", "the control group has 1.0 GiB"}},
		"time":   {4096, 2048, 1, events.CodeInvalidRequest, []string{"one step of 4096x2048 takes at least", "silent for 30s"}},
	} {
		data := request(runnertest.Script{})
		data.Width, data.Height, data.Count = ptr(c.width), ptr(c.height), ptr(c.count)
		f := r.failed(r.publish(data))
		require.Equal(t, c.code, f.Error.Code, name)
		require.Equal(t, "/width", f.Error.Field, name)
		require.False(t, f.Error.Retriable, name)
		for _, w := range c.words {
			require.Contains(t, f.Error.Message, w, name)
		}
		require.Regexp(t, `^at most \d+x\d+ for \d+ in these proportions$`, f.Error.Expected, name)
		require.Len(t, f.Attempts, 1, name)
		t.Log(f.Error.Error())
	}
	r.succeeded(r.publish(request(runnertest.Script{})))
}

// TestMemoryOfTheMachineIsNotKnown: nothing is refused for it.
func TestMemoryOfTheMachineIsNotKnown(t *testing.T) {
	folder, err := model.Open(filepath.Join("..", "pipeline", "testdata", "tiny-sd"))
	require.NoError(t, err)
	r := newRig(t)
	r.change = func(c *instance.Config) {
		c.Models = known{folder: folder}
		c.HostMemory = func() (hostmemory.Memory, error) { return hostmemory.Memory{}, errors.New("no /proc here") }
	}
	r.start(nil)
	r.succeeded(r.publish(request(runnertest.Script{})))
}
