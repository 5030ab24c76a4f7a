package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signals turns SIGINT and SIGTERM into two contexts: the first signal ends soft (finish or hand back what
// runs), the second ends hard (stop at once).
type signals struct {
	soft, hard context.Context
	stop       func()
}

func watchSignals() *signals {
	soft, endSoft := context.WithCancel(context.Background())
	hard, endHard := context.WithCancel(context.Background())
	received := make(chan os.Signal, 2)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		for range received {
			if soft.Err() != nil {
				endHard()
				return
			}
			endSoft()
		}
	}()
	return &signals{soft: soft, hard: hard, stop: func() {
		signal.Stop(received)
		close(received)
		endSoft()
		endHard()
	}}
}
