package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/events"
)

// startedClient is a client in a process of its own. What it prints on standard output is read line by line.
type startedClient struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr bytes.Buffer
}

// startClient starts a program in an empty folder; it is killed when the test ends.
func startClient(t *testing.T, name string, args ...string) *startedClient {
	t.Helper()
	c := &startedClient{cmd: exec.CommandContext(t.Context(), name, args...)}
	c.cmd.Dir, c.cmd.Stderr = t.TempDir(), &c.stderr
	stdout, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.read(t, stdout)
	return c
}

// startGenfn starts this program as a client whose standard error, where it tells of its progress, is read.
func startGenfn(t *testing.T, args ...string) *startedClient {
	t.Helper()
	c := &startedClient{cmd: exec.CommandContext(t.Context(), os.Args[0], args...)}
	c.cmd.Dir = t.TempDir()
	stderr, err := c.cmd.StderrPipe()
	require.NoError(t, err)
	c.read(t, stderr)
	return c
}

func (c *startedClient) read(t *testing.T, from io.Reader) {
	t.Helper()
	c.lines = bufio.NewScanner(from)
	c.cmd.WaitDelay = time.Minute
	require.NoError(t, c.cmd.Start())
}

// waitFor reads lines until one has these words.
func (c *startedClient) waitFor(t *testing.T, words string) {
	t.Helper()
	var read []string
	for c.lines.Scan() {
		if read = append(read, c.lines.Text()); strings.Contains(c.lines.Text(), words) {
			return
		}
	}
	_ = c.cmd.Wait() // for what it said
	require.FailNow(t, "the client did not say "+words, "%s\n%s", strings.Join(read, "\n"), c.stderr.String())
}

// rest reads to the end and returns what was read and the exit code.
func (c *startedClient) rest(t *testing.T) (string, int) {
	t.Helper()
	var read []string
	for c.lines.Scan() {
		read = append(read, c.lines.Text())
	}
	err := c.cmd.Wait()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit)
	}
	return strings.Join(read, "\n"), c.cmd.ProcessState.ExitCode()
}

func TestCancelCommands(t *testing.T) {
	up := startUp(t, checkout.Path(t, "deploy", "models"))
	long := func(t *testing.T, id string, more ...string) *startedClient {
		t.Helper()
		return startGenfn(t, append([]string{"generate", "--nats", up.URL, "--prompt", "a red apple", "--steps", "500", "--id", id}, more...)...)
	}
	t.Run("interrupt", func(t *testing.T) {
		c := long(t, "interrupted")
		c.waitFor(t, "denoise")
		require.NoError(t, c.cmd.Process.Signal(os.Interrupt))
		c.waitFor(t, "cancelling request interrupted")
		said, code := c.rest(t)
		assert.Equal(t, exitInterrupted, code)
		assert.Contains(t, said, "the request was cancelled in stage denoise")
		said, err := command(t, os.Args[0], "cancel", "interrupted", "--nats", up.URL)
		require.NoError(t, err, "it is cancelled already: %s", said)
		assert.Contains(t, said, "interrupted by its user")
	})
	t.Run("command", func(t *testing.T) {
		c := long(t, "running")
		c.waitFor(t, "denoise")
		queued := long(t, "queued", "--log-level", "debug")
		require.Eventually(t, func() bool { // it may not be published yet
			said, err := command(t, os.Args[0], "cancel", "queued", "--nats", up.URL, "--reason", "not now")
			return err == nil && strings.Contains(said, "the request was cancelled in stage queue: not now")
		}, time.Minute, 10*time.Millisecond)
		said, code := queued.rest(t)
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, said, "the request was cancelled in stage queue: not now")

		out, err := command(t, os.Args[0], "cancel", "running", "--nats", up.URL, "--reason", "the wrong fruit", "--json")
		require.NoError(t, err, out)
		var line cancelLine
		require.NoError(t, json.Unmarshal([]byte(out), &line))
		assert.Equal(t, "running", line.ID)
		assert.Equal(t, "the wrong fruit", line.Cancelled.Reason)
		assert.Contains(t, line.Cancelled.Stage, events.StageDenoise)
		said, code = c.rest(t)
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, said, "Cancelled: the request was cancelled in stage denoise")
		assert.Contains(t, said, ": the wrong fruit")
	})
}
