package cuda_test

import (
	"testing"

	"genfn/bindings/cuda"
	"genfn/bindings/cuda/cudatest"
)

// TestStoriesOnVirtualDevice tells all stories without a GPU, those of work that goes on by itself too.
func TestStoriesOnVirtualDevice(t *testing.T) {
	for name, tell := range map[string]func(*testing.T, cuda.Options){
		"identity": tellIdentity, "copies": tellCopies, "many goroutines": tellManyGoroutines, "pool": tellPool, "out of memory": tellOutOfMemory,
		"refusals": tellRefusals, "sticky error": tellStickyError, "signals": tellSignals, "closed objects": tellClosedObjects, "streams": tellStreams,
	} {
		t.Run(name, func(t *testing.T) { tell(t, cudatest.Virtual(t)) })
	}
}
