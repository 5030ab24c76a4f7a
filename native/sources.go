// Package native holds the sources of C that are compiled at run time: the element-wise kernels for CUDA.
package native

import _ "embed"

// Elementwise is kernels/elementwise.h, the bodies of the element-wise kernels, which includes GenfnKernels.
//
//go:embed kernels/elementwise.h
var Elementwise string

// GenfnKernels is kernels/genfn_kernels.h, their structs.
//
//go:embed kernels/genfn_kernels.h
var GenfnKernels string
