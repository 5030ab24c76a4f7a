package kernels

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"genfn/bindings/cuda/nvrtc"
	"genfn/native"
)

// lanes is how many values a thread of a device computes, all read before the first is used. With one, a large device's
// memory is idle for half of the time.
const lanes = 4

// compileOptions keep products and sums rounded on their own, which makes the results equal to the reference's.
func compileOptions(lanes int) []string {
	return []string{"--fmad=false", "--std=c++17", fmt.Sprintf("-DGENFN_LANES=%d", lanes)}
}

// Compile compiles the kernels for an architecture: sm_90 gives a cubin, compute_80 PTX that drivers compile for any
// later device.
func Compile(c *nvrtc.Compiler, architecture string) (*nvrtc.Code, error) {
	return compileLanes(c, architecture, lanes)
}

func compileLanes(c *nvrtc.Compiler, architecture string, lanes int) (*nvrtc.Code, error) {
	return c.Compile(nvrtc.Source{
		Name: "elementwise.h", Text: native.Elementwise, Headers: map[string]string{"genfn_kernels.h": native.GenfnKernels},
	}, architecture, compileOptions(lanes)...)
}

// Cubin returns the kernels' code for an architecture such as sm_90: what is kept in cacheDir, else compiled and kept
// there. Any number of processes may do this at once.
func Cubin(c *nvrtc.Compiler, architecture, cacheDir string) ([]byte, error) {
	inputs := strings.Join(append([]string{native.Elementwise, native.GenfnKernels, c.Version(), architecture}, compileOptions(lanes)...), "\x00")
	path := filepath.Join(cacheDir, fmt.Sprintf("genfn_kernels-%s-%x.cubin", architecture, sha256.Sum256([]byte(inputs))))
	if kept, ok := readSummed(path); ok {
		return kept, nil
	}
	code, err := Compile(c, architecture)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cacheDir, 0o700); err != nil {
		return nil, fmt.Errorf("kernels: cache folder: %w", err)
	}
	sum := sha256.Sum256(code.Cubin)
	if err := writeFile(path, append(code.Cubin[:len(code.Cubin):len(code.Cubin)], sum[:]...)); err != nil {
		return nil, fmt.Errorf("kernels: keeping the code for %s: %w", architecture, err)
	}
	return code.Cubin, nil
}

// readSummed reads a file that ends with the SHA-256 of what is before it; false if there is none, or it is damaged.
func readSummed(path string) ([]byte, bool) {
	all, err := os.ReadFile(path)
	n := len(all) - sha256.Size
	if err != nil || n < 0 || sha256.Sum256(all[:n]) != [sha256.Size]byte(all[n:]) {
		return nil, false
	}
	return all[:n], true
}
