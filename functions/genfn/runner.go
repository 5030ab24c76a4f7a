package main

import (
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"genfn/functions/runner"
)

// newRunner is the child process of an instance. Nobody types it.
func newRunner(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:    "runner",
		Short:  "The process that owns a device; started by an instance",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			if os.Getenv("GOMAXPROCS") == "" {
				// Go code has little to do here. With one processor of its own Go's runtime stops looking after a call into C
				// at once, with several after 10 ms: the inferences of a small network took 5 % less CPU time on two cores.
				runtime.GOMAXPROCS(1)
			}
			return runner.Main(cmd.Context(), runner.Options{Logger: log})
		},
	}
}
