package openvino_test

import (
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/openvino"
	"genfn/bindings/tensor"
)

// family makes one object of each kind, each from the one before where it can be.
func family(t *testing.T, r *openvino.Runtime) []io.Closer {
	t.Helper()
	c, err := r.NewCore()
	require.NoError(t, err)
	m, err := c.ReadModel(affineXML, "")
	require.NoError(t, err)
	cm, err := c.Compile(m, "CPU", precise)
	require.NoError(t, err)
	q, err := cm.NewRequest()
	require.NoError(t, err)
	x, err := r.NewTensor("x", tensor.F32, tensor.Shape{1, 4})
	require.NoError(t, err)
	require.NoError(t, q.SetInput(0, x))
	require.NoError(t, q.Infer(t.Context()))
	y, err := q.Output(0)
	require.NoError(t, err)
	return []io.Closer{c, m, cm, q, x, y}
}

func TestObjectsMayBeClosedInAnyOrder(t *testing.T) {
	for name, order := range map[string][]int{
		"parents first":  {0, 1, 2, 3, 4, 5},
		"children first": {5, 4, 3, 2, 1, 0},
		"mixed":          {2, 5, 0, 4, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			objects := family(t, r)
			assert.Len(t, r.Ledger().Outstanding(), len(objects)+1, "the objects and x's buffer")
			for _, i := range order {
				require.NoError(t, objects[i].Close())
				require.NoError(t, objects[i].Close(), "twice")
			}
			assert.Empty(t, r.Ledger().Outstanding())
			assert.Zero(t, r.Ledger().Bytes())
		})
	}
}

func TestUnclosedObjectIsListedWithItsCreationSite(t *testing.T) {
	r := newRuntime(t)
	objects := family(t, r)
	kinds := map[string]string{}
	for _, e := range r.Ledger().Outstanding() {
		kinds[e.Kind] = e.Site
	}
	for _, kind := range []string{"core", "model", "compiled model", "request", "tensor", "buffer"} {
		assert.Contains(t, kinds[kind], "life_test.go:", kind)
		assert.Contains(t, kinds[kind], "family", kind)
	}
	for _, o := range objects {
		require.NoError(t, o.Close())
	}
}

// useAll calls every method of the objects and returns the errors.
func useAll(t *testing.T, c *openvino.Core, m *openvino.Model, cm *openvino.CompiledModel, q *openvino.Request, x *openvino.Tensor) map[string]error {
	t.Helper()
	errs := map[string]error{}
	_, errs["Compile"] = c.Compile(m, "CPU", nil)
	_, errs["Devices"] = c.Devices()
	_, errs["ReadModel"] = c.ReadModel(affineXML, "")
	_, errs["Property"] = c.Property("CPU", "FULL_DEVICE_NAME")
	_, errs["SupportedProperties"] = c.SupportedProperties("CPU")
	errs["SetProperty"] = c.SetProperty("CPU", "NUM_STREAMS", "1")
	errs["AddExtension"] = c.AddExtension(affineXML)
	errs["Reshape"] = m.Reshape(map[string]tensor.PartialShape{"x": tensor.StaticShape(1, 4)})
	_, errs["NewRequest"] = cm.NewRequest()
	_, errs["compiled Property"] = cm.Property("NETWORK_NAME")
	errs["SetInput"] = q.SetInput(0, x)
	errs["SetOutput"] = q.SetOutput(0, x)
	errs["Infer"] = q.Infer(t.Context())
	_, errs["Output"] = q.Output(0)
	assert.Nil(t, x.Shape())
	assert.Nil(t, x.Bytes())
	assert.Nil(t, x.F32())
	assert.False(t, m.IsDynamic())
	if x == nil {
		assert.Empty(t, slices.Concat(m.Inputs(), m.Outputs(), cm.Inputs(), cm.Outputs()))
		assert.Zero(t, x.DType())
	}
	return errs
}

