package kernels

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
	return c.Compile(source(), architecture, compileOptions(lanes)...)
}

func source() nvrtc.Source {
	headers := native.Kernels()
	return nvrtc.Source{Name: native.KernelsRoot, Text: headers[native.KernelsRoot], Headers: headers}
}

// Cubin returns the kernels' code for an architecture such as sm_90: what is kept in cacheDir, else compiled and kept
// there. Any number of processes may do this at once.
func Cubin(c *nvrtc.Compiler, architecture, cacheDir string) ([]byte, error) {
	return keptCubin(c, source(), architecture, cacheDir)
}

func keptCubin(c *nvrtc.Compiler, source nvrtc.Source, architecture, cacheDir string) ([]byte, error) {
	inputs := append([]string{c.Version(), architecture, source.Text}, compileOptions(lanes)...)
	for _, name := range slices.Sorted(maps.Keys(source.Headers)) {
		inputs = append(inputs, name, source.Headers[name])
	}
	path := filepath.Join(cacheDir, fmt.Sprintf("genfn_kernels-%s-%x.cubin", architecture, sha256.Sum256([]byte(strings.Join(inputs, "\x00")))))
	if kept, ok := readSummed(path); ok {
		return kept, nil
	}
	code, err := c.Compile(source, architecture, compileOptions(lanes)...)
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
