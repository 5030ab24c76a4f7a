package npy_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"genfn/functions/instance/npy"
)

// numpyFile is np.save of np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2), NumPy 2.
const numpyFile = "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2, 2), }" +
	"                                                    \n" +
	"\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00@@"

func TestAsNumPyWritesIt(t *testing.T) {
	a, err := npy.Decode([]byte(numpyFile))
	require.NoError(t, err)
	require.Equal(t, &npy.Array{Shape: []int{1, 1, 2, 2}, Data: []float32{0, 1, 2, 3}}, a)
	require.Equal(t, numpyFile, string(npy.Encode(*a)))
}

func TestRoundTrip(t *testing.T) {
	for _, a := range []npy.Array{
		{Shape: []int{3}, Data: []float32{float32(math.Inf(-1)), 0, math.MaxFloat32}},
		{Shape: []int{2, 1}, Data: []float32{1, 2}},
		{Data: []float32{7}},
	} {
		raw := npy.Encode(a)
		require.Zero(t, (len(raw)-4*len(a.Data))%64, "the data is aligned")
		got, err := npy.Decode(raw)
		require.NoError(t, err)
		require.Equal(t, &a, got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	with := func(old, new string) string { return strings.Replace(numpyFile, old, new, 1) }
	for name, c := range map[string]struct{ raw, want string }{
		"empty":         {"", "does not begin"},
		"PNG":           {"\x89PNG\r\n\x1a\n0000000", "does not begin"},
		"cut header":    {numpyFile[:40], "cut off"},
		"cut data":      {numpyFile[:len(numpyFile)-1], "does not go with 15 bytes"},
		"more data":     {numpyFile + "0000", "does not go with 20 bytes"},
		"float64":       {with("<f4", "<f8"), `"<f8"`},
		"big-endian":    {with("<f4", ">f4"), `">f4"`},
		"Fortran":       {with("False", "True "), "Fortran"},
		"no shape":      {with("shape", "shapf"), "lacks"},
		"size 0":        {with("(1, 1, 2, 2)", "(1, 0, 2, 2)"), "does not go with"},
		"overflow":      {with("(1, 1, 2, 2)", "(99999999999,99999999999)"), "does not go with"},
		"huge header":   {with("\x01\x00v\x00", "\x02\x00\xff\xff"), "cut off or too long"},
		"wrong product": {with("(1, 1, 2, 2)", "(1, 1, 2, 1)"), "does not go with"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := npy.Decode([]byte(c.raw))
			require.ErrorContains(t, err, c.want)
		})
	}
}

// FuzzDecode: no bytes make Decode panic, and what it reads is written again as the same array.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(numpyFile))
	f.Add([]byte("\x93NUMPY\x02\x00\x04\x00\x00\x00abcd"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := npy.Decode(raw)
		if err != nil {
			return
		}
		b, err := npy.Decode(npy.Encode(*a))
		require.NoError(t, err)
		require.Equal(t, a.Shape, b.Shape)
		require.Len(t, b.Data, len(a.Data))
		for i := range a.Data {
			require.Equal(t, math.Float32bits(a.Data[i]), math.Float32bits(b.Data[i]))
		}
	})
}
