package main

import (
	"bufio"
	"bytes"
	"context"
	"image"
	"image/draw"
	"image/png"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/cuda/cudatest"
)

// TestMain makes the test binary stand for the program: in scripts as the command `genfn`, and as the
// server, its clients and its runners (an instance starts its own executable).
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") { // a command, not a flag of the tests
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	testscript.Main(m, map[string]func(){"genfn": main})
}

func TestScripts(t *testing.T) {
	root := checkout.Path(t)
	runtime := filepath.Join(root, ".runtime", "openvino")
	require.DirExists(t, runtime, "run `make runtime` first")
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("GENFN_OPENVINO_DIR", runtime)
			e.Setenv("GENFN_ONNXRUNTIME_DIR", filepath.Join(root, ".runtime", "onnxruntime"))
			e.Setenv("GENFN_VGPU_DIR", filepath.Join(root, ".runtime", "vgpu"))
			e.Setenv("GENFN_VCUDA_DIR", filepath.Join(root, ".runtime", "vcuda"))
			e.Setenv("GENFN_MODELS", filepath.Join(root, "deploy", "models"))
			e.Setenv("TINY", filepath.Join(root, "functions", "pipeline", "testdata"))
			e.Setenv("GENFN_CACHE_DIR", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("HOME", e.WorkDir)
			for _, name := range []string{"PORT", "METRICS_PORT"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				e.Setenv(name, port)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"samepixels": samePixels, "lintmetrics": lintMetrics, "fakecuda": fakeCUDA(t)},
	})
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a listener that closes at once
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// fakeCUDA has the commands that follow find a fake of CUDA: `fakecuda DEVICES [FLAGS OF THE C COMPILER]`.
func fakeCUDA(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		devices, err := strconv.Atoi(args[0])
		ts.Check(err)
		for _, assignment := range cudatest.Env(cudatest.New(t, cudatest.Machine{Devices: devices, Flags: args[1:]})) {
			key, value, _ := strings.Cut(assignment, "=")
			ts.Setenv(key, value)
		}
	}
}

// samePixels compares two PNG files by their pixels: `samepixels a.png b.png`.
func samePixels(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] samepixels a.png b.png")
	}
	var pixels [2][]byte
	for i, name := range args {
		picture, err := png.Decode(strings.NewReader(ts.ReadFile(name)))
		ts.Check(err)
		flat := image.NewRGBA(picture.Bounds())
		draw.Draw(flat, flat.Bounds(), picture, image.Point{}, draw.Src)
		pixels[i] = flat.Pix
	}
	if bytes.Equal(pixels[0], pixels[1]) == neg {
		ts.Fatalf("%s and %s: same pixels: %v", args[0], args[1], neg)
	}
}

// server is the program in a process of its own.
type server struct {
	URL string
	cmd *exec.Cmd
	log *bytes.Buffer

	stopped sync.Once
}

// startUp starts `genfn up` with a model store, and with more flags, and waits until it says where it listens.
func startUp(t *testing.T, models string, flags ...string) *server {
	t.Helper()
	s, stdout := startCommand(t, append([]string{"up", "--json", "--port", "0", "--models", models, "--store-dir", t.TempDir()}, flags...)...)
	ready := make(chan string, 1)
	go func() {
		scanner := bufio.NewScanner(stdout)
		for scanner.Scan() {
			if m := regexp.MustCompile(`"nats":\s*"([^"]+)"`).FindStringSubmatch(scanner.Text()); m != nil {
				ready <- m[1]
			}
		}
		close(ready)
	}()
	url, ok := <-ready
	require.True(t, ok, "genfn up ended early:\n%s", s.log)
	s.URL = url
	return s
}

// startCommand starts the program as a process that runs until it is stopped, and returns what it prints.
func startCommand(t *testing.T, args ...string) (*server, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "GENFN_OPENVINO_DIR="+checkout.Path(t, ".runtime", "openvino"), "GENFN_CACHE_DIR="+t.TempDir())
	s := &server{cmd: cmd, log: &bytes.Buffer{}}
	cmd.Stderr = s.log
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { s.stop(t) })
	return s, stdout
}

func (s *server) stop(t *testing.T) {
	s.stopped.Do(func() {
		require.NoError(t, s.cmd.Process.Signal(os.Interrupt))
		err := s.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", s.cmd, s.log)
		}
		require.NoError(t, err, "%s did not end well", s.cmd)
	})
}

// command runs a program in an empty folder and returns all that it printed.
func command(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GENFN_OPENVINO_DIR="+checkout.Path(t, ".runtime", "openvino"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}
