package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"genfn/bench/report"
)

// result is one test.
type result struct {
	Package string  `json:"package"`
	Name    string  `json:"name"`
	Status  string  `json:"status"` // pass, fail, not_run
	Why     string  `json:"why,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Log     string  `json:"log,omitempty"`
}

// Statuses of tests.
const (
	statusPass   = "pass"
	statusFail   = "fail"
	statusNotRun = "not_run"
)

// figure is one benchmark.
type figure struct {
	Package string             `json:"package"`
	Name    string             `json:"name"`
	Metrics map[string]float64 `json:"metrics"` // by unit
}

// gpuReport is what a run leaves.
type gpuReport struct {
	Schema  int               `json:"schema"`
	Time    time.Time         `json:"time"`
	Machine report.Machine    `json:"machine"`
	CUDA    facts             `json:"cuda"`
	Tests   []result          `json:"tests"`
	Figures []figure          `json:"figures"`
	outputs map[string][]byte // of the programs, by name of file
}

// schemaVersion changes when a reader of the JSON would have to.
const schemaVersion = 1

// OK reports whether every test ran and passed.
func (r *gpuReport) OK() bool {
	return len(r.Tests) > 0 && !slices.ContainsFunc(r.Tests, func(t result) bool { return t.Status != statusPass })
}

// collect looks at the machine and runs the test programs in folder.
func collect(ctx context.Context, folder string) (*gpuReport, error) {
	r := &gpuReport{Schema: schemaVersion, Time: time.Now().UTC(), outputs: map[string][]byte{}}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	said, err := exec.CommandContext(ctx, exe, "probe").Output()
	if err != nil || json.Unmarshal(said, &r.CUDA) != nil {
		r.CUDA.Error = fmt.Sprintf("looking at the devices failed: %v: %s", err, said)
	}
	r.Machine = report.ThisMachine(map[string]string{"driver": r.CUDA.KernelDriver, "cudart": r.CUDA.Runtime})
	programs, err := filepath.Glob(filepath.Join(folder, "*.test"))
	if err != nil || len(programs) == 0 {
		return nil, fmt.Errorf("no *.test programs in %s: make gpu-report builds them", folder)
	}
	for _, program := range programs {
		if err := r.test(ctx, folder, program); err != nil {
			return nil, err
		}
	}
	if err := r.lookAtDevices(ctx, folder); err != nil {
		return nil, err
	}
	return r, r.generate(ctx, folder)
}

// lookAtDevices has `genfn devices` validate the devices, and counts that as a test.
func (r *gpuReport) lookAtDevices(ctx context.Context, folder string) error {
	t := result{Package: "genfn", Name: "devices", Status: statusNotRun, Why: r.CUDA.Error}
	if r.CUDA.Error == "" {
		cache, err := os.MkdirTemp("", "gpureport-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(cache)
		began := time.Now()
		ask := func(args ...string) ([]byte, error) {
			args = append([]string{"devices", "--local", "--cache-dir", cache}, args...)
			return exec.CommandContext(ctx, filepath.Join(folder, "genfn"), args...).CombinedOutput()
		}
		said, err := ask()
		r.outputs["devices.txt"], t.Log, t.Seconds = said, string(said), time.Since(began).Seconds()
		raw, rawErr := ask("--json", "--log-level", "error")
		r.outputs["devices.json"] = raw
		t.Status, t.Why = judgeDevices(raw, len(r.CUDA.Devices), errors.Join(err, rawErr))
	}
	r.Tests = append(r.Tests, t)
	return nil
}

// judgeDevices is passed if as many CUDA devices as there are were found well.
func judgeDevices(raw []byte, want int, err error) (status, why string) {
	var said struct {
		Devices []struct {
			Name string `json:"name"`
			OK   bool   `json:"ok"`
		} `json:"devices"`
	}
	if err := errors.Join(err, json.Unmarshal(raw, &said)); err != nil {
		return statusFail, err.Error()
	}
	well := 0
	for _, d := range said.Devices {
		if strings.HasPrefix(d.Name, "cuda:") && d.OK {
			well++
		}
	}
	if well != want {
		return statusFail, fmt.Sprintf("%d of %d devices were found well", well, want)
	}
	return statusPass, ""
}

// test runs a program's tests and benchmarks for GPUs.
func (r *gpuReport) test(ctx context.Context, folder, program string) error {
	name := strings.TrimSuffix(filepath.Base(program), ".test")
	list, err := exec.CommandContext(ctx, program, "-test.list", "^TestGPU").Output()
	if err != nil {
		return fmt.Errorf("listing the tests of %s: %w", program, err)
	}
	names := strings.Fields(string(list))
	if r.CUDA.Error != "" {
		for _, n := range names {
			r.Tests = append(r.Tests, result{Package: name, Name: n, Status: statusNotRun, Why: r.CUDA.Error})
		}
		return nil
	}
	cmd := exec.CommandContext(ctx, program, "-test.v", "-test.run", "^TestGPU", "-test.bench", "^BenchmarkGPU", "-test.benchtime", "100ms", "-test.timeout", "3m")
	cmd.Env = append(os.Environ(), "GENFN_TEST_GPU_KERNELS="+filepath.Join(folder, "..", "kernels"))
	cmd.Dir = folder
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	ended := cmd.Run()
	r.outputs[name+".txt"] = out.Bytes()
	tests, figures := parse(name, out.String())
	for _, n := range names {
		if !slices.ContainsFunc(tests, func(t result) bool { return t.Name == n }) {
			tests = append(tests, result{Package: name, Name: n, Status: statusNotRun, Why: fmt.Sprintf("its program ended before: %v", ended)})
		}
	}
	if ended != nil && !slices.ContainsFunc(tests, func(t result) bool { return t.Status != statusPass }) {
		tests = append(tests, result{Package: name, Name: "its program", Status: statusFail, Why: ended.Error()})
	}
	r.Tests, r.Figures = append(r.Tests, tests...), append(r.Figures, figures...)
	return nil
}

var (
	running   = regexp.MustCompile(`^=== (?:RUN|NAME|CONT)\s+(\S+)`)
	ended     = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)`)
	benchmark = regexp.MustCompile(`^(Benchmark\S+?)(?:-\d+)?\s+\d+\t(.*)$`)
)

