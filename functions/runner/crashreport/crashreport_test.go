package crashreport_test

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/functions/device/fault"
	"genfn/functions/runner/crashreport"
)

func report(n int) crashreport.Report {
	return crashreport.Report{
		Time: time.Date(2026, 1, 2, 3, 4, n, 0, time.UTC), PID: 100 + n, Device: "GPU.0",
		Work:  crashreport.Work{Request: "r" + strconv.Itoa(n), Attempt: 2, Model: "emoji", Stage: "denoise step 3 of 20"},
		Fault: fault.Of(events.Errorf(events.CodeDeviceLost, "gone")), Stderr: "last words",
	}
}

func TestKeepsTheNewest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "crashes")
	s := crashreport.NewStore(dir)
	list, err := s.List()
	require.NoError(t, err)
	require.Empty(t, list, "no folder, no reports")
	for n := range crashreport.Keep + 5 {
		path, err := s.Write(report(n))
		require.NoError(t, err)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	list, err = s.List()
	require.NoError(t, err)
	require.Len(t, list, crashreport.Keep)
	require.Equal(t, "r24", list[0].Work.Request, "the newest first")
	require.Equal(t, "r5", list[len(list)-1].Work.Request)
	require.Equal(t, report(24).Fault.Class, list[0].Fault.Class)
	require.Equal(t, "gone", list[0].Fault.Err.Message)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, crashreport.Keep, "nothing half written stays")
}

func TestManyWritersAtOnce(t *testing.T) {
	s := crashreport.NewStore(t.TempDir())
	errs := make([]error, 60)
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() { _, errs[n] = s.Write(report(n)) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	list, err := s.List()
	require.NoError(t, err)
	require.Len(t, list, crashreport.Keep)
}

func TestUnreadableReportsAreNamed(t *testing.T) {
	dir := t.TempDir()
	s := crashreport.NewStore(dir)
	_, err := s.Write(report(1))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.json"), []byte("{cut"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.json"), []byte("{}"), 0o600))
	list, err := s.List()
	require.ErrorContains(t, err, "a.json")
	require.ErrorContains(t, err, "b.json")
	require.Len(t, list, 1)
}

func TestErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := crashreport.NewStore(filepath.Join(file, "crashes")).Write(report(1))
	require.ErrorContains(t, err, "crash report")
	var none *crashreport.Store
	path, err := none.Write(report(1))
	require.NoError(t, err)
	require.Empty(t, path)
	list, err := none.List()
	require.NoError(t, err)
	require.Empty(t, list)
}
