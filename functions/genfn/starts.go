package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"genfn/functions/instance"
	"genfn/functions/instance/starts"
)

// runInstance runs an instance. If starts of it have died again and again it waits first, and says so.
func (s *settings) runInstance(soft, hard context.Context, serve *instance.Instance, device string, log *slog.Logger) error {
	start, err := starts.Begin(filepath.Join(s.cache, "starts"), device)
	if err != nil {
		log.Warn("nobody will know if this start dies", "error", err)
		return serve.Run(soft, hard)
	}
	if start.Pause > 0 {
		log.Error("the instance died at its start again and again, it waits before the next", "device", device, "died_within_an_hour", start.Died, "pause", start.Pause, "see", "genfn devices --crashes")
		start.Wait(soft)
	}
	watched, stop := context.WithCancel(soft)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if waitFor(watched, serve.Ready()) {
			if err := start.Ready(); err != nil {
				log.Debug("start not noted", "error", err)
			}
		}
	}()
	err = serve.Run(soft, hard)
	stop()
	<-done
	if err == nil { // an error before it was ready counts as a death
		return start.End()
	}
	return err
}
