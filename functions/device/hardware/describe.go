package hardware

import (
	"fmt"
	"strings"

	"genfn/events"
)

// Describe puts what is known of a device's hardware on a line.
func Describe(h events.Hardware) string {
	switch {
	case h.Unknown != "":
		return "not known: " + h.Unknown
	case h.State != "":
		return strings.ReplaceAll(h.State, "_", " ")
	}
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if h.Temperature != nil {
		add("%d °C", *h.Temperature)
	}
	if h.Power != nil {
		add("%.0f W", *h.Power)
	}
	switch {
	case len(h.Throttling) > 0:
		add("throttled by %s", strings.Join(h.Throttling, ", "))
	case h.Temperature != nil:
		add("not throttled")
	}
	switch e := h.ECC; {
	case e == nil:
		add("no ECC")
	case !e.Enabled:
		add("ECC off")
	default:
		add("ECC errors %d corrected, %d uncorrected (in its life %d and %d)", e.Corrected, e.Uncorrected, e.CorrectedOfLife, e.UncorrectedOfLife)
	}
	if r := h.RemappedRows; r != nil && r.Correctable+r.Uncorrectable > 0 {
		add("%d rows of memory replaced", r.Correctable+r.Uncorrectable)
	}
	if r := h.RetiredPages; r != nil && r.Corrected+r.Uncorrected > 0 {
		add("%d pages of memory given up", r.Corrected+r.Uncorrected)
	}
	if h.Own != nil {
		add("%d MiB of memory are its runner's", *h.Own>>20)
	}
	if o := h.Others; o != nil && o.Processes > 0 {
		add("%d MiB of %d other processes", o.Bytes>>20, o.Processes)
	}
	if x := h.LastXid; x != nil {
		add("last Xid %d at %s: %s", x.Number, x.At.Local().Format("2006-01-02 15:04:05"), x.Meaning)
	}
	return strings.Join(words, ", ")
}
