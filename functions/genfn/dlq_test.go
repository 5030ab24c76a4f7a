package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
	"genfn/events/eventstest"
)

// played is a server whose only instance is the test.
type played struct {
	t      *testing.T
	url    string
	broker *broker.Broker
	client *client.Client
	queue  *broker.Queue
}

func playInstance(t *testing.T, change func(*broker.Config)) *played {
	t.Helper()
	server := eventstest.Start(t)
	b, err := broker.Connect(server.URL(), broker.Options{Name: "instance"})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	c := broker.DefaultConfig()
	if change != nil {
		change(&c)
	}
	pool := events.PoolToken(events.KindImage, "emoji")
	require.NoError(t, b.Setup(t.Context(), c))
	require.NoError(t, b.EnsurePool(t.Context(), c, pool))
	queue, err := b.Subscribe([]string{pool}, broker.Lanes())
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		assert.NoError(t, queue.Close(ctx))
	})
	return &played{t: t, url: server.URL(), broker: b, client: client.New(b, client.Options{}), queue: queue}
}

// publish queues a request.
func (p *played) publish(id string) {
	p.t.Helper()
	_, err := p.client.Publish(p.t.Context(), client.Request{ID: id, Data: events.ImageGenerate{Model: "emoji", Prompt: "a red apple"}})
	require.NoError(p.t, err)
}

// fail takes the next request and fails it, if with two errors after two attempts.
func (p *played) fail(failures ...*events.Error) (id string) {
	p.t.Helper()
	j, err := p.queue.Next(p.t.Context())
	require.NoError(p.t, err)
	for i, failure := range failures {
		a, err := j.Begin(p.t.Context(), broker.AttemptRecord{Instance: "played", Device: "GPU.0"})
		require.NoError(p.t, err)
		if i < len(failures)-1 {
			require.NoError(p.t, a.End(p.t.Context(), "runner_crash", failure))
			continue
		}
		e, err := events.NewAnswer(events.TypeFailed, events.Meta{RequestID: j.ID, Source: "/test"}, events.Failed{Error: failure, Attempts: broker.EventAttempts(a.Records())})
		require.NoError(p.t, err)
		won, err := a.Finish(p.t.Context(), e)
		require.NoError(p.t, err)
		require.True(p.t, won)
	}
	require.NoError(p.t, j.Done(p.t.Context()))
	return j.ID
}

// genfn runs a command in this process.
func (p *played) genfn(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	var out, words bytes.Buffer
	code = run(append(args, "--nats", p.url), &out, &words)
	return out.String(), words.String(), code
}

func (p *played) says(args ...string) string {
	p.t.Helper()
	stdout, stderr, code := p.genfn(args...)
	require.Zero(p.t, code, stderr)
	return stdout
}

func crashed() *events.Error {
	e := events.Errorf(events.CodeGPURuntimeError, "the runner process was ended by signal 11")
	e.Stage, e.Detail, e.DriverText = "denoise step 3 of 20", "its last words", "clFlush, error code: -5"
	return e
}

