package openvino

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/tensor"
)

// TestFewDomainsAreShared takes away the means to make more domains: calls wait for each other then.
func TestFewDomainsAreShared(t *testing.T) {
	r := openForTest(t)
	c, err := r.NewCore()
	require.NoError(t, err)
	defer c.Close()
	p := &domains{path: "/nonexistent/libopenvino_c.so", total: 1, limit: 3}
	p.freed.L = &p.mu
	only := r.domains.acquire()
	r.domains, p = p, r.domains
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 50 {
				key := fmt.Sprintf("NO_SUCH_%d_%d", worker, i)
				_, err := c.Property("CPU", key)
				assert.ErrorContains(t, err, key)
			}
		})
	}
	for noticed := false; !noticed; runtime.Gosched() { // a call that needs a second domain
		r.domains.mu.Lock()
		noticed = r.domains.limit == 1
		r.domains.mu.Unlock()
	}
	r.domains.release(only)
	group.Wait()
	useAndClose(t, r, c) // no call may wait for a second domain
	assert.Equal(t, 1, r.domains.total)
	assert.Equal(t, 1, r.domains.limit)
	r.domains, p = p, r.domains
	r.domains.releaseHot(p.acquireHot()) // where it came from
}

// useAndClose takes objects through their lives.
func useAndClose(t *testing.T, r *Runtime, c *Core) {
	t.Helper()
	m, err := c.ReadModel(filepath.Join("testdata", "affine.xml"), "")
	require.NoError(t, err)
	cm, err := c.Compile(m, "CPU", map[string]string{"INFERENCE_NUM_THREADS": "1"})
	require.NoError(t, err)
	q, err := cm.NewRequest()
	require.NoError(t, err)
	x, err := r.NewTensor("x", tensor.F32, tensor.Shape{1, 4})
	require.NoError(t, err)
	require.NoError(t, q.SetInput(0, x))
	require.NoError(t, q.Infer(t.Context()))
	y, err := q.Output(0)
	require.NoError(t, err)
	for _, o := range []io.Closer{m, cm, x, q, y} {
		require.NoError(t, o.Close())
	}
}

func TestDomainsGrowWithConcurrentCalls(t *testing.T) {
	r := openForTest(t)
	first, second, third := r.domains.acquire(), r.domains.acquire(), r.domains.acquire()
	assert.NotSame(t, first, second)
	assert.NotSame(t, second, third)
	assert.NotEqual(t, first.api.Table.GetLastErrMsg, second.api.Table.GetLastErrMsg, "a copy of its own")
	for _, d := range []*domain{first, second, third} {
		version, err := d.version()
		require.NoError(t, err)
		assert.Equal(t, r.version, version)
		r.domains.release(d)
	}
	total := r.domains.total
	for range 100 {
		r.domains.release(r.domains.acquire())
	}
	assert.Equal(t, total, r.domains.total, "calls one after the other need no more")
}
