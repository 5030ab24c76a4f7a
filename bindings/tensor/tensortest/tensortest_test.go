package tensortest_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/tensor"
	"genfn/bindings/tensor/tensortest"
)

// recorder is a test that keeps its failures and runs its clean-ups when told.
type recorder struct {
	testing.TB
	cleanups []func()
	failures []string
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) end() {
	for _, f := range r.cleanups {
		f()
	}
}

func TestLeakFailsWithItsCreationSite(t *testing.T) {
	r := &recorder{TB: t}
	ledger := tensortest.NewLedger(r)
	leaked, err := tensor.New(ledger, "latents", tensor.F32, tensor.Shape{16})
	require.NoError(t, err)
	closed, err := tensor.New(ledger, "noise", tensor.F32, tensor.Shape{16})
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	object := ledger.Add("core", "test", 0)

	r.end()
	require.Len(t, r.failures, 3)
	assert.Contains(t, r.failures[0], `buffer "latents"`)
	assert.Contains(t, r.failures[0], "tensortest_test.go:")
	assert.Contains(t, r.failures[0], "TestLeakFailsWithItsCreationSite")
	assert.Contains(t, r.failures[1], "core")
	assert.Contains(t, r.failures[2], "bytes outstanding")

	require.NoError(t, leaked.Close())
	object.Release()
	r.failures = nil
	r.end()
	assert.Empty(t, r.failures, "nothing outstanding, nothing to report")
}
