package tensor_test

import (
	"math"
	"os"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"genfn/bindings/tensor"
	"genfn/bindings/tensor/tensortest"
)

func TestDTypes(t *testing.T) {
	sizes := map[tensor.DType]int{
		tensor.F32: 4, tensor.F16: 2, tensor.BF16: 2, tensor.F64: 8,
		tensor.I8: 1, tensor.I16: 2, tensor.I32: 4, tensor.I64: 8,
		tensor.U8: 1, tensor.U16: 2, tensor.U32: 4, tensor.U64: 8, tensor.Bool: 1, tensor.String: 0,
	}
	names := map[string]bool{}
	for d, size := range sizes {
		assert.Equal(t, size, d.Size(), d.String())
		names[d.String()] = true
	}
	assert.Len(t, names, len(sizes), "names are distinct")
	assert.Equal(t, "bf16", tensor.BF16.String())
	assert.Equal(t, "DType(0)", tensor.DType(0).String())
	assert.Equal(t, "DType(99)", tensor.DType(99).String())
	assert.Zero(t, tensor.DType(0).Size())
	assert.Zero(t, tensor.DType(99).Size())
}

func TestShape(t *testing.T) {
	assert.EqualValues(t, 1, tensor.Shape{}.Elements(), "a scalar has one element")
	assert.EqualValues(t, 24, tensor.Shape{2, 3, 4}.Elements())
	assert.EqualValues(t, 0, tensor.Shape{2, 0, 4}.Elements())
	assert.EqualValues(t, -1, tensor.Shape{2, -1}.Elements())
	assert.EqualValues(t, -1, tensor.Shape{math.MaxInt64, 2}.Elements())
	assert.EqualValues(t, -1, tensor.Shape{math.MaxInt64, math.MaxInt64, 4}.Elements())
	assert.Equal(t, int64(math.MaxInt64), tensor.Shape{math.MaxInt64}.Elements())
	assert.Equal(t, "[1,4,8,8]", tensor.Shape{1, 4, 8, 8}.String())
	assert.Equal(t, "[]", tensor.Shape{}.String())
	square := tensor.Shape{1, 2}
	assert.True(t, square.Equal(tensor.Shape{1, 2}))
	assert.False(t, square.Equal(tensor.Shape{2, 1}))

	n, err := tensor.Shape{2, 3}.Bytes(tensor.F16)
	require.NoError(t, err)
	assert.EqualValues(t, 12, n)
	_, err = tensor.Shape{math.MaxInt64 / 4}.Bytes(tensor.F64)
	require.ErrorContains(t, err, "too large")
	_, err = tensor.Shape{1}.Bytes(tensor.String)
	require.ErrorContains(t, err, "string")
}

func TestBufferIsZeroedAlignedAndAccounted(t *testing.T) {
	ledger := tensortest.NewLedger(t)
	b, err := tensor.New(ledger, "latents", tensor.F32, tensor.Shape{1, 4, 33})
	require.NoError(t, err)
	page := os.Getpagesize()
	assert.EqualValues(t, page, ledger.Bytes(), "whole pages are accounted")
	assert.Len(t, b.Bytes(), 4*33*4)
	assert.Len(t, b.F32(), 4*33)
	assert.Nil(t, b.I64(), "a view of another type is nil")
	assert.Nil(t, b.I32())
	assert.Nil(t, b.U8())
	assert.Equal(t, tensor.Shape{1, 4, 33}, b.Shape())
	assert.Equal(t, tensor.F32, b.DType())
	assert.Equal(t, "latents", b.Owner())
	for _, v := range b.Bytes() {
		require.Zero(t, v)
	}
	b.F32()[131] = 1.5
	assert.InDelta(t, 1.5, tensor.View[float32](b.Bytes())[131], 0)

	p, err := b.Retain()
	require.NoError(t, err)
	assert.Zero(t, uintptr(p)%uintptr(page))
	assert.Equal(t, p, unsafe.Pointer(unsafe.SliceData(b.Bytes())))
	require.NoError(t, b.Release())
	require.NoError(t, b.Close())
	require.NoError(t, b.Close(), "Close is safe twice")
	assert.Zero(t, ledger.Bytes())
	assert.EqualValues(t, page, ledger.Peak())
	assert.Nil(t, b.Bytes())
	assert.Nil(t, b.F32())
	_, err = b.Retain()
	require.ErrorIs(t, err, tensor.ErrClosed)
	require.Error(t, b.Release(), "a Release too many is an error")
}

func TestSharedMemoryOutlivesClose(t *testing.T) {
	ledger := tensortest.NewLedger(t)
	b, err := tensor.New(ledger, "input", tensor.U8, tensor.Shape{8})
	require.NoError(t, err)
	p, err := b.Retain()
	require.NoError(t, err)
	b.U8()[3] = 7
	require.NoError(t, b.Close())
	assert.NotZero(t, ledger.Bytes(), "still shared")
	assert.Nil(t, b.U8())
	assert.EqualValues(t, 7, *(*uint8)(unsafe.Add(p, 3)))
	require.NoError(t, b.Release())
	assert.Zero(t, ledger.Bytes())
}

func TestEmptyBufferHasAnAddress(t *testing.T) {
	ledger := tensortest.NewLedger(t)
	b, err := tensor.New(ledger, "empty", tensor.I64, tensor.Shape{0, 4})
	require.NoError(t, err)
	p, err := b.Retain()
	require.NoError(t, err)
	assert.NotNil(t, p)
	assert.Empty(t, b.I64())
	require.NoError(t, b.Release())
	require.NoError(t, b.Close())
}

func TestNewRefuses(t *testing.T) {
	ledger := tensortest.NewLedger(t)
	for name, c := range map[string]struct {
		dtype tensor.DType
		shape tensor.Shape
	}{
		"negative": {tensor.F32, tensor.Shape{-1}},
		"overflow": {tensor.F32, tensor.Shape{math.MaxInt64 / 2}},
		"rounding": {tensor.U8, tensor.Shape{math.MaxInt64}},
		"no room":  {tensor.U8, tensor.Shape{1 << 60}},
		"string":   {tensor.String, tensor.Shape{1}},
		"no type":  {0, tensor.Shape{1}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tensor.New(ledger, "the owner", c.dtype, c.shape)
			require.ErrorContains(t, err, "the owner")
		})
	}
	_, err := tensor.New(nil, "x", tensor.F32, tensor.Shape{1})
	require.ErrorContains(t, err, "ledger")
}

func TestLedgerCountsUnderConcurrency(t *testing.T) {
	ledger := tensortest.NewLedger(t)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 100 {
				r := ledger.Add("object", "worker", 10)
				ledger.Outstanding()
				r.Release()
				r.Release()
			}
		})
	}
	group.Wait()
	assert.Zero(t, ledger.Bytes())
	assert.LessOrEqual(t, ledger.Peak(), int64(160))
	assert.GreaterOrEqual(t, ledger.Peak(), int64(10))
	ledger.ResetPeak()
	assert.Zero(t, ledger.Peak())
}

func TestOutstandingIsInOrderOfCreation(t *testing.T) {
	ledger := tensortest.NewLedger(t)
	first, second := ledger.Add("core", "a", 0), ledger.Add("model", "b", 5)
	entries := ledger.Outstanding()
	require.Len(t, entries, 2)
	assert.Equal(t, "core", entries[0].Kind)
	assert.Equal(t, "model", entries[1].Kind)
	assert.EqualValues(t, 5, entries[1].Bytes)
	assert.Contains(t, entries[0].Site, "tensor_test.go:")
	first.Release()
	second.Release()
}
