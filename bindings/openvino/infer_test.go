package openvino_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
)

func TestInfer(t *testing.T) {
	r := newRuntime(t)
	q := newRequest(t, compileModel(t, newCore(t, r), affineXML))
	for rows := range int64(8) { // the batch is open: 1 to 8 rows
		x := make([]float32, 4*(rows+1))
		for i := range x {
			x[i] = float32(i) - 3
		}
		require.NoError(t, q.SetInput(0, f32(t, r, tensor.Shape{rows + 1, 4}, x...)))
		require.NoError(t, q.Infer(t.Context()))
		y, err := q.Output(0)
		require.NoError(t, err)
		assert.Equal(t, tensor.Shape{rows + 1, 3}, y.Shape())
		assert.Equal(t, tensor.F32, y.DType())
		assert.InDeltaSlice(t, affine(x), y.F32(), 1e-4)
		assert.Nil(t, y.I64())
		assert.Nil(t, y.I32())
		assert.Nil(t, y.U8())
		require.NoError(t, y.Close())
	}
}

func TestInferIntoOwnBuffers(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	m := readModel(t, c, affineXML)
	require.NoError(t, m.Reshape(map[string]tensor.PartialShape{"x": tensor.StaticShape(2, 4)}))
	cm, err := c.Compile(m, "CPU", precise)
	require.NoError(t, err)
	q := newRequest(t, closing(t, cm))

	in, err := tensor.New(r.Ledger(), "in", tensor.F32, tensor.Shape{2, 4})
	require.NoError(t, err)
	out, err := tensor.New(r.Ledger(), "out", tensor.F32, tensor.Shape{2, 3})
	require.NoError(t, err)
	x, err := r.TensorOf(in)
	require.NoError(t, err)
	y, err := r.TensorOf(out)
	require.NoError(t, err)
	require.NoError(t, q.SetInput(0, x))
	require.NoError(t, q.SetOutput(0, y))
	inElements, outElements := in.F32(), out.F32()
	// The request keeps what it was given.
	for _, owner := range []interface{ Close() error }{x, y, in, out} {
		require.NoError(t, owner.Close())
	}
	for i := range 3 {
		for j := range inElements {
			inElements[j] = float32(i*10 + j)
		}
		require.NoError(t, q.Infer(context.Background()))
		assert.InDeltaSlice(t, affine(inElements), outElements, 1e-3)
	}
	again, err := q.Output(0)
	require.NoError(t, err)
	assert.Equal(t, outElements, again.F32(), "the tensor set is the output")
	require.NoError(t, again.Close())
	assert.Positive(t, r.Ledger().Bytes())
	require.NoError(t, q.Close())
	assert.Zero(t, r.Ledger().Bytes(), "the request let go of both buffers")
}

func TestExportedModelIsImported(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	cm := compileModel(t, c, affineXML)
	path := filepath.Join(t.TempDir(), "affine.blob")
	require.NoError(t, cm.Export(path))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for key, value := range precise {
		require.NoError(t, c.SetProperty("CPU", key, value))
	}
	released := 0
	imported, err := c.Import(content, func() { released++ }, "affine", "CPU")
	require.NoError(t, err)
	assert.Equal(t, cm.Inputs(), imported.Inputs())
	assert.Equal(t, cm.Outputs(), imported.Outputs())
	threads, err := imported.Property("INFERENCE_NUM_THREADS")
	require.NoError(t, err)
	assert.Equal(t, "1", threads)

	q := newRequest(t, imported)
	require.NoError(t, q.SetInput(0, f32(t, r, tensor.Shape{1, 4}, 1, 2, 3, 4)))
	require.NoError(t, q.Infer(t.Context()))
	y, err := q.Output(0)
	require.NoError(t, err)
	assert.InDeltaSlice(t, affine([]float32{1, 2, 3, 4}), y.F32(), 1e-4)
	require.NoError(t, y.Close())
	require.NoError(t, imported.Close())
	assert.Zero(t, released, "the request still uses it")
	require.NoError(t, q.Close())
	assert.Equal(t, 1, released)

	_, err = c.Import(nil, func() { released++ }, "affine", "CPU")
	require.ErrorContains(t, err, "it is empty")
	assert.Equal(t, 2, released)
	var failed *openvino.Error
	require.ErrorAs(t, cm.Export(filepath.Join(t.TempDir(), "no", "folder")), &failed)
	require.NoError(t, cm.Close())
	require.ErrorIs(t, cm.Export(path), openvino.ErrClosed)
}

