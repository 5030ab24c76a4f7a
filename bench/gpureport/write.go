package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// write puts the report into a folder: report.json, report.md, and the whole output of each test program.
func (r *gpuReport) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	var text strings.Builder
	r.markdown(&text)
	errs := []error{
		os.WriteFile(filepath.Join(dir, "report.json"), append(raw, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "report.md"), []byte(text.String()), 0o644),
	}
	for name, output := range r.outputs {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), output, 0o644))
	}
	return errors.Join(errs...)
}

// markdown writes the report for people. Errors of out are seen where it is a file.
func (r *gpuReport) markdown(out io.Writer) {
	p := func(format string, args ...any) { fmt.Fprintf(out, format, args...) }
	p("# CUDA on a real GPU\n\n%s, %s, %d CPUs, kernel %s\n", r.Time.Format("2006-01-02 15:04 MST"), r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel)
	c := r.CUDA
	p("\n| | |\n|---|---|\n| NVIDIA driver | %s, supports CUDA %s |\n| runtime library | %s, %s |\n| NVRTC | %s |\n| installed toolkits | %s |\n",
		c.KernelDriver, c.DriverCUDA, c.Runtime, c.RuntimePath, c.NVRTC, strings.Join(c.Installations, " "))
	for i, d := range c.Devices {
		p("| cuda:%d | %s, %s, %d multiprocessors, %d of %d MiB free, L2 %d MiB, ECC %t |\n",
			i, d.Name, d.Architecture, d.Multiprocessors, d.FreeMemory>>20, d.TotalMemory>>20, d.L2Cache>>20, d.ECC)
	}
	p("\n## Tests and fault stories\n\n| | test | seconds |\n|---|---|---|\n")
	words := map[string]string{statusPass: "ok", statusFail: "FAILED", statusNotRun: "NOT RUN"}
	for _, t := range r.Tests {
		p("| %s | %s %s %s | %s |\n", words[t.Status], t.Package, t.Name, t.Why, strconv.FormatFloat(t.Seconds, 'f', 2, 64))
	}
	if len(r.Figures) > 0 {
		p("\n## Figures\n\n| | |\n|---|---|\n")
	}
	for _, f := range r.Figures {
		var values []string
		for _, unit := range slices.Sorted(maps.Keys(f.Metrics)) {
			values = append(values, strconv.FormatFloat(f.Metrics[unit], 'g', 4, 64)+" "+unit)
		}
		p("| %s | %s |\n", f.Name, strings.Join(values, ", "))
	}
	p("\n## What the tests said\n")
	for _, t := range r.Tests {
		if t.Log != "" {
			p("\n%s %s:\n\n```\n%s\n```\n", t.Package, t.Name, t.Log)
		}
	}
}
