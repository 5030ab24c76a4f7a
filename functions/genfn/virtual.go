package main

import (
	"github.com/spf13/cobra"

	"genfn/functions/runner/protocol"
)

// virtualFlags say whether GPUs are virtual ones: Intel's OpenCL runtime for CPUs, shown as an Intel GPU.
type virtualFlags struct {
	on bool
}

func (f *virtualFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.on, "virtual-gpu", false, "show a virtual Intel GPU, to try what happens when one fails (make vgpu installs it)")
}

// apply returns the environment of runners.
func (f *virtualFlags) apply(_ *settings, _ *protocol.Hello) ([]string, error) {
	return nil, nil
}
