package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"genfn/functions/device/virtualcuda"
)

// virtualCUDAFlags say whether NVIDIA's devices are virtual ones.
type virtualCUDAFlags struct {
	on      bool
	devices int
	faults  string
	memory  int64

	libraries string // folder; these two by prepare
	env       []string
}

func (f *virtualCUDAFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.on, "virtual-cuda", false, "show a virtual CUDA device in place of NVIDIA's (make vcuda builds it)")
	flags.IntVar(&f.devices, "virtual-cuda-devices", 1, "how many of them, 1 to 8: cuda:0, cuda:1 and so on")
	flags.StringVar(&f.faults, "virtual-cuda-faults", "", "faults injected into it, such as \"kernel error=700 times=1\" or @FILE for a file that may change meanwhile (native/vcuda/README.md)")
	flags.Int64Var(&f.memory, "virtual-cuda-memory", 4096, "memory of each in MiB, at least 16")
}

// prepare finds the virtual device, if it is wanted, and checks what it shall be.
func (f *virtualCUDAFlags) prepare() error {
	if !f.on {
		return nil
	}
	if f.devices < 1 || f.devices > virtualcuda.MaxDevices {
		return usageError{fmt.Errorf("--virtual-cuda-devices %d: expected 1 to %d", f.devices, virtualcuda.MaxDevices)}
	}
	const least, most = 16, 1 << 20
	if f.memory < least || f.memory > most {
		return usageError{fmt.Errorf("--virtual-cuda-memory %d: expected %d to %d", f.memory, least, most)}
	}
	installed, err := virtualcuda.Find()
	if err != nil {
		return err
	}
	o := virtualcuda.Options{Faults: f.faults, Memory: f.memory << 20, Devices: f.devices}
	if path, isFile := strings.CutPrefix(f.faults, "@"); isFile {
		o.Faults, o.FaultFile = "", path
	}
	f.libraries = installed.Libraries
	f.env, err = installed.Env(o)
	return err
}
