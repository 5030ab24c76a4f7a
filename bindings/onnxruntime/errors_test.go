package onnxruntime_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/dynlib"
	"genfn/bindings/onnxruntime"
	"genfn/bindings/onnxruntime/onnxtest"
	"genfn/bindings/tensor"
)

func TestRelease(t *testing.T) {
	r := newRuntime(t)
	assert.Equal(t, "1.31.1", r.Version())
	assert.FileExists(t, r.Library())
	providers, err := r.Providers()
	require.NoError(t, err)
	assert.Contains(t, providers, "CPUExecutionProvider")
	assert.NotContains(t, providers, "CUDAExecutionProvider")
}

func TestMissingLibraryIsNamed(t *testing.T) {
	empty := t.TempDir()
	t.Setenv(onnxruntime.LibraryDirEnv, empty)
	_, err := onnxruntime.Open(onnxruntime.Options{})
	var notFound *dynlib.NotFoundError
	require.ErrorAs(t, err, &notFound)
	for _, words := range []string{filepath.Join(empty, "lib", "libonnxruntime.so"), "make onnxruntime", "--onnxruntime-dir", onnxruntime.LibraryDirEnv} {
		require.ErrorContains(t, err, words)
	}
	cut := filepath.Join(empty, "libonnxruntime.so.1.31.1")
	require.NoError(t, os.WriteFile(cut, []byte("cut off"), 0o600))
	_, err = onnxruntime.Open(onnxruntime.Options{LibraryDir: empty})
	require.ErrorContains(t, err, "cannot be loaded: "+cut)

	t.Setenv(onnxruntime.LibraryDirEnv, "")
	t.Chdir(empty)
	assert.Contains(t, onnxruntime.DefaultSearch(), filepath.Join(empty, ".runtime", "onnxruntime"))
}

// failed is err as ONNX Runtime's.
func failed(t *testing.T, err error) *onnxruntime.Error {
	t.Helper()
	var e *onnxruntime.Error
	require.ErrorAs(t, err, &e)
	assert.NotEmpty(t, e.Text)
	return e
}