func TestDeadLetterCommands(t *testing.T) {
	p := playInstance(t, nil)
	assert.Contains(t, p.says("dlq", "ls"), "No dead letters.")
	p.publish("apple-1")
	p.fail(crashed(), crashed())
	p.publish("apple-2")
	p.fail(events.Errorf(events.CodeHang, "it hung"))

	t.Run("ls", func(t *testing.T) {
		table := p.says("dlq", "ls")
		assert.Regexp(t, `(?s)AGE +ID +CODE +MODEL.*\d+s +apple-2 +hang +emoji +1 +0 +Device stopped making progress\n\d+s +apple-1 +gpu_runtime_error +emoji +2 +0 +GPU error`, table)
		assert.NotContains(t, p.says("dlq", "ls", "--code", "hang"), "apple-1")
		assert.Contains(t, p.says("dlq", "ls", "--model", "other"), "No dead letters.")
		assert.Contains(t, p.says("dlq", "ls", "--tenant", "other"), "No dead letters.")
		assert.Contains(t, p.says("dlq", "ls", "--since", "1ns"), "No dead letters.")
		var lines []deadLetterLine
		require.NoError(t, json.Unmarshal([]byte(p.says("dlq", "ls", "--since", "1h", "--json")), &lines))
		require.Len(t, lines, 2)
		assert.Equal(t, 2, lines[1].Attempts)
		var offered bytes.Buffer
		require.Zero(t, run([]string{"__complete", "dlq", "drop", "--nats", p.url, "apple-2", ""}, &offered, io.Discard))
		assert.Contains(t, offered.String(), "apple-1\tgpu_runtime_error")
		assert.NotContains(t, offered.String(), "apple-2")
	})
	t.Run("show", func(t *testing.T) {
		story := p.says("dlq", "show", "apple-1")
		for _, words := range []string{
			"Request apple-1 of tenant default failed at", "GPU error (gpu_runtime_error): the runner process was ended by signal 11", "advice:",
			"gen.req.image-emoji.any.interactive.default.apple-1", "deliveries from there: 1", "from /genfn/client", `"prompt":"a red apple"`,
			"Attempt 1 by played on GPU.0", "ended: runner_crash", "Attempt 2 by played on GPU.0", "stage:    denoise step 3 of 20", "clFlush, error code: -5", "detail:   its last words",
		} {
			assert.Contains(t, story, words)
		}
		var letter struct {
			broker.DeadLetter
			Model   string
			Request events.ImageGenerate
		}
		require.NoError(t, json.Unmarshal([]byte(p.says("dlq", "show", "apple-1", "--json")), &letter))
		assert.Equal(t, "a red apple", letter.Request.Prompt)
		assert.Equal(t, "emoji", letter.Model)
		assert.Len(t, letter.Attempts, 2)
		_, stderr, code := p.genfn("dlq", "show", "nobody")
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, `there is no dead letter of a request "nobody"`)
		assert.Contains(t, stderr, "genfn dlq ls")
	})
	t.Run("replay", func(t *testing.T) {
		done := make(chan string)
		go func() {
			stdout, stderr, code := p.genfn("dlq", "replay", "apple-1", "--follow")
			assert.Equal(t, exitFailed, code)
			done <- stdout + stderr
		}()
		id := p.fail(events.Errorf(events.CodeDeviceLost, "once more"))
		said := <-done
		assert.Contains(t, said, "apple-1 -> "+id+"\n")
		assert.Contains(t, said, id+": failed: Device lost: once more")
		assert.Contains(t, p.says("dlq", "show", "apple-1"), "as "+id+"\n")
		assert.Contains(t, p.says("dlq", "show", id), "caused by apple-1")

		var all []replayed
		require.NoError(t, json.Unmarshal([]byte(p.says("dlq", "replay", "--all", "--code", "hang", "--drop", "--json")), &all))
		require.Len(t, all, 1)
		assert.Equal(t, "apple-2", all[0].ID)
		assert.True(t, all[0].Dropped)
		assert.Equal(t, all[0].NewID, p.fail(events.Errorf(events.CodeInternal, "x")))
		assert.NotContains(t, p.says("dlq", "ls"), "apple-2")
		assert.Equal(t, "[]\n", p.says("dlq", "replay", "--all", "--code", "gpu_runtime_error", "--json"), "it was sent again before")
	})
	t.Run("unreadable", func(t *testing.T) {
		require.NoError(t, p.broker.Conn().Publish("gen.req.image-emoji.any.interactive.default.odd", []byte("{\x1b")))
		j, err := p.queue.Next(t.Context())
		require.NoError(t, err)
		_, ok, err := j.Open(t.Context())
		require.NoError(t, err)
		require.False(t, ok)
		story := p.says("dlq", "show", "odd")
		assert.Contains(t, story, `2 bytes: "{\x1b"`)
		assert.Contains(t, story, "No attempt was made.")
		_, stderr, code := p.genfn("dlq", "replay", "odd")
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "cannot be read, so it cannot be sent again")
	})
	t.Run("drop", func(t *testing.T) {
		_, stderr, code := p.genfn("dlq", "drop", "apple-1", "nobody")
		assert.Equal(t, exitFailed, code, stderr)
		assert.Contains(t, p.says("dlq", "drop", "apple-1"), "dropped apple-1: gpu_runtime_error, ")
		left := strings.Count(p.says("dlq", "ls"), "\n") - 1
		assert.Equal(t, left, strings.Count(p.says("dlq", "drop", "--all"), "dropped "))
		assert.Contains(t, p.says("dlq", "ls"), "No dead letters.")
	})
	for _, args := range [][]string{{"drop"}, {"replay", "--all", "x"}, {"drop", "x", "--code", "hang"}, {"show"}, {"ls", "--since=-1h"}, {"ls", "--tenant", "a.b"}, {}} {
		_, _, code := p.genfn(append([]string{"dlq"}, args...)...)
		assert.Equal(t, exitUsage, code, "%q", args)
	}
}

