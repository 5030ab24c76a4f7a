package openvino_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/checkout"
	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
	"genfn/bindings/tensor/tensortest"
)

// A process can load one OpenVINO. These variables make a copy of the test binary use another one:
// run the tests with the release in a folder, or only open the one there and print the error.
const (
	releaseEnv = "GENFN_TEST_OPENVINO"
	openEnv    = "GENFN_TEST_OPEN"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(openEnv); dir != "" {
		_, err := openvino.Open(openvino.Options{LibraryDir: dir})
		fmt.Println("opened:", err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// installation returns the folder of an installed release.
func installation(t testing.TB, name string) string {
	t.Helper()
	dir := checkout.Path(t, ".runtime", name)
	_, err := os.Stat(filepath.Join(dir, "openvino", "libs"))
	require.NoError(t, err, "these tests need OpenVINO in %s: run `make runtime`, and `make test` for the older release", dir)
	return dir
}

const newest, older = "openvino", "openvino-2024.6"

// testsOlder reports whether this process tests the older release.
func testsOlder() bool { return os.Getenv(releaseEnv) != "" }

// newRuntime opens the release under test with a ledger that must be empty at the end of t.
func newRuntime(t testing.TB) *openvino.Runtime {
	t.Helper()
	dir := os.Getenv(releaseEnv)
	if dir == "" {
		dir = installation(t, newest)
	}
	r, err := openvino.Open(openvino.Options{LibraryDir: dir, Ledger: tensortest.NewLedger(t)})
	require.NoError(t, err)
	return closing(t, r)
}

// closing closes x at the end of t.
func closing[T io.Closer](t testing.TB, x T) T {
	t.Helper()
	t.Cleanup(func() { assert.NoError(t, x.Close()) })
	return x
}

func newCore(t testing.TB, r *openvino.Runtime) *openvino.Core {
	t.Helper()
	c, err := r.NewCore()
	require.NoError(t, err)
	return closing(t, c)
}

const affineXML = "testdata/affine.xml"

func readModel(t testing.TB, c *openvino.Core, path string) *openvino.Model {
	t.Helper()
	m, err := c.ReadModel(path, "")
	require.NoError(t, err)
	return closing(t, m)
}

// precise makes results comparable: CPUs with AMX compute in bf16 unless told otherwise.
var precise = map[string]string{"INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION_HINT": "f32"}

// compileModel compiles a model file for one thread of the CPU.
func compileModel(t testing.TB, c *openvino.Core, path string) *openvino.CompiledModel {
	t.Helper()
	cm, err := c.Compile(readModel(t, c, path), "CPU", precise)
	require.NoError(t, err)
	return closing(t, cm)
}

func newRequest(t testing.TB, cm *openvino.CompiledModel) *openvino.Request {
	t.Helper()
	q, err := cm.NewRequest()
	require.NoError(t, err)
	return closing(t, q)
}

// f32 makes a tensor of the given shape and elements.
func f32(t testing.TB, r *openvino.Runtime, shape tensor.Shape, elements ...float32) *openvino.Tensor {
	t.Helper()
	x, err := r.NewTensor(t.Name(), tensor.F32, shape)
	require.NoError(t, err)
	copy(x.F32(), elements)
	return closing(t, x)
}

// affine is testdata/affine.xml in Go: y = x * w + b for rows of four.
func affine(x []float32) []float32 {
	w := [4][3]float32{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {10, 11, 12}}
	var y []float32
	for ; len(x) >= 4; x = x[4:] {
		for j, sum := range [3]float32{0.5, -1, 100} {
			for i := range 4 {
				sum += x[i] * w[i][j]
			}
			y = append(y, sum)
		}
	}
	return y
}

// again runs this test binary with more environment and returns what it said.
func again(ctx context.Context, t testing.TB, env string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), env)
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// TestOlderRelease runs these tests with a release whose element types are numbered differently.
func TestOlderRelease(t *testing.T) {
	args := []string{"-test.v", "-test.shuffle=on", "-test.skip=^(TestOlderRelease|TestHeaders.*|TestHalfInstalled.*)$"}
	said, err := again(t.Context(), t, releaseEnv+"="+installation(t, older), args...)
	require.NoError(t, err, said)
	assert.Contains(t, said, "--- PASS: TestReleaseUnderTest", "the tests did run")
	assert.NotContains(t, said, "--- SKIP")
}

func TestReleaseUnderTest(t *testing.T) {
	r := newRuntime(t)
	want := "2026.4.1-"
	if testsOlder() {
		want = "2024.6.0-"
	}
	assert.True(t, strings.HasPrefix(r.Version(), want), r.Version())
	assert.FileExists(t, r.Library())
}
