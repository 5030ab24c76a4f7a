package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/events/broker"
	"genfn/functions/device/hardware"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// heartbeatLife is how old the last word of an instance may be for it to count as alive.
const heartbeatLife = 10 * time.Second

// deviceLine is one device of this machine as `devices --json` prints it.
type deviceLine struct {
	Name     string               `json:"name"`
	FullName string               `json:"full_name,omitempty"`
	Class    string               `json:"class"`
	OK       bool                 `json:"ok"`
	Error    *events.Error        `json:"error,omitempty"`
	Driver   *protocol.Driver     `json:"driver,omitempty"` // of a GPU
	Checks   []events.DeviceCheck `json:"checks,omitempty"`
	Memory   *events.MemoryInfo   `json:"memory_info,omitempty"`
	Hardware *events.Hardware     `json:"hardware,omitempty"` // what its driver tells of it
	Use      map[string]string    `json:"use,omitempty"`      // properties genfn sets

	Tuning []events.DeviceSetting `json:"tuning,omitempty"` // how it is used, and why

	Properties map[string]string `json:"properties,omitempty"`
}

// deviceReport is what `devices --json` prints.
type deviceReport struct {
	Devices   []deviceLine          `json:"devices"`   // of this machine
	Instances []events.DeviceStatus `json:"instances"` // that a NATS server knows, if there is one
	Decisions []events.Decision     `json:"decisions"` // in force on instances
}

func newDevices(s *settings) *cobra.Command {
	var properties, here, crashes bool
	var virtual virtualFlags
	var nvidia cudaFlags
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "The devices of this machine, looked at one by one, and those of running instances",
		Long: "The devices of this machine, each validated by a process of its own: driver, properties, memory, a small known computation, and of NVIDIA's what their driver tells of the hardware. A driver that crashes or hangs harms nobody. " +
			"NVIDIA's devices are looked at where there is a driver and CUDA's runtime library; the line models says whether they can serve here. --virtual-cuda shows virtual ones in their place.\n\n" +
			"Below them the instances of a NATS server, if one answers: the state of each one's device and why, memory, generations and faults; and what is decided on them, since when, by whom and why.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if crashes {
				return s.printCrashes(cmd)
			}
			log, err := s.logger(cmd)
			if err != nil {
				return err
			}
			if err := nvidia.virtual.prepare(); err != nil {
				return err
			}
			var ofCUDA []process.Found
			var both sync.WaitGroup
			both.Go(func() { ofCUDA = nvidia.discover(cmd.Context(), s, log) })
			found, err := s.discover(cmd.Context(), &virtual, log)
			both.Wait()
			found = append(found, ofCUDA...)
			if err != nil && len(found) == 0 {
				return err
			}
			if err != nil {
				log.Warn("not every device could be looked at", "error", err)
			}
			report := deviceReport{Devices: []deviceLine{}, Instances: []events.DeviceStatus{}, Decisions: []events.Decision{}}
			for _, d := range found {
				report.Devices = append(report.Devices, describeDevice(d, properties))
			}
			if !here {
				if report.Instances, report.Decisions, err = s.instances(cmd); err != nil {
					return err
				}
			}
			if s.json {
				printJSON(cmd.OutOrStdout(), report)
				return nil
			}
			report.print(cmd.OutOrStdout())
			return nil
		},
	}
	s.addRuntime(cmd)
	s.addONNXRuntime(cmd)
	s.addCache(cmd)
	s.addNATS(cmd)
	virtual.add(cmd)
	nvidia.add(cmd)
	cmd.Flags().BoolVar(&crashes, "crashes", false, "print the runners that ended badly on this machine instead, the newest first (the last 20; --json has all that is known of them)")
	cmd.Flags().BoolVar(&properties, "properties", false, "print the properties of each device too")
	cmd.Flags().BoolVar(&here, "local", false, "only the devices of this machine: ask no NATS server")
	return cmd
}

func describeDevice(d process.Found, properties bool) deviceLine {
	line := deviceLine{Name: d.Name, FullName: d.FullName, Class: events.ClassOf(d.Name), OK: d.Error == nil, Error: d.Error}
	if properties {
		line.Properties = d.Properties
	}
	if v := d.Validation; v != nil {
		line.FullName, line.Driver, line.Checks, line.Use, line.Tuning = v.Name, v.Driver, v.Checks, v.Properties, v.Tuning
		line.Hardware = v.Hardware
		if v.Memory.Total >= 0 {
			line.Memory = &events.MemoryInfo{DeviceTotal: &v.Memory.Total}
			if v.Memory.Used >= 0 {
				line.Memory.DeviceUsed, line.Memory.DeviceFree = &v.Memory.Used, &v.Memory.Free
			}
		}
	}
	return line
}

