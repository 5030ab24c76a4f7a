package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	"genfn/events"
	"genfn/events/broker"
	"genfn/events/client"
)

// server is a running `genfn up`.
type server struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	url    string
}

// up starts `genfn up` on a free port with a store of its own, and waits until it is ready.
func (h *harness) up(ctx context.Context, name string, flags ...string) (*server, error) {
	if err := h.needGenfn(); err != nil {
		return nil, err
	}
	args := append([]string{
		"up", "--json", "--log-level", "warn", "--port", "0",
		"--store-dir", filepath.Join(h.work, name),
	}, flags...)
	s := &server{cmd: exec.CommandContext(ctx, h.genfn, args...)}
	s.cmd.Dir, s.cmd.Stderr = h.root, &s.stderr
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	var ready struct {
		NATS  string        `json:"nats"`
		Error *events.Error `json:"error"`
	}
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		return nil, errors.Join(fmt.Errorf("genfn up is not ready: %w", err), s.stop())
	}
	if ready.Error != nil {
		_ = s.stop() // it has failed
		return nil, ready.Error
	}
	s.url = ready.NATS
	return s, nil
}

// stop ends the server as a user would.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("genfn up: %w: %s", err, bytes.TrimSpace(s.stderr.Bytes()))
	}
	return nil
}

// client connects to the server. The broker is the caller's to close.
func (s *server) client() (*client.Client, *broker.Broker, error) {
	b, err := broker.Connect(s.url, broker.Options{Name: "genfn bench"})
	if err != nil {
		return nil, nil, err
	}
	return client.New(b, client.Options{Source: "/genfn/bench"}), b, nil
}
