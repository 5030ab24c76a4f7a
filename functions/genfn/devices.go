package main

import (
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"genfn/functions/runner/process"
)

func newDevices(s *settings) *cobra.Command {
	var properties bool
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "The devices OpenVINO finds on this machine",
		Long:  "The devices OpenVINO finds on this machine. They are listed by a process of their own, so a driver that crashes or hangs harms nobody.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			list, err := process.Devices(cmd.Context(), process.Config{Hello: s.hello(""), Stderr: cmd.ErrOrStderr(), Logger: log})
			if err != nil {
				return err
			}
			if s.json {
				printJSON(cmd.OutOrStdout(), list.Devices)
				return nil
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, d := range list.Devices {
				fmt.Fprintf(w, "%s\t%s\n", d.Name, d.FullName)
				if !properties {
					continue
				}
				for _, key := range slices.Sorted(maps.Keys(d.Properties)) {
					fmt.Fprintf(w, "  %s\t%s\n", key, d.Properties[key])
				}
			}
			return w.Flush()
		},
	}
	s.addRuntime(cmd)
	s.addCache(cmd)
	cmd.Flags().BoolVar(&properties, "properties", false, "print the properties of each device too")
	return cmd
}
