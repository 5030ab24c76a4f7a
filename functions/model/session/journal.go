package session

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// journal remembers which compilations with static shapes failed or ended the process.
//
// A marker file is written before such a compilation, with a lock that the kernel gives up when the
// process ends in whatever way, and removed after it. A marker without a lock is that of a crash. If a process left
// several, each of their compilations is suspected, and runs alone the next time: it then crashes again, or comes
// back well and leaves the others with the blame. One that came back well leaves a file
// "<key>.ok" and needs no marker any more; one that failed leaves "<key>.failed".
type journal struct {
	dir        string
	retryAfter time.Duration
	process    string // random; the same in all markers of this process. "": they count as of different ones
}

// entry is what a file of the journal says, for people.
type entry struct {
	Component string    `json:"component"`
	Shapes    string    `json:"shapes"`
	Device    string    `json:"device"`
	OpenVINO  string    `json:"openvino"`
	PID       int       `json:"pid"`
	Process   string    `json:"process,omitempty"`
	Started   time.Time `json:"started"`
	Error     string    `json:"error,omitempty"`
}

// key names a compilation: another file, shape, device or release of OpenVINO may fare better.
func (e entry) key(stamp string) string {
	digest := sha256.Sum256([]byte(strings.Join([]string{e.Component, stamp, e.Shapes, e.Device, e.OpenVINO}, "\x00")))
	return hex.EncodeToString(digest[:16])
}

// stampOf tells whether the network's files changed.
func stampOf(paths ...string) string {
	var b strings.Builder
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			fmt.Fprintf(&b, "%d %d;", st.Size(), st.ModTime().UnixNano())
		}
	}
	return b.String()
}

// bad reports why a compilation should not be tried, "" if it may. One that is suspected should be tried alone.
func (j *journal) bad(key string) (why string, suspected bool) {
	if failed, err := os.ReadFile(filepath.Join(j.dir, key+".failed")); err == nil {
		var e entry
		if json.Unmarshal(failed, &e) == nil && e.Error != "" {
			return "it failed before: " + e.Error, false
		}
		return "it failed before", false
	}
	for _, path := range j.markers(key) {
		crashed, when := abandoned(path)
		if !crashed {
			continue
		}
		if time.Since(when) >= j.retryAfter {
			_ = os.Remove(path) // one more try; a crash leaves a new marker
			continue
		}
		if !j.inCompany(path) {
			return "it ended the process at " + when.UTC().Format(time.RFC3339), false
		}
		suspected = true
	}
	return "", suspected
}

// markers lists the markers of a key, "*" for those of all.
func (j *journal) markers(key string) []string {
	found, err := filepath.Glob(filepath.Join(j.dir, key+".*.compiling"))
	if err != nil {
		return nil
	}
	return found
}

// inCompany reports whether the process that left a marker left others too.
func (j *journal) inCompany(path string) bool {
	process := processOf(path)
	return process != "" && slices.ContainsFunc(j.markers("*"), func(other string) bool { return other != path && processOf(other) == process })
}

func processOf(marker string) string {
	var e entry
	data, err := os.ReadFile(marker)
	if err != nil || json.Unmarshal(data, &e) != nil {
		return ""
	}
	return e.Process
}

// acquit removes what crashed processes left: the compilation came back.
func (j *journal) acquit(key string) {
	for _, path := range j.markers(key) {
		if crashed, _ := abandoned(path); crashed {
			_ = os.Remove(path)
		}
	}
}

// good reports whether the compilation came back well before.
func (j *journal) good(key string) bool {
	_, err := os.Stat(filepath.Join(j.dir, key+".ok"))
	return err == nil
}

// abandoned reports whether the process that made the marker is gone.
func abandoned(path string) (bool, time.Time) {
	f, err := os.Open(path)
	if err != nil {
		return false, time.Time{} // removed in between: that compilation ended well
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false, time.Time{}
	}
	st, err := f.Stat()
	if err != nil {
		return false, time.Time{}
	}
	// Its owner may have removed it between Open and Flock.
	if _, err := os.Stat(path); err != nil {
		return false, time.Time{}
	}
	return true, st.ModTime()
}

// marker is a compilation in progress.
type marker struct {
	f    *os.File // holds the lock
	path string
}

// begin writes the marker before the compilation begins. durable is for one that may take the machine with it.
func (j *journal) begin(key string, e entry, durable bool) (*marker, error) {
	if err := os.MkdirAll(j.dir, 0o755); err != nil {
		return nil, err
	}
	e.PID, e.Process, e.Started = os.Getpid(), j.process, time.Now()
	// It is locked under a name that bad does not look for, then renamed.
	f, err := os.CreateTemp(j.dir, "new-*")
	if err != nil {
		return nil, err
	}
	m := &marker{f, filepath.Join(j.dir, key+"."+strings.TrimPrefix(filepath.Base(f.Name()), "new-")+".compiling")}
	steps := []func() error{
		func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) },
		func() error { return json.NewEncoder(f).Encode(e) },
		f.Sync,
		func() error { return os.Rename(f.Name(), m.path) },
		func() error { return syncDir(j.dir) },
	}
	if !durable {
		steps = slices.Delete(steps, 2, 3)[:3]
	}
	for _, step := range steps {
		if err := step(); err != nil {
			_ = os.Remove(f.Name())
			return nil, errors.Join(err, m.end())
		}
	}
	return m, nil
}

// end removes the marker: the compilation came back.
func (m *marker) end() error {
	err := os.Remove(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, m.f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// record notes how a compilation came back: well for a nil cause.
func (j *journal) record(key string, e entry, cause error) error {
	suffix := ".ok"
	e.PID, e.Started = os.Getpid(), time.Now()
	if cause != nil {
		suffix, e.Error = ".failed", cause.Error()
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(j.dir, key+suffix), data, 0o644)
}