// instances asks a server for its instances. Without one there are none, unless it was named.
func (s *settings) instances(cmd *cobra.Command) ([]events.DeviceStatus, []events.Decision, error) {
	b, err := broker.Connect(s.nats, broker.Options{Name: "genfn devices", Credentials: s.creds})
	if err != nil {
		if cmd.Flags().Changed("nats") {
			return nil, nil, err
		}
		return []events.DeviceStatus{}, []events.Decision{}, nil
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), heartbeatLife)
	defer cancel()
	list, err := b.Devices(ctx, heartbeatLife)
	if list == nil {
		list = []events.DeviceStatus{}
	}
	if err != nil {
		return list, nil, err
	}
	decisions, err := b.Decisions(ctx)
	if decisions == nil {
		decisions = []events.Decision{}
	}
	return list, decisions, err
}

func (r deviceReport) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, d := range r.Devices {
		state := "ok"
		if !d.OK {
			state = "failed"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Name, state, d.FullName)
		for _, c := range d.Checks {
			mark := "ok"
			if !c.OK {
				mark = "FAILED"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\n", c.Name, mark, oneLine(c.Detail))
		}
		if d.Error != nil {
			fmt.Fprintf(w, "  reason\t\t%s\n  advice\t\t%s\n", problem(d.Error), d.Error.Advice)
		}
		for _, t := range d.Tuning {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", t.Name, t.Value, oneLine(t.Reason))
		}
		if len(d.Use) > 0 {
			fmt.Fprintf(w, "  properties set\t\t%s\n", pairs(d.Use))
		}
		for _, key := range slices.Sorted(maps.Keys(d.Properties)) {
			fmt.Fprintf(w, "  %s\t\t%s\n", key, oneLine(d.Properties[key]))
		}
	}
	_ = w.Flush() // the terminal's errors are seen there
	if len(r.Instances) > 0 {
		printInstances(out, r.Instances)
	}
	if len(r.Decisions) > 0 {
		printDecisions(out, r.Decisions, r.Instances)
	}
}

// printDecisions prints what is in force on instances, and what comes next.
func printDecisions(out io.Writer, decisions []events.Decision, instances []events.DeviceStatus) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nINSTANCE\tDECISION\tSINCE\tBY\tREASON\tMESSAGE\n")
	for _, d := range decisions {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Instance, d.State, d.At.Local().Format(time.DateTime), d.DecidedBy, d.Reason, oneLine(d.Message+next(d, instances)))
	}
	_ = w.Flush()
}

// next says what is to follow a decision.
func next(d events.Decision, instances []events.DeviceStatus) string {
	if d.State == events.StateGone {
		return ""
	}
	words := ""
	if d.RetryAt != nil {
		words = " It may prove itself at " + d.RetryAt.Local().Format(time.TimeOnly) + "."
	}
	unheard := func(s events.DeviceStatus) bool {
		return s.Instance == d.Instance && (s.Obeys == nil || s.Obeys.Number != d.Number)
	}
	if slices.ContainsFunc(instances, unheard) {
		words += " The instance has not said yet that it obeys."
	}
	return words
}

