package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"genfn/events"
	"genfn/functions/runner/process"
	"genfn/functions/runner/protocol"
)

// cudaFlags say where CUDA is, or that it is a virtual one.
type cudaFlags struct {
	dir     string
	virtual virtualCUDAFlags
}

func (f *cudaFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "cuda-dir", os.Getenv("GENFN_CUDA_DIR"), "folder of a CUDA installation or of its libraries (env GENFN_CUDA_DIR; default: .runtime/cuda13 or cuda12 beside the binary or here, CUDA_HOME, /usr/local/cuda)")
	f.virtual.add(cmd)
}

// nvidiaNodes are what NVIDIA's driver makes for programs that use a GPU: on Linux, and on Windows for Linux.
var nvidiaNodes = []string{"/dev/nvidiactl", "/dev/dxg"}

// wanted reports whether to look for NVIDIA's devices: a machine without them is spared the process that would.
func (f *cudaFlags) wanted(nodes []string) bool {
	return f.virtual.on || f.dir != "" || slices.ContainsFunc(nodes, func(node string) bool {
		_, err := os.Stat(node)
		return err == nil
	})
}

// discover looks at every device that CUDA sees. What keeps it from looking is logged: it costs the other devices
// nothing.
func (f *cudaFlags) discover(ctx context.Context, s *settings, log *slog.Logger) []process.Found {
	if !f.wanted(nvidiaNodes) {
		return nil
	}
	hello := s.hello("")
	env := f.apply(s, &hello)
	found, err := process.Discover(ctx, process.Config{Hello: hello, Env: env, Stderr: os.Stderr, Logger: log})
	if err != nil && !errors.Is(err, context.Canceled) {
		var said *events.Error
		words := err.Error()
		if !errors.As(err, &said) { // the process that looked died, and said so at length
			said, words = events.AsError(err), oneLine(words)
		}
		log.Warn("NVIDIA's GPUs cannot be looked at", "error", words, "advice", said.Advice)
	}
	return found
}

// apply has a runner use CUDA, where it is. It returns what to add to the runner's environment.
func (f *cudaFlags) apply(s *settings, hello *protocol.Hello) (env []string) {
	hello.Runtime, hello.CUDADir, hello.ONNXRuntimeDir = protocol.RuntimeCUDA, f.dir, s.onnx
	if f.virtual.on {
		hello.CUDADir = f.virtual.libraries
	}
	return f.virtual.env
}

// isCUDA reports whether a device is one of CUDA's, by its name.
func isCUDA(device string) bool { return strings.HasPrefix(strings.ToLower(device), "cuda:") }

// cudaDevice writes the name of a device of CUDA's as requests do.
func cudaDevice(device string) string {
	if isCUDA(device) {
		return strings.ToLower(device)
	}
	return device
}
