// Package worker is a measuring process beside the harness: a peer in another language or build, or a part of
// genfn that wants a process of its own. It stays loaded, reads one request a line on standard input and answers
// each with one line on standard output, both JSON. Its first line says that it is ready.
package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
)

// Answer is a line of a worker.
type Answer struct {
	Figures map[string]float64 `json:"figures,omitempty"`
	Texts   map[string]string  `json:"texts,omitempty"` // versions and other facts
	Error   string             `json:"error,omitempty"`
}

// Process is a worker that was started. Use it from one goroutine.
type Process struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *tail
	ready  Answer
}

// Start runs cmd and waits until it is ready. The context ends it.
func Start(ctx context.Context, name string, command ...string) (*Process, error) {
	p := &Process{name: name, cmd: exec.CommandContext(ctx, command[0], command[1:]...), stderr: &tail{}}
	p.cmd.Stderr = p.stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = in, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if p.ready, err = p.read(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Ready returns what the worker said of itself when it was ready.
func (p *Process) Ready() Answer { return p.ready }

// Ask sends one request and returns its figures.
func (p *Process) Ask(request any) (map[string]float64, error) {
	line, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return nil, p.broken(err)
	}
	a, err := p.read()
	return a.Figures, err
}

func (p *Process) read() (Answer, error) {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return Answer{}, p.broken(err)
	}
	var a Answer
	if err := json.Unmarshal(line, &a); err != nil {
		return Answer{}, fmt.Errorf("%s answered %q: %w", p.name, line, err)
	}
	if a.Error != "" {
		return Answer{}, fmt.Errorf("%s: %s", p.name, a.Error)
	}
	return a, nil
}

// broken explains a worker that went away with its last words.
func (p *Process) broken(err error) error {
	return fmt.Errorf("%s ended early: %w: %s", p.name, err, p.stderr)
}

// Close ends the worker by closing its standard input, and waits for it.
func (p *Process) Close() error {
	_ = p.in.Close() // the worker may be gone already
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", p.name, err, p.stderr)
	}
	return nil
}

// Serve is the other side: it says ready, then answers every request with handle's figures until in ends.
func Serve(in io.Reader, out io.Writer, ready Answer, handle func(request json.RawMessage) (map[string]float64, error)) error {
	enc := json.NewEncoder(out)
	if err := enc.Encode(ready); err != nil {
		return err
	}
	for dec := json.NewDecoder(in); ; {
		var request json.RawMessage
		if err := dec.Decode(&request); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a Answer
		var err error
		if a.Figures, err = handle(request); err != nil {
			a.Error = err.Error()
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-tailBytes):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
