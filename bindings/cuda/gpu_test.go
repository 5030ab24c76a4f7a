//go:build gpu

// These tests need an NVIDIA GPU. `make gpu-report` builds them for a machine that has one; `make not-run` lists them.

package cuda_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/bindings/cuda"
)

func TestGPUIdentity(t *testing.T) { tellIdentity(t, cuda.Options{}) }

func TestGPUCopies(t *testing.T) { tellCopies(t, cuda.Options{}) }

func TestGPUManyGoroutines(t *testing.T) { tellManyGoroutines(t, cuda.Options{}) }

func TestGPUPool(t *testing.T) { tellPool(t, cuda.Options{}) }

func TestGPUOutOfMemory(t *testing.T) { tellOutOfMemory(t, cuda.Options{}) }

func TestGPURefusalsLeaveTheContextAlive(t *testing.T) { tellRefusals(t, cuda.Options{}) }

func TestGPUStickyError(t *testing.T) { tellStickyError(t, cuda.Options{}) }

func TestGPUSignalsStayGos(t *testing.T) { tellSignals(t, cuda.Options{}) }

func TestGPUClosedObjectsAreErrors(t *testing.T) { tellClosedObjects(t, cuda.Options{}) }

// TestGPUStreamsRunByThemselves: work goes on while the host does, and streams wait for what they are told to.
func TestGPUStreamsRunByThemselves(t *testing.T) {
	d := openDevice(t, cuda.Options{})
	first, second := newStream(t, d), newStream(t, d)
	spin, library, err := launcher(d, spinPTX, "spin")
	require.NoError(t, err)
	closing(t, library)
	event := func() *cuda.Event {
		e, err := d.NewEvent(t.Name(), true)
		require.NoError(t, err)
		return closing(t, e)
	}
	begin, middle, end := event(), event(), event()
	const span = 200 * time.Millisecond
	require.NoError(t, spin(first, 1)) // code is loaded at the first launch
	require.NoError(t, first.Synchronize())

	require.NoError(t, first.Record(begin))
	require.NoError(t, spin(first, uint64(span)))
	require.NoError(t, first.Record(middle))
	idle, err := first.Idle()
	require.NoError(t, err)
	require.False(t, idle, "the kernel runs while the host goes on")
	reached, err := middle.Reached()
	require.NoError(t, err)
	require.False(t, reached)
	idle, err = second.Idle()
	require.NoError(t, err)
	require.True(t, idle, "the other stream does not wait")
	require.NoError(t, second.Wait(middle))
	require.NoError(t, second.Record(end))
	require.NoError(t, end.Synchronize())
	reached, err = middle.Reached()
	require.NoError(t, err)
	require.True(t, reached, "the second stream waited for the first's event")
	elapsed, err := begin.Elapsed(middle)
	require.NoError(t, err)
	require.GreaterOrEqual(t, elapsed, span-time.Millisecond)
	t.Logf("a kernel of %s took %s by events", span, elapsed)
}

// BenchmarkGPUCall is what a call costs from another thread and inside Do; a call that does next to nothing.
func BenchmarkGPUCall(b *testing.B) {
	d := openDevice(b, cuda.Options{})
	s := newStream(b, d)
	b.Run("hop", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Idle(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("do", func(b *testing.B) {
		b.ReportAllocs()
		err := d.Do(func() error {
			for b.Loop() {
				if _, err := s.Idle(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
}
