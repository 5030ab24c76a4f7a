package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"genfn/functions/device/virtualgpu"
	"genfn/functions/runner/protocol"
)

// virtualFlags say whether GPUs are virtual ones: Intel's OpenCL runtime for CPUs, shown as an Intel GPU.
type virtualFlags struct {
	on       bool
	devices  int
	faults   string
	memory   int64
	maxAlloc int64
}

func (f *virtualFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.on, "virtual-gpu", false, "show a virtual Intel GPU, to try what happens when one fails (make vgpu installs it; slow, and in f32 only)")
	flags.IntVar(&f.devices, "virtual-gpu-devices", 1, "how many of them, 1 to 8: GPU.0, GPU.1 and so on")
	flags.StringVar(&f.faults, "virtual-gpu-faults", "", "faults injected into it, such as \"clFlush error=-5 times=1\" or @FILE for a file that may change meanwhile (native/vgpu/README.md)")
	flags.Int64Var(&f.memory, "virtual-gpu-memory", 0, "memory of each in MiB (default: that of the machine)")
	flags.Int64Var(&f.maxAlloc, "virtual-gpu-max-alloc", 0, "MiB of its largest allocation (default: what the runtime below allows)")
}

// apply returns the environment of runners, and sets in their hello what the virtual GPU needs.
func (f *virtualFlags) apply(s *settings, hello *protocol.Hello) ([]string, error) {
	if !f.on {
		return nil, nil
	}
	installed, err := virtualgpu.Find("")
	if err != nil {
		return nil, err
	}
	o := virtualgpu.Options{
		CacheDir: filepath.Join(s.cache, "vgpu"), CountersDir: filepath.Join(hello.RuntimeDir, "vgpu"),
		Devices: f.devices, Memory: f.memory << 20, MaxAlloc: f.maxAlloc << 20,
	}
	if path, isFile := strings.CutPrefix(f.faults, "@"); isFile {
		o.FaultFile = path
	} else if o.Faults, err = virtualgpu.ParseFaults(f.faults); err != nil {
		return nil, usageError{fmt.Errorf("--virtual-gpu-faults: %w", err)}
	}
	if f.devices < 1 || f.devices > virtualgpu.MaxDevices {
		return nil, usageError{fmt.Errorf("--virtual-gpu-devices %d: expected 1 to %d", f.devices, virtualgpu.MaxDevices)}
	}
	if f.memory < 0 || f.maxAlloc < 0 {
		return nil, usageError{errors.New("--virtual-gpu-memory and --virtual-gpu-max-alloc: expected no negative numbers")}
	}
	if err := os.MkdirAll(hello.RuntimeDir, 0o700); err != nil {
		return nil, err
	}
	if err := virtualgpu.SweepMemory(o.CountersDir); err != nil {
		return nil, err
	}
	hello.Precision = cmp.Or(hello.Precision, precisionOfVirtual)
	return installed.Env(o)
}

// precisionOfVirtual is the precision that all networks are right in; see native/vgpu/README.md.
const precisionOfVirtual = "f32"
