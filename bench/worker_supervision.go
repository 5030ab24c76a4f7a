package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"genfn/bench/worker"
	"genfn/functions/model"
	"genfn/functions/runner"
	"genfn/functions/runner/protocol"
)

// supervised is a runner and, beside it in the same process, the bare pipeline: two processes of one program differ by
// more than what is looked for.
type supervised struct {
	generator
	job   protocol.Generate
	conn  *protocol.Conn
	bulk  *protocol.Bulk
	ended chan error
}

// supervisedRequest asks for one picture, by the bare pipeline or the runner.
type supervisedRequest struct {
	pipelineRequest
	Bare bool `json:"bare"`
}

func newSupervisionWorker() *cobra.Command {
	s := &supervised{}
	cmd := &cobra.Command{Use: "supervision", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		defer func() { err = errors.Join(err, s.stop(), s.close()) }()
		if err := s.open(); err != nil {
			return err
		}
		if err := s.start(cmd.Context()); err != nil {
			return err
		}
		return worker.Serve(os.Stdin, os.Stdout, worker.Answer{}, func(raw json.RawMessage) (map[string]float64, error) {
			var r supervisedRequest
			if err := json.Unmarshal(raw, &r); err != nil {
				return nil, err
			}
			if r.Bare {
				return s.generate(cmd.Context(), r.pipelineRequest)
			}
			return s.supervise(r.pipelineRequest)
		})
	}}
	s.add(cmd)
	return cmd
}

// start begins a conversation with a runner that is in this process.
func (s *supervised) start(ctx context.Context) error {
	m, err := model.Open(s.dir)
	if err != nil {
		return err
	}
	s.job = protocol.Generate{Model: protocol.Model{Name: m.Name, Dir: m.Dir}, Request: protocol.Request{
		Width: s.request.Width, Height: s.request.Height, Steps: s.request.Steps, GuidanceScale: s.request.GuidanceScale, Count: 1,
	}}
	own, its, err := socketPair()
	if err != nil {
		return err
	}
	s.conn = protocol.NewConn(own)
	if s.bulk, err = protocol.CreateBulk(); err != nil {
		return errors.Join(err, its.Close())
	}
	fd, err := unix.FcntlInt(s.bulk.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return errors.Join(err, its.Close())
	}
	s.ended = make(chan error, 1)
	go func() {
		s.ended <- runner.Run(ctx, protocol.NewConn(its), protocol.OpenBulk(os.NewFile(uintptr(fd), "genfn-bulk")), runner.Options{}) //nolint:gosec // a descriptor
	}()
	if err := s.conn.Send(&protocol.Hello{
		Protocol: protocol.Version, Device: "CPU", Slot: protocol.AnySlot, CleanupEvery: -1, GuidanceBatch: 2, Threads: s.options.Threads, Precision: s.options.Precision,
		LibraryDir: s.library, CacheDir: s.options.CacheDir, RuntimeDir: filepath.Join(s.options.CacheDir, "runtime"),
	}); err != nil {
		return err
	}
	switch m, err := s.conn.Receive(); m := m.(type) {
	case *protocol.Ready:
		return nil
	case *protocol.Failed:
		return m.Error
	default:
		return fmt.Errorf("the runner is not ready: %w", err)
	}
}

// socketPair is what an instance and its runner process talk over.
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FileConn(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, nil, err
		}
	}
	return ends[0], ends[1], nil
}

// supervise makes one picture by the runner, and reads its messages as an instance does.
func (s *supervised) supervise(r pipelineRequest) (map[string]float64, error) {
	s.job.Job++
	job := s.job
	job.Request.Prompt, job.Request.Seed = r.Prompt, r.Seed
	used, began := cpuSeconds(), time.Now()
	if err := s.conn.Send(&job); err != nil {
		return nil, err
	}
	for {
		m, err := s.conn.Receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *protocol.Result:
			wall, cpu := time.Since(began).Seconds(), cpuSeconds()-used
			return map[string]float64{"wall": wall, "cpu": cpu}, s.bulk.Trim()
		case *protocol.Failed:
			return nil, m.Error
		}
	}
}

// stop ends the runner.
func (s *supervised) stop() error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.ended != nil {
		errs = append(errs, <-s.ended)
	}
	if s.bulk != nil {
		errs = append(errs, s.bulk.Close())
	}
	return errors.Join(errs...)
}
