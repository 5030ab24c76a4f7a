package main

import (
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
			return runner.Main(cmd.Context(), runner.Options{Logger: log})
		},
	}
}
