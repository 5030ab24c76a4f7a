// Package starts slows an instance down that dies at its start again and again: whoever supervises it would start it
// without end, and a start that loads drivers and models is what brought the machine down before.
//
// Each start leaves a marker file, locked for as long as the process lives, which is removed when the instance is ready
// or ends in peace. A marker without a lock is that of a start that died, in whatever way.
package starts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How long a death counts, how many are forgiven, and the pauses after more: doubled each time.
const (
	memory   = time.Hour
	forgiven = 2
	minPause = time.Second
	maxPause = 5 * time.Minute
)

// Start is a start that is under way.
type Start struct {
	Died  int           // starts before this one that died within the last hour
	Pause time.Duration // to wait before this one; 0: none
	dir   string
	file  *os.File
}

// Begin notes a start of what is called name, such as a device, in dir.
func Begin(dir, name string) (*Start, error) {
	s := &Start{dir: filepath.Join(dir, strings.ReplaceAll(name, string(filepath.Separator), "-"))}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("starts of %s: %w", name, err)
	}
	for _, path := range s.dead() {
		info, err := os.Stat(path)
		switch {
		case err != nil: // somebody else has removed it
		case time.Since(info.ModTime()) > memory:
			_ = os.Remove(path)
		default:
			s.Died++
		}
	}
	if more := s.Died - forgiven; more > 0 {
		s.Pause = min(minPause<<min(more-1, 16), maxPause)
	}
	file, err := os.CreateTemp(s.dir, "start-*")
	if err == nil {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return nil, fmt.Errorf("starts of %s: %w", name, err)
	}
	s.file = file
	return s, nil
}

// dead lists the markers of processes that have ended.
func (s *Start) dead() (paths []string) {
	all, err := filepath.Glob(filepath.Join(s.dir, "start-*"))
	if err != nil {
		return nil
	}
	for _, path := range all {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
			paths = append(paths, path)
		}
		f.Close()
	}
	return paths
}

// Wait waits for the pause; it returns early when ctx ends.
func (s *Start) Wait(ctx context.Context) {
	timer := time.NewTimer(s.Pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Ready notes that the start went well: the deaths before it count no more.
func (s *Start) Ready() error {
	err := s.End()
	for _, path := range s.dead() {
		_ = os.Remove(path) // somebody else may have
	}
	return err
}

// End notes that the process did not die of its start. It may be called twice.
func (s *Start) End() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(os.Remove(s.file.Name()), s.file.Close())
	s.file = nil
	return err
}
