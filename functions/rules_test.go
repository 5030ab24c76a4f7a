// Package functions_test holds the rules of the layout that a compiler does not check.
package functions_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pkg is what `go list -json` tells of a package, as far as the rules need it.
type pkg struct {
	ImportPath   string
	Doc          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	GoFiles      []string
}

// rule forbids the packages under From to import those under To. Why is shown when it is broken.
type rule struct {
	From, To string
	Except   []string
	Why      string
}

// rules are the import directions of the project: a request goes events/broker -> instance -> runner ->
// pipeline -> diffusion, model, bindings, and no arrow points back.
var rules = []rule{
	{From: "genfn/bindings", To: "genfn/events", Why: "bindings know native libraries only; errors become events.Error in functions"},
	{From: "genfn/bindings", To: "genfn/functions", Why: "bindings are the lowest layer"},
	{From: "genfn/events", To: "genfn/bindings", Why: "clients of the events must not load native code"},
	{From: "genfn/events", To: "genfn/functions", Why: "events are the vocabulary that functions speak, not the reverse"},
	{From: "genfn/functions/instance", To: "genfn/bindings", Why: "the instance survives what native code does: only the runner process loads it"},
	{From: "genfn/functions/embedded", To: "genfn/bindings", Why: "the broker needs no native code"},
	{From: "genfn/functions/imagefile", To: "genfn/bindings", Why: "the instance encodes, and it is free of native code"},
	{From: "genfn/functions/runner/protocol", To: "genfn/bindings", Why: "both sides of the protocol read it, and one of them is free of native code"},
	{From: "genfn/functions/device/fault", To: "genfn/bindings", Why: "the instance classifies faults too, and it is free of native code"},
	{From: "genfn/functions/device/hardware", To: "genfn/bindings", Why: "the instance judges the hardware, and it is free of native code"},
	{From: "genfn/functions/device/cgroup", To: "genfn/bindings", Why: "the instance reads the counters, and it is free of native code"},
	{From: "genfn/functions/hostmemory", To: "genfn/bindings", Why: "the instance reads it, and it is free of native code"},
	{From: "genfn/functions/device/memory", To: "genfn/bindings", Why: "the instance decides what fits, and it is free of native code"},
	{From: "genfn/functions/stress", To: "genfn/bindings", Why: "it knows a running system by its events only"},
	{From: "genfn/functions/stress", To: "genfn/functions/instance", Why: "it knows a running system by its events only"},
	{From: "genfn/functions/top", To: "genfn/bindings", Why: "it knows a running system by its events only"},
	{From: "genfn/functions/diffusion", To: "genfn/bindings", Except: []string{"genfn/bindings/kernels"}, Why: "schedulers are pure computation over the kernels"},
	{From: "genfn/functions/diffusion", To: "genfn/events", Why: "schedulers are pure computation"},
	{From: "genfn", To: "genfn/bench", Why: "the harness measures the product and is not part of it"},
}

// native are the imports that only bindings may have.
var native = []string{"unsafe", "github.com/ebitengine/purego"}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// violations lists what the packages do against the rules, one line each.
func violations(packages []pkg) []string {
	var out []string
	for _, p := range packages {
		for _, r := range rules {
			if !under(p.ImportPath, r.From) || under(p.ImportPath, r.To) {
				continue
			}
			for _, imported := range p.Imports {
				if under(imported, r.To) && !slices.Contains(r.Except, imported) {
					out = append(out, p.ImportPath+" imports "+imported+": "+r.Why)
				}
			}
		}
		if !under(p.ImportPath, "genfn/bindings") {
			for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
				if slices.Contains(native, imported) {
					out = append(out, p.ImportPath+" imports "+imported+": native memory and calls live under bindings/ only")
				}
			}
		}
		if len(p.GoFiles) > 0 && p.Doc == "" {
			out = append(out, p.ImportPath+" has no package comment")
		}
	}
	return out
}

func load(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Imports,TestImports,XTestImports,GoFiles", "genfn/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var packages []pkg
	for dec := json.NewDecoder(bytes.NewReader(raw)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

func TestImportDirections(t *testing.T) {
	packages := load(t)
	require.Greater(t, len(packages), 10, "go list found too little to be the whole project")
	require.Empty(t, strings.Join(violations(packages), "\n"))
}

// TestRulesSeeDefects plants one package per rule and expects exactly that complaint.
func TestRulesSeeDefects(t *testing.T) {
	for _, r := range rules {
		from := r.From
		if from == "genfn" {
			from = "genfn/events"
		}
		got := violations([]pkg{{ImportPath: from + "/planted", Doc: "x", Imports: []string{r.To + "/inner"}}})
		require.Contains(t, strings.Join(got, "\n"), r.Why, "%s -> %s", r.From, r.To)
	}
	require.Len(t, violations([]pkg{{ImportPath: "genfn/functions/x", Doc: "x", Imports: []string{"unsafe"}}}), 1)
	require.Len(t, violations([]pkg{{ImportPath: "genfn/functions/x", Doc: "x", TestImports: []string{"unsafe"}}}), 1)
	require.Len(t, violations([]pkg{{ImportPath: "genfn/functions/x", GoFiles: []string{"x.go"}}}), 1)
	require.Empty(t, violations([]pkg{{ImportPath: "genfn/functions/diffusion", Doc: "x", Imports: []string{"genfn/bindings/kernels"}}}))
}

// TestTopLevel keeps the top of the repository to what the layout allows.
func TestTopLevel(t *testing.T) {
	allowed := []string{"bench", "bin", "bindings", "deploy", "events", "functions", "go.mod", "go.sum", "Makefile", "native", "README.md"}
	entries, err := os.ReadDir("..")
	require.NoError(t, err)
	for _, e := range entries {
		// Compiled tests and profiles are ignored by git and come and go.
		if ext := filepath.Ext(e.Name()); !strings.HasPrefix(e.Name(), ".") && ext != ".test" && ext != ".prof" {
			require.Contains(t, allowed, e.Name(), "the top level is fixed; bin/ is the ignored build output")
		}
	}
}
