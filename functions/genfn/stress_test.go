package main

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/functions/stress"
)

// stressed runs `genfn stress` and returns what it says at the end; its records must be as many.
func stressed(t *testing.T, url string, n int, flags ...string) stress.Summary {
	t.Helper()
	c := startClient(t, "/proc/self/exe", append([]string{"stress", "--json", "--nats", url, "-n", strconv.Itoa(n), "--patience", "2m"}, flags...)...)
	out, code := c.rest(t)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var last struct {
		Summary *stress.Summary `json:"summary"`
	}
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last), "%s\n%s", out, c.stderr.String())
	require.NotNil(t, last.Summary, "%s\n%s", out, c.stderr.String())
	for _, c := range last.Summary.Checks {
		require.True(t, c.OK, "%s: %s\n%+v", c.Name, c.Detail, last.Summary.Problems)
		t.Logf("%s: %s", c.Name, c.Detail)
	}
	require.Zero(t, code, c.stderr.String())
	require.Len(t, lines, n+1, "one record for each request")
	require.Equal(t, n, last.Summary.Done)
	return *last.Summary
}

// judged are the checks that had enough to judge by.
func judged(s stress.Summary) (names []string) {
	for _, c := range s.Checks {
		if c.Judged {
			names = append(names, c.Name)
		}
	}
	return names
}

// TestStress: the requests survive what is done to their runners, and nothing drifts. `make stress` does the same at
// length.
func TestStress(t *testing.T) {
	up := startUp(t, checkout.Path(t, "deploy", "models"), "--slots", "2", "--devices", "CPU")
	s := stressed(t, up.URL, 100, "--seed", "5", "--sizes", "64x64", "--steps", "1,2", "--faults", "0.2", "--cancels", "0.1",
		"--kill-runners", "--kinds", "kill,crash,abort,invalid,deadline,unknown_model", "--picture", filepath.Join(t.TempDir(), "memory.svg"))
	for _, k := range []stress.Kind{stress.Kill, stress.Crash, stress.Abort, stress.Invalid, stress.Deadline, stress.UnknownModel, stress.Cancel} {
		require.Positive(t, s.Injected[k], k)
	}
	require.GreaterOrEqual(t, s.Retried, 3)
	require.Greater(t, s.Processes, 2, "killed ones were replaced")
	require.Subset(t, judged(s), []string{"lost", "answered twice", "outcomes", "queue", "ledger", "swap", "open files"})
}

func TestStressTable(t *testing.T) {
	used := int64(239980)
	s := stress.Snapshot{
		Phase: "requests", Elapsed: 90 * time.Second, PerSecond: 2.5, P50: 70 * time.Millisecond, P99: 5 * time.Second,
		Counts:    stress.Counts{Planned: 40, Done: 12, Succeeded: 9, Failed: map[string]int{"hang": 1, "invalid_request": 2}, Retried: 3, FellBack: 1},
		Instances: []stress.InstanceMemory{{Instance: "gpu-1", Device: "GPU", State: "ready", RSS: 316 << 20, Ledger: 4096, Outstanding: 64, DeviceUsed: &used}},
	}
	line := stressLine(s)
	for _, words := range []string{"90.0 s  requests: 12/40 done", "failed 1 hang, 2 invalid_request", "3 retried, 1 fell back", "2.5/s, p50 70ms p99 5s", "GPU ready rss 316 MiB ledger +64 device 234 KiB"} {
		require.Contains(t, line, words)
	}
	for _, width := range []int{0, 60} {
		drawn := stressDrawn(s, width)
		require.Contains(t, drawn, "12/40")
		require.Equal(t, width == 0, strings.Contains(drawn, "239980 B"))
		for line := range strings.Lines(drawn) {
			require.True(t, width == 0 || utf8.RuneCountInString(strings.TrimSpace(line)) <= width, line)
		}
	}
	var out strings.Builder
	printSummary(&out, &stress.Summary{
		Counts: s.Counts, Checks: []stress.Check{{Name: "ledger", Judged: true, Detail: "3 readings differ"}, {Name: "swap", OK: true, Judged: true}, {Name: "trend", OK: true}},
		Problems: []stress.Record{{ID: "r-1", Problem: "another picture"}},
	})
	require.Regexp(t, `(?s)ledger +│ DRIFT │ 3 readings differ.*swap +│ ok .*trend +│ - .*r-1 .*: another picture`, out.String())
}

func TestStressWithoutAnInstance(t *testing.T) {
	up := startUp(t, checkout.Path(t, "deploy", "models"), "--devices", "CPU")
	c := startClient(t, "/proc/self/exe", "stress", "--nats", up.URL, "--model", "nobodys", "--patience", "100ms")
	_, code := c.rest(t)
	require.Equal(t, exitFailed, code)
	require.Contains(t, c.stderr.String(), "no instance that serves the model nobodys was heard of")
}
