package kernels

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"genfn/bindings/cuda/nvrtc"
	"genfn/native"
)

// compileOptions keep products and sums rounded on their own, which makes the results equal to the reference's.
var compileOptions = []string{"--fmad=false", "--std=c++17"}

// Compile compiles the kernels for an architecture: sm_90 gives a cubin, compute_80 PTX that drivers compile for any
// later device.
func Compile(c *nvrtc.Compiler, architecture string) (*nvrtc.Code, error) {
	return c.Compile(nvrtc.Source{
		Name: "elementwise.h", Text: native.Elementwise, Headers: map[string]string{"genfn_kernels.h": native.GenfnKernels},
	}, architecture, compileOptions...)
}

// Cubin returns the kernels' code for an architecture such as sm_90: what is kept in cacheDir, else compiled and kept
// there.
func Cubin(c *nvrtc.Compiler, architecture, cacheDir string) ([]byte, error) {
	inputs := strings.Join(append([]string{native.Elementwise, native.GenfnKernels, c.Version(), architecture}, compileOptions...), "\x00")
	path := filepath.Join(cacheDir, fmt.Sprintf("genfn_kernels-%s-%x.cubin", architecture, sha256.Sum256([]byte(inputs))))
	kept, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return kept, err
	}
	code, err := Compile(c, architecture)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cacheDir, 0o700); err != nil {
		return nil, fmt.Errorf("kernels: cache folder: %w", err)
	}
	return code.Cubin, writeFile(path, code.Cubin)
}