func TestUseOfClosedNilAndZeroObjectsIsAnError(t *testing.T) {
	r := newRuntime(t)
	objects := family(t, r)
	for _, o := range objects {
		require.NoError(t, o.Close())
	}
	live := newCore(t, r)
	cases := map[string]map[string]error{
		"closed": useAll(t, objects[0].(*openvino.Core), objects[1].(*openvino.Model),
			objects[2].(*openvino.CompiledModel), objects[3].(*openvino.Request), objects[4].(*openvino.Tensor)),
		"nil":  useAll(t, nil, nil, nil, nil, nil),
		"zero": useAll(t, &openvino.Core{}, &openvino.Model{}, &openvino.CompiledModel{}, &openvino.Request{}, &openvino.Tensor{}),
	}
	for name, errs := range cases {
		for method, err := range errs {
			require.ErrorIs(t, err, openvino.ErrClosed, "%s of a %s object", method, name)
		}
	}
	for _, o := range []io.Closer{(*openvino.Core)(nil), (*openvino.Model)(nil), (*openvino.CompiledModel)(nil), (*openvino.Request)(nil),
		(*openvino.Tensor)(nil), (*openvino.Runtime)(nil), &openvino.Core{}, &openvino.Tensor{}} {
		require.NoError(t, o.Close())
	}
	_, err := live.Compile(nil, "CPU", nil)
	require.ErrorIs(t, err, openvino.ErrClosed)
	q := newRequest(t, compileModel(t, live, affineXML))
	require.ErrorIs(t, q.SetInput(0, nil), openvino.ErrClosed)
	require.NoError(t, q.Infer(t.Context()), "and the request is as good as before")
}

func TestClosedRuntimeMakesNothing(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	b, err := tensor.New(r.Ledger(), "b", tensor.F32, tensor.Shape{1})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	for _, r := range []*openvino.Runtime{r, nil, {}} {
		_, err = r.NewCore()
		require.ErrorIs(t, err, openvino.ErrClosed)
		_, err = r.TensorOf(b)
		require.ErrorIs(t, err, openvino.ErrClosed)
		_, err = r.NewTensor("x", tensor.F32, tensor.Shape{1})
		require.ErrorIs(t, err, openvino.ErrClosed)
		_, err = r.StringTensor([]string{"a"})
		require.ErrorIs(t, err, openvino.ErrClosed)
	}
	_, err = c.Devices()
	require.NoError(t, err, "what there is stays good")
	require.NoError(t, b.Close())
}

func TestConcurrentUseAndClose(t *testing.T) {
	r := newRuntime(t)
	cm := compileModel(t, newCore(t, r), affineXML)
	for range 50 {
		q, err := cm.NewRequest()
		require.NoError(t, err)
		x, err := r.NewTensor("x", tensor.F32, tensor.Shape{1, 4})
		require.NoError(t, err)
		var group sync.WaitGroup
		start := make(chan struct{})
		for _, f := range []func(){
			func() { _ = q.SetInput(0, x) },
			func() { _ = q.Infer(t.Context()) },
			func() { _ = x.Shape() },
			func() { assert.NoError(t, q.Close()) },
			func() { assert.NoError(t, x.Close()) },
		} {
			group.Go(func() { <-start; f() })
		}
		close(start)
		group.Wait()
		require.NoError(t, q.Close())
	}
	assert.Zero(t, r.Ledger().Bytes())
}

func TestTensors(t *testing.T) {
	r := newRuntime(t)
	for _, dtype := range []tensor.DType{tensor.F32, tensor.F16, tensor.BF16, tensor.F64, tensor.I8, tensor.I16, tensor.I32,
		tensor.I64, tensor.U8, tensor.U16, tensor.U32, tensor.U64, tensor.Bool} {
		x, err := r.NewTensor("x", dtype, tensor.Shape{3, 5})
		require.NoError(t, err, dtype)
		assert.Equal(t, dtype, x.DType())
		assert.Equal(t, tensor.Shape{3, 5}, x.Shape())
		assert.Len(t, x.Bytes(), 15*dtype.Size())
		require.NoError(t, x.Close())
	}
	scalar, err := r.NewTensor("scalar", tensor.I64, tensor.Shape{})
	require.NoError(t, err)
	assert.Equal(t, []int64{0}, scalar.I64())
	assert.Equal(t, tensor.Shape{}, scalar.Shape())
	empty, err := r.NewTensor("empty", tensor.I32, tensor.Shape{0, 7})
	require.NoError(t, err)
	assert.Empty(t, empty.I32())
	assert.NotNil(t, empty.Bytes())
	assert.Equal(t, tensor.Shape{0, 7}, empty.Shape())
	require.NoError(t, scalar.Close())
	require.NoError(t, empty.Close())

	_, err = r.TensorOf(nil)
	require.Error(t, err)
	_, err = r.NewTensor("strings", tensor.String, tensor.Shape{1})
	require.ErrorContains(t, err, "string")
	b, err := tensor.New(r.Ledger(), "b", tensor.U8, tensor.Shape{4})
	require.NoError(t, err)
	x, err := r.TensorOf(b)
	require.NoError(t, err)
	b.U8()[2] = 9
	assert.Equal(t, []uint8{0, 0, 9, 0}, x.U8(), "one memory")
	require.NoError(t, b.Close())
	assert.Equal(t, []uint8{0, 0, 9, 0}, x.U8(), "the tensor keeps it")
	require.NoError(t, x.Close())
	_, err = r.TensorOf(b)
	require.ErrorIs(t, err, tensor.ErrClosed)
}