func TestUnusableTensorsAreRefused(t *testing.T) {
	r := newRuntime(t)
	q := newRequest(t, compileModel(t, newCore(t, r), affineXML))
	good := f32(t, r, tensor.Shape{1, 4}, 1, 2, 3, 4)

	var failed *openvino.Error
	require.ErrorAs(t, q.SetInput(0, f32(t, r, tensor.Shape{1, 5})), &failed, "wrong shape")
	assert.Contains(t, failed.Error(), "set input 0 of")
	assert.NotEmpty(t, failed.Detail)
	assert.Equal(t, -1, failed.Status)
	assert.NotEmpty(t, failed.StatusText)
	ints, err := r.NewTensor("ints", tensor.I64, tensor.Shape{1, 4})
	require.NoError(t, err)
	closing(t, ints)
	require.ErrorAs(t, q.SetInput(0, ints), &failed, "wrong type")
	require.ErrorAs(t, q.SetOutput(0, ints), &failed)
	require.ErrorContains(t, q.SetInput(1, good), "no input 1: it has 1")
	require.ErrorContains(t, q.SetInput(-1, good), "no input -1")
	require.ErrorContains(t, q.SetOutput(7, good), "no output 7: it has 1")
	_, err = q.Output(1)
	require.ErrorContains(t, err, "no output 1")

	require.NoError(t, q.SetInput(0, good), "a refusal leaves the request usable")
	require.NoError(t, q.Infer(t.Context()))
}

