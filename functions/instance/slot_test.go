package instance

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/functions/runner/process"
)

// TestSlotKeepsARunnerThatDoesNotEnd: what holds a device is not replaced before it has ended, also if it was never
// ready.
func TestSlotKeepsARunnerThatDoesNotEnd(t *testing.T) {
	s := &slot{instance: &Instance{}, log: slog.New(slog.DiscardHandler), config: Config{Runner: process.Config{
		// A child that holds standard error open delays the reaping, as a driver could.
		Command:      []string{"/bin/sh", "-c", "sleep 3 & wait"},
		StartTimeout: 100 * time.Millisecond, ReapTimeout: 10 * time.Millisecond,
	}}}
	require.ErrorIs(t, s.start(t.Context()), process.ErrUnkillable)
	stuck := s.runner
	require.NotNil(t, stuck)
	require.Eventually(t, func() bool { _, reaped := stuck.Exit(); return reaped }, time.Minute, 10*time.Millisecond)
	s.config.Runner = process.Config{Command: []string{"/bin/false"}}
	err := s.start(t.Context())
	require.ErrorContains(t, err, "exit code 1")
	require.NotErrorIs(t, err, process.ErrUnkillable)
	require.Nil(t, s.runner)
}