func TestStringTensor(t *testing.T) {
	r := newRuntime(t)
	values := []string{"a photo of a red fox", "", strings.Repeat("Zürich 東京 ", 1000)}
	x, err := r.StringTensor(values)
	if testsOlder() {
		require.ErrorContains(t, err, "2024.6.0")
		require.ErrorContains(t, err, "make runtime")
		return
	}
	require.NoError(t, err)
	assert.Equal(t, tensor.String, x.DType())
	assert.Equal(t, tensor.Shape{3}, x.Shape())
	assert.Nil(t, x.Bytes())
	require.NoError(t, x.Close())
	_, err = r.StringTensor([]string{"fine", "cut\x00off"})
	require.ErrorContains(t, err, "NUL")
	_, err = r.StringTensor(nil)
	require.Error(t, err)
}

func TestTokenizerOperations(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	if testsOlder() {
		require.ErrorContains(t, c.AddExtension(affineXML), "takes no extensions")
		_, err := r.TokenizersLibrary()
		require.ErrorContains(t, err, "libopenvino_tokenizers.so", "the older release has none")
		return
	}
	_, err := c.ReadModel("testdata/fold.xml", "")
	require.ErrorContains(t, err, "CharsMapNormalization", "the operation is not known yet")
	library, err := r.TokenizersLibrary()
	require.NoError(t, err)
	require.NoError(t, c.AddExtension(library))
	require.ErrorContains(t, c.AddExtension("/nonexistent/lib.so"), "/nonexistent/lib.so")
	var failed *openvino.Error
	require.ErrorAs(t, c.AddExtension(affineXML), &failed, "not a library")

	q := newRequest(t, compileModel(t, c, "testdata/fold.xml"))
	text, err := r.StringTensor([]string{"A Red APPLE", "ÄÖÜ"})
	require.NoError(t, err)
	closing(t, text)
	require.NoError(t, q.SetInput(0, text))
	require.NoError(t, q.Infer(t.Context()))
	chars, err := q.Output(0)
	require.NoError(t, err)
	closing(t, chars)
	ends, err := q.Output(1)
	require.NoError(t, err)
	closing(t, ends)
	assert.Equal(t, "a red appleäöü", string(chars.U8()))
	assert.Equal(t, []int32{11, 17}, ends.I32())
}

// fault dereferences nil, which Go turns into a panic only if it still owns the signal's handler.
//
//go:noinline
func fault(p *int) (caught any) {
	defer func() { caught = recover() }()
	return *p
}

func TestNilDereferenceIsStillCaught(t *testing.T) {
	r := newRuntime(t)
	q := newRequest(t, compileModel(t, newCore(t, r), affineXML))
	require.NoError(t, q.SetInput(0, f32(t, r, tensor.Shape{1, 4})))
	require.NoError(t, q.Infer(t.Context()))
	assert.ErrorContains(t, fault(nil).(error), "nil pointer dereference")
}

// TestResultsSurviveMovingStacks makes calls with results through pointers on many fresh goroutines,
// whose stacks are small and move while growing.
func TestResultsSurviveMovingStacks(t *testing.T) {
	r := newRuntime(t)
	c := newCore(t, r)
	want, err := c.Property("CPU", "FULL_DEVICE_NAME")
	require.NoError(t, err)
	require.NotEmpty(t, want)
	for range 500 {
		results := make(chan string)
		go func() {
			name, err := c.Property("CPU", "FULL_DEVICE_NAME")
			if err != nil {
				name = err.Error()
			}
			results <- name
		}()
		go func() {
			x, err := r.NewTensor("x", tensor.U8, tensor.Shape{2, 3, 4})
			if err != nil {
				results <- err.Error()
				return
			}
			shape := x.Shape().String()
			assert.NoError(t, x.Close())
			results <- shape
		}()
		got := []string{<-results, <-results}
		assert.ElementsMatch(t, []string{want, "[2,3,4]"}, got)
	}
}
