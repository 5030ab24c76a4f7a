package virtualgpu_test

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"genfn/bindings/kernels"
	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
	"genfn/functions/device/virtualgpu"
	"genfn/functions/device/virtualgpu/virtualgputest"
	"genfn/functions/model"
	"genfn/functions/model/session"
	"genfn/functions/pipeline"
)

// childEnv makes this test binary the process that loads OpenVINO; its value is OpenVINO's folder.
const childEnv = "GENFN_TEST_VGPU_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := serve(dir, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// command is what the child is asked to do.
type command struct {
	Do         string            // devices, property, load, infer, unload, generate or panic
	Device     string            // of property, load and generate
	Model      string            // of load: path; of generate: folder
	Key        string            // of property
	Properties map[string]string // of load
	Seed       uint64            // of infer: of the inputs
}

// reply is the child's answer to each command.
type reply struct {
	Error   string
	Text    string
	Names   []string
	Outputs [][]float32
}

// server is the state of the child.
type server struct {
	runtime  *openvino.Runtime
	core     *openvino.Core
	compiled *openvino.CompiledModel
	request  *openvino.Request
}

// serve answers commands until in ends, and then frees everything.
func serve(dir string, in io.Reader, out io.Writer) (err error) {
	var s server
	if s.runtime, err = openvino.Open(openvino.Options{LibraryDir: dir}); err != nil {
		return err
	}
	if s.core, err = s.runtime.NewCore(); err != nil {
		return err
	}
	commands, replies := gob.NewDecoder(in), gob.NewEncoder(out)
	for {
		var c command
		if err := commands.Decode(&c); errors.Is(err, io.EOF) {
			return errors.Join(s.unload(), s.core.Close(), s.runtime.Close())
		} else if err != nil {
			return err
		}
		var r reply
		if err := s.do(c, &r); err != nil {
			r.Error = err.Error()
		}
		if err := replies.Encode(r); err != nil {
			return err
		}
	}
}

func (s *server) do(c command, r *reply) (err error) {
	switch c.Do {
	case "devices":
		r.Names, err = s.core.Devices()
	case "property":
		r.Text, err = s.core.Property(c.Device, c.Key)
	case "load":
		err = s.load(c)
	case "infer":
		r.Outputs, err = s.infer(c.Seed)
	case "unload":
		err = s.unload()
	case "generate":
		r.Outputs, err = s.generate(c)
	case "panic":
		r.Text = dereference(nil)
	default:
		err = fmt.Errorf("unknown command %q", c.Do)
	}
	return err
}

// dereference returns what recover has to say.
func dereference(p *reply) (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	return p.Text
}

func (s *server) load(c command) error {
	m, err := s.core.ReadModel(c.Model, "")
	if err != nil {
		return err
	}
	properties := map[string]string{"INFERENCE_PRECISION_HINT": "f32"}
	for key, value := range c.Properties {
		properties[key] = value
	}
	s.compiled, err = s.core.Compile(m, c.Device, properties)
	if err := errors.Join(err, m.Close()); err != nil {
		return err
	}
	s.request, err = s.compiled.NewRequest()
	return err
}

func (s *server) unload() error {
	err := errors.Join(s.request.Close(), s.compiled.Close())
	s.request, s.compiled = nil, nil
	return err
}

// infer runs the model on random inputs: whole numbers below 50, or numbers in [-1, 1).
func (s *server) infer(seed uint64) (outputs [][]float32, err error) {
	random := rand.New(rand.NewPCG(seed, 0))
	for i, port := range s.compiled.Inputs() {
		shape := make(tensor.Shape, len(port.Shape))
		for d, dim := range port.Shape {
			shape[d] = dim.Max
		}
		x, err := s.runtime.NewTensor(port.Name, port.DType, shape)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, x.Close()) }()
		for j := range x.I64() {
			x.I64()[j] = random.Int64N(50)
		}
		for j := range x.F32() {
			x.F32()[j] = 2*random.Float32() - 1
		}
		if err := s.request.SetInput(i, x); err != nil {
			return nil, err
		}
	}
	if err := s.request.Infer(context.Background()); err != nil {
		return nil, err
	}
	for i := range s.compiled.Outputs() {
		y, err := s.request.Output(i)
		if err != nil {
			return nil, err
		}
		outputs = append(outputs, append([]float32(nil), y.F32()...))
		if err := y.Close(); err != nil {
			return nil, err
		}
	}
	return outputs, nil
}