// lines passes on what is written to it, piece by piece.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

var _ io.Writer = lines(nil)

// TestGenerateWaitsForRoom: a full queue is said in words, and waited for if that is asked for; nothing is lost.
func TestGenerateWaitsForRoom(t *testing.T) {
	p := playInstance(t, func(c *broker.Config) { c.QueueMessages = 1 })
	p.publish("first")
	generate := []string{"generate", "--prompt", "x", "--out", t.TempDir() + "/x.png"}
	_, stderr, code := p.genfn(generate...)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "Queue is full: the queue takes no more requests")
	assert.Contains(t, stderr, "--wait-for-room")
	stdout, _, code := p.genfn(append(generate, "--json")...)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stdout, `"code": "queue_full"`)
	assert.Contains(t, stdout, `"retriable": true`)
	_, stderr, code = p.genfn(append(generate, "--wait-for-room", "100ms")...)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "Queue is full")

	said, done := make(lines, 100), make(chan int)
	go func() {
		done <- run(append(generate, "--wait-for-room", "1m", "--id", "second", "--nats", p.url), io.Discard, said)
	}()
	select {
	case line := <-said:
		assert.Contains(t, line, "the queue is full: waiting for room, at most 1m")
	case <-time.After(time.Minute):
		require.Fail(t, "it does not say that it waits")
	}
	assert.Equal(t, "first", p.fail(events.Errorf(events.CodeInternal, "x")))
	assert.Equal(t, "second", p.fail(events.Errorf(events.CodeInternal, "its answer")))
	assert.Equal(t, exitFailed, <-done)
	assert.Contains(t, <-said, "its answer")
}

// TestGenerateSaysThatPicturesAreGone: the answer is remembered for longer than its pictures are kept.
func TestGenerateSaysThatPicturesAreGone(t *testing.T) {
	p := playInstance(t, nil)
	p.publish("old")
	j, err := p.queue.Next(t.Context())
	require.NoError(t, err)
	a, err := j.Begin(t.Context(), broker.AttemptRecord{Instance: "played"})
	require.NoError(t, err)
	seed := uint64(7)
	e, err := events.NewAnswer(events.TypeSucceeded, events.Meta{RequestID: "old", Source: "/test"}, events.Succeeded{
		Request: events.ImageGenerate{Model: "emoji", Prompt: "a red apple", Seed: &seed}, Model: events.ModelRef{Name: "emoji"}, Device: "CPU",
		Artifacts: []events.Artifact{{Name: "image-0.png", Role: events.RoleImage, Ref: events.Ref{
			Bucket: broker.Bucket(broker.DefaultTenant), Object: "old/1/image-0.png", SHA256: strings.Repeat("0", 64), Size: 1, MediaType: "image/png",
		}}},
	})
	require.NoError(t, err)
	won, err := a.Finish(t.Context(), e)
	require.NoError(t, err)
	require.True(t, won)
	require.NoError(t, j.Done(t.Context()))
	_, stderr, code := p.genfn("generate", "--prompt", "a red apple", "--id", "old", "--out", t.TempDir()+"/x.png")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "request old was published before")
	assert.Contains(t, stderr, "request old succeeded at 20")
	assert.Contains(t, stderr, "its pictures are not kept any more")
	assert.Contains(t, stderr, "with --seed 7 it is the same picture")
}