// parse reads what a test program says with -test.v. Sub-tests count as parts of theirs; their logs are kept.
func parse(pkg, text string) (tests []result, figures []figure) {
	logs := map[string][]string{}
	current := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if m := running.FindStringSubmatch(line); m != nil {
			current, _, _ = strings.Cut(m[1], "/")
			continue
		}
		if m := ended.FindStringSubmatch(line); m != nil {
			top, _, sub := strings.Cut(m[2], "/")
			if sub {
				if m[1] == "FAIL" {
					logs[top] = append(logs[top], strings.TrimSpace(line))
				}
				continue
			}
			status := map[string]string{"PASS": statusPass, "FAIL": statusFail, "SKIP": statusNotRun}[m[1]]
			seconds, _ := strconv.ParseFloat(m[3], 64) // the expression lets numbers pass only
			tests = append(tests, result{Package: pkg, Name: top, Status: status, Seconds: seconds})
			continue
		}
		if m := benchmark.FindStringSubmatch(line); m != nil {
			figures = append(figures, figure{pkg, m[1], metrics(m[2])})
			continue
		}
		if strings.HasPrefix(line, "    ") && current != "" {
			logs[current] = append(logs[current], strings.TrimPrefix(line, "    "))
		}
	}
	for i, t := range tests {
		tests[i].Log = strings.Join(logs[t.Name], "\n")
	}
	return tests, figures
}

// metrics reads "12 ns/op\t3 GB/s".
func metrics(text string) map[string]float64 {
	out := map[string]float64{}
	for part := range strings.SplitSeq(text, "\t") {
		number, unit, ok := strings.Cut(strings.TrimSpace(part), " ")
		if value, err := strconv.ParseFloat(number, 64); ok && err == nil {
			out[strings.TrimSpace(unit)] = value
		}
	}
	return out
}
