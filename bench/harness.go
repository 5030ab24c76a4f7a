package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"genfn/bench/measure"
)

// harness is what the parts share.
type harness struct {
	short       bool
	out         string // folder of the report
	genfn       string // the program under test
	python      string // interpreter of the peers, but for those below
	torchPython string // of diffusers
	sdcppPython string // of stable-diffusion.cpp
	demo        string // folder of the demo model

	root   string // of the checkout
	work   string // folder for this run, on the same disk as the report
	stderr io.Writer

	backwards bool // which side was first, see compare
}

// prepare fills in what no flag gave and makes the folders.
func (h *harness) prepare(stderr io.Writer) (err error) {
	h.stderr = stderr
	if h.root, err = checkout(); err != nil {
		return err
	}
	for _, d := range []struct {
		path *string
		at   string
	}{
		{&h.out, ".cache/bench"}, {&h.genfn, "bin/genfn"}, {&h.python, ".runtime/peers/bin/python"},
		{&h.torchPython, ".runtime/train/bin/python"}, {&h.sdcppPython, ".runtime/sdcpp/bin/python"}, {&h.demo, "deploy/models/emoji"},
	} {
		if *d.path == "" {
			*d.path = h.path(d.at)
		}
	}
	if h.out, err = filepath.Abs(h.out); err != nil {
		return err
	}
	if err := os.MkdirAll(h.out, 0o755); err != nil {
		return err
	}
	h.work, err = os.MkdirTemp(h.out, "run-")
	return err
}

// clean removes the folder of this run.
func (h *harness) clean() { _ = os.RemoveAll(h.work) }

// versions are those that figures depend on, of the program under test as far as it tells them.
func (h *harness) versions(ctx context.Context) map[string]string {
	versions := map[string]string{"Go": runtime.Version()}
	out, err := exec.CommandContext(ctx, h.genfn, "version", "--json").Output()
	if err != nil {
		return versions // the parts that need it say that it is not there
	}
	var told struct {
		Genfn    string `json:"genfn"`
		ISA      string `json:"kernels_isa"`
		OpenVINO string `json:"openvino"`
		ONNX     string `json:"onnxruntime"`
	}
	if json.Unmarshal(out, &told) != nil {
		return versions
	}
	for name, v := range map[string]string{"genfn": told.Genfn, "kernels": told.ISA, "OpenVINO": told.OpenVINO, "ONNX Runtime": told.ONNX} {
		if v != "" {
			versions[name] = v
		}
	}
	return versions
}

// path returns the absolute path of something in the checkout.
func (h *harness) path(elem ...string) string {
	return filepath.Join(append([]string{h.root}, elem...)...)
}

// checkout finds the root of the module above the working directory.
func checkout() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if raw, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && bytes.HasPrefix(raw, []byte("module genfn\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside a checkout of genfn, whose sources and models the harness needs", start)
		}
	}
}

// rounds returns n, or few in a short run.
func (h *harness) rounds(n, few int) int {
	if h.short {
		return few
	}
	return n
}

// progress tells how far the rounds of something are, at most once a second.
func (h *harness) progress(what string) func(round, of int) {
	last := time.Now()
	return func(round, of int) {
		if now := time.Now(); round == of || now.Sub(last) > time.Second {
			last = now
			fmt.Fprintf(h.stderr, "  %s %d/%d\n", what, round, of)
		}
	}
}

// compare measures sides in turn, from one call to the next with another first.
func (h *harness) compare(ctx context.Context, what string, warmup, rounds int, sides ...measure.Side) ([]measure.Samples, error) {
	h.backwards = !h.backwards
	return measure.Interleave(ctx, h.backwards, warmup, rounds, h.progress(what), sides...)
}

// errNotBuilt is wrapped by the error of a missing bin/genfn.
var errNotBuilt = errors.New("run `make build` first, or name the program with --genfn")

// needGenfn fails if the program under test is not there.
func (h *harness) needGenfn() error {
	if _, err := os.Stat(h.genfn); err != nil {
		return fmt.Errorf("%s: %w", h.genfn, errNotBuilt)
	}
	return nil
}

// build compiles a program of this module, once in a run, and returns its path. What runs inside the harness's own process would
// be measured with cgo or the race detector, if that is how the harness was built.
func (h *harness) build(ctx context.Context, pkg string, cgo bool) (string, error) {
	out := filepath.Join(h.work, filepath.Base(pkg))
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir, cmd.Env = h.root, append(os.Environ(), "CGO_ENABLED=0")
	if cgo {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", pkg, err, bytes.TrimSpace(text))
	}
	return out, nil
}
