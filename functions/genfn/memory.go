package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"genfn/functions/device/memory"
)

// memoryFlags say how much memory is left alone, and when it is said that it runs out.
type memoryFlags struct {
	reserve           string
	warning, critical float64 // percent
}

func (f *memoryFlags) add(cmd *cobra.Command) {
	d := memory.DefaultThresholds()
	flags := cmd.Flags()
	flags.StringVar(&f.reserve, "memory-reserve", "5%", "memory of the device, or of the machine for devices that have none of their own, that is left free: a share (at most 1 GiB) or bytes such as 512MiB. What is expected to need more than the rest starts with less memory, goes to another device or is refused")
	flags.Float64Var(&f.warning, "memory-warning", 100*d.Warning, "percent of the device's or the machine's memory in use from which is warned")
	flags.Float64Var(&f.critical, "memory-critical", 100*d.Critical, "percent from which the warning is critical")
}

// read returns what the flags say.
func (f *memoryFlags) read() (memory.Reserve, memory.Thresholds, error) {
	reserve, err := memory.ParseReserve(f.reserve)
	if err != nil {
		return memory.Reserve{}, memory.Thresholds{}, usageError{fmt.Errorf("--memory-reserve: %w", err)}
	}
	t := memory.DefaultThresholds()
	t.Warning, t.Critical = f.warning/100, f.critical/100
	t.Hysteresis = min(t.Hysteresis, t.Warning/2)
	if err := t.Check(); err != nil {
		return memory.Reserve{}, memory.Thresholds{}, usageError{fmt.Errorf("--memory-warning %g, --memory-critical %g: %w", f.warning, f.critical, err)}
	}
	return reserve, t, nil
}
