package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"genfn/functions/device/virtualgpu"
	"genfn/functions/runner/protocol"
)

// virtualFlags say whether GPUs are virtual ones: Intel's OpenCL runtime for CPUs, shown as an Intel GPU.
type virtualFlags struct {
	on     bool
	faults string
	memory int64
}

func (f *virtualFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.on, "virtual-gpu", false, "show a virtual Intel GPU, to try what happens when one fails (make vgpu installs it; slow)")
	flags.StringVar(&f.faults, "virtual-gpu-faults", "", "faults injected into it, such as clFlush:code=-5,times=1 or @FILE for a file that may change meanwhile (native/vgpu/README.md)")
	flags.Int64Var(&f.memory, "virtual-gpu-memory", 0, "its memory in MiB (default: that of the machine)")
}

// apply returns the environment of runners, and sets in their hello what the virtual GPU needs.
func (f *virtualFlags) apply(s *settings, hello *protocol.Hello) ([]string, error) {
	if !f.on {
		return nil, nil
	}
	c := virtualgpu.Config{Cache: filepath.Join(s.cache, "vgpu"), Memory: f.memory << 20}
	if rest, isFile := cutAt(f.faults); isFile {
		path, err := filepath.Abs(rest)
		if err != nil {
			return nil, err
		}
		c.FaultFile = path
	} else {
		c.Faults = f.faults
	}
	if err := os.MkdirAll(hello.RuntimeDir, 0o700); err != nil {
		return nil, err
	}
	c.Counter = filepath.Join(hello.RuntimeDir, "vgpu-count-%p")
	virtualgpu.SweepCounts(c.Counter)
	hello.Precision = "f32" // some of its kernels are wrong in f16
	return c.Environment()
}

func cutAt(text string) (rest string, ok bool) {
	if len(text) > 1 && text[0] == '@' {
		return text[1:], true
	}
	return text, false
}
