// Package native holds the sources of C that are compiled at run time: the kernels for CUDA.
package native

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed kernels/*.h
var headers embed.FS

// KernelsRoot is the header that includes all kernels of Kernels.
const KernelsRoot = "elementwise.h"

// Kernels returns the headers of kernels, by their names.
func Kernels() map[string]string {
	out := map[string]string{}
	names, err := fs.Glob(headers, "kernels/*.h")
	if err != nil {
		panic(fmt.Sprintf("native: %v", err)) // the pattern is right
	}
	for _, name := range names {
		text, err := headers.ReadFile(name)
		if err != nil {
			panic(fmt.Sprintf("native: %v", err)) // it is embedded
		}
		out[name[len("kernels/"):]] = string(text)
	}
	return out
}
