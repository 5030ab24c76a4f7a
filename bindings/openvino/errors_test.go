package openvino_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"genfn/bindings/dynlib"
	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
)

// TestFailuresKeepTheirOwnText makes calls fail at once from many goroutines, each with a text that
// names what that goroutine asked for.
func TestFailuresKeepTheirOwnText(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	cm := compileModel(t, c, affineXML)
	start := make(chan struct{})
	var group errgroup.Group
	for worker := range 32 {
		q := newRequest(t, cm)
		columns := strconv.Itoa(1000 + worker)
		wrong := f32(t, r, tensor.Shape{1, int64(1000 + worker)})
		group.Go(func() error {
			<-start
			for i := range 100 {
				key := fmt.Sprintf("NO_SUCH_%d_%d", worker, i)
				if _, err := c.Property("CPU", key); err == nil || !strings.Contains(err.Error(), "unsupported property: "+key+" ") {
					return fmt.Errorf("for property %s: %w", key, err)
				}
				if err := q.SetInput(0, wrong); err == nil || !strings.Contains(err.Error(), columns) {
					return fmt.Errorf("for a tensor of %s columns: %w", columns, err)
				}
			}
			return nil
		})
	}
	close(start)
	require.NoError(t, group.Wait(), "a call got another one's text")
}

func TestErrorText(t *testing.T) {
	e := &openvino.Error{Op: "compile x.xml for CPU", Status: -1, StatusText: "general error", Detail: "Exception from src/core.cpp:126:\nCheck 'a == b' failed at src/x.cpp:9:\nno kernel\n\nfor Foo"}
	assert.Equal(t, "openvino: compile x.xml for CPU: no kernel for Foo (general error, -1)", e.Error())
	e.Detail = "Exception from src/core.cpp:126:"
	assert.Equal(t, "openvino: compile x.xml for CPU: Exception from src/core.cpp:126: (general error, -1)", e.Error())
	e.Detail = ""
	assert.Equal(t, "openvino: compile x.xml for CPU: no further text (general error, -1)", e.Error())
}

func TestUnreadableModels(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.xml")
	require.NoError(t, os.WriteFile(garbage, []byte(`<?xml version="1.0"?><html>not a model</html>`), 0o600))

	_, err := c.ReadModel(filepath.Join(dir, "absent.xml"), "")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "absent.xml")
	_, err = c.ReadModel(affineXML, filepath.Join(dir, "absent.bin"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	var failed *openvino.Error
	_, err = c.ReadModel(garbage, "")
	require.ErrorAs(t, err, &failed)
	assert.Contains(t, failed.Op, garbage)
	_, err = c.ReadModel("cut\x00off.xml", "")
	require.Error(t, err)

	text, err := os.ReadFile(affineXML)
	require.NoError(t, err)
	lonely, short := filepath.Join(dir, "lonely.xml"), filepath.Join(dir, "short.bin")
	require.NoError(t, os.WriteFile(lonely, text, 0o600))
	require.NoError(t, os.WriteFile(short, make([]byte, 20), 0o600))
	for _, bin := range []string{"", short} {
		m, err := c.ReadModel(lonely, bin)
		require.Error(t, err, "weights missing or cut off: %q", bin)
		assert.Nil(t, m)
	}
	assert.Len(t, r.Ledger().Outstanding(), 1, "only the core")
}

func TestPorts(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	m := readModel(t, c, affineXML)
	x := tensor.Port{Name: "x", DType: tensor.F32, Shape: tensor.PartialShape{{Min: 1, Max: 8}, {Min: 4, Max: 4}}}
	y := tensor.Port{Name: "y", DType: tensor.F32, Shape: tensor.PartialShape{{Min: 1, Max: 8}, {Min: 3, Max: 3}}}
	assert.Equal(t, []tensor.Port{x}, m.Inputs())
	assert.Equal(t, []tensor.Port{y}, m.Outputs())
	assert.True(t, m.IsDynamic())
	m.Inputs()[0].Shape[0].Min = 77
	assert.Equal(t, []tensor.Port{x}, m.Inputs(), "a caller's change is the caller's")

	require.ErrorContains(t, m.Reshape(map[string]tensor.PartialShape{"z": tensor.StaticShape(1)}), `no input "z"; it has "x" f32[1..8,4]`)
	var failed *openvino.Error
	require.ErrorAs(t, m.Reshape(map[string]tensor.PartialShape{"x": tensor.StaticShape(2, 5)}), &failed, "does not fit the weights")

	m = readModel(t, c, affineXML)
	require.NoError(t, m.Reshape(nil))
	for _, shape := range []tensor.PartialShape{
		{tensor.Dynamic, {Min: 4, Max: 4}}, {{Min: 2, Max: -1}, tensor.Dynamic}, {{Min: 2, Max: 5}, {Min: 4, Max: 4}}, tensor.StaticShape(3, 4),
	} {
		require.NoError(t, m.Reshape(map[string]tensor.PartialShape{"x": shape}))
		assert.Equal(t, shape.String(), m.Inputs()[0].Shape.String())
	}
	assert.False(t, m.IsDynamic())
	assert.Equal(t, tensor.StaticShape(3, 3), m.Outputs()[0].Shape)
	require.ErrorContains(t, m.Reshape(map[string]tensor.PartialShape{"x": nil}), "dimensions")
	require.ErrorContains(t, m.Reshape(map[string]tensor.PartialShape{"x": {}}), "dimensions")
}

// echo writes an IR that returns its input of the given shape and returns its path.
func echo(t *testing.T, shape string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "echo.xml")
	require.NoError(t, os.WriteFile(path, []byte(`<?xml version="1.0"?><net name="echo" version="11"><layers>`+
		`<layer id="0" name="x" type="Parameter" version="opset1"><data shape="`+shape+`" element_type="i64"/><output><port id="0" precision="I64" names="x"/></output></layer>`+
		`<layer id="1" name="y" type="Result" version="opset1"><input><port id="0" precision="I64"/></input></layer>`+
		`</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>`), 0o600))
	return path
}