func TestUnreadableNetworks(t *testing.T) {
	r := newRuntime(t)
	e, err := r.NewEnv()
	require.NoError(t, err)
	closing(t, e)
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.onnx")
	require.NoError(t, os.WriteFile(garbage, []byte("not a network"), 0o600))
	unknown := onnxtest.Affine()
	unknown.Nodes[0].Op = "Levitate"

	_, err = e.NewSession(filepath.Join(dir, "absent.onnx"), onnxruntime.SessionOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = e.NewSession(garbage, onnxruntime.SessionOptions{})
	f := failed(t, err)
	assert.Equal(t, "INVALID_PROTOBUF", f.Name)
	assert.Contains(t, f.Error(), garbage)
	_, err = e.NewSession(onnxtest.Write(t, "unknown.onnx", unknown), onnxruntime.SessionOptions{})
	require.ErrorContains(t, err, "Levitate")
	_, err = e.NewSession("cut\x00off.onnx", onnxruntime.SessionOptions{})
	require.Error(t, err)
	assert.Len(t, r.Ledger().Outstanding(), 1, "only the environment")
}

func TestPorts(t *testing.T) {
	r := newRuntime(t)
	s := newSession(t, r, "affine.onnx", onnxtest.Affine())
	four, three := tensor.Dim{Min: 4, Max: 4}, tensor.Dim{Min: 3, Max: 3}
	x := onnxruntime.Port{Port: tensor.Port{Name: "x", DType: tensor.F32, Shape: tensor.PartialShape{tensor.Dynamic, four}}, Symbols: []string{"rows", ""}}
	y := onnxruntime.Port{Port: tensor.Port{Name: "y", DType: tensor.F32, Shape: tensor.PartialShape{tensor.Dynamic, three}}, Symbols: []string{"rows", ""}}
	assert.Equal(t, []onnxruntime.Port{x}, s.Inputs())
	assert.Equal(t, []onnxruntime.Port{y}, s.Outputs())

	s = newSession(t, r, "count.onnx", onnxtest.Count())
	assert.Equal(t, tensor.Port{Name: "n", DType: tensor.I64, Shape: tensor.PartialShape{}}, s.Inputs()[0].Port, "a scalar")
}

func TestEveryElementType(t *testing.T) {
	r := newRuntime(t)
	for dtype := tensor.F32; dtype < tensor.String; dtype++ {
		b, err := tensor.New(r.Ledger(), "x", dtype, tensor.Shape{3})
		require.NoError(t, err)
		tensorOf(t, r, closing(t, b)) // ONNX Runtime compares the bytes with the size of its own type
	}
	for dtype := range map[tensor.DType]struct{}{tensor.F32: {}, tensor.U8: {}, tensor.I32: {}, tensor.I64: {}, tensor.Bool: {}, tensor.F16: {}} {
		g := &onnxtest.Graph{
			Inputs: []onnxtest.Value{{Name: "x", DType: dtype, Dims: []any{2}}}, Outputs: []onnxtest.Value{{Name: "y", DType: dtype, Dims: []any{2}}},
			Nodes: []onnxtest.Node{{Op: "Identity", Inputs: []string{"x"}, Outputs: []string{"y"}}},
		}
		assert.Equal(t, dtype, newSession(t, r, "echo.onnx", g).Inputs()[0].DType)
	}
}

// TestWrongTensors has the texts that the table of faults knows.
func TestWrongTensors(t *testing.T) {
	r := newRuntime(t)
	s := newSession(t, r, "affine.onnx", onnxtest.Affine())
	b := newBound(t, r, s, 2)
	for name, c := range map[string]struct {
		shape tensor.Shape
		text  string
	}{
		"extent": {tensor.Shape{2, 5}, "Got invalid dimensions for input: x"},
		"rank":   {tensor.Shape{1, 2, 4}, "Invalid rank for input: x"},
	} {
		require.NoError(t, b.SetInput(0, tensorOf(t, r, buffer(t, r, c.shape))), "any shape can be bound")
		f := failed(t, b.Run(t.Context()))
		assert.Equal(t, "INVALID_ARGUMENT", f.Name, name)
		assert.Contains(t, f.Text, c.text)
	}
	whole, err := tensor.New(r.Ledger(), "whole", tensor.I64, tensor.Shape{2, 4})
	require.NoError(t, err)
	require.NoError(t, b.SetInput(0, tensorOf(t, r, closing(t, whole))))
	f := failed(t, b.Run(t.Context()))
	assert.Contains(t, f.Text, "Unexpected input data type")

	require.ErrorContains(t, b.SetInput(1, nil), "affine.onnx has no input 1: it has 1")
	require.ErrorContains(t, b.SetOutput(-1, nil), "no output -1")
	unbound, err := s.NewBinding()
	require.NoError(t, err)
	require.Error(t, closing(t, unbound).Run(t.Context()))
}

// TestCUDAIsRefusedByALibraryWithoutIt is what can be seen of the options without an NVIDIA GPU.
func TestCUDAIsRefusedByALibraryWithoutIt(t *testing.T) {
	r := newRuntime(t)
	e, err := r.NewEnv()
	require.NoError(t, err)
	closing(t, e)
	path := onnxtest.Write(t, "affine.onnx", onnxtest.Affine())
	_, err = e.NewSession(path, onnxruntime.SessionOptions{CUDA: &onnxruntime.CUDAOptions{MemoryLimit: 1 << 30, Stream: 8}})
	f := failed(t, err)
	assert.Contains(t, strings.ToLower(f.Text), "cuda execution provider is not enabled in this build")
	assert.Len(t, r.Ledger().Outstanding(), 1, "only the environment")
}
