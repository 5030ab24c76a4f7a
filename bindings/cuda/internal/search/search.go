// Package search finds the libraries of a CUDA installation.
package search

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"genfn/bindings/dynlib"
)

// DirEnv is the environment variable that names the folder of a CUDA installation.
const DirEnv = "GENFN_CUDA_DIR"

// Remedy says what to do when a library is not found.
const Remedy = "run `make cuda`, or name the folder of an installed CUDA with " + DirEnv

// lines are the lines of CUDA that the bindings are audited against, the newest first.
var lines = []int{13, 12}

// Roots returns the folders that are searched: the one that GENFN_CUDA_DIR names if it is set; else those that
// `make cuda` fills, then those of CUDA_HOME, CUDA_PATH and the toolkit's usual places.
func Roots() []string {
	if dir := os.Getenv(DirEnv); dir != "" {
		return []string{dir}
	}
	var roots []string
	for _, line := range lines {
		roots = append(roots, dynlib.InstallDirs(DirEnv, "cuda"+strconv.Itoa(line))...)
	}
	for _, env := range []string{"CUDA_HOME", "CUDA_PATH"} {
		if dir := os.Getenv(env); dir != "" {
			roots = append(roots, dir)
		}
	}
	roots = append(roots, "/usr/local/cuda")
	others, _ := filepath.Glob("/usr/local/cuda-*") // the pattern is a good one
	slices.Sort(others)
	slices.Reverse(others)
	roots = append(roots, others...)
	return slices.Compact(roots)
}

// layouts are where libraries lie below a root: `make cuda`, toolkit, wheels, and the folder of the libraries itself.
var layouts = []string{
	"lib", "lib64", filepath.Join("targets", "x86_64-linux", "lib"), ".",
	filepath.Join("nvidia", "cu13", "lib"), filepath.Join("nvidia", "cuda_runtime", "lib"), filepath.Join("nvidia", "cuda_nvrtc", "lib"),
}

// Open opens a library of CUDA, such as "libcudart", of the newest line that is not newer than newest; 0 is any. It lies
// below dir, or if dir is "" below one of Roots or, unless the environment names the only one, where the system's
// loader finds it. The error is a *dynlib.NotFoundError.
func Open(name, dir string, newest int) (*dynlib.Library, error) {
	roots, searched, tooNew := []string{dir}, []string{}, ""
	if dir == "" {
		roots = Roots()
	}
	named := dir != "" || os.Getenv(DirEnv) != ""
	for _, line := range lines {
		file := fmt.Sprintf("%s.so.%d", name, line)
		for _, root := range roots {
			for _, layout := range layouts {
				path := filepath.Join(root, layout, file)
				if newest == 0 || line <= newest {
					searched = append(searched, path)
				} else if _, err := os.Stat(path); err == nil && tooNew == "" {
					tooNew = path
				}
			}
		}
	}
	for _, line := range lines {
		if !named && (newest == 0 || line <= newest) {
			searched = append(searched, fmt.Sprintf("%s.so.%d", name, line))
		}
	}
	library, err := dynlib.Open("CUDA's library "+name, searched)
	if notFound := (*dynlib.NotFoundError)(nil); errors.As(err, &notFound) {
		notFound.Searched = summary(roots, name, newest, named)
		notFound.Remedy = Remedy
		if tooNew != "" {
			notFound.Remedy = fmt.Sprintf("%s is of a newer line than the NVIDIA driver supports (%d): %s", tooNew, newest, Remedy)
		}
	}
	return library, err
}

// summary is what was searched, one pattern for each root.
func summary(roots []string, name string, newest int, named bool) []string {
	var numbers []string
	for _, line := range lines {
		if newest == 0 || line <= newest {
			numbers = append(numbers, strconv.Itoa(line))
		}
	}
	file := name + ".so." + strings.Join(numbers, "|")
	out := make([]string, 0, len(roots)+1)
	for _, root := range roots {
		out = append(out, filepath.Join(root, "{"+strings.Join(layouts[:4], ",")+"}", file))
	}
	if named {
		return out
	}
	return append(out, file+" along the loader's path")
}