func TestPortsWithoutDimensions(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	m := readModel(t, c, echo(t, "..."))
	require.Equal(t, []tensor.Port{{Name: "x", DType: tensor.I64, Shape: nil}}, m.Inputs(), "unknown rank")

	m = readModel(t, c, echo(t, ""))
	require.Equal(t, []tensor.Port{{Name: "x", DType: tensor.I64, Shape: tensor.PartialShape{}}}, m.Inputs(), "scalar")
	assert.False(t, m.IsDynamic())
	cm, err := c.Compile(m, "CPU", nil)
	require.NoError(t, err)
	q := newRequest(t, closing(t, cm))
	x, err := r.NewTensor("x", tensor.I64, tensor.Shape{})
	require.NoError(t, err)
	closing(t, x).I64()[0] = 1 << 40
	require.NoError(t, q.SetInput(0, x))
	require.NoError(t, q.Infer(t.Context()))
	y, err := q.Output(0)
	require.NoError(t, err)
	assert.Equal(t, []int64{1 << 40}, closing(t, y).I64())
	assert.Equal(t, tensor.Shape{}, y.Shape())
}

func TestDevicesAndProperties(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	devices, err := c.Devices()
	require.NoError(t, err)
	assert.Contains(t, devices, "CPU")

	supported, err := c.SupportedProperties("CPU")
	require.NoError(t, err)
	for _, key := range []string{"INFERENCE_NUM_THREADS", "PERFORMANCE_HINT", "CACHE_DIR"} {
		assert.Contains(t, supported, key)
	}
	assert.True(t, slices.IsSorted(supported))
	assert.False(t, slices.ContainsFunc(supported, func(s string) bool { return strings.ContainsAny(s, ": ") }))
	_, err = c.SupportedProperties("ABACUS")
	require.ErrorContains(t, err, "ABACUS")

	require.NoError(t, c.SetProperty("CPU", "INFERENCE_NUM_THREADS", "1"))
	value, err := c.Property("CPU", "INFERENCE_NUM_THREADS")
	require.NoError(t, err)
	assert.Equal(t, "1", value)
	require.NoError(t, c.SetProperty("", "ENABLE_MMAP", "NO"))
	for _, device := range []string{"CPU", ""} {
		err = c.SetProperty(device, "GPU_MEMORY_REUSE", "YES")
		require.ErrorContains(t, err, `no property "GPU_MEMORY_REUSE"`)
		require.ErrorContains(t, err, "CACHE_DIR", "lists the supported ones")
	}
	var failed *openvino.Error
	require.ErrorAs(t, c.SetProperty("CPU", "INFERENCE_NUM_THREADS", "many"), &failed)
	require.ErrorContains(t, c.SetProperty("CPU", "INFERENCE_NUM_THREADS", "1\x00"), "NUL")

	m := readModel(t, c, affineXML)
	_, err = c.Compile(m, "CPU", map[string]string{"GPU_MAX_BATCH_SIZE": "1"})
	require.ErrorContains(t, err, "GPU_MAX_BATCH_SIZE")
	_, err = c.Compile(m, "ABACUS", nil)
	require.ErrorContains(t, err, "ABACUS")
	_, err = c.Compile(m, "CPU", map[string]string{"PERFORMANCE_HINT": "SOONER"})
	require.ErrorAs(t, err, &failed)
	assert.Contains(t, failed.Op, "affine.xml")
	many := map[string]string{}
	for _, key := range supported {
		many[key] = "1"
	}
	_, err = c.Compile(m, "CPU", many)
	require.ErrorContains(t, err, "at most 13 properties")

	cache := t.TempDir()
	cm, err := c.Compile(m, "CPU", map[string]string{
		"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1", "CACHE_DIR": cache,
		"EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": "NO", "LOG_LEVEL": "LOG_NONE",
	})
	require.NoError(t, err)
	closing(t, cm)
	value, err = cm.Property("PERFORMANCE_HINT")
	require.NoError(t, err)
	assert.Equal(t, "LATENCY", value)
	_, err = cm.Property("NO_SUCH")
	require.ErrorContains(t, err, "NO_SUCH")
	assert.Equal(t, m.Inputs(), cm.Inputs())
	assert.Equal(t, m.Outputs(), cm.Outputs())
	blobs, err := filepath.Glob(filepath.Join(cache, "*.blob"))
	require.NoError(t, err)
	assert.NotEmpty(t, blobs, "the compiled model was cached")
}

