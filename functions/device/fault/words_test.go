package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"genfn/events"
)

// jargon is what only programmers of Go understand, and what a formatting mistake leaves.
var jargon = regexp.MustCompile(`(?i)goroutine|nil pointer|context (?:deadline exceeded|canceled)|runtime error|panic|\bEOF\b|strconv\.|interface \{\}|dial tcp|\*events\.|%!|0x[0-9a-f]{6,}|\{device\}|unexpected end of JSON`)

// assertWords checks what people get to see of an error: all three parts, each readable on its own.
func assertWords(t *testing.T, name string, e *events.Error) {
	t.Helper()
	assert.NotEmpty(t, e.Title, name)
	assert.NotEmpty(t, e.Message, name)
	assert.NotEmpty(t, e.Advice, name)
	for _, text := range []string{e.Title, e.Message, e.Advice} {
		assert.NotRegexp(t, jargon, text, name)
	}
	assert.False(t, strings.HasSuffix(e.Title, "."), "%s: a title is no sentence: %s", name, e.Title)
	assert.True(t, strings.HasSuffix(e.Advice, "."), "%s: advice is a sentence: %s", name, e.Advice)
	assert.NotEqual(t, e.Title, e.Message, "%s: the message says more than the title", name)
}

// TestWordsOfEveryRow prints each row's error as an event has it, with -v, and checks its words.
func TestWordsOfEveryRow(t *testing.T) {
	for _, device := range []string{"GPU.0", "CPU", ""} {
		for _, table := range tables() {
			for i := range table.rows {
				r := &table.rows[i]
				e := r.fault("", device).Err
				t.Logf("%s, %s: %s | %s | %s", r.name, device, e.Title, e.Message, e.Advice)
				assertWords(t, r.name, e)
			}
		}
	}
}

func TestWordsOfEveryDeath(t *testing.T) {
	deaths := []Death{
		{Killed: KilledForHang}, {Killed: KilledForCancel}, {Killed: KilledForDeadline}, {Killed: KilledForShutdown}, {ExitCode: 2},
		{Stderr: "panic: runtime error: index out of range [7] with length 3\n\ngoroutine 1 [running]:\n"},
		{Stderr: "fatal error: concurrent map writes\n\ngoroutine 12 [running]:\n"}, {Stderr: "fatal error: runtime: out of memory\n"},
		{Signal: syscall.SIGABRT, Stderr: "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"},
	}
	for signal := syscall.Signal(1); signal < 32; signal++ {
		deaths = append(deaths, Death{Signal: signal})
	}
	for _, d := range deaths {
		d.Device, d.Stage = "GPU.0", "denoise step 3 of 20"
		f := ClassifyDeath(d)
		assertWords(t, fmt.Sprintf("%s %+v", f.Rule, d), f.Err)
		assert.Equal(t, d.Stderr, f.Err.Detail, "operators get the trace")
	}
}

// TestWordsOfErrorsOfGo: what the program's own libraries say goes to the detail, for operators.
func TestWordsOfErrorsOfGo(t *testing.T) {
	for _, err := range []error{
		errors.New("runtime error: invalid memory address or nil pointer dereference"), context.DeadlineExceeded, io.ErrUnexpectedEOF,
		&fs.PathError{Op: "open", Path: "/models/x", Err: syscall.EACCES}, fmt.Errorf("read: %w", syscall.EMFILE), fmt.Errorf("write: %w", syscall.ENOSPC),
	} {
		f := Classify(Evidence{Err: err, Device: "CPU"})
		assertWords(t, err.Error(), f.Err)
		assert.Equal(t, err.Error(), f.Err.Detail)
	}
}

// TestWordsOfTheCorpus: the texts of the field become words too.
func TestWordsOfTheCorpus(t *testing.T) {
	for _, text := range []string{
		"[GPU] clFlush, error code: -5 CL_OUT_OF_RESOURCES", "CUDA out of memory. Tried to allocate 20.00 MiB", "could not execute a primitive", "nobody has ever seen this",
	} {
		f := Classify(Evidence{Runtime: RuntimeOpenVINO, Status: -1, Text: text, Device: "GPU.0", Err: errors.New(text)})
		assertWords(t, text, f.Err)
		assert.Equal(t, text, f.Err.DriverText)
	}
}
