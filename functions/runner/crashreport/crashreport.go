// Package crashreport keeps what is known of runner processes that died or had to be replaced: a file of JSON for
// each, the newest 20, on the machine itself. Nothing is sent anywhere. The files hold what runtimes and drivers
// wrote, which may quote prompts, so only their owner can read them.
package crashreport

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"genfn/functions/device/cgroup"
	"genfn/functions/device/fault"
	"genfn/functions/runner/protocol"
)

// Keep is how many reports a Store keeps.
const Keep = 20

// Work is what a runner was at when it ended.
type Work struct {
	Request string `json:"request,omitempty"` // request id; empty between requests
	Attempt int    `json:"attempt,omitempty"`
	Model   string `json:"model,omitempty"`
	Stage   string `json:"stage,omitempty"` // such as "denoise step 3 of 20"
}

// Report is what is known of one runner that ended badly.
type Report struct {
	Time       time.Time         `json:"time"`
	Started    time.Time         `json:"started"` // of the process
	PID        int               `json:"pid"`
	Device     string            `json:"device,omitempty"`
	DeviceName string            `json:"device_name,omitempty"`
	Work       Work              `json:"work"`
	Fault      fault.Fault       `json:"fault"`
	End        string            `json:"end"` // how the process ended, in words
	Memory     Memory            `json:"memory"`
	Versions   map[string]string `json:"versions,omitempty"` // component -> version
	Stderr     string            `json:"stderr,omitempty"`   // the last 8 KiB, or those around a crash report of Go
}

// Memory is what was last known of the process's memory, in bytes.
type Memory struct {
	Last protocol.Memory `json:"last"` // as the runner told it last
	// PeakRSS is the highest resident set as the kernel tells it at the end (ru_maxrss). It is never less than that of
	// the process that started the runner.
	PeakRSS int64         `json:"peak_rss"`
	Group   cgroup.Memory `json:"group"` // the control group after the end
}

// Store is a folder of reports. The nil Store keeps none.
type Store struct{ dir string }

// NewStore returns the store in dir, which is made when the first report is written.
func NewStore(dir string) *Store { return &Store{dir} }

// Write keeps a report and removes the oldest ones beyond Keep. A reader never sees half a report. It returns the
// file's path, "" from a nil Store.
func (s *Store) Write(r Report) (path string, err error) {
	if s == nil {
		return "", nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("crash report: %w", err)
		}
	}()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", err
	}
	// Names sort by time; several instances may write at the same moment.
	name := fmt.Sprintf("%s-%d-%s.json", r.Time.UTC().Format("20060102T150405.000000000"), r.PID, strings.ToLower(rand.Text()[:6]))
	f, err := os.CreateTemp(s.dir, "new-*") // private: mode 0600
	if err != nil {
		return "", err
	}
	path = filepath.Join(s.dir, name)
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return path, s.prune()
}

// prune removes the oldest reports.
func (s *Store) prune() error {
	names, err := s.names()
	if err != nil || len(names) <= Keep {
		return err
	}
	for _, name := range names[:len(names)-Keep] {
		// Another instance may have been faster.
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// names lists the files of reports, the oldest first.
func (s *Store) names() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// List returns the reports, the newest first. With an error come those that can be read.
func (s *Store) List() ([]Report, error) {
	if s == nil {
		return nil, nil
	}
	names, err := s.names()
	errs := []error{err}
	reports := []Report{}
	for _, name := range names {
		var r Report
		data, err := os.ReadFile(filepath.Join(s.dir, name))
		if errors.Is(err, fs.ErrNotExist) { // pruned in between
			continue
		}
		if err == nil {
			err = json.Unmarshal(data, &r)
		}
		if err == nil && r.Fault.Err == nil {
			err = errors.New("it names no fault")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("crash report %s: %w", name, err))
			continue
		}
		reports = append(reports, r)
	}
	slices.SortStableFunc(reports, func(a, b Report) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.PID, a.PID)) })
	return reports, errors.Join(errs...)
}
