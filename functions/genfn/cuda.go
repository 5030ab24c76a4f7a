package main

import (
	"context"
	"errors"
	"fmt"
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
	hello.Runtime, hello.LibraryDir = protocol.RuntimeCUDA, f.dir
	found, err := process.Discover(ctx, process.Config{Hello: f.virtual.hello(hello), Env: f.virtual.env, Stderr: os.Stderr, Logger: log})
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

// checkServes refuses a device that no model runs on yet.
func checkServes(flag, device string) error {
	if !strings.HasPrefix(strings.ToLower(device), protocol.RuntimeCUDA) {
		return nil
	}
	return usageError{fmt.Errorf("%s %s: no model runs on CUDA yet; genfn devices lists what can serve", flag, device)}
}
