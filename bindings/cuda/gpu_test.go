//go:build gpu

// These tests need an NVIDIA GPU. `make gpu-report` builds them for a machine that has one; `make not-run` lists them.

package cuda_test

import (
	"testing"

	"genfn/bindings/cuda"
)

func TestGPUIdentity(t *testing.T) { tellIdentity(t, cuda.Options{}) }

func TestGPUCopies(t *testing.T) { tellCopies(t, cuda.Options{}) }

func TestGPUManyGoroutines(t *testing.T) { tellManyGoroutines(t, cuda.Options{}) }

func TestGPUPool(t *testing.T) { tellPool(t, cuda.Options{}) }

func TestGPUOutOfMemory(t *testing.T) { tellOutOfMemory(t, cuda.Options{}) }

func TestGPUStagesThatDoNotFit(t *testing.T) { tellStages(t, cuda.Options{}) }

func TestGPURefusalsLeaveTheContextAlive(t *testing.T) { tellRefusals(t, cuda.Options{}) }

func TestGPUStickyError(t *testing.T) { tellStickyError(t, cuda.Options{}) }

func TestGPUSignalsStayGos(t *testing.T) { tellSignals(t, cuda.Options{}) }

func TestGPUClosedObjectsAreErrors(t *testing.T) { tellClosedObjects(t, cuda.Options{}) }

func TestGPUStreamsRunByThemselves(t *testing.T) { tellStreams(t, cuda.Options{}) }

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