// generate returns the final latents of two steps of a pipeline, and its picture.
func (s *server) generate(c command) (outputs [][]float32, err error) {
	m, err := model.Open(c.Model)
	if err != nil {
		return nil, err
	}
	loader := session.NewLoader(s.runtime, session.Options{Device: c.Device, Precision: "f32"})
	defer func() { err = errors.Join(err, loader.Close()) }()
	p, err := pipeline.NewTextToImage(context.Background(), m, loader, kernels.Reference(), pipeline.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	result, err := p.Generate(context.Background(), pipeline.ImageRequest{
		Prompt: "a photo of a red fox in the snow", Width: 128, Height: 128, Steps: 2, Count: 1, GuidanceScale: 1, Seed: 7,
		Scheduler: "ddim", OutputLatents: true,
	}, nil)
	if err != nil {
		return nil, err
	}
	pixels := make([]float32, len(result.Images[0].Pix))
	for i, v := range result.Images[0].Pix {
		pixels[i] = float32(v)
	}
	return [][]float32{result.Latents.Data, pixels}, nil
}

// child is a process that has the virtual GPU, with files of its own.
type child struct {
	t         *testing.T
	cmd       *exec.Cmd
	in        io.WriteCloser
	commands  *gob.Encoder
	replies   *gob.Decoder
	stderr    *strings.Builder
	faultFile string
	counters  string
}

// start starts a child; it is ended with the test at the latest. Kernels are compiled once for all tests and kept.
func start(t *testing.T, o virtualgpu.Options) *child {
	t.Helper()
	dir := os.Getenv(openvino.LibraryDirEnv)
	if dir == "" {
		var err error
		dir, err = filepath.Abs("../../../.runtime/openvino")
		require.NoError(t, err)
	}
	c := &child{t: t, stderr: &strings.Builder{}, faultFile: filepath.Join(t.TempDir(), "faults"), counters: filepath.Join(t.TempDir(), "counters")}
	o.FaultFile, o.CountersDir = c.faultFile, c.counters
	o.CacheDir = virtualgputest.KernelCache(t)
	env, err := virtualgputest.Installed(t).Env(o)
	require.NoError(t, err)
	c.cmd = exec.Command(os.Args[0]) // not with t.Context: that ends before Cleanup
	c.cmd.Env = append(append(os.Environ(), env...), childEnv+"="+dir)
	c.cmd.Stderr = c.stderr
	c.in, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.commands, c.replies = gob.NewEncoder(c.in), gob.NewDecoder(out)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			c.end()
		}
	})
	return c
}

// end lets the child free everything and end. Only then is all of its standard error there.
func (c *child) end() {
	c.t.Helper()
	require.NoError(c.t, c.in.Close())
	defer time.AfterFunc(time.Minute, func() { _ = c.cmd.Process.Kill() }).Stop()
	require.NoError(c.t, c.cmd.Wait(), "the child ends well; it said:\n%s", c.stderr)
}

// kill ends the child.
func (c *child) kill() {
	c.t.Helper()
	require.NoError(c.t, c.cmd.Process.Kill())
	require.Error(c.t, c.cmd.Wait())
	require.Equal(c.t, syscall.SIGKILL, c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
}

// send sends a command without waiting for the reply.
func (c *child) send(cmd command) {
	c.t.Helper()
	require.NoError(c.t, c.commands.Encode(cmd))
}

// try returns the reply to a command, or the error of a child that has ended.
func (c *child) try(cmd command) (r reply, err error) {
	c.t.Helper()
	c.send(cmd)
	return r, c.replies.Decode(&r)
}

// ask returns the reply to a command.
func (c *child) ask(cmd command) reply {
	c.t.Helper()
	r, err := c.try(cmd)
	require.NoError(c.t, err, "the child has ended; it said:\n%s", c.stderr)
	return r
}

// must is ask for a command that goes well.
func (c *child) must(cmd command) reply {
	c.t.Helper()
	r := c.ask(cmd)
	require.Empty(c.t, r.Error, "the child said:\n%s", c.stderr)
	return r
}

// inject replaces the child's faults.
func (c *child) inject(text string) {
	c.t.Helper()
	require.NoError(c.t, virtualgpu.WriteFaults(c.faultFile, text))
}

func (c *child) memory() virtualgpu.Memory {
	c.t.Helper()
	list, err := virtualgpu.ReadMemory(c.counters, c.cmd.Process.Pid)
	require.NoError(c.t, err)
	require.Len(c.t, list, 1)
	return list[0]
}

// testModel is one of testdata/make_models.py.
func testModel(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name+".xml"))
	require.NoError(t, err)
	return path
}

// difference is the largest difference of two outputs, relative to the largest element of want.
func difference(t *testing.T, want, got []float32) float64 {
	t.Helper()
	require.Len(t, got, len(want))
	var largest, most float64
	for i, w := range want {
		require.False(t, math.IsNaN(float64(got[i])), "element %d is not a number", i)
		largest = max(largest, math.Abs(float64(w)))
		most = max(most, math.Abs(float64(w)-float64(got[i])))
	}
	require.NotZero(t, largest)
	return most / largest
}