// broken makes an installation of symlinks into the real one, without what spoil takes away.
func broken(t *testing.T, spoil func(libs string)) string {
	t.Helper()
	root := t.TempDir()
	libs := filepath.Join(root, "openvino", "libs")
	require.NoError(t, os.MkdirAll(libs, 0o755))
	files, err := filepath.Glob(filepath.Join(installation(t, newest), "openvino", "libs", "*"))
	require.NoError(t, err)
	for _, file := range files {
		require.NoError(t, os.Symlink(file, filepath.Join(libs, filepath.Base(file))))
	}
	spoil(libs)
	return root
}

func TestHalfInstalledFilesAreNamed(t *testing.T) {
	for _, file := range []string{"libopenvino_c.so.2641", "libopenvino.so.2641", "libopenvino_ir_frontend.so.2641", "libopenvino_intel_cpu_plugin.so"} {
		t.Run(file, func(t *testing.T) {
			root := broken(t, func(libs string) { require.NoError(t, os.Remove(filepath.Join(libs, file))) })
			_, err := openvino.Open(openvino.Options{LibraryDir: root})
			var notFound *dynlib.NotFoundError
			require.ErrorAs(t, err, &notFound)
			require.ErrorContains(t, err, strings.TrimSuffix(file, ".2641"))
			require.ErrorContains(t, err, filepath.Join(root, "openvino", "libs"), "the search path")
			for _, remedy := range []string{"make runtime", "--openvino-dir", openvino.LibraryDirEnv} {
				require.ErrorContains(t, err, remedy)
			}
		})
	}
}

// TestHalfInstalledLibrariesAreNamedByTheLoader spoils files that the loader reads, each in a process that
// has not loaded OpenVINO yet.
func TestHalfInstalledLibrariesAreNamedByTheLoader(t *testing.T) {
	for _, file := range []string{"libtbb.so.12", "libopenvino.so.2641", "libopenvino_c.so.2641"} {
		t.Run(file, func(t *testing.T) {
			root := broken(t, func(libs string) {
				path := filepath.Join(libs, file)
				require.NoError(t, os.Remove(path))
				require.NoError(t, os.WriteFile(path, []byte("cut off"), 0o600))
			})
			said, err := again(t.Context(), t, openEnv+"="+root)
			require.NoError(t, err, said)
			for _, words := range []string{"cannot be loaded", file, root, "make runtime", "--openvino-dir", openvino.LibraryDirEnv} {
				assert.Contains(t, said, words)
			}
		})
	}
}

func TestMissingTokenizersAreNamed(t *testing.T) {
	r := newRuntime(t)
	given, err := openvino.Open(openvino.Options{LibraryDir: filepath.Dir(r.Library()), TokenizersLibrary: "/nonexistent/tok.so"})
	require.NoError(t, err, "the folder of the libraries itself is an installation")
	closing(t, given)
	_, err = given.TokenizersLibrary()
	var notFound *dynlib.NotFoundError
	require.ErrorAs(t, err, &notFound)
	for _, words := range []string{"libopenvino_tokenizers.so", "/nonexistent/tok.so", "make runtime"} {
		assert.ErrorContains(t, err, words)
	}
}

func TestSearch(t *testing.T) {
	empty := t.TempDir()
	_, err := openvino.Open(openvino.Options{LibraryDir: empty})
	require.ErrorContains(t, err, filepath.Join(empty, "openvino", "libs", "libopenvino_c.so"))
	require.ErrorContains(t, err, "make runtime")

	t.Setenv(openvino.LibraryDirEnv, empty)
	assert.Equal(t, []string{empty}, openvino.DefaultSearch())
	_, err = openvino.Open(openvino.Options{})
	require.ErrorContains(t, err, empty)
	t.Setenv(openvino.LibraryDirEnv, "")
	t.Chdir(empty)
	dirs := openvino.DefaultSearch()
	assert.Contains(t, dirs, filepath.Join(empty, ".runtime", "openvino"))
	exe, err := os.Executable()
	require.NoError(t, err)
	assert.Contains(t, dirs, filepath.Join(filepath.Dir(filepath.Dir(exe)), ".runtime", "openvino"))
}

func TestSecondOpenVINOIsRefused(t *testing.T) {
	r := newRuntime(t)
	libs := filepath.Dir(r.Library())
	copied := t.TempDir()
	for _, pattern := range []string{"libopenvino_c.so.*", "libopenvino.so.*", "libopenvino_ir_frontend.so.*", "libopenvino_intel_cpu_plugin.so"} {
		paths, err := filepath.Glob(filepath.Join(libs, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, paths)
		require.NoError(t, os.WriteFile(filepath.Join(copied, filepath.Base(paths[0])), nil, 0o600))
	}
	_, err := openvino.Open(openvino.Options{LibraryDir: copied})
	require.ErrorContains(t, err, "loaded already")
	require.ErrorContains(t, err, copied)
}
