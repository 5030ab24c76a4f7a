package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"genfn/functions/imagefile"
)

// generateBound is how far the latents of the GPU may be from the CPU's, of the largest.
const generateBound = 1e-3

// generate has genfn make a picture on the first device and on the CPU, the whole way, and compares the latents. It is
// not run where what runs the networks is not installed.
func (r *gpuReport) generate(ctx context.Context, folder string) error {
	t := result{Package: "genfn", Name: "generate", Status: statusNotRun, Why: r.CUDA.Error}
	if t.Why == "" {
		t.Why = whyNoModels(r.outputs["devices.json"])
	}
	if t.Why == "" {
		work, err := os.MkdirTemp("", "gpureport-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		began := time.Now()
		t.Status, t.Log, err = compareDevices(ctx, filepath.Join(folder, "genfn"), work)
		t.Seconds, t.Why = time.Since(began).Seconds(), ""
		if err != nil {
			t.Why = err.Error()
		}
		r.outputs["generate.txt"] = []byte(t.Log + t.Why)
	}
	r.Tests = append(r.Tests, t)
	return nil
}

// whyNoModels says why no model runs on the first device, of what `genfn devices --json` said; "" if one does.
func whyNoModels(devices []byte) string {
	var said struct {
		Devices []struct {
			Name   string `json:"name"`
			Tuning []struct {
				Name, Value, Reason string
			} `json:"tuning"`
		} `json:"devices"`
	}
	if err := json.Unmarshal(devices, &said); err != nil {
		return "genfn devices said nothing of models"
	}
	why, cpu := "genfn devices does not know cuda:0", false
	for _, d := range said.Devices {
		cpu = cpu || d.Name == "CPU"
		for _, s := range d.Tuning {
			if d.Name == "cuda:0" && s.Name == "models" {
				why = s.Reason
				if s.Value != "none" {
					why = ""
				}
			}
		}
	}
	if why == "" && !cpu {
		return "OpenVINO, which tokenizes, is not installed: run `make runtime`"
	}
	return why
}

// compareDevices makes the same picture on both devices.
func compareDevices(ctx context.Context, genfn, work string) (status, log string, err error) {
	var latents [2][]float32
	var said strings.Builder
	for i, device := range []string{"cuda:0", "CPU"} {
		file := filepath.Join(work, fmt.Sprint("latents-", i, ".npy"))
		devices := "CPU"
		if device != "CPU" {
			devices = device
		}
		cmd := exec.CommandContext(ctx, genfn, "demo", "--json", "--devices", devices, "--device", device, "--fallback", "never", "--steps", "20", "--seed", "11",
			"--cache-dir", filepath.Join(work, "cache"), "--out", filepath.Join(work, "picture.png"), "--output-latents", file)
		out, err := cmd.CombinedOutput()
		fmt.Fprintf(&said, "%s:\n%s\n", device, out)
		if err != nil {
			return statusFail, said.String(), fmt.Errorf("%s: %w", device, err)
		}
		if latents[i], err = readLatents(file); err != nil {
			return statusFail, said.String(), err
		}
	}
	apart, err := relative(latents[0], latents[1])
	fmt.Fprintf(&said, "latents are %.1e of the largest apart, allowed: %.0e\n", apart, generateBound)
	if err != nil || !(apart <= generateBound) {
		return statusFail, said.String(), errors.Join(err, errors.New("the pictures of GPU and CPU differ"))
	}
	return statusPass, said.String(), nil
}

func readLatents(path string) ([]float32, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a, err := imagefile.ReadNPY(f, 1<<20)
	return a.Data, err
}

// relative is the largest difference, of the largest value of b.
func relative(a, b []float32) (float64, error) {
	if len(a) != len(b) || len(b) == 0 {
		return 0, fmt.Errorf("%d and %d values", len(a), len(b))
	}
	var apart, largest float64
	for i := range b {
		apart, largest = max(apart, math.Abs(float64(a[i])-float64(b[i]))), max(largest, math.Abs(float64(b[i])))
	}
	return apart / largest, nil
}
