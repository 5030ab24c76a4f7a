package runner

import (
	"context"
	"strings"
	"time"

	"genfn/functions/hostmemory"
	"genfn/functions/runner/protocol"
)

// housekeeping decides when a forced clean-up is due.
type housekeeping struct {
	every  int             // generations between two; negative: none is due ever
	large  int64           // a generation whose peak rose by so many bytes makes one due at once; 0: none does
	count  int             // generations since the last
	before protocol.Memory // of the last generation
}

// largeShare is the part of the host's memory by which a large generation raises the resident set at its peak.
const largeShare = 8

func newHousekeeping(every int) housekeeping {
	if every == 0 {
		every = protocol.DefaultCleanupEvery
	}
	h := housekeeping{every: every}
	if memory, err := hostmemory.Read(); err == nil {
		h.large = memory.Total / largeShare
	}
	return h
}

// due counts a generation, after which memory is as told, and reports whether a clean-up is due.
func (h *housekeeping) due(after protocol.Memory) bool {
	if h.every < 0 {
		return false
	}
	h.count++
	return h.count >= h.every || h.large > 0 && after.PeakRSS-h.before.RSS > h.large
}

// tidy cleans up after a job if that is due. The job is answered already: the next one waits for the clean-up.
func (r *runner) tidy(j *job, answer protocol.Message) {
	if m, ok := j.message.(*protocol.Generate); !ok || r.isNoop(m.Model) {
		return
	}
	if f, ok := answer.(*protocol.Failed); ok && f.Fatal {
		return // the process ends
	}
	if !r.house.due(r.memory()) {
		return
	}
	if _, err := r.cleanup(context.Background()); err != nil {
		r.log.Error("forced memory cleanup failed", "error", err)
	}
}

// cleanup has the engine clean up, and tells what that gave back.
func (r *runner) cleanup(ctx context.Context) (before protocol.Memory, err error) {
	r.house.count = 0
	began := time.Now()
	before = r.memory()
	if err := r.engine.Cleanup(ctx); err != nil {
		return before, err
	}
	after, class := r.memory(), deviceClass(r.device)
	r.log.Info("["+class+"] Forced "+class+" memory cleanup completed",
		"rss_before", before.RSS, "rss_after", after.RSS, "ledger_before", before.Ledger, "ledger_after", after.Ledger,
		"ms", time.Since(began).Milliseconds())
	return before, nil
}

// deviceClass is a device's name without its number: "GPU" for GPU.0, "CUDA" for cuda:0.
func deviceClass(device string) string {
	end := strings.IndexAny(device, ".:")
	if end < 0 {
		end = len(device)
	}
	return strings.ToUpper(device[:end])
}