func TestConcurrentInference(t *testing.T) {
	r := newRuntime(t)
	cm := compileModel(t, newCore(t, r), affineXML)
	var group errgroup.Group
	for worker := range 8 {
		q, in := newRequest(t, cm), f32(t, r, tensor.Shape{1, 4}, float32(worker), 0, 0, 0)
		group.Go(func() error {
			x := in.F32()
			for i := range 100 {
				x[3] = float32(i)
				if err := errors.Join(q.SetInput(0, in), q.Infer(t.Context())); err != nil {
					return err
				}
				y, err := q.Output(0)
				if err != nil {
					return err
				}
				if got, want := y.F32(), affine(x); !slices.Equal(got, want) {
					err = fmt.Errorf("worker %d, %v: got %v, want %v", worker, x, got, want)
				}
				if err := errors.Join(err, y.Close()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
}

// chain writes an IR of n matrix products in a row, x * x * ... of any size, and returns its path.
func chain(t testing.TB, n int) string {
	t.Helper()
	const dims = `<dim>-1</dim><dim>-1</dim>`
	var layers, edges strings.Builder
	layers.WriteString(`<layer id="0" name="x" type="Parameter" version="opset1"><data shape="?,?" element_type="f32"/>` +
		`<output><port id="0" precision="FP32" names="x">` + dims + `</port></output></layer>`)
	for i := 1; i <= n; i++ {
		id, before := strconv.Itoa(i), strconv.Itoa(i-1)
		layers.WriteString(`<layer id="` + id + `" name="product` + id + `" type="MatMul" version="opset1">` +
			`<data transpose_a="false" transpose_b="false"/><input><port id="1" precision="FP32">` + dims + `</port>` +
			`<port id="2" precision="FP32">` + dims + `</port></input>` +
			`<output><port id="0" precision="FP32">` + dims + `</port></output></layer>`)
		edges.WriteString(`<edge from-layer="` + before + `" from-port="0" to-layer="` + id + `" to-port="1"/>` +
			`<edge from-layer="0" from-port="0" to-layer="` + id + `" to-port="2"/>`)
	}
	last, result := strconv.Itoa(n), strconv.Itoa(n+1)
	layers.WriteString(`<layer id="` + result + `" name="y" type="Result" version="opset1">` +
		`<input><port id="0" precision="FP32">` + dims + `</port></input></layer>`)
	edges.WriteString(`<edge from-layer="` + last + `" from-port="0" to-layer="` + result + `" to-port="0"/>`)
	path := filepath.Join(t.TempDir(), "chain.xml")
	ir := `<?xml version="1.0"?><net name="chain" version="11"><layers>` + layers.String() + `</layers><edges>` + edges.String() + `</edges></net>`
	require.NoError(t, os.WriteFile(path, []byte(ir), 0o600))
	return path
}

func TestInferStopsWithItsContext(t *testing.T) {
	r := newRuntime(t)
	q := newRequest(t, compileModel(t, newCore(t, r), chain(t, 150)))
	large := f32(t, r, tensor.Shape{768, 768}) // seconds of work
	require.NoError(t, q.SetInput(0, large))

	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, q.Infer(ended), context.Canceled, "before the start")

	expiring, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	err := q.Infer(expiring)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var failed *openvino.Error
	require.ErrorAs(t, err, &failed, "OpenVINO itself stopped it")

	// The request is good for the next inference, which the old cancel does not hit.
	small := f32(t, r, tensor.Shape{2, 2}, 1, 0, 0, 1)
	require.NoError(t, q.SetInput(0, small))
	live, stopLive := context.WithCancel(t.Context())
	defer stopLive()
	require.NoError(t, q.Infer(live))
	y, err := q.Output(0)
	require.NoError(t, err)
	assert.Equal(t, []float32{1, 0, 0, 1}, y.F32())
	require.NoError(t, y.Close())

	// It was so short that the next one would not be asked to stop, but for another tensor.
	require.NoError(t, q.SetInput(0, large))
	expiring, stop = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	require.ErrorIs(t, q.Infer(expiring), context.DeadlineExceeded)
}

// A cancel may come at any moment: before an inference has begun, amid it, or when it has just ended. It must never
// hit the next one, nor a request that is gone.
func TestACancelHitsOnlyItsInference(t *testing.T) {
	r := newRuntime(t)
	cm := compileModel(t, newCore(t, r), chain(t, 20))
	x := f32(t, r, tensor.Shape{2, 2}, 1, 0, 0, 1)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		q, err := cm.NewRequest()
		require.NoError(t, err)
		require.NoError(t, q.SetInput(0, x))
		for range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			timer := time.AfterFunc(time.Duration(random.IntN(200))*time.Microsecond, cancel)
			if err := q.Infer(ctx); err != nil {
				require.ErrorIs(t, err, context.Canceled)
			}
			require.NoError(t, q.Infer(context.Background()))
			timer.Stop()
			cancel()
		}
		require.NoError(t, q.Close())
	}
}

func TestBusyRequestRefusesASecondUser(t *testing.T) {
	r := newRuntime(t)
	q := newRequest(t, compileModel(t, newCore(t, r), chain(t, 150)))
	require.NoError(t, q.SetInput(0, f32(t, r, tensor.Shape{768, 768})))
	ctx, cancel := context.WithCancel(t.Context())
	inferred := make(chan error, 1)
	go func() {
		err := openvino.ErrBusy // by the Output below
		for errors.Is(err, openvino.ErrBusy) {
			err = q.Infer(ctx)
		}
		inferred <- err
	}()
	for {
		y, err := q.Output(0)
		if err != nil {
			require.ErrorIs(t, err, openvino.ErrBusy)
			break
		}
		require.NoError(t, y.Close())
		runtime.Gosched()
	}
	require.ErrorIs(t, q.Infer(t.Context()), openvino.ErrBusy)
	require.ErrorIs(t, q.SetInput(0, f32(t, r, tensor.Shape{2, 2})), openvino.ErrBusy)
	require.NoError(t, q.Close(), "closing during an inference is safe")
	cancel()
	require.ErrorIs(t, <-inferred, context.Canceled)
}
