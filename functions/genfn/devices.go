package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"genfn/functions/runner/process"
)

func newDevices(s *settings) *cobra.Command {
	var properties, crashes bool
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "The devices OpenVINO finds on this machine",
		Long:  "The devices OpenVINO finds on this machine. They are listed by a process of their own, so a driver that crashes or hangs harms nobody.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if crashes {
				return s.printCrashes(cmd)
			}
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			list, err := process.Devices(cmd.Context(), process.Config{
				Hello: s.hello(""), Stderr: cmd.ErrOrStderr(), Reports: s.crashReports(), Version: version, Logger: log,
			})
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
	cmd.Flags().BoolVar(&crashes, "crashes", false, "print the runners that ended badly on this machine instead, the newest first (the last 20; --json has all that is known of them)")
	cmd.Flags().BoolVar(&properties, "properties", false, "print the properties of each device too")
	return cmd
}

// printCrashes prints the crash reports. Those that can be read are printed even if some cannot.
func (s *settings) printCrashes(cmd *cobra.Command) error {
	reports, failed := s.crashReports().List()
	if s.json {
		printJSON(cmd.OutOrStdout(), reports)
		return failed
	}
	if len(reports) == 0 && failed == nil {
		fmt.Fprintln(cmd.OutOrStdout(), "No runner has ended badly here.")
		return nil
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tDEVICE\tFAULT\tCLASS\tMODEL\tREQUEST\tATTEMPT\tSTAGE\tPEAK RSS\tWHAT HAPPENED")
	for _, r := range reports {
		attempt := ""
		if r.Work.Attempt > 0 {
			attempt = strconv.Itoa(r.Work.Attempt)
		}
		columns := []string{
			r.Time.Local().Format(time.DateTime), r.Device, string(r.Fault.Err.Code), string(r.Fault.Class), r.Work.Model, r.Work.Request, attempt, r.Work.Stage,
			fmt.Sprintf("%d MiB", r.Memory.PeakRSS>>20), r.Fault.Err.Message,
		}
		for i := range columns {
			columns[i] = cmp.Or(strings.Join(strings.Fields(columns[i]), " "), "-")
		}
		fmt.Fprintln(w, strings.Join(columns, "\t"))
	}
	return errors.Join(w.Flush(), failed)
}
