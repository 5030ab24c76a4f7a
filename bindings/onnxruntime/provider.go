package onnxruntime

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"genfn/bindings/dynlib"
)

// providerLibrary is ONNX Runtime's CUDA provider, which lies beside its library.
const providerLibrary = "libonnxruntime_providers_cuda.so"

// cuDNN is the library of convolutions, which the provider's file does not name: it asks for it at run time.
const cuDNN = "libcudnn.so.9"

const cudaRemedy = "run `make onnxruntime-gpu`, or name the folder of an ONNX Runtime with its CUDA provider with --onnxruntime-dir or " + LibraryDirEnv

// CheckCUDA makes sure that the CUDA provider is there, and loads the libraries of CUDA that it needs: they stay in the
// process, where the provider finds them by their names wherever they lie. CUDA's runtime library is to be loaded before
// (bindings/cuda). What is missing is a *dynlib.NotFoundError, which says what to do.
func (r *Runtime) CheckCUDA() error {
	if err := r.use(); err != nil {
		return err
	}
	dir := filepath.Dir(r.path)
	provider := filepath.Join(dir, providerLibrary)
	if _, err := os.Stat(provider); err != nil {
		return fmt.Errorf("onnxruntime: %w", &dynlib.NotFoundError{Name: "the CUDA provider of ONNX Runtime", Searched: []string{provider}, Remedy: cudaRemedy})
	}
	needed, err := cudaLibraries(provider)
	if err != nil {
		return err
	}
	for _, name := range append(needed, cuDNN) {
		// Beside it as `make onnxruntime-gpu` puts them, in the wheels' own folders, along the loader's path.
		_, err := dynlib.Open(name+", which the CUDA provider of ONNX Runtime needs,",
			[]string{filepath.Join(dir, name), filepath.Join(dir, "..", "..", "nvidia", "*", "lib", name), name})
		if notFound := (*dynlib.NotFoundError)(nil); errors.As(err, &notFound) {
			notFound.Remedy = cudaRemedy
		}
		if err != nil {
			return fmt.Errorf("onnxruntime: %w", err)
		}
	}
	return nil
}

// cudaLibraries are those that the provider's file names, but the driver's.
func cudaLibraries(provider string) ([]string, error) {
	f, err := elf.Open(provider)
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: read %s: %w", provider, err)
	}
	defer f.Close()
	all, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: read %s: %w", provider, err)
	}
	var out []string
	for _, name := range all {
		if strings.HasPrefix(name, "libcu") && !strings.HasPrefix(name, "libcuda.") {
			out = append(out, name)
		}
	}
	return out, nil
}