// printInstances prints a table of instances, and below it why a device takes no requests and what failed last.
func printInstances(out io.Writer, list []events.DeviceStatus) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nINSTANCE\tDEVICE\tSTATE\tSINCE\tBUSY\tGENERATIONS\tFAULTS\tRSS\tSWAP\tDEVICE MEMORY\tHOST FREE\n")
	for _, s := range list {
		m := s.MemoryInfo
		if m == nil {
			m = &events.MemoryInfo{}
		}
		memory := "-"
		if m.DeviceTotal != nil {
			memory = mib(*m.DeviceTotal)
			if m.DeviceUsed != nil {
				memory = mib(*m.DeviceUsed) + " of " + memory
			}
			if m.DeviceUsable != nil {
				memory += ", " + mib(*m.DeviceUsable) + " believed usable"
			}
		}
		host := "-"
		if m.HostTotal > 0 {
			host = mib(m.HostFree) + " of " + mib(m.HostTotal)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d/%d\t%d\t%d\t%.0f MiB\t%.0f MiB\t%s\t%s\n", s.Instance, s.Device, s.State, s.Since.Local().Format(time.TimeOnly),
			s.Busy, s.Slots, s.GenerationCount, s.FaultCount, m.RSSMB, m.SwapMB, memory, host)
	}
	_ = w.Flush()
	if swap := systemSwap(list); swap != "" {
		fmt.Fprintln(out, swap)
	}
	for _, s := range list {
		if s.State != events.StateReady {
			fmt.Fprintf(out, "%s: %s (%s): %s\n", s.Instance, s.State, s.Reason, oneLine(s.Message))
			if s.NextTry != nil {
				fmt.Fprintf(out, "  may prove itself again at %s\n", s.NextTry.Local().Format(time.TimeOnly))
			}
		}
		if s.MemoryInfo != nil && s.State == events.StateReady && len(s.MemoryInfo.Processes) == 0 {
			fmt.Fprintf(out, "%s: its runners were idle and have ended; the next request starts one\n", s.Instance)
		}
		for _, c := range s.Conditions {
			evidence := ""
			if c.Evidence != "" {
				evidence = " (" + oneLine(c.Evidence) + ")"
			}
			fmt.Fprintf(out, "%s: %s (%s) since %s: %s%s\n", s.Instance, c.Type, c.Level, c.Since.Local().Format(time.TimeOnly), oneLine(c.Message), evidence)
		}
		if h := s.Hardware; h != nil {
			fmt.Fprintf(out, "%s: hardware: %s\n", s.Instance, oneLine(hardware.Describe(*h)))
		}
		if c := s.LastCanary; c != nil {
			fmt.Fprintln(out, s.Instance+": "+describeCanary(*c))
		}
		if driver := s.Versions["driver"]; driver != "" {
			fmt.Fprintf(out, "%s: %s, driver %s\n", s.Instance, s.DeviceName, driver)
		}
		if len(s.Tuning) > 0 {
			fmt.Fprintf(out, "%s: %s\n", s.Instance, choices(s.Tuning).line())
		}
		for _, f := range s.LastFaults[max(0, len(s.LastFaults)-3):] {
			fmt.Fprintf(out, "  %s  %s  %s\n", f.At.Local().Format(time.TimeOnly), f.Cause, oneLine(problem(f.Error)))
		}
	}
}

// describeCanary says when a device proved its numbers last, and by what.
func describeCanary(c events.LastCanary) string {
	result := "passed"
	if !c.Passed {
		result = "failed"
	}
	against := map[string]string{
		events.AgainstReference: "beside a CPU's values", events.AgainstKind: "beside other devices of its kind", events.AgainstFirst: "beside its own first",
	}[c.Against]
	if against == "" {
		against = "with nothing to compare it with yet"
	} else {
		against += fmt.Sprintf(", %.2g apart", c.Apart)
	}
	return fmt.Sprintf("canary of %s %s at %s in %s, %s", c.Model, result, c.At.Local().Format(time.TimeOnly), time.Duration(c.ElapsedMS)*time.Millisecond, against)
}

// systemSwap tells of machines that swap, which slows everything on them.
func systemSwap(list []events.DeviceStatus) string {
	var lines []string
	for _, s := range list {
		if m := s.MemoryInfo; m != nil && m.SystemSwapUsed > 0 {
			lines = append(lines, fmt.Sprintf("%s: its machine has %s of swap in use, of %s", s.Instance, mib(m.SystemSwapUsed), mib(m.SystemSwapTotal)))
		}
	}
	return strings.Join(lines, "\n")
}

// choices are how a device is used.
type choices []events.DeviceSetting

// line is each with its reason.
func (c choices) line() string {
	words := make([]string, len(c))
	for i, s := range c {
		words[i] = s.Name + " " + s.Value + " (" + oneLine(s.Reason) + ")"
	}
	return strings.Join(words, "; ")
}

func mib(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

// pairs is KEY=VALUE of each entry, by name.
func pairs(m map[string]string) string {
	words := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		words = append(words, key+"="+m[key])
	}
	return strings.Join(words, " ")
}

// oneLine is the text with its line ends as blanks, and not without end.
func oneLine(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " ..."
	}
	return text
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
