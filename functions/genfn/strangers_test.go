package main

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/events"
	"genfn/events/broker"
)

// TestStrangers runs the examples against a server: Python and JavaScript in both content modes, and Go.
func TestStrangers(t *testing.T) {
	root := checkout.Path(t)
	clients := filepath.Join(root, ".runtime", "clients")
	require.FileExists(t, filepath.Join(clients, ".installed"), "run `make test`, or deploy/clients/install.sh .runtime/clients")
	up := startUp(t, filepath.Join(root, "deploy", "models"))
	for language, client := range map[string][]string{
		"python":     {filepath.Join(clients, "bin", "python"), filepath.Join(root, "events", "examples", "python", "generate.py")},
		"javascript": {filepath.Join(clients, "bin", "node"), withPackages(t, filepath.Join(root, "events", "examples", "javascript", "generate.mjs"), filepath.Join(clients, "javascript"))},
	} {
		t.Run(language+"/stale attempt", func(t *testing.T) {
			stop := forgeProgress(t, up.URL)
			printed, err := command(t, client[0], slices.Concat(client[1:], []string{"--nats", up.URL, "--prompt", "x", "--out", filepath.Join(t.TempDir(), "x.png")})...)
			stop()
			require.NoError(t, err, printed)
			_, after, newer := strings.Cut(printed, "progress denoise 98/99")
			require.True(t, newer, printed)
			assert.NotContains(t, after, "progress", "what the attempt before goes on to say is not shown")
			assert.Contains(t, after, "succeeded", "but the stored answer counts")
		})
		for _, mode := range []string{"binary", "structured"} {
			t.Run(language+"/"+mode, func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "apple.png")
				args := slices.Concat(client[1:], []string{"--nats", up.URL, "--prompt", `a red apple, "shiny" 100 %`, "--seed", "7", "--mode", mode, "--out", out})
				printed, err := command(t, client[0], args...)
				require.NoError(t, err, printed)
				assert.Contains(t, printed, "progress denoise 1/")
				assert.Contains(t, printed, "succeeded "+out+" seed 7")
				assertPicture(t, out)
			})
			t.Run(language+"/"+mode+"/refused", func(t *testing.T) {
				args := slices.Concat(client[1:], []string{"--nats", up.URL, "--prompt", "x", "--seed=-1", "--mode", mode, "--out", "never.png"})
				printed, err := command(t, client[0], args...)
				require.Error(t, err, printed)
				assert.Contains(t, printed, "invalid_request")
				assert.Contains(t, printed, "/seed")
			})
		}
	}
	for _, mode := range []string{"binary", "structured"} {
		t.Run("python/"+mode+"/cancelled", func(t *testing.T) {
			c := startClient(t, filepath.Join(clients, "bin", "python"), "-u", filepath.Join(root, "events", "examples", "python", "generate.py"),
				"--nats", up.URL, "--prompt", "a red apple", "--steps", "500", "--mode", mode, "--out", "never.png")
			c.waitFor(t, "progress denoise 1/")
			require.NoError(t, c.cmd.Process.Signal(os.Interrupt))
			c.waitFor(t, "cancel: the request ended as dev.genfn.generation.cancelled.v1")
			require.Error(t, c.cmd.Wait())
			assert.Contains(t, c.stderr.String(), `"reason": "interrupted"`)
			assert.Contains(t, c.stderr.String(), `"stage": "denoise step `)
		})
	}
	t.Run("go", func(t *testing.T) {
		program, out := filepath.Join(t.TempDir(), "example"), filepath.Join(t.TempDir(), "apple.png")
		printed, err := command(t, "go", "build", "-C", root, "-o", program, "./events/examples/go")
		require.NoError(t, err, printed)
		t.Setenv("GENFN_NATS", up.URL)
		printed, err = command(t, program, "a red apple", out)
		require.NoError(t, err, printed)
		assert.Contains(t, printed, "denoise")
		assertPicture(t, out)
	})
}

// withPackages returns a copy of a JavaScript program that finds the packages installed in a folder.
func withPackages(t *testing.T, program, installed string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(program)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "program.mjs"), text, 0o600))
	require.NoError(t, os.Symlink(filepath.Join(installed, "node_modules"), filepath.Join(dir, "node_modules")))
	return filepath.Join(dir, "program.mjs")
}

// forgeProgress publishes progress of a second attempt for each request that is queued, until stop is called.
func forgeProgress(t *testing.T, url string) (stop func()) {
	t.Helper()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	requests, err := nc.Subscribe("gen.req.>", func(m *nats.Msg) {
		a, _ := broker.ParseSubject(m.Subject)
		if forged, err := secondAttempt(a); assert.NoError(t, err) {
			assert.NoError(t, nc.PublishMsg(forged))
		}
	})
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	return func() { assert.NoError(t, requests.Drain()) }
}

// secondAttempt is a progress event of the second attempt at a request.
func secondAttempt(a broker.Address) (*nats.Msg, error) {
	e, err := events.NewAnswer(events.TypeProgress, events.Meta{RequestID: a.ID, Source: "/test"}, events.Progress{Stage: events.StageDenoise, Step: 98, Steps: 99})
	if err != nil {
		return nil, err
	}
	e.SetAttempt(2)
	header, data, err := events.EncodeBinary(e)
	return &nats.Msg{Subject: broker.EventSubject(a.Tenant, a.ID, broker.KindProgress), Header: header, Data: data}, err
}

// assertPicture checks for a picture of the demo model's size.
func assertPicture(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	picture, err := png.Decode(bytes.NewReader(raw))
	require.NoError(t, err)
	assert.Equal(t, 64, picture.Bounds().Dx())
}
