package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"genfn/bench/worker"
	"genfn/functions/model"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// runnerProcess is a genfn runner in a process of its own, as an instance has it.
type runnerProcess struct {
	genfn  string
	dir    string // of the model
	config process.Config
	job    protocol.Generate
	runner *process.Process
}

// newRunnerWorker generates through a runner process: the same pipeline as the pipeline worker's, behind everything
// that stands between an instance and it.
func newRunnerWorker() *cobra.Command {
	r := &runnerProcess{}
	cmd := &cobra.Command{Use: "runner", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) (err error) {
		m, err := model.Open(r.dir)
		if err != nil {
			return err
		}
		r.job.Model = protocol.Model{Name: m.Name, Dir: m.Dir}
		hello := &r.config.Hello
		hello.Device, hello.Slot, hello.CleanupEvery, hello.RuntimeDir = "CPU", protocol.AnySlot, -1, filepath.Join(hello.CacheDir, "runtime")
		r.config.Command, r.config.Stderr = []string{r.genfn, "runner"}, os.Stderr
		if r.runner, err = process.Start(cmd.Context(), r.config); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.runner.Close()) }()
		return worker.Serve(os.Stdin, os.Stdout, worker.Answer{}, r.generate)
	}}
	f := cmd.Flags()
	f.StringVar(&r.genfn, "genfn", "", "the program whose runner it is")
	f.StringVar(&r.dir, "model", "", "model folder")
	f.StringVar(&r.config.Hello.LibraryDir, "openvino-dir", "", "OpenVINO's libraries")
	f.StringVar(&r.config.Hello.CacheDir, "cache-dir", "", "for the kernels and the compile journal")
	f.IntVar(&r.config.Hello.Threads, "threads", 0, "of an inference")
	f.StringVar(&r.config.Hello.Precision, "precision", "", "of an inference")
	f.IntVar(&r.job.Request.Width, "width", 0, "pixels")
	f.IntVar(&r.job.Request.Height, "height", 0, "pixels")
	f.IntVar(&r.job.Request.Steps, "steps", 0, "of the denoising")
	f.Float64Var(&r.job.Request.GuidanceScale, "guidance", 1, "scale")
	return cmd
}

// generate makes one picture and returns seconds of wall and CPU time, the latter of the runner and of this process.
func (r *runnerProcess) generate(raw json.RawMessage) (map[string]float64, error) {
	var asked pipelineRequest
	if err := json.Unmarshal(raw, &asked); err != nil {
		return nil, err
	}
	job := r.job
	r.job.Job++
	job.Job, job.Request.Count, job.Request.Prompt, job.Request.Seed = r.job.Job, 1, asked.Prompt, asked.Seed
	before, err := processCPU(r.runner.PID())
	if err != nil {
		return nil, err
	}
	own, began := cpuSeconds(), time.Now()
	if err := r.runner.Send(&job); err != nil {
		return nil, err
	}
	if err := r.result(job.Job); err != nil {
		return nil, err
	}
	wall := time.Since(began).Seconds()
	after, err := processCPU(r.runner.PID())
	return map[string]float64{"wall": wall, "cpu": after - before + cpuSeconds() - own}, err
}

// result waits for the end of a job.
func (r *runnerProcess) result(job uint64) error {
	for m := range r.runner.Messages() {
		switch m := m.(type) {
		case *protocol.Result:
			if m.Job == job {
				return r.runner.Bulk().Trim()
			}
		case *protocol.Failed:
			return m.Error
		}
	}
	return errors.New("the runner ended")
}

// processCPU returns the seconds of CPU time that a process has used, in user and system mode, by the clock that
// clock_getcpuclockid(3) names.
func processCPU(pid int) (float64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|2, &t); err != nil { //nolint:gosec // process ids are small
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return float64(t.Nano()) / 1e9, nil
}
