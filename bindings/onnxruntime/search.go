package onnxruntime

import (
	"errors"
	"path/filepath"

	"genfn/bindings/dynlib"
)

// LibraryDirEnv is the environment variable that names the folder of an installed ONNX Runtime.
const LibraryDirEnv = "GENFN_ONNXRUNTIME_DIR"

const remedy = "run `make onnxruntime`, or name the folder of an installed ONNX Runtime with --onnxruntime-dir or " + LibraryDirEnv

// DefaultSearch returns the folders that Open searches when it is given none: the one named by GENFN_ONNXRUNTIME_DIR if
// that is set; else the folder `make onnxruntime` fills, beside the folder of this program (bin/) and in the working
// directory.
func DefaultSearch() []string { return dynlib.InstallDirs(LibraryDirEnv, "onnxruntime") }

// layouts are where the library lies below an installation's folder: `make onnxruntime` and archive, wheel, wheel's own
// package folder, and the folder of the library itself.
var layouts = []string{"lib", filepath.Join("onnxruntime", "capi"), "capi", "."}

// find opens the library below dir, or if dir is "" below one of DefaultSearch. One with the CUDA provider comes first if
// it is wanted.
func find(dir string, withCUDA bool) (*dynlib.Library, error) {
	roots := []string{dir}
	if dir == "" {
		roots = DefaultSearch()
		if withCUDA {
			roots = append(dynlib.InstallDirs(LibraryDirEnv, "onnxruntime-gpu"), roots...)
		}
	}
	var candidates []string
	for _, root := range roots {
		for _, layout := range layouts {
			for _, name := range []string{"libonnxruntime.so.*", "libonnxruntime.so"} {
				candidates = append(candidates, filepath.Join(root, layout, name))
			}
		}
	}
	library, err := dynlib.Open("ONNX Runtime", candidates)
	if notFound := (*dynlib.NotFoundError)(nil); errors.As(err, &notFound) {
		notFound.Remedy = remedy
	}
	return library, err
}
